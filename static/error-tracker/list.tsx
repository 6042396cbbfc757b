import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ErrorGroup, ErrorPage, Projects, Variants } from "../generated/error-tracker.ts";
import type { Session } from "../generated/sessions.ts";
import { get, query, send } from "../shared/api.ts";
import { useFetch, useParams, useShortcuts } from "../shared/hooks.ts";
import { toPlainTexts } from "../shared/terminal.ts";
import {
  EmptyState,
  ErrorMessage,
  FilterPanel,
  Loading,
  SearchBox,
  Select,
  Sparkline,
  Timestamp,
} from "../shared/ui.tsx";

const PAGE_SIZE = 50;
/** Hours in the chart of each group. */
const CHART_HOURS = 24;
const REFRESH_INTERVAL_MS = 15_000;
/** Query parameters of the API and of the page. */
const FILTERS = [
  "project",
  "environment",
  "release",
  "level",
  "source",
  "resolved",
  "search",
  "since",
  "until",
  "session_id",
  "sort",
];

/** Filters with a drop-down list. */
const SELECT_FILTERS = FILTERS.filter((name) => !["search", "since", "until", "session_id"].includes(name));

/** The list of error groups with its filters. */
export function ErrorList({ session }: { session: Session }): JSX.Element {
  const [params, setParams] = useParams();
  const offset = Number(params.get("offset") ?? 0) || 0;
  const filters = Object.fromEntries(FILTERS.map((name) => [name, params.get(name) ?? undefined]));
  const path = `api/errors${query({ ...filters, limit: PAGE_SIZE, offset, hours: CHART_HOURS })}`;
  const load = async (signal: AbortSignal): Promise<ErrorPage> => toPlainTexts(await get<ErrorPage>(path, signal));
  const fetched = useFetch(path, load, REFRESH_INTERVAL_MS);
  const options = useFetch("options", async (signal): Promise<Projects & Variants> => {
    const [{ projects }, variants] = await Promise.all([
      get<Projects>("api/projects", signal),
      get<Variants>("api/variants", signal),
    ]);
    return { projects, ...variants };
  });
  const stable = useStablePage(path, fetched.key === path ? fetched.value : undefined);
  const search = useRef<HTMLInputElement>(null);
  const [currentIndex, setCurrentIndex] = useState(-1);
  const [selected, setSelected] = useState<ReadonlySet<number>>(new Set());
  const [resolveError, setResolveError] = useState<Error>();
  const groups = stable.page?.errors ?? [];
  useEffect(() => {
    setCurrentIndex(-1);
    setSelected(new Set());
  }, [path]);

  const filter = (changes: Record<string, string>): void => setParams({ ...changes, offset: undefined });
  const moveCurrent = (offset: number): void => {
    const next = Math.min(Math.max(currentIndex + offset, 0), groups.length - 1);
    setCurrentIndex(next);
    document.getElementById(`group-${groups[next]?.id}`)?.focus();
  };
  const resolve = async (ids: number[]): Promise<void> => {
    setResolveError(undefined);
    try {
      for (const id of ids) {
        await send("POST", `api/errors/${id}/resolve`);
        stable.markResolved(id);
      }
    } catch (error) {
      setResolveError(error as Error);
    }
    setSelected(new Set());
    fetched.reload();
  };
  const current = groups[currentIndex];
  useShortcuts({
    "/": (event) => {
      event.preventDefault();
      search.current?.focus();
    },
    j: () => moveCurrent(1),
    k: () => moveCurrent(-1),
    r: () => {
      const ids = selected.size > 0 ? [...selected] : current ? [current.id] : [];
      if (session.admin && ids.length > 0) {
        void resolve(ids);
      }
    },
    x: () => current && toggle(current.id),
  });
  const toggle = (id: number): void => {
    const next = new Set(selected);
    if (!next.delete(id)) {
      next.add(id);
    }
    setSelected(next);
  };
  const hasFilter = FILTERS.some((name) => params.has(name));
  const filterSelect = (label: string, name: string, values: string[]): JSX.Element => {
    const value = params.get(name) ?? "";
    const all = value && !values.includes(value) ? [value, ...values] : values;
    const options: [string, string][] = [["", "All"], ...all.map((value): [string, string] => [value, value])];
    return <Select label={label} value={value} options={options} onSelect={(value) => filter({ [name]: value })} />;
  };
  return (
    <>
      <h1 class="hidden">Errors</h1>
      <div class="bar">
        <SearchBox
          inputRef={search}
          value={params.get("search") ?? ""}
          placeholder="Search type, message and stack trace"
          onSearch={(search) => filter({ search })}
        />
        <FilterPanel minWidth="48rem" activeCount={SELECT_FILTERS.filter((name) => params.has(name)).length}>
          <div class="fields">
            <Select
              label="Status"
              value={params.get("resolved") ?? ""}
              options={[
                ["", "Unresolved"],
                ["true", "Resolved"],
                ["all", "All"],
              ]}
              onSelect={(resolved) => filter({ resolved })}
            />
            {filterSelect("Project", "project", options.value?.projects ?? [])}
            {filterSelect("Environment", "environment", options.value?.environments ?? [])}
            {filterSelect("Release", "release", options.value?.releases ?? [])}
            {filterSelect("Level", "level", ["debug", "info", "warning", "error", "critical"])}
            {filterSelect("Source", "source", ["server", "browser"])}
            <Select
              label="Sort by"
              value={params.get("sort") ?? ""}
              options={[
                ["", "Last seen"],
                ["first_seen", "First seen"],
                ["count", "Events"],
              ]}
              onSelect={(sort) => filter({ sort })}
            />
          </div>
        </FilterPanel>
        {hasFilter && (
          <button
            type="button"
            onClick={() => setParams(Object.fromEntries([...FILTERS, "offset"].map((name) => [name, undefined])))}
          >
            Clear filters
          </button>
        )}
      </div>
      {session.admin && selected.size > 0 && (
        <div class="bar selection">
          <button type="button" class="primary" onClick={() => resolve([...selected])}>
            Resolve {selected.size}
          </button>
          <button type="button" onClick={() => setSelected(new Set())}>
            Clear selection
          </button>
        </div>
      )}
      {resolveError && <ErrorMessage error={resolveError} />}
      {fetched.error && <ErrorMessage error={fetched.error} retry={fetched.reload} />}
      {stable.hasChanges && (
        <div class="new-errors" role="status">
          <button type="button" onClick={stable.showLatest}>
            Show new errors
          </button>
        </div>
      )}
      {!stable.page && !fetched.error && <Loading />}
      {stable.page &&
        (groups.length > 0 ? (
          <>
            <ul class="groups card" aria-label="Errors">
              {groups.map((group, index) => (
                <Row
                  key={group.id}
                  group={group}
                  isCurrent={index === currentIndex}
                  isSelected={selected.has(group.id)}
                  onSelect={session.admin ? () => toggle(group.id) : undefined}
                  onOpen={() => setParams({ id: String(group.id) })}
                />
              ))}
            </ul>
            <Pagination
              page={stable.page}
              onPage={(offset) => setParams({ offset: offset > 0 ? String(offset) : undefined })}
            />
          </>
        ) : (
          <div class="card">{hasFilter ? <NoMatches /> : <NoErrors projects={options.value?.projects ?? []} />}</div>
        ))}
    </>
  );
}

