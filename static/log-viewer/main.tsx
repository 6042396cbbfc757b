import "./style.css";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, query } from "../shared/api.ts";
import { useKeys, useLoaded, useParams } from "../shared/hooks.ts";
import { start } from "../shared/shell.tsx";
import { absolute } from "../shared/time.ts";
import { Choice, Empty, Filters as FoldedFilters, Loading, Search, Trouble } from "../shared/ui.tsx";
import { Context } from "./context.tsx";
import { answerOnThread } from "./expression.ts";
import { Facets } from "./facets.tsx";
import { Chart } from "./histogram.tsx";
import { Lines } from "./lines.ts";
import { LineList } from "./list.tsx";
import { type Marks, useMarks } from "./marks.ts";
import { type Containers, FILTERS, type Filters, filtersOf, type Stats } from "./types.ts";

const EVERY_MS = 30_000;
const WRAP = "wrap";

/** The filters beside the lines. */
const FACETS = ["container", "level", "since", "until"] as const;

type Mode = "search" | "contains" | "regex";
const MODES: [mode: Mode, shown: string, placeholder: string][] = [
  ["search", "words", "Search words"],
  ["contains", "a part of the text", "Search a part of the text, in any case"],
  ["regex", "a regular expression", "Search a regular expression"],
];

function App(): JSX.Element {
  const [params, setParams] = useParams();
  const filters = filtersOf(params);
  const key = query({ ...filters });
  const { shown, opening, version } = useLines(key, filters);
  const containers = useLoaded("containers", (signal) => get<Containers>("api/logs/containers", signal), EVERY_MS);
  const stats = useLoaded("stats", (signal) => get<Stats>("api/logs/stats", signal), EVERY_MS);
  const marks = useMarks(shown);
  const [wrap, setWrap] = useState(storedWrap);
  const [paused, setPaused] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const line = params.get("line");
  const pause = (): void => setPaused((paused) => !paused);
  const switchWrap = (): void => {
    setWrap(!wrap);
    storeWrap(!wrap);
  };
  useKeys({
    "/": (event) => {
      event.preventDefault();
      field.current?.focus();
    },
    p: pause,
    w: switchWrap,
  });
  const filter = (changes: Filters): void => setParams(changes);
  const open = (id: number): void => setParams({ line: String(id) });
  const clear = Object.fromEntries(FILTERS.map((name) => [name, ""]));
  return (
    <>
      <h1 class="hidden">Logs</h1>
      <div class="bar">
        <Find filters={filters} field={field} onFilter={filter} />
        <button type="button" aria-pressed={wrap} onClick={switchWrap} aria-keyshortcuts="w">
          Wrap
        </button>
        <span class="exports">
          Export{" "}
          <a href={`api/logs/export${query({ ...filters, format: "ndjson" })}`} download="logs.ndjson">
            NDJSON
          </a>
          {", "}
          <a href={`api/logs/export${query({ ...filters, format: "text" })}`} download="logs.txt">
            text
          </a>
        </span>
      </div>
      <Chosen filters={filters} onFilter={filter} onClear={() => filter(clear)} />
      <Notes shown={shown} marks={marks} gaps={stats.value?.gaps ?? 0} troubles={containers.value?.troubles ?? []} />
      <Chart filters={filters} onZoom={(since, until) => filter({ since, until })} />
      <div class="columns">
        <FoldedFilters wide="60rem" set={FACETS.filter((name) => filters[name]).length}>
          <div class="facets">
            {containers.error && <Trouble error={containers.error} retry={containers.reload} />}
            <Facets filters={filters} containers={containers.value} stats={stats.value} onFilter={filter} />
          </div>
        </FoldedFilters>
        <section aria-label="Lines" aria-busy={opening}>
          {shown?.error && <Trouble error={shown.error} retry={() => shown.retry()} />}
          {!shown && <Loading />}
          {shown?.ready &&
            (shown.count > 0 ? (
              <LineList
                key={query({ ...shown.filters })}
                lines={shown}
                marks={marks}
                version={version}
                wrap={wrap}
                paused={paused}
                onPause={pause}
                onOpen={open}
              />
            ) : (
              <div class="list paper">
                {key ? (
                  <NothingFits tail={shown.tail === "live"} onClear={() => filter(clear)} />
                ) : (
                  <NothingYet containers={containers.value} />
                )}
              </div>
            ))}
        </section>
      </div>
      {line && (
        <Context
          id={Number(line)}
          filters={filters}
          marks={marks}
          onClose={() => setParams({ line: undefined })}
          onOpen={open}
          onAround={(since, until) => setParams({ ...clear, since, until, line: undefined })}
        />
      )}
    </>
  );
}

