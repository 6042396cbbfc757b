import { useCallback, useEffect, useRef, useState } from "preact/hooks";

/**
 * Returns the URL's query parameters, which hold all filters, and a function that changes some of them. An undefined or
 * empty value removes a parameter. `replace` replaces the history entry instead of adding one.
 */
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

/** The result of `useFetch`. */
export interface FetchState<T> {
  value: T | undefined;
  /** The key that `value` belongs to. While a new key is loading, this is still the previous one. */
  key: string;
  error: Error | undefined;
  reload: () => void;
}

/**
 * Fetches a value when `key` changes and every `intervalMs` milliseconds while the page is visible (0 = never). Keeps
 * the previous value until the new one has arrived.
 */
export function useFetch<T>(key: string, load: (signal: AbortSignal) => Promise<T>, intervalMs = 0): FetchState<T> {
  const [state, setState] = useState<{ key: string; value?: T; error?: Error }>({ key: "" });
  const [attempt, setAttempt] = useState(0);
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
  }, [key, attempt]);
  useEffect(() => {
    if (intervalMs === 0) {
      return;
    }
    const refresh = (): void => {
      if (!document.hidden) {
        setAttempt((attempt) => attempt + 1);
      }
    };
    const timer = setInterval(refresh, intervalMs);
    document.addEventListener("visibilitychange", refresh);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", refresh);
    };
  }, [intervalMs]);
  const reload = useCallback(() => setAttempt((attempt) => attempt + 1), []);
  return { value: state.value, key: state.key, error: state.error, reload };
}

/** Returns the current time in milliseconds and renders again every `intervalMs`, to keep relative times up to date. */
export function useNow(intervalMs = 15_000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), intervalMs);
    return () => clearInterval(timer);
  }, [intervalMs]);
  return now;
}

/** Registers keyboard shortcuts. They are inactive while the user types in a field, except for Escape. */
export function useShortcuts(shortcuts: Record<string, (event: KeyboardEvent) => void>): void {
  const latest = useRef(shortcuts);
  latest.current = shortcuts;
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      const target = event.target as HTMLElement;
      const isTyping = target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
      const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
      const action = latest.current[event.key];
      // An open dialog handles its own keys.
      const hasDialog = document.querySelector("dialog[open]") !== null;
      if (action && !hasModifier && !hasDialog && (!isTyping || event.key === "Escape")) {
        action(event);
      }
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
}
