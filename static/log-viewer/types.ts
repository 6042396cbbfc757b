// What the service answers, as docs/log-viewer.md has it.
import { query } from "../shared/api.ts";

export const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] as const;
export type Level = (typeof LEVELS)[number];
export type ByLevel = Record<Level, number>;

export interface Entry {
  id: number;
  timestamp: string;
  container: string;
  stream: string;
  level: Level;
  message: string;
}

export interface Page {
  logs: Entry[];
  total: number;
  search_mode?: "match" | "plain";
  partial?: boolean;
}

export interface Container {
  name: string;
  log_count: number;
  levels: ByLevel;
  image: string;
  project: string;
  service: string;
  followed: boolean;
  reason: string | null;
}

export interface Containers {
  containers: Container[];
  troubles?: string[];
}

export interface Stats {
  total_logs: number;
  by_level: ByLevel;
  gaps: number;
}

export interface Histogram {
  bucket_minutes: number;
  buckets: { bucket: string; count: number; levels: ByLevel }[];
  total: number;
  partial?: boolean;
}

/** The filters, which the URL holds under the names that the API has for them. */
export const FILTERS = ["container", "level", "search", "contains", "regex", "since", "until"] as const;
export type Filters = Partial<Record<(typeof FILTERS)[number], string>>;

export function filtersOf(params: URLSearchParams): Filters {
  return Object.fromEntries(FILTERS.flatMap((name) => (params.get(name) ? [[name, params.get(name)]] : [])));
}

/** A link to one line, with the filters as they are. */
export function lineLink(filters: Filters, id: number): string {
  return query({ ...filters, line: id });
}

/** The levels that `ERROR`, `ERROR,CRITICAL` or `>=WARNING` means. */
export function levelsOf(text: string | undefined): ReadonlySet<Level> {
  const least = /^>=\s*(\w+)$/.exec(text?.trim() ?? "")?.[1];
  if (least) {
    return new Set(LEVELS.slice(Math.max(0, LEVELS.indexOf(least.toUpperCase() as Level))));
  }
  const named = (text ?? "").toUpperCase().split(",");
  return new Set(LEVELS.filter((level) => named.some((name) => name.trim() === level)));
}
