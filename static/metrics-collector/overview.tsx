import type { JSX } from "preact";
import { get } from "../shared/api.ts";
import { useLoaded } from "../shared/hooks.ts";
import { Empty, Loading, Trouble } from "../shared/ui.tsx";
import { Chart, type Line } from "./chart.tsx";
import { buckets, highest, latest, measures, rates, total, type Values, within } from "./data.ts";
import { format } from "./format.ts";
import type { Frame, Range } from "./range.ts";
import type { Bucket, Buckets, Metric, Release } from "./types.ts";

/** What the middlewares of the Python package send. */
const REQUESTS = "http_requests_total";
const DURATION = "http_request_duration_seconds";
/** What the collector measures of its machine, which is of no project. */
const HOST = [
  "host_cpu_percent",
  "host_memory_used_bytes",
  "host_memory_total_bytes",
  "host_disk_used_bytes",
  "host_disk_total_bytes",
  "host_network_received_bytes",
  "host_network_sent_bytes",
] as const;
const OWN = /^(host_|process_resident_bytes$|database_bytes$)/;

interface Overview {
  frame: Frame;
  isFirst: boolean;
  requests: Bucket[];
  errors: Bucket[];
  durations: Bucket[];
  host: Record<(typeof HOST)[number], Bucket[]>;
}

export function OverviewView(props: { range: Range; project: string | undefined; releases: Release[] }): JSX.Element {
  const { range, project, releases } = props;
  const { value, error, reload } = useLoaded(
    `${range.key} ${project ?? ""}`,
    (signal) => load(range, project, signal),
    range.everyMs,
  );
  if (error && !value) {
    return <Trouble error={error} retry={reload} />;
  }
  if (!value) {
    return <Loading />;
  }
  return (
    <>
      {error && <Trouble error={error} retry={reload} />}
      {value.isFirst ? (
        <FirstPoint />
      ) : (
        <Requests overview={value} range={range} project={project} releases={releases} />
      )}
      <Host overview={value} range={range} releases={releases} />
    </>
  );
}

async function load(range: Range, project: string | undefined, signal: AbortSignal): Promise<Overview> {
  const { frame, asked } = range.now();
  const of = { ...asked, ...(project ? { project } : {}) };
  const [{ metrics }, requests, durations, ...host] = await Promise.all([
    get<{ metrics: Metric[] }>("api/metrics/names", signal),
    buckets({ name: REQUESTS, group_by: "status", fields: "sum", ...of }, signal),
    buckets({ name: DURATION, fields: "p50,p95,p99", ...of }, signal),
    ...HOST.map((name) => buckets({ name, fields: "sum,avg", ...asked }, signal)),
  ]);
  const inside = (answer: Buckets | undefined): Bucket[] => within(frame, answer?.data ?? []);
  const groups = requests.groups ?? [];
  const failed = groups.filter(({ value }) => /^5\d\d$/.test(value));
  return {
    frame,
    isFirst: metrics.every(({ name }) => OWN.test(name)),
    requests: within(frame, together(groups)),
    errors: within(frame, together(failed)),
    durations: inside(durations),
    host: Object.fromEntries(HOST.map((name, index) => [name, inside(host[index])])) as Overview["host"],
  };
}

/** Counters of several groups as one: only what can be added up is. */
function together(groups: { data: Bucket[] }[]): Bucket[] {
  const sums = new Map<string, Bucket>();
  for (const bucket of groups.flatMap(({ data }) => data)) {
    const known = sums.get(bucket.bucket);
    sums.set(bucket.bucket, known ? { ...known, sum: known.sum + bucket.sum } : bucket);
  }
  return [...sums.values()];
}

const sum = (bucket: Bucket): number => bucket.sum;

