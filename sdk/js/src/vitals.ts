/**
 * Web Vitals as https://web.dev/articles/vitals defines them and the `web-vitals` library measures them: LCP, CLS, INP,
 * FCP and TTFB, each once for every page view. A page view is a load, an activation after prerendering, or a return from
 * the back/forward cache; its values carry its own path, whatever routes the application shows meanwhile.
 */

import { observe } from "./metrics";
import { atEnd, guarded, later, listen } from "./scope";

/** Shorter events are answered within two or three frames, and many. */
const EVENT_MIN_MS = 40;
/** What is left of an interaction that was too short to be told of. */
const INTERACTION_MIN_MS = 8;
/** After input browsers tell of no larger paints, but those before it may be told of so much later. */
const PAINT_DELAY_MS = 1_000;
/** A session window of layout shifts. */
const SHIFT_GAP_MS = 1_000;
const SHIFT_WINDOW_MS = 5_000;
/** INP is the longest interaction, and one down for every 50 that there were: near the 98th percentile. */
const INTERACTIONS_PER_OUTLIER = 50;
const LONGEST_MAX = 10;

interface Entry extends PerformanceEntry {
  hadRecentInput: boolean;
  value: number;
  interactionId?: number;
}

interface Navigation extends PerformanceNavigationTiming {
  activationStart: number;
}

/** Reports what is known at the time a page is hidden. */
export let hideVitals: ((at: number) => void) | undefined;

export function watchVitals(): void {
  // A page that is prerendered is seen later or never, and its times count from then.
  if ((document as { prerendering?: boolean }).prerendering) listen(document, "prerenderingchange", watchPageViews);
  else watchPageViews();
  atEnd(() => {
    hideVitals = undefined;
  });
}

function watchPageViews(): void {
  // Filled in as the load goes on.
  const navigation = (performance.getEntriesByType("navigation")[0] ?? {}) as Partial<Navigation>;
  const activated = navigation.activationStart || 0;
  const sinceActivation = (time: number): number => Math.max(time - activated, 0);

  let page = new URL(navigation.name || location.href).pathname;
  let reported: Record<string, boolean> = {};
  let restored = false;
  let lcp = -1;
  let cls = 0;
  let shifts = 0;
  let firstShift = 0;
  let lastShift = 0;
  /** Interactions and how long they took. */
  let longest: [id: number, duration: number][] = [];
  let interactionsBefore = 0;

  const hiddenNow = (): number => (document.hidden ? 0 : Infinity);
  let hiddenAt =
    performance
      .getEntriesByType("visibility-state")
      .find((entry) => entry.name === "hidden" && entry.startTime >= activated)?.startTime ?? hiddenNow();

  const report = (name: string, value: number): void => {
    if (reported[name]) return;
    reported[name] = true;
    observe(`web_vitals_${name}`, value, { page });
  };

  /** Each sees the entries of a type that are on their way. */
  const takes: (() => void)[] = [];
  const take = (): void => {
    for (const takeRecords of takes) takeRecords();
  };
  /** Sees entries of a type, also those from before. */
  const watch = (type: string, see: (entry: Entry) => void): void => {
    if (!PerformanceObserver.supportedEntryTypes.includes(type)) return;
    const seeAll = (list: PerformanceEntryList): void => (list as Entry[]).forEach(see);
    const observer = new PerformanceObserver((list) => guarded(() => seeAll(list.getEntries())));
    observer.observe({ type, buffered: true, durationThreshold: EVENT_MIN_MS } as PerformanceObserverInit);
    takes.push(() => seeAll(observer.takeRecords()));
    atEnd(() => observer.disconnect());
  };

  watch("paint", ({ name, startTime }) => {
    if (name === "first-contentful-paint" && startTime < hiddenAt) report("fcp", sinceActivation(startTime));
  });

  watch("largest-contentful-paint", ({ startTime }) => {
    if (startTime < hiddenAt) lcp = sinceActivation(startTime);
  });
  const finishLcp = (): void => {
    take();
    if (lcp >= 0) report("lcp", lcp);
    reported.lcp = true;
  };
  listen(window, "keydown click", ({ isTrusted }: Event) => {
    const view = reported;
    // What was painted before the input may still be on its way; and input is answered first.
    if (isTrusted) later(() => view === reported && finishLcp(), PAINT_DELAY_MS);
  });

  watch("layout-shift", ({ hadRecentInput, startTime, value }) => {
    if (hadRecentInput) return;
    const same = shifts && startTime - lastShift < SHIFT_GAP_MS && startTime - firstShift < SHIFT_WINDOW_MS;
    if (!same) firstShift = startTime;
    lastShift = startTime;
    shifts = same ? shifts + value : value;
    cls = Math.max(cls, shifts);
  });

  const interactions = (): number => (performance as { interactionCount?: number }).interactionCount ?? 0;
  const seeInteraction = ({ interactionId: id, duration }: Entry): void => {
    if (!id) return;
    // Several events are one interaction, which takes as long as the longest of them.
    const known = longest.find((one) => one[0] === id);
    if (known) known[1] = Math.max(known[1], duration);
    else longest.push([id, duration]);
    longest.sort((a, b) => b[1] - a[1]).splice(LONGEST_MAX);
  };
  watch("event", seeInteraction);
  watch("first-input", seeInteraction);

  const measureLoad = (): void => {
    const { responseStart = 0, loadEventEnd = 0 } = navigation;
    // Zero is kept secret, and what has not been yet is a browser's mistake.
    if (responseStart > 0 && responseStart < performance.now()) report("ttfb", sinceActivation(responseStart));
    if (loadEventEnd > 0) observe("page_load_time", sinceActivation(loadEventEnd), { page });
  };
  // The load ends when all that listens to it has run.
  if (document.readyState === "complete") later(measureLoad);
  else listen(window, "load", () => later(measureLoad));

  listen(window, "pageshow", (event: PageTransitionEvent) => {
    if (!event.persisted) return;
    page = location.pathname;
    reported = {};
    restored = true;
    lcp = -1;
    cls = shifts = 0;
    longest = [];
    interactionsBefore = interactions();
    later(() => {
      hiddenAt = hiddenNow();
    });
    report("ttfb", 0);
    requestAnimationFrame(() =>
      requestAnimationFrame(() =>
        guarded(() => {
          const painted = performance.now() - event.timeStamp;
          report("fcp", painted);
          report("lcp", painted);
        }),
      ),
    );
  });

  hideVitals = (at) => {
    finishLcp();
    hiddenAt = Math.min(hiddenAt, at);
    const count = interactions() - interactionsBefore;
    const outliers = Math.min(longest.length - 1, Math.floor(count / INTERACTIONS_PER_OUTLIER));
    const latency = longest[outliers]?.[1] ?? (restored && count ? INTERACTION_MIN_MS : -1);
    if (latency >= 0) report("inp", latency);
    // A page that was never seen has not shifted.
    if (reported.fcp) report("cls", cls);
  };
}
