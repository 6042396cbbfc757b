import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "../shared/api.ts";
import { useLoaded } from "../shared/hooks.ts";
import { Copy, Loading, Trouble } from "../shared/ui.tsx";
import type { Marks } from "./marks.ts";
import { Row } from "./row.tsx";
import { type Entry, type Filters, lineLink } from "./types.ts";

const FEW = 20;
const MANY = 200;

/** A line and its neighbours in the same log, over the list, which stays where it is. */
export function Context(props: {
  id: number;
  filters: Filters;
  marks: Marks;
  onClose: () => void;
  onOpen: (id: number) => void;
  onAround: (since: string, until: string) => void;
}): JSX.Element {
  const { id } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const [sides, setSides] = useState({ before: FEW, after: FEW });
  const [toggled, setToggled] = useState<ReadonlySet<number>>(new Set());
  const path = `api/logs/${id}/context?before=${sides.before}&after=${sides.after}`;
  const { value, error, reload } = useLoaded(path, (signal) => get<{ logs: Entry[] }>(path, signal));
  const logs = value?.logs ?? [];
  const chosen = logs.find((entry) => entry.id === id);
  useEffect(() => dialog.current?.showModal(), []);
  const there = chosen !== undefined;
  // Again when it is another line, or more of them.
  useEffect(() => {
    dialog.current?.querySelector('[aria-current="true"]')?.scrollIntoView({ block: "center" });
  }, [there, id, logs.length]);
  const toggle = (id: number): void => {
    const next = new Set(toggled);
    if (!next.delete(id)) {
      next.add(id);
    }
    setToggled(next);
  };
  const around = (): void => {
    const time = Date.parse(chosen?.timestamp ?? "");
    props.onAround(new Date(time - 60_000).toISOString(), new Date(time + 60_000).toISOString());
  };
  const before = logs.findIndex((entry) => entry.id === id);
  return (
    <dialog ref={dialog} class="context" aria-labelledby="context" onClose={props.onClose}>
      <div class="bar">
        <h2 id="context">{chosen ? `Around a line of ${chosen.container}` : "A line"}</h2>
        <span class="grow" />
        {chosen && (
          <>
            <Copy label="Copy link" text={() => new URL(lineLink(props.filters, id), location.href).href} />
            <button type="button" onClick={around}>
              All logs of that minute
            </button>
          </>
        )}
        <button type="button" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </div>
      {!value && !error && <Loading />}
      {error && (
        <Trouble
          error={
            error instanceof ApiError && error.status === 404 ? new Error("That line is not kept any more.") : error
          }
          retry={reload}
        />
      )}
      {value && (
        <div class="around" tabIndex={0} role="group" aria-labelledby="context">
          {before >= sides.before && sides.before < MANY && (
            <button type="button" onClick={() => setSides({ ...sides, before: MANY })}>
              More before
            </button>
          )}
          <ul>
            {logs.map((entry) => (
              <Row
                key={entry.id}
                entry={entry}
                filters={props.filters}
                marks={props.marks}
                wrap
                open={(entry.id === id) !== toggled.has(entry.id)}
                reachable
                chosen={entry.id === id}
                onToggle={() => toggle(entry.id)}
                onOpen={() => props.onOpen(entry.id)}
              />
            ))}
          </ul>
          {logs.length - before - 1 >= sides.after && sides.after < MANY && (
            <button type="button" onClick={() => setSides({ ...sides, after: MANY })}>
              More after
            </button>
          )}
        </div>
      )}
    </dialog>
  );
}
