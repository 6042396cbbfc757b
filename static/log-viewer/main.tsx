import "./style.css";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Containers, Stats } from "../generated/log-viewer.ts";
import { get, query } from "../shared/api.ts";
import { useFetch, useParams, useShortcuts } from "../shared/hooks.ts";
import { renderApp } from "../shared/shell.tsx";
import { formatAbsolute } from "../shared/time.ts";
import { EmptyState, ErrorMessage, FilterPanel, Loading, SearchBox, Select } from "../shared/ui.tsx";
import { ContextDialog } from "./context.tsx";
import { Facets } from "./facets.tsx";
import { LogFeed } from "./feed.ts";
import { FILTERS, type Filters, parseFilters } from "./filters.ts";
import { type Highlighter, useHighlighter } from "./highlights.ts";
import { HistogramChart } from "./histogram.tsx";
import { LineList } from "./list.tsx";
import { serveRegexRequests } from "./regex-worker.ts";

const REFRESH_INTERVAL_MS = 30_000;
/** Key in local storage. */
const WRAP_KEY = "wrap";

/** Filters in the panel next to the lines. */
const FACETS = ["container", "level", "since", "until"] as const;

type SearchMode = "search" | "contains" | "regex";
const SEARCH_MODES: [mode: SearchMode, label: string, placeholder: string][] = [
  ["search", "Full text", "Search words"],
  ["contains", "Substring", "Search for a substring, ignoring case"],
  ["regex", "Regex", "Search with a regular expression"],
];

function App(): JSX.Element {
  const [params, setParams] = useParams();
  const filters = parseFilters(params);
  const key = query({ ...filters });
  const { feed, isOpening, version } = useLogFeed(key, filters);
  const containers = useFetch(
    "containers",
    (signal) => get<Containers>("api/logs/containers", signal),
    REFRESH_INTERVAL_MS,
  );
  const stats = useFetch("stats", (signal) => get<Stats>("api/logs/stats", signal), REFRESH_INTERVAL_MS);
  const highlighter = useHighlighter(feed);
  const [wrap, setWrap] = useState(loadWrap);
  const [paused, setPaused] = useState(false);
  const searchInput = useRef<HTMLInputElement>(null);
  const line = params.get("line");
  const togglePause = (): void => setPaused((paused) => !paused);
  const toggleWrap = (): void => {
    setWrap(!wrap);
    storeWrap(!wrap);
  };
  useShortcuts({
    "/": (event) => {
      event.preventDefault();
      searchInput.current?.focus();
    },
    p: togglePause,
    w: toggleWrap,
  });
  const setFilters = (changes: Filters): void => setParams(changes);
  const showContext = (id: number): void => setParams({ line: String(id) });
  const noFilters = Object.fromEntries(FILTERS.map((name) => [name, ""]));
  return (
    <>
      <h1 class="hidden">Logs</h1>
      <div class="bar">
        <LogSearch filters={filters} inputRef={searchInput} onFilter={setFilters} />
        <button type="button" aria-pressed={wrap} onClick={toggleWrap} aria-keyshortcuts="w">
          Wrap
        </button>
        <span class="exports">
          Export{" "}
          <a href={`api/logs/export${query({ ...filters, format: "ndjson" })}`} download="logs.ndjson">
            NDJSON
          </a>
          {", "}
          <a href={`api/logs/export${query({ ...filters, format: "text" })}`} download="logs.txt">
            Text
          </a>
        </span>
      </div>
      <ActiveFilters filters={filters} onFilter={setFilters} onClear={() => setFilters(noFilters)} />
      <Notices
        feed={feed}
        highlighter={highlighter}
        gaps={stats.value?.gaps ?? 0}
        sourceErrors={containers.value?.troubles ?? []}
      />
      <HistogramChart filters={filters} onZoom={(since, until) => setFilters({ since, until })} />
      <div class="columns">
        <FilterPanel minWidth="60rem" activeCount={FACETS.filter((name) => filters[name]).length}>
          <div class="facets">
            {containers.error && <ErrorMessage error={containers.error} retry={containers.reload} />}
            <Facets filters={filters} containers={containers.value} stats={stats.value} onFilter={setFilters} />
          </div>
        </FilterPanel>
        <section aria-label="Log lines" aria-busy={isOpening}>
          {feed?.error && <ErrorMessage error={feed.error} retry={() => feed.retry()} />}
          {!feed && <Loading />}
          {feed?.isReady &&
            (feed.count > 0 ? (
              <LineList
                key={query({ ...feed.filters })}
                feed={feed}
                highlighter={highlighter}
                version={version}
                wrap={wrap}
                paused={paused}
                onPause={togglePause}
                onShowContext={showContext}
              />
            ) : (
              <div class="list card">
                {key ? (
                  <NoMatches isLive={feed.tail === "live"} onClear={() => setFilters(noFilters)} />
                ) : (
                  <NoLogs containers={containers.value} />
                )}
              </div>
            ))}
        </section>
      </div>
      {line && (
        <ContextDialog
          id={Number(line)}
          filters={filters}
          highlighter={highlighter}
          onClose={() => setParams({ line: undefined })}
          onShowContext={showContext}
          onShowPeriod={(since, until) => setParams({ ...noFilters, since, until, line: undefined })}
        />
      )}
    </>
  );
}

