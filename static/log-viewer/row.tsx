import type { JSX } from "preact";
import { absolute } from "../shared/time.ts";
import { Copy } from "../shared/ui.tsx";
import { Coloured, plain, prettyJson } from "./text.tsx";
import { type Entry, type Filters, lineLink } from "./types.ts";

/** Of a line that is not opened, so much is shown. */
const SHOWN_CHARS = 4_000;
const SHOWN_LINES = 20;

/** `01-31 12:00:00.123`, in the reader's zone. */
function moment(time: string): string {
  const at = new Date(time);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const second = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return `${day} ${second}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

export function Row(props: {
  entry: Entry;
  filters: Filters;
  wrap: boolean;
  open: boolean;
  /** Whether the keys are here. */
  current?: boolean;
  /** Whether the Tab key comes here. */
  reachable: boolean;
  /** Whether the link that is looked at means this line. */
  chosen?: boolean;
  place?: { index: number; count: number; key: number };
  onToggle: () => void;
  onOpen: () => void;
}): JSX.Element {
  const { entry, place, open } = props;
  const lines = entry.message.split("\n");
  const shown = props.wrap ? lines.slice(0, SHOWN_LINES).join("\n") : (lines[0] ?? "");
  const hidden = lines.length - (props.wrap ? Math.min(lines.length, SHOWN_LINES) : 1);
  const follow = (event: MouseEvent): void => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      props.onOpen();
    }
  };
  const tabIndex = props.reachable ? 0 : -1;
  return (
    <li
      class={`row ${entry.level.toLowerCase()}${props.current ? " at" : ""}${props.wrap || open ? " tall" : ""}`}
      data-id={entry.id}
      data-key={place?.key}
      aria-setsize={place?.count}
      aria-posinset={place && place.index + 1}
      aria-current={props.chosen ? "true" : undefined}
    >
      <div class="line">
        <button
          type="button"
          class="fold"
          aria-expanded={open}
          aria-label={`Line of ${moment(entry.timestamp)}, ${entry.container}`}
          tabIndex={tabIndex}
          onClick={props.onToggle}
        >
          {open ? "▾" : "▸"}
        </button>
        <a
          class="when"
          href={lineLink(props.filters, entry.id)}
          title={`${absolute(entry.timestamp)}, ${entry.timestamp}: show what is around it`}
          tabIndex={tabIndex}
          onClick={follow}
        >
          {moment(entry.timestamp)}
        </a>
        <span class="level">{entry.level}</span>
        <span class="source" title={entry.container}>
          {entry.container}
        </span>
        <span class="text">
          <Coloured text={shown.slice(0, SHOWN_CHARS)} />
          {hidden > 0 && <span class="quiet"> +{hidden} lines</span>}
          {shown.length > SHOWN_CHARS && <span class="quiet"> … and more</span>}
        </span>
      </div>
      {open && <Opened entry={entry} href={lineLink(props.filters, entry.id)} onOpen={follow} />}
    </li>
  );
}

/** All of a line; of JSON, a line for every member. */
function Opened(props: { entry: Entry; href: string; onOpen: (event: MouseEvent) => void }): JSX.Element {
  const { entry } = props;
  const json = prettyJson(entry.message);
  return (
    <div class="opened">
      <pre tabIndex={0}>{json ?? <Coloured text={entry.message} />}</pre>
      <div class="bar">
        <a href={props.href} onClick={props.onOpen}>
          What is around it
        </a>
        <Copy label="Copy" text={() => plain(entry.message)} />
        <span class="quiet">
          {entry.stream}, {entry.timestamp}
        </span>
      </div>
    </div>
  );
}