/**
 * Prevents rows from moving while the user reads: while the page is scrolled or a row has the focus, the hook updates
 * known groups but neither reorders, inserts nor removes rows. Then `hasChanges` is true if there are new ones, and
 * `showLatest` replaces the page with the latest one. `markResolved` shows that a group was resolved before the next page
 * arrives.
 */
function useStablePage(
  path: string,
  latest: ErrorPage | undefined,
): {
  page: ErrorPage | undefined;
  hasChanges: boolean;
  showLatest: () => void;
  markResolved: (id: number) => void;
} {
  const [shown, setShown] = useState<{ path: string; page: ErrorPage }>();
  const [mayReplace, setMayReplace] = useState(false);
  const updateGroups = (update: (group: ErrorGroup) => ErrorGroup): void =>
    setShown((shown) => shown && { ...shown, page: { ...shown.page, errors: shown.page.errors.map(update) } });
  useEffect(() => {
    if (!latest) {
      return;
    }
    const isReading = scrollY > 40 || document.activeElement?.closest(".groups") !== null;
    const hasSameOrder = shown?.page.errors.map(({ id }) => id).join() === latest.errors.map(({ id }) => id).join();
    if (shown && shown.path !== path) {
      scrollTo(0, 0);
    }
    if (!shown || shown.path !== path || mayReplace || hasSameOrder || !isReading) {
      setShown({ path, page: latest });
      setMayReplace(false);
    } else {
      const byId = new Map(latest.errors.map((group) => [group.id, group]));
      updateGroups((group) => byId.get(group.id) ?? group);
    }
  }, [latest, path, mayReplace]);
  const isSamePath = shown?.path === path;
  return {
    page: isSamePath || !latest ? shown?.page : undefined,
    hasChanges: isSamePath && latest !== undefined && hasNewErrors(shown.page, latest),
    showLatest: () => setMayReplace(true),
    markResolved: (id) => updateGroups((group) => (group.id === id ? { ...group, resolved: true } : group)),
  };
}

