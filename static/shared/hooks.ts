import { useCallback, useEffect, useRef, useState } from "preact/hooks";

/** The URL's parameters, which hold every filter, and a way to change some: `undefined` or empty removes one. */
export function useParams(): [
  URLSearchParams,
  (changes: Record<string, string | undefined>, replace?: boolean) => void,
] {
  const [params, setParams] = useState(() => new URLSearchParams(location.search));
  useEffect(() => {
    const read = (): void => setParams(new URLSearchParams(location.search));
    addEventListener("popstate", read);
    return () => removeEventListener("popstate", read);
  }, []);
  const change = useCallback((changes: Record<string, string | undefined>, replace = false) => {
    const next = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value) {
        next.set(name, value);
      } else {
        next.delete(name);
      }
    }
    const url = next.size > 0 ? `?${next}` : location.pathname;
    history[replace ? "replaceState" : "pushState"](null, "", url);
    dispatchEvent(new PopStateEvent("popstate"));
  }, []);
  return [params, change];
}

/** What was loaded, or why it was not. */
export interface Loaded<T> {
  value: T | undefined;
  /** What `value` was loaded for: while something else is on its way, not the key that was asked for last. */
  key: string;
  error: Error | undefined;
  reload: () => void;
}

/**
 * Loads something, again whenever `key` changes, and every so many milliseconds while the page is looked at. What was
 * there stays until what is new has come.
 */
export function useLoaded<T>(key: string, load: (signal: AbortSignal) => Promise<T>, everyMs = 0): Loaded<T> {
  const [state, setState] = useState<{ key: string; value?: T; error?: Error }>({ key: "" });
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const abort = new AbortController();
    latest.current(abort.signal).then(
      (value) => abort.signal.aborted || setState({ key, value }),
      (error: Error) =>
        abort.signal.aborted ||
        setState((old) => ({ key, error, ...(old.key === key && old.value ? { value: old.value } : {}) })),
    );
    return () => abort.abort();
  }, [key, turn]);
  useEffect(() => {
    if (everyMs === 0) {
      return;
    }
    const tick = (): void => {
      if (!document.hidden) {
        setTurn((turn) => turn + 1);
      }
    };
    const timer = setInterval(tick, everyMs);
    document.addEventListener("visibilitychange", tick);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", tick);
    };
  }, [everyMs]);
  const reload = useCallback(() => setTurn((turn) => turn + 1), []);
  return { value: state.value, key: state.key, error: state.error, reload };
}

/** A new render every so many milliseconds, for times that pass. */
export function useNow(everyMs = 15_000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Keys and what they do, while nothing is typed into. */
export function useKeys(keys: Record<string, (event: KeyboardEvent) => void>): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const pressed = (event: KeyboardEvent): void => {
      const target = event.target as HTMLElement;
      const typing = target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
      const held = event.ctrlKey || event.metaKey || event.altKey;
      const action = latest.current[event.key];
      // A dialog over the page has keys of its own.
      const isCovered = document.querySelector("dialog[open]") !== null;
      if (action && !held && !isCovered && (!typing || event.key === "Escape")) {
        action(event);
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}
