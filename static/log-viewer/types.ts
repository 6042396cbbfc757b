// Responses of the log viewer's API; see docs/log-viewer.md.
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

/** A page of log entries. */
export interface Page {
  logs: Entry[];
  total: number;
  search_mode?: "match" | "plain";
  /** Whether the search timed out, so that entries may be missing. */
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
  /** The reason why the container is not followed. */
  reason: string | null;
}

export interface Containers {
  containers: Container[];
  /** Sources that cannot be read. */
  troubles?: string[];
}

export interface Stats {
  total_logs: number;
  by_level: ByLevel;
  /** Number of times that a log file was deleted before it was read. */
  gaps: number;
}

export interface Histogram {
  bucket_minutes: number;
  buckets: { bucket: string; count: number; levels: ByLevel }[];
  total: number;
  partial?: boolean;
}

/** Filters. The page's URL and the API use the same parameter names. */
export const FILTERS = ["container", "level", "search", "contains", "regex", "since", "until"] as const;
export type Filters = Partial<Record<(typeof FILTERS)[number], string>>;

/** Reads the filters from query parameters. */
export function parseFilters(params: URLSearchParams): Filters {
  return Object.fromEntries(FILTERS.flatMap((name) => (params.get(name) ? [[name, params.get(name)]] : [])));
}

/** Returns a link to one line that keeps the filters. */
export function lineLink(filters: Filters, id: number): string {
  return query({ ...filters, line: id });
}

/** Parses a level filter: `ERROR`, `ERROR,CRITICAL` or `>=WARNING`. Ignores unknown names. */
export function parseLevels(filter: string | undefined): ReadonlySet<Level> {
  const minimum = /^>=\s*(\w+)$/.exec(filter?.trim() ?? "")?.[1];
  if (minimum) {
    return new Set(LEVELS.slice(Math.max(0, LEVELS.indexOf(minimum.toUpperCase() as Level))));
  }
  const names = (filter ?? "").toUpperCase().split(",");
  return new Set(LEVELS.filter((level) => names.some((name) => name.trim() === level)));
}
