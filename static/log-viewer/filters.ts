// Filters for log entries. The page's URL and the API use the same parameter names.
import type { Level } from "../generated/log-viewer.ts";
import { query } from "../shared/api.ts";

/** All levels, lowest first. */
export const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] as const satisfies Level[];

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
