/**
 * Web Vitals as defined by https://web.dev/articles/vitals and measured by the `web-vitals` library: LCP, CLS, INP, FCP
 * and TTFB, each reported once per page view. A page view is a load, an activation after prerendering, or a restore
 * from the back/forward cache. Its values are labeled with the path it was loaded with, even if the application changes
 * routes.
 */

import { defer, listen, onTeardown, safely } from "./instrumentation";
import { addPoint } from "./metrics";

/** Shorter events are not observed: they are numerous, and the page responds to them within two or three frames. */
const EVENT_DURATION_MIN_MS = 40;
/** INP that is reported if all interactions were too short to be observed. */
const INP_MIN_MS = 8;
/**
 * Delay before LCP is final. After input, browsers report no larger paints, but may deliver earlier ones this much
 * later.
 */
const LCP_DELAY_MS = 1_000;
/** Maximum gap between two layout shifts of a session window. */
const SHIFT_GAP_MS = 1_000;
/** Maximum length of a session window. */
const SHIFT_WINDOW_MS = 5_000;
/** INP ignores one outlier per this many interactions, which approximates the 98th percentile. */
const INTERACTIONS_PER_OUTLIER = 50;
const LONGEST_INTERACTIONS_MAX = 10;

interface Entry extends PerformanceEntry {
  hadRecentInput: boolean;
  value: number;
  interactionId?: number;
}

interface Navigation extends PerformanceNavigationTiming {
  activationStart: number;
}

/** Names of the metrics that were reported for the current page view, also by an earlier client. */
let reported: Record<string, boolean> = {};

/** Reports all vitals known when the page is hidden. `undefined` while vitals are not measured. */
export let finalizeVitals: ((hiddenAt: number) => void) | undefined;

export const instrumentVitals = (): void => {
  // A prerendered page may never become visible. Its times are relative to the activation.
  if ((document as { prerendering?: boolean }).prerendering) listen("prerenderingchange", measurePageViews);
  else measurePageViews();
  onTeardown(() => {
    finalizeVitals = undefined;
  });
};

