import type { JSX } from "preact";
import { useLoaded } from "../shared/hooks.ts";
import { Loading, Moment, Trouble } from "../shared/ui.tsx";
import { dashboardOf } from "./data.ts";
import { format, unitOf } from "./format.ts";
import { Name } from "./name.tsx";
import { FirstPoint, Tile } from "./overview.tsx";
import type { Range } from "./range.ts";
import type { Health } from "./types.ts";

export function Top(props: {
  range: Range;
  project: string | undefined;
  health: Health | undefined;
  onOpen: (event: MouseEvent, changes: Record<string, string | undefined>) => void;
  link: (changes: Record<string, string | undefined>) => string;
}): JSX.Element {
  const { range, project, health } = props;
  const { value, error, reload } = useLoaded(
    `${range.key} ${project ?? ""}`,
    (signal) => dashboardOf(range.now().asked, project, signal),
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
      {value.warnings && (
        <ul class="warnings paper" aria-label="Metrics over their cap on series">
          {value.warnings.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
      <dl class="tiles">
        <Tile name="Points" figure={value.summary.total_datapoints.toLocaleString("en")}>
          of {value.summary.distinct_metrics.toLocaleString("en")} metrics
        </Tile>
        {health?.series !== undefined && (
          <Tile name="Series" figure={health.series.toLocaleString("en")}>
            {(health.points_overflowed ?? 0).toLocaleString("en")} points over the caps
          </Tile>
        )}
        {health?.last_aggregation && (
          <Tile name="Rolled up" figure={<Moment at={health.last_aggregation} />}>
            into minutes and hours
          </Tile>
        )}
      </dl>
      {value.top_metrics.length === 0 ? (
        <FirstPoint />
      ) : (
        <>
          <h2 id="top">Metrics with most points</h2>
          <div class="scroll paper" tabIndex={0} role="group" aria-labelledby="top">
            <table class="figures">
              <thead>
                <tr>
                  {["Metric", "Type", "Points", "Sum"].map((title) => (
                    <th key={title} scope="col" class={title === "Type" ? "kind" : undefined}>
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
                          <Name of={metric.name} />
                        </a>
                      </th>
                      <td class="kind">{metric.type}</td>
                      <td>{metric.count.toLocaleString("en")}</td>
                      <td>{metric.type === "gauge" ? "–" : format(metric.total, unitOf(metric.name))}</td>
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
