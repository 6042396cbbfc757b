import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { get, query } from "../shared/api.ts";
import { useKeys, useLoaded, useParams } from "../shared/hooks.ts";
import { Choice, Empty, Loading, Search, Trouble } from "../shared/ui.tsx";
import { Chart, LINES_MAX, type Line } from "./chart.tsx";
import { buckets, measures, rates, total, within } from "./data.ts";
import { format, type Unit, unitOf } from "./format.ts";
import { Name } from "./name.tsx";
import { FirstPoint } from "./overview.tsx";
import type { Frame, Range } from "./range.ts";
import type { Bucket, Kind, Label, Metric, Release } from "./types.ts";

const LISTED_MAX = 300;
/** The highest first, so that no line hides a lower one. */
const PERCENTILES = ["p99", "p95", "p50"] as const;

/** What can be shown of each type, the usual first. */
const SHOWN: Record<Kind, [value: string, shown: string][]> = {
  counter: [
    ["rate", "per second"],
    ["sum", "total per bucket"],
  ],
  gauge: [
    ["last", "last value"],
    ["avg", "average"],
    ["min", "lowest"],
    ["max", "highest"],
  ],
  histogram: [
    ["percentiles", "percentiles"],
    ...PERCENTILES.map((name): [string, string] => [name, name]),
    ["avg", "average"],
    ["min", "lowest"],
    ["max", "highest"],
    ["count", "values per second"],
  ],
};

export function Explore(props: {
  range: Range;
  project: string | undefined;
  releases: Release[];
  /** Whether what is typed next is a search. */
  isSearching: boolean;
  onSearching: () => void;
}): JSX.Element {
  const { range, project } = props;
  const [params, setParams] = useParams();
  const name = params.get("metric");
  const path = `api/metrics/names${query({ project })}`;
  const names = useLoaded(path, (signal) => get<{ metrics: Metric[] }>(path, signal), range.everyMs);
  const wanted = (params.get("search") ?? "").toLowerCase();
  const all = names.value?.metrics ?? [];
  const found = all.filter((metric) => metric.name.toLowerCase().includes(wanted));
  const listed = found.slice(0, LISTED_MAX);
  const open = (metric: Metric | undefined): void => {
    if (metric) {
      setParams({ metric: metric.name, type: metric.type, labels: undefined, group_by: undefined, show: undefined });
    }
  };
  const type = all.find((metric) => metric.name === name && metric.type === params.get("type"))?.type;
  const chosen = all.find((metric) => metric.name === name && (!type || metric.type === type));
  const at = chosen ? listed.indexOf(chosen) : -1;
  useKeys({ j: () => open(listed[at + 1]), k: () => open(listed[at - 1]) });
  const search = useRef<HTMLInputElement>(null);
  const { isSearching, onSearching } = props;
  useEffect(() => {
    if (isSearching && search.current) {
      search.current.focus();
      onSearching();
    }
  });
  const openFirst = (event: KeyboardEvent): void => {
    if (event.key === "Enter") {
      // What was typed last may not be in the URL yet.
      const typed = search.current?.value.toLowerCase() ?? "";
      open(all.find((metric) => metric.name.toLowerCase().includes(typed)));
    }
  };
  if (names.error && !names.value) {
    return <Trouble error={names.error} retry={names.reload} />;
  }
  if (!names.value) {
    return <Loading />;
  }
  if (all.length === 0 && !project) {
    return <FirstPoint />;
  }
  return (
    <div class="explorer">
      <section class="picker paper" aria-label="Metrics">
        <search onKeyDown={openFirst}>
          <Search
            field={search}
            value={params.get("search") ?? ""}
            placeholder="Search metrics"
            onSearch={(search) => setParams({ search }, true)}
          />
        </search>
        <ul tabIndex={0} aria-label="Metrics, with their types">
          {listed.map((metric) => (
            <li key={`${metric.type} ${metric.name}`}>
              <a
                href={query({ ...Object.fromEntries(params), metric: metric.name, type: metric.type })}
                aria-current={metric === chosen ? "true" : undefined}
                onClick={(event) => {
                  if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
                    event.preventDefault();
                    open(metric);
                  }
                }}
              >
                <span class="name">
                  <Name of={metric.name} />
                </span>{" "}
                <span class="tag">{metric.type}</span>
              </a>
            </li>
          ))}
        </ul>
        <p class="quiet" role="status">
          {found.length > listed.length
            ? `The first ${listed.length} of ${found.length}; search for more`
            : `${found.length} of ${all.length}`}
        </p>
      </section>
      <div class="found">
        {name ? (
          <MetricView
            key={name}
            name={name}
            type={chosen?.type ?? "gauge"}
            range={range}
            project={project}
            releases={props.releases}
          />
        ) : (
          <div class="paper">
            <Empty title="Choose a metric">
              <p>
                <kbd>/</kbd> searches them, <kbd>j</kbd> and <kbd>k</kbd> go through them. Drag over a chart to zoom.
              </p>
            </Empty>
          </div>
        )}
      </div>
    </div>
  );
}

