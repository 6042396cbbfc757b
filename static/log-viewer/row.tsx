import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Entry } from "../generated/log-viewer.ts";
import { get } from "../shared/api.ts";
import { dropOverwritten, stripSequences, toPlainText } from "../shared/terminal.ts";
import { formatAbsolute, formatTimestamp } from "../shared/time.ts";
import { CopyButton, ErrorMessage } from "../shared/ui.tsx";
import { type Filters, lineLink } from "./filters.ts";
import { type Highlighter, useMatches } from "./highlights.ts";
import type { Match } from "./matcher.ts";
import { ColoredText, FormattedJson, findJson } from "./message.tsx";

/** Limits of a collapsed row. */
const COLLAPSED_CHARS_MAX = 4_000;
const COLLAPSED_LINES_MAX = 20;

/** A log entry in a list. */
export function Row(props: {
  entry: Entry;
  filters: Filters;
  highlighter: Highlighter;
  wrap: boolean;
  isExpanded: boolean;
  /** Whether the keyboard shortcuts act on this row. */
  isCurrent?: boolean;
  /** Whether the Tab key can reach this row. */
  isTabStop: boolean;
  /** Whether this is the line that the URL links to. */
  isSelected?: boolean;
  /** Position in the whole list, of which the DOM contains only a part. */
  position?: { index: number; count: number; key: number };
  onToggle: () => void;
  onShowContext: () => void;
}): JSX.Element {
  const { entry, position, isExpanded } = props;
  const message = dropOverwritten(entry.message);
  const lines = message.split("\n");
  const shownLines = props.wrap ? lines.slice(0, COLLAPSED_LINES_MAX).join("\n") : (lines[0] ?? "");
  const hiddenLines = lines.length - (props.wrap ? Math.min(lines.length, COLLAPSED_LINES_MAX) : 1);
  const matches = useMatches(props.highlighter, message);
  const shownText = shownLines.slice(0, COLLAPSED_CHARS_MAX);
  // If all matches are in the hidden part, its label is highlighted instead.
  const isMatchHidden = (matches[0]?.[0] ?? 0) >= stripSequences(shownText).length && matches.length > 0;
  const HiddenLabel = isMatchHidden ? "mark" : "span";
  const showContext = (event: MouseEvent): void => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      props.onShowContext();
    }
  };
  const tabIndex = props.isTabStop ? 0 : -1;
  const level = entry.level.toLowerCase();
  return (
    <li
      class={`row ${level}${props.isCurrent ? " current" : ""}${props.wrap || isExpanded ? " auto-height" : ""}`}
      data-id={entry.id}
      data-key={position?.key}
      aria-setsize={position?.count}
      aria-posinset={position && position.index + 1}
      aria-current={props.isSelected ? "true" : undefined}
    >
      <div class="line">
        <button
          type="button"
          class="toggle"
          aria-expanded={isExpanded}
          aria-label={`Line at ${formatTimestamp(entry.timestamp)}, ${entry.container}`}
          tabIndex={tabIndex}
          onClick={props.onToggle}
        >
          {isExpanded ? "▾" : "▸"}
        </button>
        <a
          class="timestamp"
          href={lineLink(props.filters, entry.id)}
          title={`${formatAbsolute(entry.timestamp)} (${entry.timestamp}): show context`}
          tabIndex={tabIndex}
          onClick={showContext}
        >
          {formatTimestamp(entry.timestamp)}
        </a>
        <span class="level">{entry.level}</span>
        <span class="source" title={entry.container}>
          {entry.container}
        </span>
        <span class="message">
          <ColoredText text={shownText} matches={matches} />
          {hiddenLines > 0 && (
            <>
              {" "}
              <HiddenLabel class="muted">{hiddenLines === 1 ? "+1 line" : `+${hiddenLines} lines`}</HiddenLabel>
            </>
          )}
          {(shownLines.length > COLLAPSED_CHARS_MAX || (entry.truncated && hiddenLines === 0)) && (
            <>
              {" "}
              <HiddenLabel class="muted">… (truncated)</HiddenLabel>
            </>
          )}
        </span>
      </div>
      {isExpanded && (
        <ExpandedEntry
          entry={entry}
          highlighter={props.highlighter}
          href={lineLink(props.filters, entry.id)}
          onShowContext={showContext}
        />
      )}
    </li>
  );
}

/** The message of an entry, with its JSON formatted. Lists truncate long messages; a button loads the rest. */
function ExpandedEntry(props: {
  entry: Entry;
  highlighter: Highlighter;
  href: string;
  onShowContext: (event: MouseEvent) => void;
}): JSX.Element {
  const { entry } = props;
  const [whole, setWhole] = useState<string>();
  const message = dropOverwritten(whole ?? entry.message);
  const matches = useMatches(props.highlighter, message);
  const text = useRef<HTMLPreElement>(null);
  return (
    <div class="expanded">
      <pre ref={text} tabIndex={0}>
        <FullMessage message={message} matches={matches} />
      </pre>
      {entry.truncated && whole === undefined && (
        <ShowAll
          entry={entry}
          onLoad={(message) => {
            setWhole(message);
            // The button, which has the focus, disappears.
            text.current?.focus();
          }}
        />
      )}
      <div class="bar">
        <a href={props.href} onClick={props.onShowContext}>
          Show context
        </a>
        <CopyButton label="Copy" text={() => toPlainText(message)} />
        <span class="muted">
          {entry.stream}, {entry.timestamp}
        </span>
      </div>
    </div>
  );
}

/** A button that loads the whole message of an entry. */
function ShowAll({ entry, onLoad }: { entry: Entry; onLoad: (message: string) => void }): JSX.Element {
  const [loading, setLoading] = useState<AbortController>();
  const [error, setError] = useState<Error>();
  useEffect(() => () => loading?.abort(), [loading]);
  const load = async (): Promise<void> => {
    const abort = new AbortController();
    setLoading(abort);
    setError(undefined);
    try {
      const whole = await get<Entry>(`api/logs/${entry.id}`, abort.signal);
      onLoad(whole.message);
    } catch (error) {
      if (!abort.signal.aborted) {
        setError(error as Error);
        setLoading(undefined);
      }
    }
  };
  const size = formatSize(entry.message_bytes ?? 0);
  return (
    <>
      {error && <ErrorMessage error={error} />}
      <div class="bar">
        <span class="muted">The message is truncated.</span>
        <button type="button" onClick={load} disabled={loading !== undefined}>
          {loading ? "Loading…" : `Show all (${size})`}
        </button>
      </div>
    </>
  );
}

function formatSize(bytes: number): string {
  return bytes < 1_000_000 ? `${Math.round(bytes / 1_000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

function FullMessage({ message, matches }: { message: string; matches: Match[] }): JSX.Element {
  const text = stripSequences(message);
  const json = findJson(text);
  if (!json) {
    return <ColoredText text={message} matches={matches} />;
  }
  const { start, end } = json;
  const prefixLength = text.slice(0, start).trimEnd().length;
  const suffix = text.slice(end).trim();
  return (
    <>
      {prefixLength > 0 && (
        <>
          <ColoredText text={message} matches={matches} end={prefixLength} />
          {"\n"}
        </>
      )}
      <FormattedJson text={text} start={start} end={end} matches={matches} />
      {suffix !== "" && (
        <>
          {"\n"}
          <ColoredText text={message} matches={matches} start={text.indexOf(suffix, end)} />
        </>
      )}
    </>
  );
}