/** Returns whether `latest` has errors that `shown` lacks, or another order. Errors that are gone make room for others. */
function hasNewErrors(shown: ErrorPage, latest: ErrorPage): boolean {
  const latestIds = new Set(latest.errors.map(({ id }) => id));
  const shownIds = new Set(shown.errors.map(({ id }) => id));
  const left = shown.errors.filter(({ id }) => latestIds.has(id));
  const movedUp = shown.errors.length - left.length;
  const hasNewFirst = latest.errors.length > 0 && left[0]?.id !== latest.errors[0]?.id;
  return hasNewFirst || latest.errors.slice(0, latest.errors.length - movedUp).some(({ id }) => !shownIds.has(id));
}

/** One error group in the list. */
function Row(props: {
  group: ErrorGroup;
  isCurrent: boolean;
  isSelected: boolean;
  onSelect: (() => void) | undefined;
  onOpen: () => void;
}): JSX.Element {
  const { group } = props;
  const open = (event: MouseEvent): void => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      props.onOpen();
    }
  };
  const recentCount = group.hours?.reduce((sum, count) => sum + count, 0) ?? 0;
  return (
    <li class={props.isCurrent ? "current" : undefined}>
      {props.onSelect ? (
        <input
          type="checkbox"
          checked={props.isSelected}
          onChange={props.onSelect}
          aria-label={`Select ${group.exception_type}`}
        />
      ) : (
        <span />
      )}
      <div class="summary">
        <a id={`group-${group.id}`} href={`?id=${group.id}`} onClick={open}>
          {group.exception_type}
        </a>
        <span class="message">{group.message || "(no message)"}</span>
        <span class="tags">
          {group.resolved && <span class="tag resolved">Resolved</span>}
          <span class={`tag ${group.level}`}>{group.level}</span>
          <span class="tag">{group.project}</span>
          <span class="tag">{group.environment}</span>
          {group.release && <span class="tag">{group.release}</span>}
          {group.source === "browser" && <span class="tag">browser</span>}
          {group.location && <span class="tag">{group.location}</span>}
        </span>
      </div>
      {group.hours && (
        <Sparkline counts={group.hours} label={`${recentCount} events in the last ${CHART_HOURS} hours`} />
      )}
      <span class="count" title="Total events">
        {group.count.toLocaleString()}
      </span>
      <span class="seen">
        <Timestamp at={group.last_seen} />
        <span>
          First seen <Timestamp at={group.first_seen} />
        </span>
      </span>
    </li>
  );
}

function Pagination({ page, onPage }: { page: ErrorPage; onPage: (offset: number) => void }): JSX.Element {
  const first = page.offset + 1;
  const last = page.offset + page.errors.length;
  return (
    <nav class="pages" aria-label="Pages">
      <button type="button" disabled={page.offset === 0} onClick={() => onPage(Math.max(0, page.offset - PAGE_SIZE))}>
        Previous
      </button>
      <button type="button" disabled={last >= page.total} onClick={() => onPage(page.offset + PAGE_SIZE)}>
        Next
      </button>
      <span class="muted">
        {first.toLocaleString()}–{last.toLocaleString()} of {page.total.toLocaleString()}
      </span>
    </nav>
  );
}

function NoMatches(): JSX.Element {
  return (
    <EmptyState title="No matching errors">
      <p>To include resolved errors, set Status to All.</p>
    </EmptyState>
  );
}

/** Shown when no error was ever reported, and when all errors are resolved. */
function NoErrors({ projects }: { projects: string[] }): JSX.Element {
  if (projects.length > 0) {
    return (
      <EmptyState title="No unresolved errors">
        <p>All reported errors are resolved. A resolved error reopens when it occurs again.</p>
      </EmptyState>
    );
  }
  const url = new URL(".", location.href).href.replace(/\/$/, "");
  return (
    <EmptyState title="No errors yet">
      <p>Report a first error from Python (pip install ./sdk/python in Monlight's repository):</p>
      <pre>{`from monlight import ErrorClient
client = ErrorClient("${url}", "the API key", project="shop")
client.capture_exception(ValueError("a first error"))`}</pre>
    </EmptyState>
  );
}
