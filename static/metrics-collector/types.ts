/** Statistics of a minute or an hour, as `GET /api/metrics` returns them. */
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

export type MetricType = "counter" | "gauge" | "histogram";

export interface Metric {
  name: string;
  type: MetricType;
}

/** A label of a metric's series and its values. */
export interface Label {
  name: string;
  values: string[];
}

export const VITALS = ["lcp", "inp", "cls", "fcp", "ttfb"] as const;
export type VitalName = (typeof VITALS)[number];
export type Rating = "good" | "needs_improvement" | "poor";

/** The 75th percentile of each Web Vital. */
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

/** A release of a project and the time of its first report. */
export interface Release {
  at: string;
  release: string;
  project: string;
}