interface Series {
  frame: Frame;
  resolution: string;
  /** The most frequent first. */
  groups: { label: string; data: Bucket[] }[];
}

function MetricView(props: {
  name: string;
  type: Kind;
  range: Range;
  project: string | undefined;
  releases: Release[];
}): JSX.Element {
  const { name, type, range, project } = props;
  const [params, setParams] = useParams();
  const filters = labelsOf(params.get("labels") ?? "");
  const groupBy = params.get("group_by") ?? undefined;
  const options = SHOWN[type].filter(([value]) => !groupBy || value !== "percentiles");
  const usual = type === "histogram" && groupBy ? "p95" : (options[0]?.[0] ?? "");
  const show = options.some(([value]) => value === params.get("show")) ? (params.get("show") ?? usual) : usual;
  // What the table says, and what is drawn.
  const drawn = show === "percentiles" ? PERCENTILES : show === "rate" ? [] : [show];
  const fields = [...new Set(["count", "sum", "min", "max", ...drawn])].join(",");
  const asked = { name, project, labels: params.get("labels") ?? undefined, group_by: groupBy, fields };
  const of = query({ name, project });
  const labels = useLoaded(of, (signal) => get<{ labels: Label[] }>(`api/metrics/labels${of}`, signal));
  const series = useLoaded(
    `${query(asked)} ${range.key}`,
    async (signal): Promise<Series> => {
      const { frame, asked: span } = range.now();
      const set = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
      const answer = await buckets({ ...span, name, ...set }, signal);
      const groups = answer.groups?.map(({ value, data }) => ({ label: value || "(none)", data })) ?? [
        { label: name, data: answer.data },
      ];
      const inside = groups.map(({ label, data }) => ({ label, data: within(frame, data) }));
      return { frame, resolution: answer.resolution, groups: inside.filter(({ data }) => data.length > 0) };
    },
    range.everyMs,
  );
  const filter = (label: string, value: string): void => {
    const next = new Map(filters);
    next.set(label, value);
    const text = [...next].flatMap(([label, value]) => (value ? [`${label}:${value}`] : [])).join(",");
    setParams({ labels: text });
  };
  const known = labels.value?.labels ?? [];
  return (
    <>
      <h2 class="metric">
        <Name of={name} /> <span class="tag">{type}</span>
      </h2>
      <div class="bar">
        <Choice
          label="Show"
          value={show}
          options={options}
          onChoose={(value) => setParams({ show: value === usual ? undefined : value })}
        />
        <Choice
          label="Group by"
          value={groupBy ?? ""}
          options={[
            ["", "nothing"],
            ...withChosen(
              known.map((label) => label.name),
              groupBy,
            ),
          ]}
          onChoose={(group_by) => setParams({ group_by, show: undefined })}
        />
        {known.map((label) => (
          <Choice
            key={label.name}
            label={label.name}
            value={filters.get(label.name) ?? ""}
            options={[["", "any"], ...withChosen(label.values.filter(canBeAsked), filters.get(label.name))]}
            onChoose={(value) => filter(label.name, value)}
          />
        ))}
        {params.has("labels") && (
          <button type="button" onClick={() => setParams({ labels: undefined })}>
            Any label
          </button>
        )}
      </div>
      {labels.error && <Trouble error={labels.error} retry={labels.reload} />}
      {series.error && <Trouble error={series.error} retry={series.reload} />}
      {!series.value && !series.error && <Loading />}
      {series.value && (
        <Found series={series.value} name={name} type={type} show={show} range={range} releases={props.releases} />
      )}
    </>
  );
}

