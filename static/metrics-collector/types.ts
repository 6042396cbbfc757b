/** What `GET /api/metrics` answers of a minute or an hour. */
export interface Bucket {
  bucket: string;
  count: number;
  sum: number;
  min: number;
  max: number;
  avg: number;
  p50: number | null;
  p95: number | null;
  p99: number | null;
  last?: number | null;
}

export interface Buckets {
  name: string;
  resolution: "minute" | "hour";
  data: Bucket[];
  groups?: { value: string; data: Bucket[] }[];
}

export type Kind = "counter" | "gauge" | "histogram";

export interface Metric {
  name: string;
  type: Kind;
}

/** A label and the values that series of a metric have of it. */
export interface Label {
  name: string;
  values: string[];
}

export const VITALS = ["lcp", "inp", "cls", "fcp", "ttfb"] as const;
export type VitalName = (typeof VITALS)[number];
export type Rating = "good" | "needs_improvement" | "poor";

/** Each vital's 75th percentile. */
export type Percentiles = Record<VitalName, number | null>;

export interface VitalSummary {
  avg: number | null;
  p75: number | null;
  count: number;
  good: number;
  needs_improvement: number;
  poor: number;
  rating: Rating | null;
}

export interface Dashboard {
  resolution: "minute" | "hour";
  summary: { total_datapoints: number; distinct_metrics: number };
  top_metrics: (Metric & { count: number; total: number })[];
  web_vitals?: {
    summary: Record<VitalName, VitalSummary>;
    timeseries: (Percentiles & { bucket: string; count: number })[];
    by_page: (Percentiles & { page: string; page_views: number })[];
  };
  warnings?: string[];
}

export interface Health {
  series?: number;
  points_overflowed?: number;
  points_clock_corrected?: number;
  metrics_received_24h?: number;
  last_aggregation?: string | null;
  warnings?: string[];
}

/** When a release of a project was first heard of. */
export interface Release {
  at: string;
  release: string;
  project: string;
}
