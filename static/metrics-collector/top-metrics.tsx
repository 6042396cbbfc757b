import type { JSX } from "preact";
import type { Health } from "../generated/metrics-collector.ts";
import { useFetch } from "../shared/hooks.ts";
import { ErrorMessage, Loading, Timestamp } from "../shared/ui.tsx";
import { formatValue, unitFromName } from "./format.ts";
import { MetricName } from "./metric-name.tsx";
import { NoMetrics, Tile } from "./overview.tsx";
import { fetchDashboard } from "./series.ts";
import type { RangeSelection } from "./time-range.ts";

/** The metrics with the most points, and the collector's totals. */
export function TopMetrics(props: {
  selection: RangeSelection;
  project: string | undefined;
  health: Health | undefined;
  onOpen: (event: MouseEvent, changes: Record<string, string | undefined>) => void;
  link: (changes: Record<string, string | undefined>) => string;
}): JSX.Element {
  const { selection, project, health } = props;
  const { value, error, reload } = useFetch(
    `${selection.key} ${project ?? ""}`,
    (signal) => fetchDashboard(selection.resolve().query, project, signal),
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
      {value.warnings && (
        <ul class="warnings card" aria-label="Cardinality warnings">
          {value.warnings.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
      <dl class="tiles">
        <Tile name="Points" value={value.summary.total_datapoints.toLocaleString("en")}>
          in {value.summary.distinct_metrics.toLocaleString("en")} metrics
        </Tile>
        {health?.series !== undefined && (
          <Tile name="Series" value={health.series.toLocaleString("en")}>
            {(health.points_overflowed ?? 0).toLocaleString("en")} points over the series limits
          </Tile>
        )}
        {health?.last_aggregation && (
          <Tile name="Last rollup" value={<Timestamp at={health.last_aggregation} />}>
            into minutes and hours
          </Tile>
        )}
      </dl>
      {value.top_metrics.length === 0 ? (
        <NoMetrics />
      ) : (
        <>
          <h2 id="top">Top metrics by points</h2>
          <div class="scroll card" tabIndex={0} role="group" aria-labelledby="top">
            <table class="figures">
              <thead>
                <tr>
                  {["Metric", "Type", "Points", "Sum"].map((title) => (
                    <th key={title} scope="col" class={title === "Type" ? "type" : undefined}>
                      {title}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {value.top_metrics.map((metric) => {
                  const changes = { view: "explore", metric: metric.name, type: metric.type };
                  return (
                    <tr key={`${metric.type} ${metric.name}`}>
                      <th scope="row">
                        <a href={props.link(changes)} onClick={(event) => props.onOpen(event, changes)}>
                          <MetricName name={metric.name} />
                        </a>
                      </th>
                      <td class="type">{metric.type}</td>
                      <td>{metric.count.toLocaleString("en")}</td>
                      <td>{metric.type === "gauge" ? "–" : formatValue(metric.total, unitFromName(metric.name))}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
        </>
      )}
    </>
  );
}
