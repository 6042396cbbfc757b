import type { ComponentChildren, JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useNow } from "./hooks.ts";
import { toPlainText } from "./terminal.ts";
import { formatAbsolute, formatRelative } from "./time.ts";

/** A relative time. The tooltip shows the absolute time. */
export function Timestamp({ at }: { at: string | null | undefined }): JSX.Element {
  const now = useNow();
  return at ? (
    <time dateTime={at} title={formatAbsolute(at)}>
      {formatRelative(at, now)}
    </time>
  ) : (
    <span>–</span>
  );
}

/** An error message with an optional button to retry. */
export function ErrorMessage({ error, retry }: { error: Error; retry?: () => void }): JSX.Element {
  return (
    <div class="error-message" role="alert">
      <p>{error.message}</p>
      {retry && (
        <button type="button" onClick={retry}>
          Retry
        </button>
      )}
    </div>
  );
}

/** Replaces an empty list. The children explain how to get data. */
export function EmptyState({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** A loading indicator. The style sheet delays it, so that it does not flash during fast requests. */
export function Loading(): JSX.Element {
  return (
    <p class="loading" role="status">
      Loading…
    </p>
  );
}

/** A button that copies text to the clipboard and reports the result for two seconds. */
export function CopyButton({ text, label }: { text: () => string; label: string }): JSX.Element {
  const [copied, setCopied] = useState<boolean | undefined>();
  useEffect(() => {
    if (copied !== undefined) {
      const timer = setTimeout(() => setCopied(undefined), 2_000);
      return () => clearTimeout(timer);
    }
  }, [copied]);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text());
      setCopied(true);
    } catch {
      setCopied(copyBySelection(text()));
    }
  };
  return (
    <button type="button" onClick={copy}>
      {copied === undefined ? label : copied ? "Copied" : "Copy failed"}
    </button>
  );
}

/** Copies with the older selection API, because browsers offer `navigator.clipboard` only to pages served over TLS. */
function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

/** A small bar chart of counts over time, oldest first. */
export function Sparkline({ counts, label }: { counts: number[]; label: string }): JSX.Element {
  const max = Math.max(1, ...counts);
  const bar = (count: number, index: number): string => {
    const height = count === 0 ? 0 : Math.max(1.5, (count / max) * 20);
    return `M${index * 4} 20h3v${-height}h-3z`;
  };
  return (
    <svg
      class="sparkline"
      preserveAspectRatio="none"
      viewBox={`0 0 ${counts.length * 4} 20`}
      role="img"
      aria-label={label}
    >
      <title>{label}</title>
      <path d={counts.map(bar).join("")} />
    </svg>
  );
}

/** A search field. Calls `onSearch` 300 ms after the last keystroke. */
export function SearchBox(props: {
  value: string;
  placeholder: string;
  onSearch: (text: string) => void;
  inputRef: { current: HTMLInputElement | null };
}): JSX.Element {
  const [text, setText] = useState(props.value);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => setText(props.value), [props.value]);
  const onInput = (text: string): void => {
    setText(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => props.onSearch(text), 300);
  };
  return (
    <input
      ref={props.inputRef}
      type="search"
      class="search"
      aria-label={props.placeholder}
      placeholder={props.placeholder}
      value={text}
      onInput={(event) => onInput(event.currentTarget.value)}
      onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
    />
  );
}

/** A labeled drop-down list. */
export function Select(props: {
  label: string;
  value: string;
  options: [value: string, label: string][];
  onSelect: (value: string) => void;
}): JSX.Element {
  return (
    <label class="field">
      <span>{props.label}</span>
      <select value={props.value} onChange={(event) => props.onSelect(event.currentTarget.value)}>
        {props.options.map(([value, label]) => (
          <option key={value} value={value}>
            {toPlainText(label)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Filters that are collapsed on windows narrower than `minWidth`. The summary shows the number of active filters. */
export function FilterPanel(props: {
  minWidth: string;
  activeCount: number;
  children: ComponentChildren;
}): JSX.Element {
  const isWide = useMemo(() => matchMedia(`(min-width: ${props.minWidth})`), [props.minWidth]);
  const [isOpen, setOpen] = useState(isWide.matches);
  useEffect(() => {
    const onChange = (): void => setOpen(isWide.matches);
    isWide.addEventListener("change", onChange);
    return () => isWide.removeEventListener("change", onChange);
  }, [isWide]);
  const onToggle = (details: HTMLDetailsElement): void => {
    // The event arrives later than the click. If the window has become wide in between, the summary is hidden.
    details.open ||= isWide.matches;
    setOpen(details.open);
  };
  return (
    <details class="filters" open={isOpen} onToggle={(event) => onToggle(event.currentTarget)}>
      <summary>{props.activeCount > 0 ? `Filters (${props.activeCount})` : "Filters"}</summary>
      {props.children}
    </details>
  );
}
