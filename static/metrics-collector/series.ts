// Fetches metrics and converts them to the values that a chart draws.
import type { Bucket, Buckets, Dashboard, MetricType, Release, Releases } from "../generated/metrics-collector.ts";
import { get, query } from "../shared/api.ts";
import type { BucketRange, RangeQuery } from "./time-range.ts";

/** One value per bucket of a range. `null` ends the line; at `undefined`, the line continues to the next value. */
export type Values = (number | null | undefined)[];

/** A line continues over fewer empty buckets than this, because some metrics are not reported every minute. */
const GAP_MIN_BUCKETS = 5;
/** The current bucket gets no rate before this time, because recent events may not have been reported yet. */
const RATE_MIN_ELAPSED_S = 60;

/** A statistic of a bucket, as the parameter `fields` names it. */
export type Statistic = Exclude<keyof Bucket, "bucket">;
/** Statistics that a bucket has whenever they are requested. Only buckets of gauges have last values. */
type RequiredStatistic = Exclude<Statistic, "last" | "last_avg">;
/** A bucket of a response to a request for these statistics. */
export type BucketWith<S extends RequiredStatistic> = Bucket & Required<Pick<Bucket, S>>;
/** A response to a request for these statistics. */
export type BucketsWith<S extends RequiredStatistic> = Omit<Buckets, "data" | "groups"> & {
  data: BucketWith<S>[];
  groups?: { value: string; data: BucketWith<S>[] }[];
};

/** Fetches the buckets of a metric with the statistics `fields` and, if the buckets have them, `chartFields`. */
export async function fetchBuckets<S extends RequiredStatistic>(
  request: RangeQuery & {
    name: string;
    type?: MetricType;
    project?: string;
    labels?: string;
    group_by?: string;
    fields: readonly S[];
    chartFields?: readonly Statistic[];
  },
  signal: AbortSignal,
): Promise<BucketsWith<S>> {
  const { fields, chartFields = [], ...parameters } = request;
  const allFields = [...new Set<Statistic>([...fields, ...chartFields])].join(",");
  return await get<BucketsWith<S>>(`api/metrics${query({ ...parameters, fields: allFields })}`, signal);
}

/** Fetches the dashboard: totals, top metrics and Web Vitals. */
export async function fetchDashboard(
  range: RangeQuery,
  project: string | undefined,
  signal: AbortSignal,
): Promise<Dashboard> {
  return await get<Dashboard>(`api/dashboard${query({ ...range, project })}`, signal);
}

/** Fetches the releases in a range, earliest first. */
export async function fetchReleases(
  range: RangeQuery,
  project: string | undefined,
  signal: AbortSignal,
): Promise<Release[]> {
  const { releases } = await get<Releases>(`api/metrics/releases${query({ ...range, project })}`, signal);
  return releases;
}

/** Returns the start times of the buckets in a range. The first bucket contains the start of the range. */
export function bucketTimes({ from, to, step }: BucketRange): number[] {
  const first = Math.floor(from / step);
  return Array.from({ length: Math.max(1, Math.ceil(to / step) - first) }, (_, index) => (first + index) * step);
}

function startTime(bucket: { bucket: string }): number {
  return Date.parse(bucket.bucket) / 1000;
}

/** Returns the buckets that lie in a range. */
export function bucketsInRange<B extends { bucket: string }>(range: BucketRange, buckets: B[]): B[] {
  const first = Math.floor(range.from / range.step) * range.step;
  return buckets.filter((bucket) => startTime(bucket) >= first && startTime(bucket) < range.to);
}

/** Returns the value of each bucket in a range. */
export function bucketValues<B extends { bucket: string }>(
  range: BucketRange,
  buckets: B[],
  getValue: (bucket: B) => number | null | undefined,
): Values {
  const byTime = new Map(buckets.map((bucket) => [startTime(bucket), getValue(bucket)]));
  const values: Values = bucketTimes(range).map((time) => byTime.get(time) ?? null);
  let last = -1;
  values.forEach((value, index) => {
    if (value === null) {
      return;
    }
    if (last >= 0 && index - last <= GAP_MIN_BUCKETS) {
      values.fill(undefined, last + 1, index);
    }
    last = index;
  });
  return values;
}

/**
 * Returns the rate per second of each bucket in a range. Missing buckets after the first one have the rate 0. The rate
 * of the current bucket is based on the time that has elapsed in it.
 */
export function bucketRates<B extends { bucket: string }>(
  range: BucketRange,
  buckets: B[],
  getValue: (bucket: B) => number,
  now = Date.now() / 1000,
): Values {
  const byTime = new Map(buckets.map((bucket) => [startTime(bucket), getValue(bucket)]));
  const first = Math.min(...byTime.keys());
  return bucketTimes(range).map((time) => {
    const elapsed = Math.min(range.step, now - time);
    return time < first || elapsed < RATE_MIN_ELAPSED_S ? null : (byTime.get(time) ?? 0) / elapsed;
  });
}

/** Returns the sum of a value over all buckets. */
export function sumBuckets<B>(buckets: B[], getValue: (bucket: B) => number): number {
  return buckets.reduce((sum, bucket) => sum + getValue(bucket), 0);
}

/** Returns the last value of a line, or `null` if it has none. */
export function latestValue(values: Values): number | null {
  return values.findLast((value) => value !== null && value !== undefined) ?? null;
}

/** Returns the highest value of a line, or `null` if it has none. */
export function maxValue(values: Values): number | null {
  const numbers = values.filter((value) => value !== null && value !== undefined);
  return numbers.length > 0 ? Math.max(...numbers) : null;
}

/** Returns the indexes of values without a neighbor. A line cannot show them, so the chart draws a point. */
export function isolatedIndexes(values: Values): number[] {
  const points = values.flatMap((value, index) => (value === undefined ? [] : [{ value, index }]));
  const isEnd = (position: number): boolean => (points[position]?.value ?? null) === null;
  return points.flatMap(({ value, index }, position) =>
    value !== null && isEnd(position - 1) && isEnd(position + 1) ? [index] : [],
  );
}
