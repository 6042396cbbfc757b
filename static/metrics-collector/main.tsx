import "./style.css";
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Health, Projects, Release } from "../generated/metrics-collector.ts";
import { get, query } from "../shared/api.ts";
import { useFetch, useParams, useShortcuts } from "../shared/hooks.ts";
import { renderApp } from "../shared/shell.tsx";
import { formatAbsolute } from "../shared/time.ts";
import { ErrorMessage, Select } from "../shared/ui.tsx";
import { Explorer } from "./explorer.tsx";
import { Overview } from "./overview.tsx";
import { Releases } from "./releases.tsx";
import { fetchReleases } from "./series.ts";
import { PERIODS, type RangeSelection, useRangeSelection } from "./time-range.ts";
import { TopMetrics } from "./top-metrics.tsx";
import { WebVitals } from "./vitals.tsx";

const VIEWS: [view: string, title: string][] = [
  ["", "Overview"],
  ["explore", "Explorer"],
  ["vitals", "Web Vitals"],
  ["top", "Top metrics"],
];
const HEALTH_INTERVAL_MS = 60_000;
/** A constant, so that charts are not drawn again with every render. */
const NO_RELEASES: Release[] = [];

function App(): JSX.Element {
  const [params, setParams] = useParams();
  const selection = useRangeSelection();
  const project = params.get("project") ?? undefined;
  const view = VIEWS.find(([name]) => name === params.get("view")) ?? ["", "Overview"];
  const { value: projects } = useFetch("projects", (signal) => get<Projects>("api/projects", signal));
  const { value: health } = useFetch("health", (signal) => get<Health>("health", signal), HEALTH_INTERVAL_MS);
  const releases = useFetch(
    `${selection.key} ${project ?? ""}`,
    (signal) => fetchReleases(selection.resolve().query, project, signal),
    selection.intervalMs,
  );
  const shownReleases = releases.value ?? NO_RELEASES;
  const [shouldFocusSearch, setShouldFocusSearch] = useState(false);
  useShortcuts({
    "/": (event) => {
      event.preventDefault();
      if (view[0] !== "explore") {
        setParams({ view: "explore" });
      }
      setShouldFocusSearch(true);
    },
    Escape: () => selection.zoom && selection.zoomTo(undefined),
    "+": () => zoomIn(selection),
    ...Object.fromEntries(VIEWS.map(([name], index) => [String(index + 1), () => setParams({ view: name })])),
  });
  const link = (changes: Record<string, string | undefined>): string =>
    query({ ...Object.fromEntries(params), ...changes }) || "./";
  const open = (event: MouseEvent, changes: Record<string, string | undefined>): void => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      setParams(changes);
    }
  };
  const known = projects?.projects ?? [];
  const all = project && !known.includes(project) ? [project, ...known] : known;
  const periods = PERIODS.some(([period]) => period === selection.period)
    ? PERIODS
    : [...PERIODS, [selection.period, `Last ${selection.period}`] as [string, string]];
  return (
    <>
      <h1 class="hidden">Metrics: {view[1]}</h1>
      <div class="bar">
        <nav class="views" aria-label="Views">
          {VIEWS.map(([name, title]) => (
            <a
              key={name}
              href={link({ view: name })}
              aria-current={name === view[0] ? "page" : undefined}
              onClick={(event) => open(event, { view: name })}
            >
              {title}
            </a>
          ))}
        </nav>
        <span class="grow" />
        <Select
          label="Project"
          value={project ?? ""}
          options={[["", "All"], ...all.map((name): [string, string] => [name, name])]}
          onSelect={(project) => setParams({ project })}
        />
        <Select label="Period" value={selection.period} options={periods} onSelect={selection.setPeriod} />
        <button type="button" onClick={() => zoomIn(selection)} aria-keyshortcuts="+">
          Zoom in
        </button>
      </div>
      <ZoomBar selection={selection} />
      {health?.warnings && health.warnings.length > 0 && (
        <ul class="warnings card" aria-label="Warnings">
          {health.warnings.map((warning) => (
            <li key={`${warning.code} ${warning.project} ${warning.message}`}>
              {warning.project && <b>{warning.project}: </b>}
              <span>{warning.message ?? warning.code}</span>
            </li>
          ))}
        </ul>
      )}
      <div class="view">
        {view[0] === "explore" ? (
          <Explorer
            selection={selection}
            project={project}
            releases={shownReleases}
            shouldFocusSearch={shouldFocusSearch}
            onSearchFocused={() => setShouldFocusSearch(false)}
          />
        ) : view[0] === "vitals" ? (
          <WebVitals selection={selection} project={project} releases={shownReleases} />
        ) : view[0] === "top" ? (
          <TopMetrics selection={selection} project={project} health={health} onOpen={open} link={link} />
        ) : (
          <Overview selection={selection} project={project} releases={shownReleases} />
        )}
        {view[0] !== "top" && (
          <>
            {releases.error && <ErrorMessage error={releases.error} retry={releases.reload} />}
            <Releases releases={shownReleases} />
          </>
        )}
      </div>
    </>
  );
}

/** Zooms to the middle half of the range: an alternative to dragging for keyboards and touch screens. */
function zoomIn(selection: RangeSelection): void {
  const { from, to } = selection.resolve().range;
  const quarter = (to - from) / 4;
  selection.zoomTo({ from: from + quarter, to: to - quarter });
}

/** The zoomed range with buttons to move it and to reset it. */
function ZoomBar({ selection }: { selection: RangeSelection }): JSX.Element | null {
  const { zoom } = selection;
  if (!zoom) {
    return null;
  }
  const format = (seconds: number): string => formatAbsolute(new Date(seconds * 1000).toISOString());
  const moveBy = (fraction: number): void => {
    const offset = (zoom.to - zoom.from) * fraction;
    selection.zoomTo({ from: zoom.from + offset, to: zoom.to + offset });
  };
  return (
    <div class="zoom-bar" role="status">
      <button type="button" onClick={() => moveBy(-0.5)} aria-label="Earlier">
        ←
      </button>
      <span>
        {format(zoom.from)} – {format(zoom.to)}
      </span>
      <button type="button" onClick={() => moveBy(0.5)} aria-label="Later">
        →
      </button>
      <button type="button" onClick={() => selection.zoomTo(undefined)} aria-keyshortcuts="Escape">
        Reset zoom
      </button>
    </div>
  );
}

renderApp(
  [
    ["1–4", "Overview, Explorer, Web Vitals, Top metrics"],
    ["/", "Search metrics"],
    ["j", "Next metric"],
    ["k", "Previous metric"],
    ["+", "Zoom in (or drag over a chart)"],
    ["Escape", "Reset zoom"],
  ],
  App,
);
