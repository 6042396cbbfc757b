import type { ComponentChildren, JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useNow } from "./hooks.ts";
import { absolute, relative } from "./time.ts";

/** A moment: how long ago, and in full when pointed at. */
export function Moment({ at }: { at: string | null | undefined }): JSX.Element {
  const now = useNow();
  return at ? (
    <time dateTime={at} title={absolute(at)}>
      {relative(at, now)}
    </time>
  ) : (
    <span>–</span>
  );
}

/** What went wrong, and a way to try again. */
export function Trouble({ error, retry }: { error: Error; retry?: () => void }): JSX.Element {
  return (
    <div class="trouble" role="alert">
      <p>{error.message}</p>
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Where there is nothing, what would make something be there. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Something is on its way; said only when it takes long enough to be noticed. */
export function Loading(): JSX.Element {
  return (
    <p class="loading" role="status">
      Loading…
    </p>
  );
}

/** A button that copies, and says that it did. */
export function Copy({ text, label }: { text: () => string; label: string }): JSX.Element {
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
      {copied === undefined ? label : copied ? "Copied" : "Cannot copy here"}
    </button>
  );
}

/** Without TLS browsers offer no clipboard but this one. */
function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

/** A few numbers over time, the newest last. */
export function Sparkline({ counts, label }: { counts: number[]; label: string }): JSX.Element {
  const most = Math.max(1, ...counts);
  const bar = (count: number, index: number): string => {
    const height = count === 0 ? 0 : Math.max(1.5, (count / most) * 20);
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

/** A search field that reports what was typed once typing pauses. */
export function Search(props: {
  value: string;
  placeholder: string;
  onSearch: (text: string) => void;
  field: { current: HTMLInputElement | null };
}): JSX.Element {
  const [text, setText] = useState(props.value);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => setText(props.value), [props.value]);
  const typed = (text: string): void => {
    setText(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => props.onSearch(text), 300);
  };
  return (
    <input
      ref={props.field}
      type="search"
      class="search"
      aria-label={props.placeholder}
      placeholder={props.placeholder}
      value={text}
      onInput={(event) => typed(event.currentTarget.value)}
      onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()}
    />
  );
}

/** One choice of some. */
export function Choice(props: {
  label: string;
  value: string;
  options: [value: string, shown: string][];
  onChoose: (value: string) => void;
}): JSX.Element {
  return (
    <label class="choice">
      <span>{props.label}</span>
      <select value={props.value} onChange={(event) => props.onChoose(event.currentTarget.value)}>
        {props.options.map(([value, shown]) => (
          <option key={value} value={value}>
            {shown}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Filters: beside or above what they are for where there is room, and else folded behind how many of them are set. */
export function Filters(props: { wide: string; set: number; children: ComponentChildren }): JSX.Element {
  const wide = useMemo(() => matchMedia(`(min-width: ${props.wide})`), [props.wide]);
  const [isOpen, setOpen] = useState(wide.matches);
  useEffect(() => {
    const changed = (): void => setOpen(wide.matches);
    wide.addEventListener("change", changed);
    return () => wide.removeEventListener("change", changed);
  }, [wide]);
  return (
    <details class="filters" open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{props.set > 0 ? `Filters (${props.set})` : "Filters"}</summary>
      {props.children}
    </details>
  );
}
