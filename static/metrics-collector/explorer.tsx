import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Labels, Metric, Metrics, MetricType, Release } from "../generated/metrics-collector.ts";
import { get, query } from "../shared/api.ts";
import { useFetch, useParams, useShortcuts } from "../shared/hooks.ts";
import { EmptyState, ErrorMessage, Loading, SearchBox, Select } from "../shared/ui.tsx";
import { Chart, LINES_MAX, type Line } from "./chart.tsx";
import { formatValue, type Unit, unitFromName } from "./format.ts";
import { formatLabelFilters, parseLabelFilters } from "./label-filters.ts";
import { MetricName } from "./metric-name.tsx";
import { NoMetrics } from "./overview.tsx";
import {
  type BucketWith,
  bucketRates,
  bucketsInRange,
  bucketValues,
  fetchBuckets,
  type Statistic,
  sumBuckets,
} from "./series.ts";
import { type BucketRange, type RangeSelection, toBucketRange } from "./time-range.ts";

/** Maximum number of metrics in the list. */
const LISTED_MAX = 300;
/** Maximum number of metrics that the page loads. */
const NAMES_MAX = 1000;
/** Highest first, so that the lines of lower percentiles are drawn on top. */
const PERCENTILES = ["p99", "p95", "p50"] as const;

/** Statistics that the table of totals needs. */
const TABLE_FIELDS = ["count", "sum", "min", "max"] as const;
type TableBucket = BucketWith<(typeof TABLE_FIELDS)[number]>;
/** Statistics that a chart can show. */
type ChartStatistic = Statistic | "rate" | "percentiles";

/** Statistics of each type of metric. The first one is the default. */
const STATISTICS: Record<MetricType, [value: ChartStatistic, label: string][]> = {
  counter: [
    ["rate", "Rate per second"],
    ["sum", "Sum per bucket"],
  ],
  gauge: [
    ["last", "Last (sum of series)"],
    ["last_avg", "Last (average of series)"],
    ["avg", "Average"],
    ["min", "Min"],
    ["max", "Max"],
  ],
  histogram: [
    ["percentiles", "Percentiles"],
    ...PERCENTILES.map((name): [ChartStatistic, string] => [name, name]),
    ["avg", "Average"],
    ["min", "Min"],
    ["max", "Max"],
    ["count", "Count per second"],
  ],
};

/** A searchable list of metrics and the charts of the selected one. */
export function Explorer(props: {
  selection: RangeSelection;
  project: string | undefined;
  releases: Release[];
  /** Whether the search field should get the focus. */
  shouldFocusSearch: boolean;
  onSearchFocused: () => void;
}): JSX.Element {
  const { selection, project } = props;
  const [params, setParams] = useParams();
  const name = params.get("metric");
  const path = `api/metrics/names${query({ project, limit: NAMES_MAX })}`;
  const names = useFetch(path, (signal) => get<Metrics>(path, signal), selection.intervalMs);
  const searchText = (params.get("search") ?? "").toLowerCase();
  const all = names.value?.metrics ?? [];
  // If there are more metrics than the page loads, the service searches.
  const isCut = all.length === NAMES_MAX;
  const foundQuery = query({ project, search: searchText, limit: LISTED_MAX + 1 });
  const foundPath = isCut && searchText ? `api/metrics/names${foundQuery}` : "";
  const found = useFetch(foundPath, async (signal) => (foundPath ? get<Metrics>(foundPath, signal) : { metrics: [] }));
  const matching = foundPath
    ? (found.value?.metrics ?? [])
    : all.filter((metric) => metric.name.toLowerCase().includes(searchText));
  const listed = matching.slice(0, LISTED_MAX);
  const open = (metric: Metric | undefined): void => {
    if (metric) {
      setParams({ metric: metric.name, type: metric.type, labels: undefined, group_by: undefined, show: undefined });
    }
  };
  const known = foundPath ? [...matching, ...all] : all;
  const type = known.find((metric) => metric.name === name && metric.type === params.get("type"))?.type;
  const selected = known.find((metric) => metric.name === name && (!type || metric.type === type));
  const index = selected ? listed.indexOf(selected) : -1;
  useShortcuts({ j: () => open(listed[index + 1]), k: () => open(listed[index - 1]) });
  const searchInput = useRef<HTMLInputElement>(null);
  const { shouldFocusSearch, onSearchFocused } = props;
  useEffect(() => {
    if (shouldFocusSearch && searchInput.current) {
      searchInput.current.focus();
      onSearchFocused();
    }
  });
  const openFirst = (event: KeyboardEvent): void => {
    if (event.key === "Enter") {
      // The URL does not contain the last keystrokes yet.
      const typed = searchInput.current?.value.toLowerCase() ?? "";
      open(known.find((metric) => metric.name.toLowerCase().includes(typed)));
    }
  };
  if (names.error && !names.value) {
    return <ErrorMessage error={names.error} retry={names.reload} />;
  }
  if (!names.value) {
    return <Loading />;
  }
  if (all.length === 0 && !project) {
    return <NoMetrics />;
  }
  return (
    <div class="explorer">
      <section class="picker card" aria-label="Metrics">
        <search onKeyDown={openFirst}>
          <SearchBox
            inputRef={searchInput}
            value={params.get("search") ?? ""}
            placeholder="Search metrics"
            onSearch={(search) => setParams({ search }, true)}
          />
        </search>
        <ul tabIndex={0} aria-label="Metrics and their types">
          {listed.map((metric) => (
            <li key={`${metric.type} ${metric.name}`}>
              <a
                href={query({ ...Object.fromEntries(params), metric: metric.name, type: metric.type })}
                aria-current={metric === selected ? "true" : undefined}
                onClick={(event) => {
                  if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
                    event.preventDefault();
                    open(metric);
                  }
                }}
              >
                <span class="name">
                  <MetricName name={metric.name} />
                </span>{" "}
                <span class="tag">{metric.type}</span>
              </a>
            </li>
          ))}
        </ul>
        <p class="muted" role="status">
          {matching.length > listed.length
            ? `First ${listed.length} of ${isCut ? "more than " : ""}${matching.length} metrics; search to narrow the list`
            : `${matching.length} of ${isCut ? "more than " : ""}${all.length} metrics`}
        </p>
      </section>
      <div class="metric-view">
        {name ? (
          <MetricView
            key={name}
            name={name}
            type={selected?.type ?? metricType(params.get("type"))}
            selection={selection}
            project={project}
            releases={props.releases}
          />
        ) : (
          <div class="card">
            <EmptyState title="Select a metric">
              <p>
                Press <kbd>/</kbd> to search, <kbd>j</kbd> and <kbd>k</kbd> to step through the list. Drag over a chart
                to zoom.
              </p>
            </EmptyState>
          </div>
        )}
      </div>
    </div>
  );
}

