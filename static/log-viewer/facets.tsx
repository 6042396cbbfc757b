import type { JSX } from "preact";
import type { Containers, Level, Stats } from "../generated/log-viewer.ts";
import { toLocalInput } from "../shared/time.ts";
import { Select } from "../shared/ui.tsx";
import { type Filters, LEVELS, parseLevels } from "./filters.ts";

const PERIODS: [minutes: string, label: string][] = [
  ["15", "Last 15 minutes"],
  ["60", "Last hour"],
  ["360", "Last 6 hours"],
  ["1440", "Last 24 hours"],
  ["10080", "Last 7 days"],
];
const MINUTE_MS = 60_000;

/** The filters for time, level and container, with the number of stored lines for each value. */
export function Facets(props: {
  filters: Filters;
  containers: Containers | undefined;
  stats: Stats | undefined;
  onFilter: (changes: Filters) => void;
}): JSX.Element {
  const { filters, onFilter } = props;
  const all = props.containers?.containers ?? [];
  const selectedLevels = parseLevels(filters.level);
  const selected = all.find(({ name }) => name === filters.container);
  const byLevel = selected?.levels ?? props.stats?.by_level;
  // A container of a shared link, or a pattern, may not be in the list.
  const unlisted = filters.container && props.containers && !selected ? [filters.container] : [];
  const projects = [...new Set(all.map(({ project }) => project))].sort();
  const period = filters.since || filters.until ? "custom" : "";
  const selectPeriod = (minutes: string): void => {
    const since = minutes && new Date(Date.now() - Number(minutes) * MINUTE_MS).toISOString();
    onFilter({ since, until: "" });
  };
  const toggleLevel = (level: Level): void => {
    const next = new Set(selectedLevels);
    if (!next.delete(level)) {
      next.add(level);
    }
    onFilter({ level: next.size === LEVELS.length ? "" : LEVELS.filter((level) => next.has(level)).join(",") });
  };
  const setTime = (name: "since" | "until", value: string): void =>
    onFilter({ [name]: value && new Date(value).toISOString() });
  const containerButton = (name: string, count?: number, reason?: string | null): JSX.Element => (
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
      {reason && <p class="muted">Not followed: {reason}</p>}
    </li>
  );
  return (
    <>
      <section aria-labelledby="times">
        <h2 id="times">Time</h2>
        <Select
          label="Period"
          value={period}
          options={[["", "All time"], ...PERIODS, ...(period ? [["custom", "Custom range"] as [string, string]] : [])]}
          onSelect={(value) => value !== "custom" && selectPeriod(value)}
        />
        {(["since", "until"] as const).map((name) => (
          <label key={name} class="field">
            <span>{name === "since" ? "From" : "To"}</span>
            <input
              type="datetime-local"
              value={toLocalInput(filters[name])}
              onChange={(event) => setTime(name, event.currentTarget.value)}
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
                aria-pressed={selectedLevels.has(level)}
                onClick={() => toggleLevel(level)}
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
        {unlisted.length > 0 && <ul>{unlisted.map((name) => containerButton(name))}</ul>}
        {projects.map((project) => (
          <div key={project}>
            {project && <h3 class="muted">{project}</h3>}
            <ul>
              {all
                .filter((container) => container.project === project)
                .map(({ name, log_count, reason }) => containerButton(name, log_count, reason))}
            </ul>
          </div>
        ))}
      </section>
    </>
  );
}