/** Opens a feed for the filters. Returns the previous feed until the first page of the new one has arrived. */
function useLogFeed(key: string, filters: Filters): { feed: LogFeed | undefined; isOpening: boolean; version: number } {
  const [feed, setFeed] = useState<LogFeed>();
  const [version, setVersion] = useState(0);
  // The key contains all filters.
  useEffect(() => {
    const next = new LogFeed(filters, () => {
      setFeed(next);
      setVersion((version) => version + 1);
    });
    void next.open();
    return () => next.close();
  }, [key]);
  return { feed, isOpening: feed !== undefined && query({ ...feed.filters }) !== key, version };
}

function loadWrap(): boolean {
  try {
    return localStorage.getItem(WRAP_KEY) === "true";
  } catch {
    // The browser may block storage.
    return false;
  }
}

function storeWrap(wrap: boolean): void {
  try {
    localStorage.setItem(WRAP_KEY, String(wrap));
  } catch {
    // Without storage, the setting lasts until the page is closed.
  }
}

/** The search field, the list of search modes and the description of the syntax. */
function LogSearch(props: {
  filters: Filters;
  inputRef: { current: HTMLInputElement | null };
  onFilter: (changes: Filters) => void;
}): JSX.Element {
  const { filters } = props;
  const usedMode = SEARCH_MODES.find(([mode]) => filters[mode])?.[0];
  const [selectedMode, setSelectedMode] = useState<SearchMode>(usedMode ?? "search");
  const mode = filters[selectedMode] || !usedMode ? selectedMode : usedMode;
  const selectMode = (next: string): void => {
    setSelectedMode(next as SearchMode);
    const text = filters[mode];
    if (text && next !== mode) {
      props.onFilter({ [mode]: "", [next]: text });
    }
  };
  return (
    <>
      <SearchBox
        inputRef={props.inputRef}
        value={filters[mode] ?? ""}
        placeholder={SEARCH_MODES.find(([name]) => name === mode)?.[2] ?? ""}
        onSearch={(text) => props.onFilter({ [mode]: text })}
      />
      <Select
        label="Search mode"
        value={mode}
        options={SEARCH_MODES.map(([mode, label]): [string, string] => [mode, label])}
        onSelect={selectMode}
      />
      <details class="syntax">
        <summary>Syntax</summary>
        <dl>
          {SYNTAX.map(([example, meaning]) => (
            <div key={example}>
              <dt>
                <code>{example}</code>
              </dt>
              <dd>{meaning}</dd>
            </div>
          ))}
        </dl>
        <p class="muted">
          This syntax applies to the search mode “Full text”. Terms that are not valid in it, such as{" "}
          <code>10.0.0.1</code> or <code>foo-bar</code>, are matched literally.
        </p>
      </details>
    </>
  );
}

const SYNTAX: [example: string, meaning: string][] = [
  ["connection refused", "both words, in any order"],
  ['"connection refused"', "the exact phrase"],
  ["error OR timeout", "at least one of the words"],
  ["error NOT debug", "the first word without the second"],
  ["time*", "words that start with time"],
];

const FILTER_LABELS: Record<keyof Filters, string> = {
  container: "Container",
  level: "Level",
  search: "Search",
  contains: "Contains",
  regex: "Regex",
  since: "From",
  until: "To",
};

