import type { JSX } from "preact";
import { useLoaded } from "../shared/hooks.ts";
import { Empty, Loading, Trouble } from "../shared/ui.tsx";
import { Chart } from "./chart.tsx";
import { dashboardOf, measures, within } from "./data.ts";
import { format, type Unit } from "./format.ts";
import type { Range } from "./range.ts";
import { type Rating, type Release, VITALS, type VitalName, type VitalSummary } from "./types.ts";

/** What each is, and up to where it is good and over what poor (https://web.dev/articles/vitals). */
const ABOUT: Record<VitalName, { title: string; unit: Unit; good: number; poor: number }> = {
  lcp: { title: "Largest Contentful Paint", unit: "ms", good: 2500, poor: 4000 },
  inp: { title: "Interaction to Next Paint", unit: "ms", good: 200, poor: 500 },
  cls: { title: "Cumulative Layout Shift", unit: "", good: 0.1, poor: 0.25 },
  fcp: { title: "First Contentful Paint", unit: "ms", good: 1800, poor: 3000 },
  ttfb: { title: "Time to First Byte", unit: "ms", good: 800, poor: 1800 },
};
const RATINGS: Record<Rating, string> = { good: "good", needs_improvement: "needs improvement", poor: "poor" };

export function Vitals(props: { range: Range; project: string | undefined; releases: Release[] }): JSX.Element {
  const { range, project, releases } = props;
  const { value, error, reload } = useLoaded(
    `${range.key} ${project ?? ""}`,
    async (signal) => {
      const now = range.now();
      const { frame } = now;
      const dashboard = await dashboardOf(now.asked, project, signal);
      return { frame, vitals: dashboard.web_vitals, step: dashboard.resolution === "hour" ? 3600 : 60 };
    },
    range.everyMs,
  );
  if (error && !value) {
    return <Trouble error={error} retry={reload} />;
  }
  if (!value) {
    return <Loading />;
  }
  const { vitals } = value;
  if (!vitals) {
    return (
      <div class="paper">
        <Empty title="No Web Vitals in this time">
          <p>Browsers report them through the browser relay; two elements before a page's other scripts do:</p>
          <pre>{`<script>window.MonlightConfig = { dsn: "the public key", endpoint: "https://relay.example.com" };</script>
<script src="https://relay.example.com/monlight.min.js"></script>`}</pre>
        </Empty>
      </div>
    );
  }
  const frame = { ...value.frame, step: value.step };
  const moments = within(frame, vitals.timeseries);
  return (
    <>
      {error && <Trouble error={error} retry={reload} />}
      <h2>All pages</h2>
      <div class="vitals">
        {VITALS.map((name) => (
          <Vital key={name} name={name} summary={vitals.summary[name]} />
        ))}
      </div>
      <h2>75th percentiles over time</h2>
      <div class="charts">
        {VITALS.filter((name) => vitals.summary[name].count > 0).map((name) => (
          <Chart
            key={name}
            title={`${ABOUT[name].title}, p75`}
            frame={frame}
            releases={releases}
            lines={[{ label: name.toUpperCase(), values: measures(frame, moments, (moment) => moment[name]) }]}
            unit={ABOUT[name].unit}
            onZoom={range.zoomTo}
          />
        ))}
      </div>
      <h2 id="pages">Pages, by 75th percentile</h2>
      <div class="scroll paper" tabIndex={0} role="group" aria-labelledby="pages">
        <table class="figures pages">
          <thead>
            <tr>
              <th scope="col">Page</th>
              <th scope="col">Views</th>
              {VITALS.map((name) => (
                <th key={name} scope="col">
                  <abbr title={ABOUT[name].title}>{name.toUpperCase()}</abbr>
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
                    <Rated name={name} value={page[name]} />
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

function Vital({ name, summary }: { name: VitalName; summary: VitalSummary }): JSX.Element {
  const { title, unit, good, poor } = ABOUT[name];
  const rated = summary.good + summary.needs_improvement + summary.poor;
  const shares = (Object.keys(RATINGS) as Rating[]).map((rating) => ({
    rating,
    percent: rated > 0 ? (summary[rating] / rated) * 100 : 0,
  }));
  const said = shares.map(({ rating, percent }) => `${RATINGS[rating]} ${percent.toFixed(0)} %`).join(", ");
  return (
    <section class="vital paper" aria-labelledby={`vital-${name}`}>
      <h3 id={`vital-${name}`} title={`good up to ${format(good, unit)}, poor over ${format(poor, unit)}`}>
        {name.toUpperCase()} <span class="quiet">{title}</span>
      </h3>
      <p class="figure">
        <b>{format(summary.p75, unit)}</b>{" "}
        {summary.rating && <span class={`tag ${summary.rating}`}>{RATINGS[summary.rating]}</span>}
      </p>
      {rated > 0 && (
        <>
          <div class="shares" role="img" aria-label={said}>
            {shares.map(({ rating, percent }) => (
              <i key={rating} class={rating} style={{ width: `${percent}%` }} />
            ))}
          </div>
          <p class="quiet">{said}</p>
        </>
      )}
      <p class="quiet">{summary.count.toLocaleString("en")} values</p>
    </section>
  );
}

/** A value with what it is worth, in colour and in words. */
function Rated({ name, value }: { name: VitalName; value: number | null }): JSX.Element {
  const { unit, good, poor } = ABOUT[name];
  if (value === null) {
    return <>–</>;
  }
  const rating: Rating = value <= good ? "good" : value > poor ? "poor" : "needs_improvement";
  return (
    <span class={rating} title={RATINGS[rating]}>
      {format(value, unit)}
      <span class="hidden"> {RATINGS[rating]}</span>
    </span>
  );
}