const measurePageViews = (): void => {
  // The browser updates this entry while the page loads.
  const navigation = (performance.getEntriesByType("navigation")[0] ?? {}) as Partial<Navigation>;
  const activationStart = navigation.activationStart || 0;
  const sinceActivation = (time: number): number => Math.max(time - activationStart, 0);

  let page = new URL(navigation.name || location.href).pathname;
  let restoredFromCache = false;
  let lcp = -1;
  let cls = 0;
  /** Sum of the shifts in the current session window. */
  let windowScore = 0;
  let firstShiftAt = 0;
  let lastShiftAt = 0;
  /** Longest interactions, in descending order of duration. */
  let longestInteractions: [id: number, durationMs: number][] = [];
  let interactionsBeforeView = 0;

  const currentHiddenTime = (): number => (document.hidden ? 0 : Infinity);
  /** Time at which the page was first hidden. Later paints do not count. */
  let firstHiddenAt =
    performance
      .getEntriesByType("visibility-state")
      .find((entry) => entry.name === "hidden" && entry.startTime >= activationStart)?.startTime ?? currentHiddenTime();

  const reportOnce = (name: string, value: number): void => {
    if (reported[name]) return;
    reported[name] = true;
    addPoint(name, value, { page });
  };

  /** One function per observer that processes its queued entries immediately. */
  const flushFunctions: (() => void)[] = [];
  /** Observes entries of a type, including those buffered before the call. */
  const observe = (type: string, handler: (entry: Entry) => void): void => {
    if (!PerformanceObserver.supportedEntryTypes.includes(type)) return;
    const observer = new PerformanceObserver((list) => safely(() => (list.getEntries() as Entry[]).forEach(handler)));
    observer.observe({ type, buffered: true, durationThreshold: EVENT_DURATION_MIN_MS } as PerformanceObserverInit);
    flushFunctions.push(() => (observer.takeRecords() as Entry[]).forEach(handler));
    onTeardown(() => observer.disconnect());
  };

  observe("paint", ({ name, startTime }) => {
    if (name === "first-contentful-paint" && startTime < firstHiddenAt)
      reportOnce("web_vitals_fcp", sinceActivation(startTime));
  });

  observe("largest-contentful-paint", ({ startTime }) => {
    if (startTime < firstHiddenAt) lcp = sinceActivation(startTime);
  });
  const finalizeLcp = (): void => {
    for (const flush of flushFunctions) flush();
    if (lcp >= 0) reportOnce("web_vitals_lcp", lcp);
    reported.web_vitals_lcp = true;
  };
  listen("keydown click", ({ isTrusted }: Event) => {
    const viewAtInput = reported;
    // Deferred because paints from before the input may still be delivered, and to keep the response to the input fast.
    if (isTrusted) defer(() => viewAtInput === reported && finalizeLcp(), LCP_DELAY_MS);
  });

  observe("layout-shift", ({ hadRecentInput, startTime, value }) => {
    if (hadRecentInput) return;
    const inWindow =
      windowScore && startTime - lastShiftAt < SHIFT_GAP_MS && startTime - firstShiftAt < SHIFT_WINDOW_MS;
    if (!inWindow) firstShiftAt = startTime;
    lastShiftAt = startTime;
    windowScore = inWindow ? windowScore + value : value;
    cls = Math.max(cls, windowScore);
  });

  const interactionCount = (): number => (performance as { interactionCount?: number }).interactionCount ?? 0;
  const handleInteraction = ({ interactionId: id, duration }: Entry): void => {
    if (!id) return;
    // An interaction consists of several events and lasts as long as the longest of them.
    const existing = longestInteractions.find((interaction) => interaction[0] === id);
    if (existing) existing[1] = Math.max(existing[1], duration);
    else longestInteractions.push([id, duration]);
    longestInteractions.sort((a, b) => b[1] - a[1]).splice(LONGEST_INTERACTIONS_MAX);
  };
  observe("event", handleInteraction);
  observe("first-input", handleInteraction);

  const measureLoad = (): void => {
    const { responseStart, loadEventEnd } = navigation as Navigation;
    // Zero means that the browser withholds the value. A time in the future is a browser bug.
    if (responseStart > 0 && responseStart < performance.now())
      reportOnce("web_vitals_ttfb", sinceActivation(responseStart));
    if (loadEventEnd > 0) reportOnce("page_load_time", sinceActivation(loadEventEnd));
  };
  // `loadEventEnd` is only set after all load listeners have run.
  if (document.readyState === "complete") defer(measureLoad);
  else listen("load", () => defer(measureLoad));

  listen("pageshow", (event: PageTransitionEvent) => {
    if (!event.persisted) return;
    page = location.pathname;
    // The page was not loaded again.
    reported = { page_load_time: true };
    restoredFromCache = true;
    lcp = -1;
    cls = windowScore = 0;
    longestInteractions = [];
    interactionsBeforeView = interactionCount();
    defer(() => {
      firstHiddenAt = currentHiddenTime();
    });
    reportOnce("web_vitals_ttfb", 0);
    requestAnimationFrame(() =>
      requestAnimationFrame(() =>
        safely(() => {
          const sinceRestore = performance.now() - event.timeStamp;
          reportOnce("web_vitals_fcp", sinceRestore);
          reportOnce("web_vitals_lcp", sinceRestore);
        }),
      ),
    );
  });

  finalizeVitals = (hiddenAt) => {
    finalizeLcp();
    firstHiddenAt = Math.min(firstHiddenAt, hiddenAt);
    const count = interactionCount() - interactionsBeforeView;
    const outliers = Math.min(longestInteractions.length - 1, Math.floor(count / INTERACTIONS_PER_OUTLIER));
    const inp = longestInteractions[outliers]?.[1] ?? (restoredFromCache && count ? INP_MIN_MS : -1);
    if (inp >= 0) reportOnce("web_vitals_inp", inp);
    // A page that was never visible has no CLS.
    if (reported.web_vitals_fcp) reportOnce("web_vitals_cls", cls);
  };
};
