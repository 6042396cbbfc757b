import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { change, get, query, type Session } from "../shared/api.ts";
import { useKeys, useLoaded, useParams } from "../shared/hooks.ts";
import { Choice, Empty, Filters, Loading, Moment, Search, Sparkline, Trouble } from "../shared/ui.tsx";
import type { Group, List } from "./types.ts";

const PAGE = 50;
const HOURS = 24;
const EVERY_MS = 15_000;
/** The filters that the URL holds under their own names. */
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

/** Those that are chosen from a list. */
const CHOICES = FILTERS.filter((name) => !["search", "since", "until", "session_id"].includes(name));

interface Names {
  projects: string[];
  environments: string[];
  releases: string[];
}

export function Groups({ session }: { session: Session }): JSX.Element {
  const [params, setParams] = useParams();
  const offset = Number(params.get("offset") ?? 0) || 0;
  const filters = Object.fromEntries(FILTERS.map((name) => [name, params.get(name) ?? undefined]));
  const path = `api/errors${query({ ...filters, limit: PAGE, offset, hours: HOURS })}`;
  const loaded = useLoaded(path, (signal) => get<List>(path, signal), EVERY_MS);
  const names = useLoaded("names", async (signal): Promise<Names> => {
    const [{ projects }, variants] = await Promise.all([
      get<{ projects: string[] }>("api/projects", signal),
      get<Omit<Names, "projects">>("api/variants", signal),
    ]);
    return { projects, ...variants };
  });
  const shown = useSteady(path, loaded.key === path ? loaded.value : undefined);
  const search = useRef<HTMLInputElement>(null);
  const [at, setAt] = useState(-1);
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set());
  const [trouble, setTrouble] = useState<Error>();
  const groups = shown.list?.errors ?? [];
  useEffect(() => {
    setAt(-1);
    setChosen(new Set());
  }, [path]);

  const filter = (changes: Record<string, string>): void => setParams({ ...changes, offset: undefined });
  const move = (by: number): void => {
    const next = Math.min(Math.max(at + by, 0), groups.length - 1);
    setAt(next);
    document.getElementById(`group-${groups[next]?.id}`)?.focus();
  };
  const resolve = async (ids: number[]): Promise<void> => {
    setTrouble(undefined);
    try {
      for (const id of ids) {
        await change("POST", `api/errors/${id}/resolve`);
      }
    } catch (why) {
      setTrouble(why as Error);
    }
    setChosen(new Set());
    shown.release();
    loaded.reload();
  };
  const current = groups[at];
  useKeys({
    "/": (event) => {
      event.preventDefault();
      search.current?.focus();
    },
    j: () => move(1),
    k: () => move(-1),
    r: () => {
      const ids = chosen.size > 0 ? [...chosen] : current ? [current.id] : [];
      if (session.admin && ids.length > 0) {
        void resolve(ids);
      }
    },
    x: () => current && toggle(current.id),
  });
  const toggle = (id: number): void => {
    const next = new Set(chosen);
    if (!next.delete(id)) {
      next.add(id);
    }
    setChosen(next);
  };
  const anyFilter = FILTERS.some((name) => params.has(name));
  const choice = (label: string, name: string, values: string[]): JSX.Element => {
    const value = params.get(name) ?? "";
    const all = value && !values.includes(value) ? [value, ...values] : values;
    const options: [string, string][] = [["", "all"], ...all.map((value): [string, string] => [value, value])];
    return <Choice label={label} value={value} options={options} onChoose={(value) => filter({ [name]: value })} />;
  };
  return (
    <>
      <h1 class="hidden">Errors</h1>
      <div class="bar">
        <Search
          field={search}
          value={params.get("search") ?? ""}
          placeholder="Search type, message and traceback"
          onSearch={(search) => filter({ search })}
        />
        <Filters wide="48rem" set={CHOICES.filter((name) => params.has(name)).length}>
          <div class="choices">
            <Choice
              label="State"
              value={params.get("resolved") ?? ""}
              options={[
                ["", "open"],
                ["true", "resolved"],
                ["all", "all"],
              ]}
              onChoose={(resolved) => filter({ resolved })}
            />
            {choice("Project", "project", names.value?.projects ?? [])}
            {choice("Environment", "environment", names.value?.environments ?? [])}
            {choice("Release", "release", names.value?.releases ?? [])}
            {choice("Level", "level", ["debug", "info", "warning", "error", "critical"])}
            {choice("Source", "source", ["server", "browser"])}
            <Choice
              label="Order"
              value={params.get("sort") ?? ""}
              options={[
                ["", "last seen"],
                ["first_seen", "first seen"],
                ["count", "most reports"],
              ]}
              onChoose={(sort) => filter({ sort })}
            />
          </div>
        </Filters>
        {anyFilter && (
          <button
            type="button"
            onClick={() => setParams(Object.fromEntries([...FILTERS, "offset"].map((name) => [name, undefined])))}
          >
            Clear
          </button>
        )}
      </div>
      {session.admin && chosen.size > 0 && (
        <div class="bar">
          <button type="button" class="main" onClick={() => resolve([...chosen])}>
            Resolve {chosen.size}
          </button>
          <button type="button" onClick={() => setChosen(new Set())}>
            Choose none
          </button>
        </div>
      )}
      {trouble && <Trouble error={trouble} />}
      {loaded.error && <Trouble error={loaded.error} retry={loaded.reload} />}
      {shown.waiting > 0 && (
        <div class="news" role="status">
          <button type="button" onClick={shown.release}>
            Show what is new
          </button>
        </div>
      )}
      {!shown.list && !loaded.error && <Loading />}
      {shown.list &&
        (groups.length > 0 ? (
          <>
            <ul class="groups paper" aria-label="Groups of errors">
              {groups.map((group, index) => (
                <Row
                  key={group.id}
                  group={group}
                  at={index === at}
                  chosen={chosen.has(group.id)}
                  onChoose={session.admin ? () => toggle(group.id) : undefined}
                  onOpen={() => setParams({ id: String(group.id) })}
                />
              ))}
            </ul>
            <Pages
              list={shown.list}
              onPage={(offset) => setParams({ offset: offset > 0 ? String(offset) : undefined })}
            />
          </>
        ) : (
          <div class="paper">
            {anyFilter ? <NothingFits /> : <FirstReport projects={names.value?.projects ?? []} />}
          </div>
        ))}
    </>
  );
}

