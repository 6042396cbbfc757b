import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { useShortcuts } from "../shared/hooks.ts";
import { type LogFeed, TAIL_RETRY_MS } from "./feed.ts";
import type { Highlighter } from "./highlights.ts";
import { Row } from "./row.tsx";
import { RowHeights } from "./row-heights.ts";

/** Rows rendered above and below the visible ones. */
const OVERSCAN_ROWS = 8;
/** Limits the height of the list: browsers support elements of about 17 million pixels. */
const ROWS_MAX = 400_000;
/** Row height until the value of the style sheet is known. */
const DEFAULT_ROW_PX = 24;
/** Delay before missing rows are loaded, so that scrolling past rows does not request them. */
const LOAD_DELAY_MS = 80;

/** A virtual list of log entries: only rows in and near the viewport are in the DOM. */
export function LineList(props: {
  feed: LogFeed;
  highlighter: Highlighter;
  /** Changes with every change of the feed. */
  version: number;
  wrap: boolean;
  paused: boolean;
  onPause: () => void;
  onShowContext: (id: number) => void;
}): JSX.Element {
  const { feed, wrap } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const [viewport, setViewport] = useState({ top: 0, height: 0, width: 0, rowHeight: DEFAULT_ROW_PX });
  // Keys of rows are indexes counted from the start of the base: they stay the same when entries are added to the head.
  const [currentKey, setCurrentKey] = useState<number>();
  const [expandedIds, setExpandedIds] = useState<ReadonlySet<number>>(new Set());
  // Measured heights are valid only for this layout.
  const heights = useMemo(
    () => new RowHeights(viewport.rowHeight),
    [feed, feed.generation, wrap, viewport.width, viewport.rowHeight],
  );
  const count = Math.min(feed.count, ROWS_MAX);
  const firstKey = -feed.headCount;
  const lastRendered = Math.min(
    count - 1,
    heights.keyAt(viewport.top + viewport.height, firstKey) - firstKey + OVERSCAN_ROWS,
  );
  const firstVisible = heights.keyAt(viewport.top, firstKey) - firstKey;
  const firstRendered = Math.max(0, firstVisible - OVERSCAN_ROWS);

  // New entries must not move the list while the user has scrolled down, selected a row or expanded one.
  const isPaused = props.paused || viewport.top > 4 || currentKey !== undefined || expandedIds.size > 0;
  feed.isPaused = isPaused;
  useEffect(() => {
    if (!isPaused && feed.pendingCount > 0) {
      feed.showPending();
    }
  }, [isPaused, feed]);

  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) {
      return;
    }
    const measure = (): void => {
      const rowHeight = Number.parseFloat(getComputedStyle(element).getPropertyValue("--row")) || DEFAULT_ROW_PX;
      setViewport({ top: element.scrollTop, height: element.clientHeight, width: element.clientWidth, rowHeight });
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  // Scroll anchoring: the first visible row stays in place when the measured heights of rows above it change.
  const anchor = useRef({ key: 0, offset: 0, heights });
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) {
      return;
    }
    const { key, offset, heights: previousHeights } = anchor.current;
    let hasChanged = previousHeights !== heights;
    for (const row of element.querySelectorAll<HTMLElement>("[data-key]")) {
      hasChanged = heights.set(Number(row.dataset.key), row.getBoundingClientRect().height) || hasChanged;
    }
    anchor.current.heights = heights;
    if (hasChanged) {
      const top = Math.max(0, heights.offsetOf(key, firstKey) + Math.min(offset, heights.get(key)));
      if (viewport.top > 0 && Math.abs(element.scrollTop - top) >= 1) {
        element.scrollTop = top;
      }
      setViewport((viewport) => ({ ...viewport, top: element.scrollTop }));
    }
  });
  const onScroll = (): void => {
    const element = scroller.current;
    if (element) {
      const key = heights.keyAt(element.scrollTop, firstKey);
      anchor.current = { key, offset: element.scrollTop - heights.offsetOf(key, firstKey), heights };
      setViewport((viewport) => ({ ...viewport, top: element.scrollTop }));
    }
  };

  // Runs for every version of the feed, because a change can make other entries missing.
  useEffect(() => {
    if (!feed.error) {
      const timer = setTimeout(() => void feed.loadRange(firstRendered, lastRendered), LOAD_DELAY_MS);
      return () => clearTimeout(timer);
    }
  }, [feed, firstRendered, lastRendered, props.version]);

  const moveCurrent = (offset: number): void => {
    // Without a current row, the first visible one becomes current.
    const target = currentKey === undefined ? firstVisible : currentKey - firstKey + offset;
    const index = Math.min(Math.max(target, 0), count - 1);
    const element = scroller.current;
    if (!element || index < 0) {
      return;
    }
    const key = index + firstKey;
    setCurrentKey(key);
    const top = heights.offsetOf(key, firstKey);
    const bottom = top + heights.get(key);
    if (top < element.scrollTop) {
      element.scrollTop = top;
    } else if (bottom > element.scrollTop + element.clientHeight) {
      element.scrollTop = bottom - element.clientHeight;
    }
  };
  useEffect(() => {
    if (currentKey !== undefined) {
      scroller.current?.querySelector<HTMLElement>(".current .toggle")?.focus({ preventScroll: true });
    }
  }, [currentKey]);
  const jumpToNewest = (): void => {
    setCurrentKey(undefined);
    setExpandedIds(new Set());
    scroller.current?.scrollTo(0, 0);
    feed.showPending();
  };
  const toggle = (id: number): void => {
    const next = new Set(expandedIds);
    if (!next.delete(id)) {
      next.add(id);
    }
    setExpandedIds(next);
  };
  useShortcuts({
    j: () => moveCurrent(1),
    k: () => moveCurrent(-1),
    g: jumpToNewest,
    c: () => {
      const entry = currentKey === undefined ? undefined : feed.at(currentKey - firstKey);
      if (entry) {
        props.onShowContext(entry.id);
      }
    },
    Escape: () => {
      setCurrentKey(undefined);
      setExpandedIds(new Set());
    },
  });

  const rows: JSX.Element[] = [];
  for (let index = firstRendered; index <= lastRendered; index++) {
    const entry = feed.at(index);
    const key = index + firstKey;
    rows.push(
      entry ? (
        <Row
          key={entry.id}
          entry={entry}
          filters={feed.filters}
          highlighter={props.highlighter}
          wrap={wrap}
          isExpanded={expandedIds.has(entry.id)}
          isCurrent={key === currentKey}
          isTabStop={currentKey === undefined ? index === firstVisible : key === currentKey}
          position={{ index, count: feed.count, key }}
          onToggle={() => toggle(entry.id)}
          onShowContext={() => props.onShowContext(entry.id)}
        />
      ) : (
        <li key={`loading ${index}`} class="row waits" aria-setsize={feed.count} aria-posinset={index + 1}>
          …
        </li>
      ),
    );
  }
  return (
    <div class="list card">
      <div class="bar status">
        <span role="status">{describeStatus(feed, props.paused)}</span>
        <span class="grow" />
        {feed.pendingCount > 0 && (
          <button type="button" class="primary" onClick={jumpToNewest} aria-keyshortcuts="g">
            Jump to newest ({feed.pendingCount.toLocaleString()})
          </button>
        )}
        {feed.pendingCount === 0 && viewport.top > 4 && (
          <button type="button" onClick={jumpToNewest} aria-keyshortcuts="g">
            Jump to newest
          </button>
        )}
        {feed.tail !== "off" && (
          <button type="button" onClick={props.onPause} aria-pressed={props.paused} aria-keyshortcuts="p">
            Pause
          </button>
        )}
      </div>
      {feed.tailError && (
        <div class="notice bar tail-error" role="alert">
          <span>
            Live tail unavailable, retrying every {TAIL_RETRY_MS / 1000} seconds: {feed.tailError.message}
          </span>
          <button type="button" onClick={() => feed.retryTail()}>
            Retry
          </button>
        </div>
      )}
      <div
        ref={scroller}
        class={wrap ? "lines wrap" : "lines"}
        onScroll={onScroll}
        tabIndex={0}
        role="group"
        aria-label="Log lines, newest first"
      >
        <div class="scroll-content" style={{ height: `${heights.offsetOf(count + firstKey, firstKey)}px` }}>
          <ul style={{ top: `${heights.offsetOf(firstRendered + firstKey, firstKey)}px` }}>{rows}</ul>
        </div>
      </div>
      {feed.count > ROWS_MAX && (
        <p class="notice">
          Only the newest {ROWS_MAX.toLocaleString()} lines are listed. To see older lines, choose an earlier period.
        </p>
      )}
    </div>
  );
}

function describeStatus(feed: LogFeed, paused: boolean): string {
  const count = `${feed.count.toLocaleString()} ${feed.count === 1 ? "line" : "lines"}`;
  if (feed.tail === "off") {
    return `${count}, custom range`;
  }
  if (paused) {
    return `${count}, paused`;
  }
  const tailStates = {
    live: feed.pendingCount > 0 ? "live tail paused while you read" : "live",
    connecting: "connecting…",
    rejected: "live tail unavailable",
  };
  return `${count}, ${tailStates[feed.tail]}`;
}