/** Returns the type in the URL of a metric that is not loaded. */
function metricType(type: string | null): MetricType {
  return type === "counter" || type === "histogram" ? type : "gauge";
}

/** The fetched buckets of a metric, by group. */
interface MetricSeries {
  range: BucketRange;
  resolution: string;
  /** Groups with the most points first. */
  groups: { label: string; data: TableBucket[] }[];
}

/** The controls and the charts of one metric. */
function MetricView(props: {
  name: string;
  type: MetricType;
  selection: RangeSelection;
  project: string | undefined;
  releases: Release[];
}): JSX.Element {
  const { name, type, selection, project } = props;
  const [params, setParams] = useParams();
  const labelFilters = parseLabelFilters(params.get("labels") ?? "");
  const groupBy = params.get("group_by") ?? undefined;
  const options = STATISTICS[type].filter(([value]) => !groupBy || value !== "percentiles");
  const defaultStatistic = type === "histogram" && groupBy ? "p95" : (options[0]?.[0] ?? "count");
  const requested = params.get("show");
  const statistic = options.find(([value]) => value === requested)?.[0] ?? defaultStatistic;
  const chartFields = statistic === "percentiles" ? PERCENTILES : statistic === "rate" ? [] : [statistic];
  const parameters = { name, type, project, labels: params.get("labels") ?? undefined, group_by: groupBy };
  const labelsPath = `api/metrics/labels${query({ name, project })}`;
  const labels = useFetch(labelsPath, (signal) => get<Labels>(labelsPath, signal));
  const series = useFetch(
    `${query(parameters)} ${statistic} ${selection.key}`,
    async (signal): Promise<MetricSeries> => {
      const { range: timeRange, query: rangeQuery } = selection.resolve();
      const response = await fetchBuckets({ ...rangeQuery, ...parameters, fields: TABLE_FIELDS, chartFields }, signal);
      const range = toBucketRange(timeRange, response.resolution);
      const groups = response.groups?.map(({ value, data }) => ({ label: value || "(none)", data })) ?? [
        { label: name, data: response.data },
      ];
      const inRange = groups.map(({ label, data }) => ({ label, data: bucketsInRange(range, data) }));
      return { range, resolution: response.resolution, groups: inRange.filter(({ data }) => data.length > 0) };
    },
    selection.intervalMs,
  );
  const setLabelFilter = (label: string, value: string): void => {
    const next = new Map(labelFilters);
    next.set(label, value);
    setParams({ labels: formatLabelFilters(next) });
  };
  const availableLabels = labels.value?.labels ?? [];
  return (
    <>
      <h2 class="metric">
        <MetricName name={name} /> <span class="tag">{type}</span>
      </h2>
      <div class="bar">
        <Select
          label="Statistic"
          value={statistic}
          options={options}
          onSelect={(value) => setParams({ show: value === defaultStatistic ? undefined : value })}
        />
        <Select
          label="Group by"
          value={groupBy ?? ""}
          options={[
            ["", "None"],
            ...withSelected(
              availableLabels.map((label) => label.name),
              groupBy,
            ),
          ]}
          onSelect={(group_by) => setParams({ group_by, show: undefined })}
        />
        {availableLabels.map((label) => (
          <Select
            key={label.name}
            label={label.name}
            value={labelFilters.get(label.name) ?? ""}
            options={[["", "Any"], ...withSelected(label.values.filter(Boolean), labelFilters.get(label.name))]}
            onSelect={(value) => setLabelFilter(label.name, value)}
          />
        ))}
        {params.has("labels") && (
          <button type="button" onClick={() => setParams({ labels: undefined })}>
            Clear labels
          </button>
        )}
      </div>
      {labels.error && <ErrorMessage error={labels.error} retry={labels.reload} />}
      {series.error && <ErrorMessage error={series.error} retry={series.reload} />}
      {!series.value && !series.error && <Loading />}
      {series.value && (
        <MetricCharts
          series={series.value}
          name={name}
          type={type}
          statistic={statistic}
          selection={selection}
          releases={props.releases}
        />
      )}
    </>
  );
}

