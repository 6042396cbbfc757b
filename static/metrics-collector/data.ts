// From what the service answers to what a chart draws.
import { get, query } from "../shared/api.ts";
import type { Asked, Frame } from "./range.ts";
import type { Bucket, Buckets, Dashboard, Release } from "./types.ts";

/** A value for each of a frame's buckets: `null` where a line ends, `undefined` where it goes on over nothing. */
export type Values = (number | null | undefined)[];

/** So many buckets without a point are no gap: not everything is measured every minute. */
const GAP_MIN = 5;
/** A rate over less than this says nothing: what was counted meanwhile is still on its way. */
const ELAPSED_MIN_S = 60;

/** What the service knows of a metric: all numbers of its buckets, or only the `fields`. */
export async function buckets(
  asked: Asked & { name: string; project?: string; labels?: string; group_by?: string; fields?: string },
  signal: AbortSignal,
): Promise<Buckets> {
  return await get<Buckets>(`api/metrics${query(asked)}`, signal);
}

/** A span at a glance. */
export async function dashboardOf(asked: Asked, project: string | undefined, signal: AbortSignal): Promise<Dashboard> {
  return await get<Dashboard>(`api/dashboard${query({ ...asked, project })}`, signal);
}

/** The releases of a span, the earliest first. */
export async function releasesOf(asked: Asked, project: string | undefined, signal: AbortSignal): Promise<Release[]> {
  return (await get<{ releases: Release[] }>(`api/metrics/releases${query({ ...asked, project })}`, signal)).releases;
}

/** When the buckets of a frame begin, the one that its beginning lies in among them. */
export function times({ from, to, step }: Frame): number[] {
  const first = Math.floor(from / step);
  return Array.from({ length: Math.max(1, Math.ceil(to / step) - first) }, (_, index) => (first + index) * step);
}

function begin(bucket: { bucket: string }): number {
  return Date.parse(bucket.bucket) / 1000;
}

/** The buckets that lie in a frame. */
export function within<B extends { bucket: string }>(frame: Frame, found: B[]): B[] {
  const first = Math.floor(frame.from / frame.step) * frame.step;
  return found.filter((bucket) => begin(bucket) >= first && begin(bucket) < frame.to);
}

/** A measure of each bucket of a frame. */
export function measures<B extends { bucket: string }>(
  frame: Frame,
  found: B[],
  of: (bucket: B) => number | null | undefined,
): Values {
  const known = new Map(found.map((bucket) => [begin(bucket), of(bucket)]));
  const values: Values = times(frame).map((time) => known.get(time) ?? null);
  let last = -1;
  values.forEach((value, index) => {
    if (value === null) {
      return;
    }
    if (last >= 0 && index - last <= GAP_MIN) {
      values.fill(undefined, last + 1, index);
    }
    last = index;
  });
  return values;
}

/**
 * Something per second. From the first bucket on, where nothing was counted nothing was; one that is not over yet counts
 * as far as it has gone.
 */
export function rates(frame: Frame, found: Bucket[], of: (bucket: Bucket) => number): Values {
  const known = new Map(found.map((bucket) => [begin(bucket), of(bucket)]));
  const first = Math.min(...known.keys());
  const now = Date.now() / 1000;
  return times(frame).map((time) => {
    const elapsed = Math.min(frame.step, now - time);
    return time < first || elapsed < ELAPSED_MIN_S ? null : (known.get(time) ?? 0) / elapsed;
  });
}

/** The sum of something over buckets. */
export function total(found: Bucket[], of: (bucket: Bucket) => number): number {
  return found.reduce((sum, bucket) => sum + of(bucket), 0);
}

/** The last value of a line. */
export function latest(values: Values): number | null {
  return values.findLast((value) => value !== null && value !== undefined) ?? null;
}

/** The highest value of a line. */
export function highest(values: Values): number | null {
  const numbers = values.filter((value) => value !== null && value !== undefined);
  return numbers.length > 0 ? Math.max(...numbers) : null;
}

/** Where a value stands alone, so that no line shows it. */
export function lonely(values: Values): number[] {
  const known = values.flatMap((value, index) => (value === undefined ? [] : [{ value, index }]));
  const isEnd = (at: number): boolean => (known[at]?.value ?? null) === null;
  return known.flatMap(({ value, index }, at) => (value !== null && isEnd(at - 1) && isEnd(at + 1) ? [index] : []));
}
