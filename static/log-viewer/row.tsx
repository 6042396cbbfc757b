import type { JSX } from "preact";
import { absolute } from "../shared/time.ts";
import { Copy } from "../shared/ui.tsx";
import type { Hit } from "./hits.ts";
import { type Marks, useHits } from "./marks.ts";
import { bare, Coloured, jsonIn, Pretty, plain } from "./text.tsx";
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
  marks: Marks;
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
  const hits = useHits(props.marks, entry.message);
  const seen = bare(shown.slice(0, SHOWN_CHARS)).length;
  // What is not to be seen may be what was searched for.
  const Rest = (hits[0]?.[0] ?? 0) >= seen && hits.length > 0 ? "mark" : "span";
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
          <Coloured text={shown.slice(0, SHOWN_CHARS)} hits={hits} />
          {hidden > 0 && (
            <>
              {" "}
              <Rest class="quiet">{hidden === 1 ? "+1 line" : `+${hidden} lines`}</Rest>
            </>
          )}
          {shown.length > SHOWN_CHARS && (
            <>
              {" "}
              <Rest class="quiet">… and more</Rest>
            </>
          )}
        </span>
      </div>
      {open && <Opened entry={entry} hits={hits} href={lineLink(props.filters, entry.id)} onOpen={follow} />}
    </li>
  );
}

/** All of a line; of JSON in it, a line for every member. */
function Opened(props: { entry: Entry; hits: Hit[]; href: string; onOpen: (event: MouseEvent) => void }): JSX.Element {
  const { entry, hits } = props;
  return (
    <div class="opened">
      <pre tabIndex={0}>
        <Whole message={entry.message} hits={hits} />
      </pre>
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

function Whole({ message, hits }: { message: string; hits: Hit[] }): JSX.Element {
  const text = bare(message);
  const json = jsonIn(text);
  if (!json) {
    return <Coloured text={message} hits={hits} />;
  }
  const { from, to } = json;
  const before = text.slice(0, from).trimEnd().length;
  const after = text.slice(to).trim();
  return (
    <>
      {before > 0 && (
        <>
          <Coloured text={message} hits={hits} to={before} />
          {"\n"}
        </>
      )}
      <Pretty text={text} from={from} to={to} hits={hits} />
      {after !== "" && (
        <>
          {"\n"}
          <Coloured text={message} hits={hits} from={text.indexOf(after, to)} />
        </>
      )}
    </>
  );
}