/** The lines that fit; those of before stay until the first answer for others has come. */
function useLines(key: string, filters: Filters): { shown: Lines | undefined; opening: boolean; version: number } {
  const [shown, setShown] = useState<Lines>();
  const [version, setVersion] = useState(0);
  // The key says all of the filters.
  useEffect(() => {
    const lines = new Lines(filters, () => {
      setShown(lines);
      setVersion((version) => version + 1);
    });
    void lines.open();
    return () => lines.close();
  }, [key]);
  return { shown, opening: shown !== undefined && query({ ...shown.filters }) !== key, version };
}

function storedWrap(): boolean {
  try {
    return localStorage.getItem(WRAP) === "true";
  } catch {
    // Storage may be switched off.
    return false;
  }
}

function storeWrap(wrap: boolean): void {
  try {
    localStorage.setItem(WRAP, String(wrap));
  } catch {
    // Then it is for this page only.
  }
}

/** The search in one of its three ways, and what can be typed. */
function Find(props: {
  filters: Filters;
  field: { current: HTMLInputElement | null };
  onFilter: (changes: Filters) => void;
}): JSX.Element {
  const { filters } = props;
  const used = MODES.find(([mode]) => filters[mode])?.[0];
  const [chosen, setChosen] = useState<Mode>(used ?? "search");
  const mode = filters[chosen] || !used ? chosen : used;
  const choose = (next: string): void => {
    setChosen(next as Mode);
    const text = filters[mode];
    if (text && next !== mode) {
      props.onFilter({ [mode]: "", [next]: text });
    }
  };
  return (
    <>
      <Search
        field={props.field}
        value={filters[mode] ?? ""}
        placeholder={MODES.find(([name]) => name === mode)?.[2] ?? ""}
        onSearch={(text) => props.onFilter({ [mode]: text })}
      />
      <Choice
        label="Search for"
        value={mode}
        options={MODES.map(([mode, shown]): [string, string] => [mode, shown])}
        onChoose={choose}
      />
      <details class="syntax">
        <summary>Syntax</summary>
        <dl>
          {SYNTAX.map(([typed, meaning]) => (
            <div key={typed}>
              <dt>
                <code>{typed}</code>
              </dt>
              <dd>{meaning}</dd>
            </div>
          ))}
        </dl>
        <p class="quiet">
          This is for words. What is not of it, such as <code>10.0.0.1</code> or <code>foo-bar</code>, is looked for as
          it was typed.
        </p>
      </details>
    </>
  );
}

const SYNTAX: [typed: string, meaning: string][] = [
  ["connection refused", "both words, anywhere"],
  ['"connection refused"', "one after the other"],
  ["error OR timeout", "either, or both"],
  ["error NOT debug", "the first without the second"],
  ["time*", "words that begin so"],
];

const NAMES: Record<keyof Filters, string> = {
  container: "container",
  level: "level",
  search: "words",
  contains: "contains",
  regex: "matches",
  since: "from",
  until: "until",
};

