// The span of time that a page shows. All moments are seconds since 1970.
import { useMemo } from "preact/hooks";
import { useParams } from "../shared/hooks.ts";

export const PERIODS: [period: string, shown: string][] = [
  ["1h", "last hour"],
  ["24h", "last 24 hours"],
  ["7d", "last 7 days"],
  ["30d", "last 30 days"],
];
const PERIOD_DEFAULT = "24h";
const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
/** From here on the service answers by the hour. */
const MINUTES_MAX_S = 86_400;
const ZOOM_MIN_S = 120;
const EVERY_MS = 30_000;

export interface Span {
  from: number;
  to: number;
}

/** A span and how far apart its buckets are. */
export interface Frame extends Span {
  step: number;
}

/** A span as the service is asked for it: a period up to now, or what was zoomed to. */
export type Asked = { period: string } | { since: string; until: string };

/** What the URL says of time. */
export interface Range {
  period: string;
  /** A part of time that stays, whatever time it is; without one the period up to now. */
  zoom: Span | undefined;
  /** Differs where something else is to be loaded. */
  key: string;
  everyMs: number;
  /** The span as of now, and how the service is asked for it. */
  now: () => { frame: Frame; asked: Asked };
  choose: (period: string) => void;
  zoomTo: (span: Span | undefined) => void;
}

function seconds(period: string): number {
  const [, number, unit] = /^(\d+)([smhd])$/.exec(period) ?? [];
  return Number(number) * (UNITS[unit ?? ""] ?? Number.NaN);
}

function zoomed(params: URLSearchParams): Span | undefined {
  const moment = (name: string): number => Date.parse(params.get(name) ?? "") / 1000;
  const [since, until] = [moment("since"), moment("until")];
  if (Number.isNaN(since) && Number.isNaN(until)) {
    return undefined;
  }
  const to = Number.isNaN(until) ? Date.now() / 1000 : until;
  const from = Number.isNaN(since) ? to - 3600 : since;
  return from < to ? { from, to } : undefined;
}

export function useRange(): Range {
  const [params, setParams] = useParams();
  const chosen = params.get("period") ?? PERIOD_DEFAULT;
  const period = seconds(chosen) > 0 ? chosen : PERIOD_DEFAULT;
  const key = `${period} ${params.get("since") ?? ""} ${params.get("until") ?? ""}`;
  return useMemo(() => {
    const zoom = zoomed(params);
    const text = (moment: number): string => new Date(moment * 1000).toISOString().replace(/\.\d+/, "");
    const asked = zoom ? { since: text(zoom.from), until: text(zoom.to) } : { period };
    const now: Range["now"] = () => {
      const to = Date.now() / 1000;
      const span = zoom ?? { from: to - seconds(period), to };
      const reach = Math.max(60, Math.ceil((to - span.from) / 60) * 60);
      return { frame: { ...span, step: reach <= MINUTES_MAX_S ? 60 : 3600 }, asked };
    };
    const choose = (next: string): void =>
      setParams({ period: next === PERIOD_DEFAULT ? undefined : next, since: undefined, until: undefined });
    const zoomTo = (span: Span | undefined): void => {
      if (!span) {
        setParams({ since: undefined, until: undefined });
        return;
      }
      const middle = (span.from + span.to) / 2;
      const half = Math.max(span.to - span.from, ZOOM_MIN_S) / 2;
      setParams({ since: text(middle - half), until: text(middle + half) });
    };
    return { period, zoom, key, everyMs: EVERY_MS, now, choose, zoomTo };
  }, [key]);
}