/** Buttons that remove the active filters. */
function ActiveFilters(props: {
  filters: Filters;
  onFilter: (changes: Filters) => void;
  onClear: () => void;
}): JSX.Element | null {
  const active = FILTERS.flatMap((name) => (props.filters[name] ? [[name, props.filters[name]] as const] : []));
  const formatValue = (name: keyof Filters, value: string): string =>
    (name === "since" || name === "until") && !Number.isNaN(Date.parse(value)) ? formatAbsolute(value) : value;
  return active.length === 0 ? null : (
    <div class="bar active-filters" role="group" aria-label="Active filters">
      {active.map(([name, value]) => (
        <button type="button" key={name} title="Remove filter" onClick={() => props.onFilter({ [name]: "" })}>
          {FILTER_LABELS[name]} <b>{formatValue(name, value)}</b> <span aria-hidden="true">×</span>
        </button>
      ))}
      {active.length > 1 && (
        <button type="button" onClick={props.onClear}>
          Clear all
        </button>
      )}
    </div>
  );
}

/** Warnings about the listed lines: incomplete results, missed files, unreadable sources. */
function Notices(props: {
  feed: LogFeed | undefined;
  highlighter: Highlighter;
  gaps: number;
  sourceErrors: string[];
}): JSX.Element {
  const { feed, gaps } = props;
  return (
    <div role="status">
      {feed?.searchMode === "plain" && (
        <p class="notice">Not valid search syntax: searched as plain words, all of which must occur.</p>
      )}
      {feed?.isPartial && (
        <p class="notice">Search timed out; older results may be missing. Narrow the period or choose a container.</p>
      )}
      {props.highlighter.isRegexUnsupported && (
        <p class="notice">
          The browser cannot highlight the matches of this regular expression. All listed lines match it.
        </p>
      )}
      {gaps > 0 && (
        <p class="notice">
          Log files were deleted before they could be read ({gaps === 1 ? "once" : `${gaps} times`}); lines may be
          missing.
        </p>
      )}
      {props.sourceErrors.map((error) => (
        <p key={error} class="notice">
          {error}
        </p>
      ))}
    </div>
  );
}

function NoMatches({ isLive, onClear }: { isLive: boolean; onClear: () => void }): JSX.Element {
  return (
    <EmptyState title="No matching log lines">
      {isLive && <p>New matching lines appear here.</p>}
      <button type="button" onClick={onClear}>
        Clear filters
      </button>
    </EmptyState>
  );
}

/** Shown when no line is stored: explains how to configure sources, or lists the containers that are not followed. */
function NoLogs({ containers }: { containers: Containers | undefined }): JSX.Element {
  const all = containers?.containers ?? [];
  if (all.length === 0) {
    return (
      <EmptyState title="No log sources">
        <p>
          Set <code>LOG_SOURCES</code> to Docker's folder of containers, or <code>LOG_FILES</code> to a list of text
          files:
        </p>
        <pre tabIndex={0}>{`LOG_SOURCES=/var/lib/docker/containers
LOG_FILES=web=/var/log/nginx/access.log,api=/srv/api/api.log`}</pre>
        <p>
          Docker's folder belongs to root: run the log viewer as root or with the capability{" "}
          <code>CAP_DAC_READ_SEARCH</code>. <code>CONTAINERS</code> must be empty or match the containers' names.
        </p>
      </EmptyState>
    );
  }
  const notFollowed = all.filter(({ followed }) => !followed);
  return (
    <EmptyState title="No log lines yet">
      {notFollowed.length < all.length && <p>New lines appear here.</p>}
      {notFollowed.map(({ name, reason }) => (
        <p key={name}>
          <b>{name}</b> is not followed{reason && `: ${reason}`}
        </p>
      ))}
    </EmptyState>
  );
}

// In a worker there is no document.
if (typeof document === "undefined") {
  serveRegexRequests();
} else {
  renderApp(
    [
      ["/", "Search"],
      ["j", "Next line"],
      ["k", "Previous line"],
      ["Enter", "Expand or collapse line"],
      ["c", "Show context"],
      ["g", "Jump to newest"],
      ["p", "Pause or resume"],
      ["w", "Toggle line wrap"],
      ["Escape", "Collapse all"],
    ],
    App,
  );
}