/** A chart of the selected statistic, a chart of the number of points, and a table of totals. */
function MetricCharts(props: {
  series: MetricSeries;
  name: string;
  type: MetricType;
  statistic: ChartStatistic;
  selection: RangeSelection;
  releases: Release[];
}): JSX.Element {
  const { series, name, type, statistic, selection, releases } = props;
  const { range, groups, resolution } = series;
  if (groups.length === 0) {
    return (
      <div class="card">
        <EmptyState title="No data in this period">
          <p>No series with these labels has points. Choose a longer period or clear some labels.</p>
        </EmptyState>
      </div>
    );
  }
  const isRate = statistic === "rate" || statistic === "count";
  const statisticValues = (data: TableBucket[]): Line["values"] => {
    if (isRate) {
      return bucketRates(range, data, (bucket) => (statistic === "rate" ? bucket.sum : bucket.count));
    }
    return bucketValues(range, data, (bucket) => bucket[statistic as Statistic]);
  };
  const first = groups[0]?.data ?? [];
  const lines =
    statistic === "percentiles"
      ? PERCENTILES.map((percentile) => ({
          label: percentile,
          values: bucketValues(range, first, (bucket) => bucket[percentile]),
        }))
      : groups.map(({ label, data }) => ({ label, values: statisticValues(data) }));
  const unit: Unit = isRate ? "/s" : unitFromName(name);
  const counts = groups.map(({ label, data }) => ({
    label,
    values: bucketValues(range, data, (bucket) => bucket.count),
  }));
  const points = groups.map(({ data }) => sumBuckets(data, (bucket) => bucket.count));
  return (
    <>
      <p class="muted">
        {points.reduce((sum, count) => sum + count, 0).toLocaleString("en")} points in 1-{resolution} buckets
        {groups.length > LINES_MAX && `; showing the ${LINES_MAX} largest of ${groups.length} groups`}
      </p>
      <Chart title={name} range={range} releases={releases} lines={lines} unit={unit} onZoom={selection.zoomTo} />
      <Chart
        title={`Points per ${resolution}`}
        range={range}
        releases={releases}
        lines={counts}
        unit=""
        onZoom={selection.zoomTo}
      />
      <div class="scroll card" tabIndex={0} role="group" aria-label="Totals">
        <table class="figures">
          <thead>
            <tr>
              {["Group", "Points", "Sum", "Min", "Max", "Average"].map((title) => (
                <th key={title} scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {groups.map(({ label, data }, index) => {
              const sum = sumBuckets(data, (bucket) => bucket.sum);
              const count = points[index] ?? 0;
              const min = data.reduce((lowest, { min }) => Math.min(lowest, min), Number.POSITIVE_INFINITY);
              const max = data.reduce((highest, { max }) => Math.max(highest, max), Number.NEGATIVE_INFINITY);
              // The average of a rounded sum can be beyond the extremes by a rounding error.
              const average = Math.min(max, Math.max(min, sum / count));
              return (
                <tr key={index}>
                  <th scope="row">{label}</th>
                  <td>{count.toLocaleString("en")}</td>
                  {[type === "gauge" ? null : sum, min, max, average].map((value, column) => (
                    <td key={column}>{formatValue(value, unitFromName(name))}</td>
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** Returns options for the values, including the selected one even if no series has it. */
function withSelected(values: string[], selected: string | undefined): [string, string][] {
  const all = selected && !values.includes(selected) ? [selected, ...values] : values;
  return all.map((value) => [value, value]);
}