function Requests(props: {
  overview: Overview;
  range: Range;
  project: string | undefined;
  releases: Release[];
}): JSX.Element {
  const { releases } = props;
  const { frame, requests, errors, durations } = props.overview;
  const { zoomTo } = props.range;
  if (requests.length === 0 && durations.length === 0) {
    return (
      <div class="paper">
        <Empty title={props.project ? `No requests of ${props.project} in this time` : "No requests in this time"}>
          <p>The middlewares of the Python package count them and measure how long each took, for FastAPI:</p>
          <pre>{`from monlight.integrations.fastapi import setup_monlight
setup_monlight(app, metrics_collector_url="${home()}", api_key="the API key")`}</pre>
        </Empty>
      </div>
    );
  }
  const [count, failed] = [total(requests, sum), total(errors, sum)];
  const rate = rates(frame, requests, sum);
  const errorRate = rates(frame, errors, sum);
  const shares = rate.map((all, index) => (all ? ((errorRate[index] ?? 0) / all) * 100 : all === 0 ? 0 : null));
  const percentiles = (["p99", "p95", "p50"] as const).map(
    (name): Line => ({ label: name, values: measures(frame, durations, (bucket) => bucket[name]) }),
  );
  const p95 = percentiles[1]?.values ?? [];
  return (
    <section aria-labelledby="requests">
      <h2 id="requests">Requests</h2>
      <dl class="tiles">
        <Tile name="Requests" figure={count.toLocaleString("en")}>
          {format(count / (frame.to - frame.from), "/s")} on average
        </Tile>
        <Tile
          name="Errors"
          figure={format(count > 0 ? (failed / count) * 100 : null, "%")}
          mood={failed > 0 ? "bad" : ""}
        >
          {failed.toLocaleString("en")} answered with 5xx
        </Tile>
        <Tile name="Latency, p95" figure={format(latest(p95), "s")}>
          of the latest {frame.step === 60 ? "minute" : "hour"}; at most {format(highest(p95), "s")}
        </Tile>
      </dl>
      <div class="charts">
        <Chart
          title="Request rate"
          frame={frame}
          releases={releases}
          lines={[{ label: "requests", values: rate }]}
          unit="/s"
          onZoom={zoomTo}
        />
        <Chart
          title="Error rate"
          frame={frame}
          releases={releases}
          lines={[{ label: "5xx", values: shares }]}
          unit="%"
          onZoom={zoomTo}
        />
        <Chart title="Latency" frame={frame} releases={releases} lines={percentiles} unit="s" onZoom={zoomTo} />
      </div>
    </section>
  );
}

function Host(props: { overview: Overview; range: Range; releases: Release[] }): JSX.Element | null {
  const { overview, range, releases } = props;
  const { frame, host } = overview;
  if (Object.values(host).every((found) => found.length === 0)) {
    return null;
  }
  const average = (name: keyof Overview["host"]): Values => measures(frame, host[name], (bucket) => bucket.avg);
  const [cpu, memory, disk] = [
    average("host_cpu_percent"),
    average("host_memory_used_bytes"),
    average("host_disk_used_bytes"),
  ];
  const [memoryTotal, diskTotal] = [average("host_memory_total_bytes"), average("host_disk_total_bytes")];
  const used = (some: Values, all: Values): string => {
    const [part, whole] = [latest(some), latest(all)];
    return format(part === null || !whole ? null : (part / whole) * 100, "%");
  };
  return (
    <section aria-labelledby="host">
      <h2 id="host">The machine of this service</h2>
      <dl class="tiles">
        <Tile name="Processor" figure={format(latest(cpu), "%")}>
          at most {format(highest(cpu), "%")}
        </Tile>
        <Tile name="Memory" figure={used(memory, memoryTotal)}>
          {format(latest(memory), "bytes")} of {format(latest(memoryTotal), "bytes")}
        </Tile>
        <Tile name="Disk" figure={used(disk, diskTotal)}>
          {format(latest(disk), "bytes")} of {format(latest(diskTotal), "bytes")}
        </Tile>
      </dl>
      <div class="charts">
        <Chart
          title="Processor"
          frame={frame}
          releases={releases}
          lines={[{ label: "busy", values: cpu }]}
          unit="%"
          onZoom={range.zoomTo}
        />
        <Chart
          title="Memory"
          frame={frame}
          releases={releases}
          lines={[
            { label: "used", values: memory },
            { label: "there is", values: memoryTotal },
          ]}
          unit="bytes"
          onZoom={range.zoomTo}
        />
        <Chart
          title="Network"
          frame={frame}
          releases={releases}
          lines={[
            { label: "received", values: rates(frame, host.host_network_received_bytes, sum) },
            { label: "sent", values: rates(frame, host.host_network_sent_bytes, sum) },
          ]}
          unit="bytes/s"
          onZoom={range.zoomTo}
        />
      </div>
    </section>
  );
}

export function Tile(props: {
  name: string;
  figure: string | JSX.Element;
  mood?: string;
  children: JSX.Element | (string | number)[] | string;
}): JSX.Element {
  return (
    <div class="tile paper">
      <dt>{props.name}</dt>
      <dd>
        <b class={props.mood}>{props.figure}</b>
        <span class="quiet">{props.children}</span>
      </dd>
    </div>
  );
}

/** Where this service is, as others reach it. */
function home(): string {
  return new URL(".", location.href).href.replace(/\/$/, "");
}

/** What sends a first point. */
export function FirstPoint(): JSX.Element {
  return (
    <div class="paper">
      <Empty title="No metrics yet">
        <p>Three lines of Python send a first point (pip install monlight):</p>
        <pre>{`from monlight import MetricsClient
metrics = MetricsClient("${home()}", "the API key", project="shop")
metrics.counter("orders_total"); metrics.flush()`}</pre>
        <p>So does curl:</p>
        <pre>{`curl ${home()}/api/metrics -H "X-API-Key: $KEY" \\
  -d '[{"name":"orders_total","type":"counter","value":1,"project":"shop"}]'`}</pre>
      </Empty>
    </div>
  );
}
