// The time range that a page shows. All times are in seconds since 1970.
import { useMemo } from "preact/hooks";
import type { Resolution } from "../generated/metrics-collector.ts";
import { useParams } from "../shared/hooks.ts";
import { toTimestamp } from "../shared/time.ts";

export const PERIODS: [period: string, label: string][] = [
  ["1h", "Last hour"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
];
const PERIOD_DEFAULT = "24h";
const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const ZOOM_MIN_S = 120;
const REFRESH_INTERVAL_MS = 30_000;

export interface TimeRange {
  from: number;
  to: number;
}

/** A time range that is divided into buckets of `step` seconds. */
export interface BucketRange extends TimeRange {
  step: number;
}

/** A time range as query parameters of the API: a period that ends now, or the zoomed range. */
export type RangeQuery = { period: string } | { since: string; until: string };

/** The time range selected in the URL. */
export interface RangeSelection {
  period: string;
  /** A fixed range; `undefined` for the period that ends now. */
  zoom: TimeRange | undefined;
  /** Changes when data must be loaded again. */
  key: string;
  intervalMs: number;
  /** Resolves the selection at the current time. */
  resolve: () => { range: TimeRange; query: RangeQuery };
  setPeriod: (period: string) => void;
  /** Zooms to a range, or back to the period. */
  zoomTo: (range: TimeRange | undefined) => void;
}

/** Parses a period such as `24h`. Returns NaN if it is invalid. */
export function parsePeriod(period: string): number {
  const [, number, unit] = /^(\d+)([smhd])$/.exec(period) ?? [];
  return Number(number) * (UNIT_SECONDS[unit ?? ""] ?? Number.NaN);
}

/** Reads the zoomed range from the URL. The default for `until` is now, for `since` one hour before `until`. */
export function parseZoom(params: URLSearchParams, now: number): TimeRange | undefined {
  const parse = (name: string): number => Date.parse(params.get(name) ?? "") / 1000;
  const [since, until] = [parse("since"), parse("until")];
  if (Number.isNaN(since) && Number.isNaN(until)) {
    return undefined;
  }
  const to = Number.isNaN(until) ? now : until;
  const from = Number.isNaN(since) ? to - 3600 : since;
  return from < to ? { from, to } : undefined;
}

/** Divides a range into buckets of the resolution that the service chose, which depends on how long it stores minutes. */
export function toBucketRange(range: TimeRange, resolution: Resolution): BucketRange {
  return { ...range, step: resolution === "minute" ? 60 : 3600 };
}

/** Returns the URL parameters that zoom to a range, which is widened to at least two minutes. */
export function zoomParams(range: TimeRange): { since: string; until: string } {
  const middle = (range.from + range.to) / 2;
  const half = Math.max(range.to - range.from, ZOOM_MIN_S) / 2;
  return formatRange({ from: middle - half, to: middle + half });
}

function formatRange({ from, to }: TimeRange): { since: string; until: string } {
  return { since: toTimestamp(from * 1000), until: toTimestamp(to * 1000) };
}

/** Returns the time range selected in the URL. */
export function useRangeSelection(): RangeSelection {
  const [params, setParams] = useParams();
  const requested = params.get("period") ?? PERIOD_DEFAULT;
  const period = parsePeriod(requested) > 0 ? requested : PERIOD_DEFAULT;
  const key = `${period} ${params.get("since") ?? ""} ${params.get("until") ?? ""}`;
  return useMemo(() => {
    const zoom = parseZoom(params, Date.now() / 1000);
    const query = zoom ? formatRange(zoom) : { period };
    const resolve: RangeSelection["resolve"] = () => {
      const now = Date.now() / 1000;
      return { range: zoom ?? { from: now - parsePeriod(period), to: now }, query };
    };
    const setPeriod = (next: string): void =>
      setParams({ period: next === PERIOD_DEFAULT ? undefined : next, since: undefined, until: undefined });
    const zoomTo = (range: TimeRange | undefined): void =>
      setParams(range ? zoomParams(range) : { since: undefined, until: undefined });
    return { period, zoom, key, intervalMs: REFRESH_INTERVAL_MS, resolve, setPeriod, zoomTo };
  }, [key]);
}
