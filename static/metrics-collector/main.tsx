import "./style.css";
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { get, query } from "../shared/api.ts";
import { useKeys, useLoaded, useParams } from "../shared/hooks.ts";
import { start } from "../shared/shell.tsx";
import { absolute } from "../shared/time.ts";
import { Choice, Trouble } from "../shared/ui.tsx";
import { releasesOf } from "./data.ts";
import { Explore } from "./explore.tsx";
import { OverviewView } from "./overview.tsx";
import { PERIODS, type Range, useRange } from "./range.ts";
import { Releases } from "./releases.tsx";
import { Top } from "./top.tsx";
import type { Health, Release } from "./types.ts";
import { Vitals } from "./vitals.tsx";

const VIEWS: [view: string, title: string][] = [
  ["", "Overview"],
  ["explore", "Explorer"],
  ["vitals", "Web Vitals"],
  ["top", "Top metrics"],
];
const EVERY_MS = 60_000;
const NONE: Release[] = [];

function App(): JSX.Element {
  const [params, setParams] = useParams();
  const range = useRange();
  const project = params.get("project") ?? undefined;
  const view = VIEWS.find(([name]) => name === params.get("view")) ?? ["", "Overview"];
  const { value: projects } = useLoaded("projects", (signal) => get<{ projects: string[] }>("api/projects", signal));
  const { value: health } = useLoaded("health", (signal) => get<Health>("health", signal), EVERY_MS);
  const releases = useLoaded(
    `${range.key} ${project ?? ""}`,
    (signal) => releasesOf(range.now().asked, project, signal),
    range.everyMs,
  );
  const inView = releases.value ?? NONE;
  const [isSearching, setSearching] = useState(false);
  useKeys({
    "/": (event) => {
      event.preventDefault();
      if (view[0] !== "explore") {
        setParams({ view: "explore" });
      }
      setSearching(true);
    },
    Escape: () => range.zoom && range.zoomTo(undefined),
    "+": () => closer(range),
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
  const periods = PERIODS.some(([period]) => period === range.period)
    ? PERIODS
    : [...PERIODS, [range.period, `last ${range.period}`] as [string, string]];
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
        <Choice
          label="Project"
          value={project ?? ""}
          options={[["", "all"], ...all.map((name): [string, string] => [name, name])]}
          onChoose={(project) => setParams({ project })}
        />
        <Choice label="Period" value={range.period} options={periods} onChoose={range.choose} />
        <button type="button" onClick={() => closer(range)} aria-keyshortcuts="+">
          Zoom in
        </button>
      </div>
      <Zoomed range={range} />
      {health?.warnings && health.warnings.length > 0 && (
        <ul class="warnings paper" aria-label="Warnings">
          {health.warnings.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
      <div class="view">
        {view[0] === "explore" ? (
          <Explore
            range={range}
            project={project}
            releases={inView}
            isSearching={isSearching}
            onSearching={() => setSearching(false)}
          />
        ) : view[0] === "vitals" ? (
          <Vitals range={range} project={project} releases={inView} />
        ) : view[0] === "top" ? (
          <Top range={range} project={project} health={health} onOpen={open} link={link} />
        ) : (
          <OverviewView range={range} project={project} releases={inView} />
        )}
        {view[0] !== "top" && (
          <>
            {releases.error && <Trouble error={releases.error} retry={releases.reload} />}
            <Releases releases={inView} />
          </>
        )}
      </div>
    </>
  );
}

/** The middle half of what is shown: what dragging does, for keyboards and fingers. */
function closer(range: Range): void {
  const { from, to } = range.now().frame;
  const quarter = (to - from) / 4;
  range.zoomTo({ from: from + quarter, to: to - quarter });
}

/** The part of time that is shown, and the ways out of it. */
function Zoomed({ range }: { range: Range }): JSX.Element | null {
  const { zoom } = range;
  if (!zoom) {
    return null;
  }
  const text = (moment: number): string => absolute(new Date(moment * 1000).toISOString());
  const by = (share: number): void => {
    const shift = (zoom.to - zoom.from) * share;
    range.zoomTo({ from: zoom.from + shift, to: zoom.to + shift });
  };
  return (
    <div class="zoomed" role="status">
      <button type="button" onClick={() => by(-0.5)} aria-label="Earlier">
        ←
      </button>
      <span>
        {text(zoom.from)} – {text(zoom.to)}
      </span>
      <button type="button" onClick={() => by(0.5)} aria-label="Later">
        →
      </button>
      <button type="button" onClick={() => range.zoomTo(undefined)} aria-keyshortcuts="Escape">
        Whole period
      </button>
    </div>
  );
}

start(
  [
    ["1–4", "overview, explorer, Web Vitals, top metrics"],
    ["/", "search metrics"],
    ["j", "next metric"],
    ["k", "previous metric"],
    ["+", "zoom in; so does dragging over a chart"],
    ["Escape", "the whole period again"],
  ],
  App,
);
