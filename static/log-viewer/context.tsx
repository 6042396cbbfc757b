import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { EntryContext } from "../generated/log-viewer.ts";
import { ApiError, get } from "../shared/api.ts";
import { useFetch } from "../shared/hooks.ts";
import { CopyButton, ErrorMessage, Loading } from "../shared/ui.tsx";
import { type Filters, lineLink } from "./filters.ts";
import type { Highlighter } from "./highlights.ts";
import { Row } from "./row.tsx";

/** Lines on each side of the selected one, at first and after "Load older" or "Load newer". */
const NEIGHBORS_INITIAL = 20;
const NEIGHBORS_MAX = 200;
const MINUTE_MS = 60_000;

/** A dialog with a log line and its neighbors in the same log. */
export function ContextDialog(props: {
  id: number;
  filters: Filters;
  highlighter: Highlighter;
  onClose: () => void;
  onShowContext: (id: number) => void;
  /** Shows all logs in a period. */
  onShowPeriod: (since: string, until: string) => void;
}): JSX.Element {
  const { id } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const [limits, setLimits] = useState({ before: NEIGHBORS_INITIAL, after: NEIGHBORS_INITIAL });
  const [toggledIds, setToggledIds] = useState<ReadonlySet<number>>(new Set());
  const path = `api/logs/${id}/context?before=${limits.before}&after=${limits.after}`;
  const { value, error, reload } = useFetch(path, (signal) => get<EntryContext>(path, signal));
  const logs = value?.logs ?? [];
  const selected = logs.find((entry) => entry.id === id);
  useEffect(() => dialog.current?.showModal(), []);
  const isLoaded = selected !== undefined;
  // Scrolls again after another line was selected or more lines were loaded.
  useEffect(() => {
    dialog.current?.querySelector('[aria-current="true"]')?.scrollIntoView({ block: "center" });
  }, [isLoaded, id, logs.length]);
  const toggle = (id: number): void => {
    const next = new Set(toggledIds);
    if (!next.delete(id)) {
      next.add(id);
    }
    setToggledIds(next);
  };
  const showPeriod = (): void => {
    const time = Date.parse(selected?.timestamp ?? "");
    props.onShowPeriod(new Date(time - MINUTE_MS).toISOString(), new Date(time + MINUTE_MS).toISOString());
  };
  const before = logs.findIndex((entry) => entry.id === id);
  const isNotFound = error instanceof ApiError && error.status === 404;
  return (
    <dialog ref={dialog} class="context" aria-labelledby="context" onClose={props.onClose}>
      <div class="bar">
        <h2 id="context">{selected ? `Context in ${selected.container}` : "Context"}</h2>
        <span class="grow" />
        {selected && (
          <>
            <CopyButton label="Copy link" text={() => new URL(lineLink(props.filters, id), location.href).href} />
            <button type="button" onClick={showPeriod}>
              All logs at this time
            </button>
          </>
        )}
        <button type="button" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </div>
      {!value && !error && <Loading />}
      {error && (
        <ErrorMessage
          error={isNotFound ? new Error("Log line not found. It may have been deleted by retention.") : error}
          retry={reload}
        />
      )}
      {value && (
        <div class="neighbors" tabIndex={0} role="group" aria-labelledby="context">
          {before >= limits.before && limits.before < NEIGHBORS_MAX && (
            <button type="button" onClick={() => setLimits({ ...limits, before: NEIGHBORS_MAX })}>
              Load older
            </button>
          )}
          <ul>
            {logs.map((entry) => (
              <Row
                key={entry.id}
                entry={entry}
                filters={props.filters}
                highlighter={props.highlighter}
                wrap
                isExpanded={(entry.id === id) !== toggledIds.has(entry.id)}
                isTabStop
                isSelected={entry.id === id}
                onToggle={() => toggle(entry.id)}
                onShowContext={() => props.onShowContext(entry.id)}
              />
            ))}
          </ul>
          {logs.length - before - 1 >= limits.after && limits.after < NEIGHBORS_MAX && (
            <button type="button" onClick={() => setLimits({ ...limits, after: NEIGHBORS_MAX })}>
              Load newer
            </button>
          )}
        </div>
      )}
    </dialog>
  );
}