/** Keeps a list as it is while it is being read: numbers change in place, and what would move things waits for a click. */
function useSteady(
  path: string,
  latest: List | undefined,
): { list: List | undefined; waiting: number; release: () => void } {
  const [held, setHeld] = useState<{ path: string; list: List }>();
  const [released, setReleased] = useState(false);
  useEffect(() => {
    if (!latest) {
      return;
    }
    const reading = scrollY > 40 || document.activeElement?.closest(".groups") !== null;
    const same = held?.list.errors.map(({ id }) => id).join() === latest.errors.map(({ id }) => id).join();
    if (held && held.path !== path) {
      scrollTo(0, 0);
    }
    if (!held || held.path !== path || released || same || !reading) {
      setHeld({ path, list: latest });
      setReleased(false);
    } else {
      const byId = new Map(latest.errors.map((group) => [group.id, group]));
      setHeld({ path, list: { ...held.list, errors: held.list.errors.map((group) => byId.get(group.id) ?? group) } });
    }
  }, [latest, path, released]);
  const known = new Set(held?.list.errors.map(({ id }) => id));
  const moved = held?.list.errors[0]?.id !== latest?.errors[0]?.id;
  const waiting =
    held && latest && held.path === path ? latest.errors.filter(({ id }) => !known.has(id)).length + Number(moved) : 0;
  return { list: held?.path === path || !latest ? held?.list : undefined, waiting, release: () => setReleased(true) };
}

function Row(props: {
  group: Group;
  at: boolean;
  chosen: boolean;
  onChoose: (() => void) | undefined;
  onOpen: () => void;
}): JSX.Element {
  const { group } = props;
  const open = (event: MouseEvent): void => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      props.onOpen();
    }
  };
  const last = group.hours?.reduce((sum, count) => sum + count, 0) ?? 0;
  return (
    <li class={props.at ? "at" : undefined}>
      {props.onChoose ? (
        <input
          type="checkbox"
          checked={props.chosen}
          onChange={props.onChoose}
          aria-label={`Choose ${group.exception_type}`}
        />
      ) : (
        <span />
      )}
      <div class="what">
        <a id={`group-${group.id}`} href={`?id=${group.id}`} onClick={open}>
          {group.exception_type}
        </a>
        <span class="message">{group.message || "no message"}</span>
        <span class="tags">
          <span class={`tag ${group.level}`}>{group.level}</span>
          <span class="tag">{group.project}</span>
          <span class="tag">{group.environment}</span>
          {group.release && <span class="tag">{group.release}</span>}
          {group.source === "browser" && <span class="tag">browser</span>}
          {group.resolved && <span class="tag resolved">resolved</span>}
          {group.location && <span class="tag">{group.location}</span>}
        </span>
      </div>
      {group.hours && <Sparkline counts={group.hours} label={`${last} in the last ${HOURS} hours`} />}
      <span class="count" title="Reports in all">
        {group.count.toLocaleString()}
      </span>
      <span class="seen">
        <Moment at={group.last_seen} />
        <span title="First seen">
          since <Moment at={group.first_seen} />
        </span>
      </span>
    </li>
  );
}

function Pages({ list, onPage }: { list: List; onPage: (offset: number) => void }): JSX.Element {
  const first = list.offset + 1;
  const last = list.offset + list.errors.length;
  return (
    <nav class="pages" aria-label="Pages">
      <button type="button" disabled={list.offset === 0} onClick={() => onPage(Math.max(0, list.offset - PAGE))}>
        Newer
      </button>
      <button type="button" disabled={last >= list.total} onClick={() => onPage(list.offset + PAGE)}>
        Older
      </button>
      <span class="quiet">
        {first.toLocaleString()}–{last.toLocaleString()} of {list.total.toLocaleString()}
      </span>
    </nav>
  );
}

function NothingFits(): JSX.Element {
  return (
    <Empty title="No error fits these filters">
      <p>Resolved errors show when the state is “all”.</p>
    </Empty>
  );
}

/** Nothing was ever reported, or everything is resolved. */
function FirstReport({ projects }: { projects: string[] }): JSX.Element {
  if (projects.length > 0) {
    return (
      <Empty title="No open errors">
        <p>Everything that was reported is resolved. What recurs comes back by itself.</p>
      </Empty>
    );
  }
  const url = new URL(".", location.href).href.replace(/\/$/, "");
  return (
    <Empty title="No errors yet">
      <p>Three lines of Python send a first one (pip install monlight):</p>
      <pre>{`from monlight import ErrorClient
client = ErrorClient("${url}", "the API key", project="shop")
client.report_error_sync(ValueError("a first error"))`}</pre>
    </Empty>
  );
}