function Found(props: {
  series: Series;
  name: string;
  type: Kind;
  show: string;
  range: Range;
  releases: Release[];
}): JSX.Element {
  const { series, name, type, show, range, releases } = props;
  const { frame, groups, resolution } = series;
  if (groups.length === 0) {
    return (
      <div class="paper">
        <Empty title="Nothing in this time">
          <p>No series of this metric with these labels had a point. A longer period or fewer labels may show some.</p>
        </Empty>
      </div>
    );
  }
  const measure = (data: Bucket[]): Line["values"] => {
    if (show === "rate" || show === "count") {
      return rates(frame, data, (bucket) => (show === "rate" ? bucket.sum : bucket.count));
    }
    return measures(frame, data, (bucket) => bucket[show as "avg"]);
  };
  const first = groups[0]?.data ?? [];
  const lines =
    show === "percentiles"
      ? PERCENTILES.map((percentile) => ({
          label: percentile,
          values: measures(frame, first, (bucket) => bucket[percentile]),
        }))
      : groups.map(({ label, data }) => ({ label, values: measure(data) }));
  const unit: Unit = show === "rate" || show === "count" ? "/s" : unitOf(name);
  const counts = groups.map(({ label, data }) => ({ label, values: measures(frame, data, (bucket) => bucket.count) }));
  const points = groups.map(({ data }) => total(data, (bucket) => bucket.count));
  return (
    <>
      <p class="quiet">
        {points.reduce((sum, count) => sum + count, 0).toLocaleString("en")} points by the {resolution}
        {groups.length > LINES_MAX && `; drawn are the ${LINES_MAX} groups with most of ${groups.length}`}
      </p>
      <Chart title={name} frame={frame} releases={releases} lines={lines} unit={unit} onZoom={range.zoomTo} />
      <Chart
        title={`Points by the ${resolution}`}
        frame={frame}
        releases={releases}
        lines={counts}
        unit=""
        onZoom={range.zoomTo}
      />
      <div class="scroll paper" tabIndex={0} role="group" aria-label="Totals">
        <table class="figures">
          <thead>
            <tr>
              {["Group", "Points", "Sum", "Lowest", "Highest", "Average"].map((title) => (
                <th key={title} scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {groups.map(({ label, data }, index) => {
              const sum = total(data, (bucket) => bucket.sum);
              const count = points[index] ?? 0;
              const lowest = data.reduce((least, { min }) => Math.min(least, min), Number.POSITIVE_INFINITY);
              const most = data.reduce((most, { max }) => Math.max(most, max), Number.NEGATIVE_INFINITY);
              return (
                <tr key={index}>
                  <th scope="row">{label}</th>
                  <td>{count.toLocaleString("en")}</td>
                  {[type === "gauge" ? null : sum, lowest, most, sum / count].map((figure, column) => (
                    <td key={column}>{format(figure, unitOf(name))}</td>
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

/** `a:1,b:x:y` as the service reads it. */
function labelsOf(text: string): Map<string, string> {
  const pairs = text.split(",").filter((pair) => pair.includes(":"));
  return new Map(
    pairs.map((pair) => [pair.slice(0, pair.indexOf(":")).trim(), pair.slice(pair.indexOf(":") + 1).trim()]),
  );
}

/** Commas part labels from each other, and what is empty cannot be chosen apart from what is any. */
function canBeAsked(value: string): boolean {
  return value !== "" && value === value.trim() && !value.includes(",");
}

/** Options, with what the URL says among them although no series has it. */
function withChosen(values: string[], chosen: string | undefined): [string, string][] {
  const all = chosen && !values.includes(chosen) ? [chosen, ...values] : values;
  return all.map((value) => [value, value]);
}
