import type { JSX } from "preact";
import { Choice } from "../shared/ui.tsx";
import { type Containers, type Filters, LEVELS, type Level, levelsOf, type Stats } from "./types.ts";

const PERIODS: [minutes: string, shown: string][] = [
  ["15", "the last 15 minutes"],
  ["60", "the last hour"],
  ["360", "the last 6 hours"],
  ["1440", "the last day"],
  ["10080", "the last week"],
];
const MINUTE_MS = 60_000;

/** A moment as fields for times have it, in the reader's zone. */
function local(time: string | undefined): string {
  const ms = Date.parse(time ?? "");
  return Number.isNaN(ms) ? "" : new Date(ms - new Date(ms).getTimezoneOffset() * MINUTE_MS).toISOString().slice(0, 16);
}

/** What can be chosen: times, levels, containers, with how many lines of each are kept. */
export function Facets(props: {
  filters: Filters;
  containers: Containers | undefined;
  stats: Stats | undefined;
  onFilter: (changes: Filters) => void;
}): JSX.Element {
  const { filters, onFilter } = props;
  const all = props.containers?.containers ?? [];
  const chosen = levelsOf(filters.level);
  const only = all.find(({ name }) => name === filters.container);
  const byLevel = only?.levels ?? props.stats?.by_level;
  const known = filters.container && props.containers && !only ? [filters.container] : [];
  const projects = [...new Set(all.map(({ project }) => project))].sort();
  const period = filters.since || filters.until ? "chosen" : "";
  const choosePeriod = (minutes: string): void => {
    const since = minutes && new Date(Date.now() - Number(minutes) * MINUTE_MS).toISOString();
    onFilter({ since, until: "" });
  };
  const chooseLevel = (level: Level): void => {
    const next = new Set(chosen);
    if (!next.delete(level)) {
      next.add(level);
    }
    onFilter({ level: next.size === LEVELS.length ? "" : LEVELS.filter((level) => next.has(level)).join(",") });
  };
  const chooseTime = (name: "since" | "until", value: string): void =>
    onFilter({ [name]: value && new Date(value).toISOString() });
  const container = (name: string, count?: number, reason?: string | null): JSX.Element => (
    <li key={name}>
      <button
        type="button"
        class="facet"
        aria-pressed={name === filters.container}
        onClick={() => onFilter({ container: name === filters.container ? "" : name })}
      >
        <span class="name">{name}</span>
        {count !== undefined && <span class="count">{count.toLocaleString()}</span>}
      </button>
      {reason && <p class="quiet">Not followed: {reason}</p>}
    </li>
  );
  return (
    <>
      <section aria-labelledby="times">
        <h2 id="times">Time</h2>
        <Choice
          label="Period"
          value={period}
          options={[
            ["", "all that is kept"],
            ...PERIODS,
            ...(period ? [["chosen", "as chosen"] as [string, string]] : []),
          ]}
          onChoose={(value) => value !== "chosen" && choosePeriod(value)}
        />
        {(["since", "until"] as const).map((name) => (
          <label key={name} class="choice">
            <span>{name === "since" ? "From" : "Until"}</span>
            <input
              type="datetime-local"
              value={local(filters[name])}
              onChange={(event) => chooseTime(name, event.currentTarget.value)}
            />
          </label>
        ))}
      </section>
      <section aria-labelledby="levels">
        <h2 id="levels">Level</h2>
        <ul>
          {[...LEVELS].reverse().map((level) => (
            <li key={level}>
              <button
                type="button"
                class={`facet ${level.toLowerCase()}`}
                aria-pressed={chosen.has(level)}
                onClick={() => chooseLevel(level)}
              >
                <span class="name">{level}</span>
                <span class="count">{byLevel?.[level].toLocaleString()}</span>
              </button>
            </li>
          ))}
        </ul>
      </section>
      <section aria-labelledby="containers">
        <h2 id="containers">Container</h2>
        {known.length > 0 && <ul>{known.map((name) => container(name))}</ul>}
        {projects.map((project) => (
          <div key={project}>
            {project && <h3 class="quiet">{project}</h3>}
            <ul>
              {all
                .filter((each) => each.project === project)
                .map(({ name, log_count, reason }) => container(name, log_count, reason))}
            </ul>
          </div>
        ))}
      </section>
    </>
  );
}
