import type { JSX } from "preact";
import type { Metrics, Release } from "../generated/metrics-collector.ts";
import { get } from "../shared/api.ts";
import { useFetch } from "../shared/hooks.ts";
import { EmptyState, ErrorMessage, Loading } from "../shared/ui.tsx";
import { Chart, type Line } from "./chart.tsx";
import { formatValue } from "./format.ts";
import {
  type BucketWith,
  bucketRates,
  bucketsInRange,
  bucketValues,
  fetchBuckets,
  latestValue,
  maxValue,
  sumBuckets,
  type Values,
} from "./series.ts";
import { type BucketRange, type RangeSelection, toBucketRange } from "./time-range.ts";

/** Metrics of the Python package's middleware. */
const REQUEST_COUNTER = "http_requests_total";
const REQUEST_DURATION = "http_request_duration_seconds";
/** Metrics of the host, which the collector measures itself. They belong to no project. */
const HOST_METRICS = [
  "host_cpu_percent",
  "host_memory_used_bytes",
  "host_memory_total_bytes",
  "host_disk_used_bytes",
  "host_disk_total_bytes",
  "host_network_received_bytes",
  "host_network_sent_bytes",
] as const;
/** More than the number of metrics that exist even if no client has sent a point. */
const NAMES_MAX = 100;
/** Metrics that exist even if no client has sent a point. */
const BUILT_IN = /^(host_|process_resident_bytes$|database_bytes$)/;

interface OverviewData {
  range: BucketRange;
  /** Whether a client has sent any metrics. */
  hasMetrics: boolean;
  requests: BucketWith<"sum">[];
  errors: BucketWith<"sum">[];
  durations: BucketWith<"p50" | "p95" | "p99">[];
  host: Record<(typeof HOST_METRICS)[number], BucketWith<"sum" | "avg">[]>;
}

/** HTTP requests of all applications or of one project, and the host of the collector. */
export function Overview(props: {
  selection: RangeSelection;
  project: string | undefined;
  releases: Release[];
}): JSX.Element {
  const { selection, project, releases } = props;
  const { value, error, reload } = useFetch(
    `${selection.key} ${project ?? ""}`,
    (signal) => fetchOverview(selection, project, signal),
    selection.intervalMs,
  );
  if (error && !value) {
    return <ErrorMessage error={error} retry={reload} />;
  }
  if (!value) {
    return <Loading />;
  }
  return (
    <>
      {error && <ErrorMessage error={error} retry={reload} />}
      {value.hasMetrics ? (
        <RequestCharts overview={value} selection={selection} project={project} releases={releases} />
      ) : (
        <NoMetrics />
      )}
      <HostCharts overview={value} selection={selection} releases={releases} />
    </>
  );
}

async function fetchOverview(
  selection: RangeSelection,
  project: string | undefined,
  signal: AbortSignal,
): Promise<OverviewData> {
  const { range: timeRange, query } = selection.resolve();
  const projectQuery = { ...query, ...(project ? { project } : {}) };
  const [{ metrics }, requests, durations, ...host] = await Promise.all([
    get<Metrics>(`api/metrics/names?limit=${NAMES_MAX}`, signal),
    fetchBuckets({ name: REQUEST_COUNTER, group_by: "status", fields: ["sum"], ...projectQuery }, signal),
    fetchBuckets({ name: REQUEST_DURATION, fields: ["p50", "p95", "p99"], ...projectQuery }, signal),
    ...HOST_METRICS.map((name) => fetchBuckets({ name, fields: ["sum", "avg"], ...query }, signal)),
  ]);
  const range = toBucketRange(timeRange, requests.resolution);
  const groups = requests.groups ?? [];
  const failed = groups.filter(({ value }) => /^5\d\d$/.test(value));
  return {
    range,
    hasMetrics: metrics.some(({ name }) => !BUILT_IN.test(name)),
    requests: bucketsInRange(range, combineSums(groups)),
    errors: bucketsInRange(range, combineSums(failed)),
    durations: bucketsInRange(range, durations.data),
    host: Object.fromEntries(
      HOST_METRICS.map((name, index) => [name, bucketsInRange(range, host[index]?.data ?? [])]),
    ) as OverviewData["host"],
  };
}

/** Adds up the sums of several groups for each bucket. Other statistics cannot be added. */
function combineSums(groups: { data: BucketWith<"sum">[] }[]): BucketWith<"sum">[] {
  const sums = new Map<string, BucketWith<"sum">>();
  for (const bucket of groups.flatMap(({ data }) => data)) {
    const previous = sums.get(bucket.bucket);
    sums.set(bucket.bucket, previous ? { ...previous, sum: previous.sum + bucket.sum } : bucket);
  }
  return [...sums.values()];
}

const sumOf = (bucket: BucketWith<"sum">): number => bucket.sum;

