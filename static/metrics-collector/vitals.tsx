import type { JSX } from "preact";
import type { Rating, Release, VitalPercentiles, VitalSummary } from "../generated/metrics-collector.ts";
import { useFetch } from "../shared/hooks.ts";
import { EmptyState, ErrorMessage, Loading } from "../shared/ui.tsx";
import { Chart } from "./chart.tsx";
import { formatValue, type Unit } from "./format.ts";
import { bucketsInRange, bucketValues, fetchDashboard } from "./series.ts";
import { type RangeSelection, toBucketRange } from "./time-range.ts";

type VitalName = keyof VitalPercentiles;
const VITALS = ["lcp", "inp", "cls", "fcp", "ttfb"] as const satisfies VitalName[];

/** Titles, units and thresholds: up to `good` is good, above `poor` is poor (https://web.dev/articles/vitals). */
const DEFINITIONS: Record<VitalName, { title: string; unit: Unit; good: number; poor: number }> = {
  lcp: { title: "Largest Contentful Paint", unit: "ms", good: 2500, poor: 4000 },
  inp: { title: "Interaction to Next Paint", unit: "ms", good: 200, poor: 500 },
  cls: { title: "Cumulative Layout Shift", unit: "", good: 0.1, poor: 0.25 },
  fcp: { title: "First Contentful Paint", unit: "ms", good: 1800, poor: 3000 },
  ttfb: { title: "Time to First Byte", unit: "ms", good: 800, poor: 1800 },
};
const RATING_LABELS: Record<Rating, string> = { good: "good", needs_improvement: "needs improvement", poor: "poor" };

/** Core Web Vitals: ratings, charts over time and a table of pages. */
export function WebVitals(props: {
  selection: RangeSelection;
  project: string | undefined;
  releases: Release[];
}): JSX.Element {
  const { selection, project, releases } = props;
  const { value, error, reload } = useFetch(
    `${selection.key} ${project ?? ""}`,
    async (signal) => {
      const { range, query } = selection.resolve();
      const dashboard = await fetchDashboard(query, project, signal);
      return { range: toBucketRange(range, dashboard.resolution), vitals: dashboard.web_vitals };
    },
    selection.intervalMs,
  );
  if (error && !value) {
    return <ErrorMessage error={error} retry={reload} />;
  }
  if (!value) {
    return <Loading />;
  }
  const { range, vitals } = value;
  if (!vitals) {
    return (
      <div class="card">
        <EmptyState title="No Web Vitals in this period">
          <p>Browsers report Web Vitals through the browser relay. Add these tags before a page's other scripts:</p>
          <pre>{`<script>window.MonlightConfig = { dsn: "the public key", endpoint: "https://relay.example.com" };</script>
<script src="https://relay.example.com/monlight.min.js"></script>`}</pre>
        </EmptyState>
      </div>
    );
  }
  const buckets = bucketsInRange(range, vitals.timeseries);
  return (
    <>
      {error && <ErrorMessage error={error} retry={reload} />}
      <h2>All pages</h2>
      <div class="vitals">
        {VITALS.map((name) => (
          <Vital key={name} name={name} summary={vitals.summary[name]} />
        ))}
      </div>
      <h2>75th percentile over time</h2>
      <div class="charts">
        {VITALS.filter((name) => vitals.summary[name].count > 0).map((name) => (
          <Chart
            key={name}
            title={`${DEFINITIONS[name].title} (p75)`}
            range={range}
            releases={releases}
            lines={[{ label: name.toUpperCase(), values: bucketValues(range, buckets, (bucket) => bucket[name]) }]}
            unit={DEFINITIONS[name].unit}
            onZoom={selection.zoomTo}
          />
        ))}
      </div>
      <h2 id="pages">Pages (75th percentile)</h2>
      <div class="scroll card" tabIndex={0} role="group" aria-labelledby="pages">
        <table class="figures pages">
          <thead>
            <tr>
              <th scope="col">Page</th>
              <th scope="col">Views</th>
              {VITALS.map((name) => (
                <th key={name} scope="col">
                  <abbr title={DEFINITIONS[name].title}>{name.toUpperCase()}</abbr>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {vitals.by_page.map((page) => (
              <tr key={page.page}>
                <th scope="row">{page.page}</th>
                <td>{page.page_views.toLocaleString("en")}</td>
                {VITALS.map((name) => (
                  <td key={name}>
                    <RatedValue name={name} value={page[name]} />
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** The rating of one Web Vital and the shares of good and poor samples. */
function Vital({ name, summary }: { name: VitalName; summary: VitalSummary }): JSX.Element {
  const { title, unit, good, poor } = DEFINITIONS[name];
  const rated = summary.good + summary.needs_improvement + summary.poor;
  const shares = (Object.keys(RATING_LABELS) as Rating[]).map((rating) => ({
    rating,
    percent: rated > 0 ? (summary[rating] / rated) * 100 : 0,
  }));
  const summaryText = shares
    .map(({ rating, percent }) => `${RATING_LABELS[rating]} ${percent.toFixed(0)} %`)
    .join(", ");
  return (
    <section class="vital card" aria-labelledby={`vital-${name}`}>
      <h3 id={`vital-${name}`} title={`Good up to ${formatValue(good, unit)}, poor above ${formatValue(poor, unit)}`}>
        {name.toUpperCase()} <span class="muted">{title}</span>
      </h3>
      <p class="value">
        <b>{formatValue(summary.p75, unit)}</b>{" "}
        {summary.rating && <span class={`tag ${summary.rating}`}>{RATING_LABELS[summary.rating]}</span>}
      </p>
      {rated > 0 && (
        <>
          <div class="shares" role="img" aria-label={summaryText}>
            {shares.map(({ rating, percent }) => (
              <i key={rating} class={rating} style={{ width: `${percent}%` }} />
            ))}
          </div>
          <p class="muted">{summaryText}</p>
        </>
      )}
      <p class="muted">{summary.count.toLocaleString("en")} samples</p>
    </section>
  );
}

/** A value colored by its rating. Screen readers get the rating as text. */
function RatedValue({ name, value }: { name: VitalName; value: number | null }): JSX.Element {
  const { unit, good, poor } = DEFINITIONS[name];
  if (value === null) {
    return <>–</>;
  }
  const rating: Rating = value <= good ? "good" : value > poor ? "poor" : "needs_improvement";
  return (
    <span class={rating} title={RATING_LABELS[rating]}>
      {formatValue(value, unit)}
      <span class="hidden"> {RATING_LABELS[rating]}</span>
    </span>
  );
}
