import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { useKeys } from "../shared/hooks.ts";
import { Heights } from "./heights.ts";
import { AGAIN_MS, type Lines } from "./lines.ts";
import type { Marks } from "./marks.ts";
import { Row } from "./row.tsx";

/** Rows that are there above and below those that are seen. */
const SPARE = 8;
/** Browsers make nothing higher than some 17 million pixels. */
const ROWS_MAX = 400_000;
/** A row's height until it is known which the style gives it. */
const USUAL_PX = 24;
/** What one scrolls past is not asked for. */
const SETTLE_MS = 80;

/** The lines: as many nodes as fit the window, whatever their number. */
export function LineList(props: {
  lines: Lines;
  marks: Marks;
  /** Another whenever the lines have changed. */
  version: number;
  wrap: boolean;
  paused: boolean;
  onPause: () => void;
  onOpen: (id: number) => void;
}): JSX.Element {
  const { lines, wrap } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, height: 0, width: 0, usual: USUAL_PX });
  const [at, setAt] = useState<number>();
  const [open, setOpen] = useState<ReadonlySet<number>>(new Set());
  // With any of these, heights are others.
  const heights = useMemo(() => new Heights(seen.usual), [lines, lines.era, wrap, seen.width, seen.usual]);
  const count = Math.min(lines.count, ROWS_MAX);
  const front = -lines.headCount;
  const last = Math.min(count - 1, heights.at(seen.top + seen.height, front) - front + SPARE);
  const topmost = heights.at(seen.top, front) - front;
  const first = Math.max(0, topmost - SPARE);

  // Below the newest line, or with one in view that was opened or gone to, somebody reads.
  const held = props.paused || seen.top > 4 || at !== undefined || open.size > 0;
  lines.held = held;
  useEffect(() => {
    if (!held && lines.waiting > 0) {
      lines.release();
    }
  }, [held, lines]);

  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) {
      return;
    }
    const look = (): void => {
      const usual = Number.parseFloat(getComputedStyle(element).getPropertyValue("--row")) || USUAL_PX;
      setSeen({ top: element.scrollTop, height: element.clientHeight, width: element.clientWidth, usual });
    };
    look();
    const observer = new ResizeObserver(look);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  // What one reads stays where it is when rows above it turn out to be of another height.
  const place = useRef({ key: 0, by: 0, heights });
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) {
      return;
    }
    const { key, by, heights: before } = place.current;
    let news = before !== heights;
    for (const row of element.querySelectorAll<HTMLElement>("[data-key]")) {
      news = heights.set(Number(row.dataset.key), row.getBoundingClientRect().height) || news;
    }
    place.current.heights = heights;
    if (news) {
      const top = Math.max(0, heights.top(key, front) + Math.min(by, heights.of(key)));
      if (seen.top > 0 && Math.abs(element.scrollTop - top) >= 1) {
        element.scrollTop = top;
      }
      setSeen((seen) => ({ ...seen, top: element.scrollTop }));
    }
  });
  const scrolled = (): void => {
    const element = scroller.current;
    if (element) {
      const key = heights.at(element.scrollTop, front);
      place.current = { key, by: element.scrollTop - heights.top(key, front), heights };
      setSeen((seen) => ({ ...seen, top: element.scrollTop }));
    }
  };

  // Lines that have changed may miss others.
  useEffect(() => {
    if (!lines.error) {
      const timer = setTimeout(() => void lines.want(first, last), SETTLE_MS);
      return () => clearTimeout(timer);
    }
  }, [lines, first, last, props.version]);

  const move = (by: number): void => {
    // With none yet, the keys begin at what is seen; the index of a line changes while others come in front.
    const next = Math.min(Math.max(at === undefined ? topmost : at - front + by, 0), count - 1);
    const element = scroller.current;
    if (!element || next < 0) {
      return;
    }
    setAt(next + front);
    const top = heights.top(next + front, front);
    const end = top + heights.of(next + front);
    if (top < element.scrollTop) {
      element.scrollTop = top;
    } else if (end > element.scrollTop + element.clientHeight) {
      element.scrollTop = end - element.clientHeight;
    }
  };
  useEffect(() => {
    if (at !== undefined) {
      scroller.current?.querySelector<HTMLElement>(".at .fold")?.focus({ preventScroll: true });
    }
  }, [at]);
  const newest = (): void => {
    setAt(undefined);
    setOpen(new Set());
    scroller.current?.scrollTo(0, 0);
    lines.release();
  };
  const toggle = (id: number): void => {
    const next = new Set(open);
    if (!next.delete(id)) {
      next.add(id);
    }
    setOpen(next);
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    g: newest,
    c: () => {
      const entry = at === undefined ? undefined : lines.at(at - front);
      if (entry) {
        props.onOpen(entry.id);
      }
    },
    Escape: () => {
      setAt(undefined);
      setOpen(new Set());
    },
  });

  const rows: JSX.Element[] = [];
  for (let index = first; index <= last; index++) {
    const entry = lines.at(index);
    const key = index + front;
    rows.push(
      entry ? (
        <Row
          key={entry.id}
          entry={entry}
          filters={lines.filters}
          marks={props.marks}
          wrap={wrap}
          open={open.has(entry.id)}
          current={key === at}
          reachable={at === undefined ? index === topmost : key === at}
          place={{ index, count: lines.count, key }}
          onToggle={() => toggle(entry.id)}
          onOpen={() => props.onOpen(entry.id)}
        />
      ) : (
        <li key={`at ${index}`} class="row waits" aria-setsize={lines.count} aria-posinset={index + 1}>
          …
        </li>
      ),
    );
  }
  return (
    <div class="list paper">
      <div class="bar state">
        <span role="status">{said(lines, props.paused)}</span>
        <span class="grow" />
        {lines.waiting > 0 && (
          <button type="button" class="main" onClick={newest} aria-keyshortcuts="g">
            Jump to newest ({lines.waiting.toLocaleString()})
          </button>
        )}
        {lines.waiting === 0 && seen.top > 4 && (
          <button type="button" onClick={newest} aria-keyshortcuts="g">
            Jump to newest
          </button>
        )}
        {lines.tail !== "off" && (
          <button type="button" onClick={props.onPause} aria-pressed={props.paused} aria-keyshortcuts="p">
            Pause
          </button>
        )}
      </div>
      {lines.refusal && (
        <div class="note bar refused" role="alert">
          <span>
            New lines do not show by themselves here: {lines.refusal.message}. It is tried again every {AGAIN_MS / 1000}{" "}
            seconds.
          </span>
          <button type="button" onClick={() => lines.follow()}>
            Try again
          </button>
        </div>
      )}
      <div
        ref={scroller}
        class={wrap ? "lines wrap" : "lines"}
        onScroll={scrolled}
        tabIndex={0}
        role="group"
        aria-label="Lines, the newest first"
      >
        <div class="all" style={{ height: `${heights.top(count + front, front)}px` }}>
          <ul style={{ top: `${heights.top(first + front, front)}px` }}>{rows}</ul>
        </div>
      </div>
      {lines.count > ROWS_MAX && (
        <p class="note">
          These are the newest {ROWS_MAX.toLocaleString()}. Older ones show with a time that is earlier.
        </p>
      )}
    </div>
  );
}

function said(lines: Lines, paused: boolean): string {
  const count = `${lines.count.toLocaleString()} ${lines.count === 1 ? "line" : "lines"}`;
  if (lines.tail === "off") {
    return `${count} in a period that has ended`;
  }
  if (paused) {
    return `${count}, paused`;
  }
  const tails = {
    live: lines.waiting > 0 ? "new lines wait while you read" : "live",
    connecting: "connecting…",
    refused: "not live",
  };
  return `${count}, ${tails[lines.tail]}`;
}