/** Rate, errors and latency of HTTP requests. */
function RequestCharts(props: {
  overview: OverviewData;
  selection: RangeSelection;
  project: string | undefined;
  releases: Release[];
}): JSX.Element {
  const { releases } = props;
  const { range, requests, errors, durations } = props.overview;
  const { zoomTo } = props.selection;
  if (requests.length === 0 && durations.length === 0) {
    return (
      <div class="card">
        <EmptyState
          title={props.project ? `No requests for ${props.project} in this period` : "No requests in this period"}
        >
          <p>The middleware of the Python package counts requests and measures their duration. For FastAPI:</p>
          <pre>{`from monlight.integrations.fastapi import setup_monlight
setup_monlight(app, metrics_collector_url="${serviceUrl()}", api_key="the API key")`}</pre>
        </EmptyState>
      </div>
    );
  }
  const [count, failed] = [sumBuckets(requests, sumOf), sumBuckets(errors, sumOf)];
  const rate = bucketRates(range, requests, sumOf);
  const errorRate = bucketRates(range, errors, sumOf);
  const errorPercentages = rate.map((all, index) =>
    all ? ((errorRate[index] ?? 0) / all) * 100 : all === 0 ? 0 : null,
  );
  const percentiles = (["p99", "p95", "p50"] as const).map(
    (name): Line => ({ label: name, values: bucketValues(range, durations, (bucket) => bucket[name]) }),
  );
  const p95 = percentiles[1]?.values ?? [];
  return (
    <section aria-labelledby="requests">
      <h2 id="requests">Requests</h2>
      <dl class="tiles">
        <Tile name="Requests" value={count.toLocaleString("en")}>
          {formatValue(count / (range.to - range.from), "/s")} on average
        </Tile>
        <Tile
          name="Errors"
          value={formatValue(count > 0 ? (failed / count) * 100 : null, "%")}
          valueClass={failed > 0 ? "bad" : ""}
        >
          {failed.toLocaleString("en")} responses with status 5xx
        </Tile>
        <Tile name="Latency (p95)" value={formatValue(latestValue(p95), "s")}>
          latest {range.step === 60 ? "minute" : "hour"}; max {formatValue(maxValue(p95), "s")}
        </Tile>
      </dl>
      <div class="charts">
        <Chart
          title="Request rate"
          range={range}
          releases={releases}
          lines={[{ label: "requests", values: rate }]}
          unit="/s"
          onZoom={zoomTo}
        />
        <Chart
          title="Error rate"
          range={range}
          releases={releases}
          lines={[{ label: "5xx", values: errorPercentages }]}
          unit="%"
          onZoom={zoomTo}
        />
        <Chart title="Latency" range={range} releases={releases} lines={percentiles} unit="s" onZoom={zoomTo} />
      </div>
    </section>
  );
}

/** CPU, memory, disk and network of the host; nothing if it is not measured. */
function HostCharts(props: {
  overview: OverviewData;
  selection: RangeSelection;
  releases: Release[];
}): JSX.Element | null {
  const { overview, selection, releases } = props;
  const { range, host } = overview;
  if (Object.values(host).every((buckets) => buckets.length === 0)) {
    return null;
  }
  const average = (name: keyof OverviewData["host"]): Values => bucketValues(range, host[name], (bucket) => bucket.avg);
  const [cpu, memory, disk] = [
    average("host_cpu_percent"),
    average("host_memory_used_bytes"),
    average("host_disk_used_bytes"),
  ];
  const [memoryTotal, diskTotal] = [average("host_memory_total_bytes"), average("host_disk_total_bytes")];
  const usedPercentage = (used: Values, total: Values): string => {
    const [latestUsed, latestTotal] = [latestValue(used), latestValue(total)];
    return formatValue(latestUsed === null || !latestTotal ? null : (latestUsed / latestTotal) * 100, "%");
  };
  return (
    <section aria-labelledby="host">
      <h2 id="host">Host</h2>
      <dl class="tiles">
        <Tile name="CPU" value={formatValue(latestValue(cpu), "%")}>
          max {formatValue(maxValue(cpu), "%")}
        </Tile>
        <Tile name="Memory" value={usedPercentage(memory, memoryTotal)}>
          {formatValue(latestValue(memory), "bytes")} of {formatValue(latestValue(memoryTotal), "bytes")}
        </Tile>
        <Tile name="Disk" value={usedPercentage(disk, diskTotal)}>
          {formatValue(latestValue(disk), "bytes")} of {formatValue(latestValue(diskTotal), "bytes")}
        </Tile>
      </dl>
      <div class="charts">
        <Chart
          title="CPU"
          range={range}
          releases={releases}
          lines={[{ label: "used", values: cpu }]}
          unit="%"
          onZoom={selection.zoomTo}
        />
        <Chart
          title="Memory"
          range={range}
          releases={releases}
          lines={[
            { label: "used", values: memory },
            { label: "total", values: memoryTotal },
          ]}
          unit="bytes"
          onZoom={selection.zoomTo}
        />
        <Chart
          title="Network"
          range={range}
          releases={releases}
          lines={[
            { label: "received", values: bucketRates(range, host.host_network_received_bytes, sumOf) },
            { label: "sent", values: bucketRates(range, host.host_network_sent_bytes, sumOf) },
          ]}
          unit="bytes/s"
          onZoom={selection.zoomTo}
        />
      </div>
    </section>
  );
}

/** A key figure with a caption. */
export function Tile(props: {
  name: string;
  value: string | JSX.Element;
  valueClass?: string;
  children: JSX.Element | (string | number)[] | string;
}): JSX.Element {
  return (
    <div class="tile card">
      <dt>{props.name}</dt>
      <dd>
        <b class={props.valueClass}>{props.value}</b>
        <span class="muted">{props.children}</span>
      </dd>
    </div>
  );
}

/** Returns the public URL of this service. */
function serviceUrl(): string {
  return new URL(".", location.href).href.replace(/\/$/, "");
}

/** Shown before any client has sent a point. Explains how to send one. */
export function NoMetrics(): JSX.Element {
  return (
    <div class="card">
      <EmptyState title="No metrics yet">
        <p>Send a first point from Python (pip install ./sdk/python in Monlight's repository):</p>
        <pre>{`from monlight import MetricsClient
metrics = MetricsClient("${serviceUrl()}", "the API key", project="shop")
metrics.counter("orders_total"); metrics.flush()`}</pre>
        <p>Or with curl:</p>
        <pre>{`curl ${serviceUrl()}/api/metrics -H "X-API-Key: $KEY" \\
  -d '[{"name":"orders_total","type":"counter","value":1,"project":"shop"}]'`}</pre>
      </EmptyState>
    </div>
  );
}