/** The filters that are set, each with a way to remove it. */
function Chosen(props: {
  filters: Filters;
  onFilter: (changes: Filters) => void;
  onClear: () => void;
}): JSX.Element | null {
  const set = FILTERS.flatMap((name) => (props.filters[name] ? [[name, props.filters[name]] as const] : []));
  const shown = (name: keyof Filters, value: string): string =>
    (name === "since" || name === "until") && !Number.isNaN(Date.parse(value)) ? absolute(value) : value;
  return set.length === 0 ? null : (
    <div class="bar chosen" role="group" aria-label="Filters that are set">
      {set.map(([name, value]) => (
        <button type="button" key={name} title="Remove this filter" onClick={() => props.onFilter({ [name]: "" })}>
          {NAMES[name]} <b>{shown(name, value)}</b> <span aria-hidden="true">×</span>
        </button>
      ))}
      {set.length > 1 && (
        <button type="button" onClick={props.onClear}>
          Clear all
        </button>
      )}
    </div>
  );
}

/** What one should know of what is shown. */
function Notes(props: { shown: Lines | undefined; marks: Marks; gaps: number; troubles: string[] }): JSX.Element {
  const { shown, gaps } = props;
  return (
    <div role="status">
      {shown?.mode === "plain" && (
        <p class="note">
          That is not the syntax of searches, so it was searched as plain words: all of them, each as it was typed.
        </p>
      )}
      {shown?.partial && (
        <p class="note">
          There was not time to look through everything: older lines may fit too. A shorter period or a container helps.
        </p>
      )}
      {props.marks.isGivenUp && (
        <p class="note">
          What this regular expression has matched cannot be marked here. The lines are those that fit.
        </p>
      )}
      {gaps > 0 && (
        <p class="note">
          Files were gone before they could be read, {gaps === 1 ? "once" : `${gaps} times`}: lines may be missing.
        </p>
      )}
      {props.troubles.map((trouble) => (
        <p key={trouble} class="note">
          {trouble}
        </p>
      ))}
    </div>
  );
}

function NothingFits({ tail, onClear }: { tail: boolean; onClear: () => void }): JSX.Element {
  return (
    <Empty title="No line fits these filters">
      {tail && <p>What comes and fits shows here at once.</p>}
      <button type="button" onClick={onClear}>
        Clear all filters
      </button>
    </Empty>
  );
}

/** There is nothing to show yet: what is followed, or how something would be. */
function NothingYet({ containers }: { containers: Containers | undefined }): JSX.Element {
  const all = containers?.containers ?? [];
  if (all.length === 0) {
    return (
      <Empty title="No logs are followed yet">
        <p>
          Where Docker keeps its containers' logs is told by <code>LOG_SOURCES</code>, and files of text by{" "}
          <code>LOG_FILES</code>:
        </p>
        <pre tabIndex={0}>{`LOG_SOURCES=/var/lib/docker/containers
LOG_FILES=web=/var/log/nginx/access.log,api=/srv/api/api.log`}</pre>
        <p>
          Docker's folder belongs to root: the viewer runs as root, or with the capability <code>DAC_READ_SEARCH</code>.{" "}
          <code>CONTAINERS</code> must be empty, or fit the names.
        </p>
      </Empty>
    );
  }
  const unread = all.filter(({ followed }) => !followed);
  return (
    <Empty title="Nothing was written yet">
      {unread.length < all.length && <p>What is written from now on shows here at once.</p>}
      {unread.map(({ name, reason }) => (
        <p key={name}>
          <b>{name}</b> is not followed{reason && `: ${reason}`}
        </p>
      ))}
    </Empty>
  );
}

if (typeof document === "undefined") {
  answerOnThread();
} else {
  start(
    [
      ["/", "search"],
      ["j", "next line"],
      ["k", "previous line"],
      ["Enter", "open it"],
      ["c", "what is around it"],
      ["g", "jump to the newest"],
      ["p", "pause, or go on"],
      ["w", "wrap long lines, or not"],
      ["Escape", "close what is open"],
    ],
    App,
  );
}
