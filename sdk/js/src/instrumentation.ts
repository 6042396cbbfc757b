/**
 * Reversible instrumentation of a page: event listeners, method wrappers and timers, all of which `teardown` removes.
 * No exception thrown by the SDK reaches the application.
 */

import { setWrapperPosition } from "./stack";
import type { MonlightConfig } from "./types";

/**
 * Hook that runs before a wrapped function is called. `callSite` is an error created in the wrapper, whose stack shows
 * the caller. If the hook returns a function, that function receives the result of the call and returns the result that
 * the caller gets.
 */
export type CallHook = (self: unknown, args: unknown[], callSite: Error) => ((result: unknown) => unknown) | undefined;

// biome-ignore lint/suspicious/noExplicitAny: any function can be wrapped.
type AnyFunction = (...args: any[]) => any;

/** Aborted by `teardown`; replaced by `setup`. */
let abortController = new AbortController();
/** Options of the current period. */
export let config: MonlightConfig;
/** The page's original `console.warn`, so that the SDK's own warnings do not become breadcrumbs. */
export const { warn } = console;

/** Logs a warning in debug mode. */
export const logDebug = (...details: unknown[]): void => {
  if (config.debug) warn("[Monlight]", ...details);
};

/** Starts a new instrumentation period. */
export const setup = (settings: MonlightConfig): void => {
  abortController = new AbortController();
  config = settings;
  // All wrappers call the wrapped function from the same position in this file. Wrapping a function that returns its
  // stack reveals that position in the built script.
  setWrapperPosition(
    wrapFunction(
      () => new Error().stack,
      () => undefined,
    )(),
  );
};

/** Removes all listeners and wrappers and disables pending timers. */
export const teardown = (): void => abortController.abort();

/** Registers a callback that `teardown` runs. */
export const onTeardown = (callback: () => void): void => abortController.signal.addEventListener("abort", callback);

/** Runs SDK code unless it has been torn down. Catches every exception and logs it in debug mode. */
export const safely = (callback: () => unknown): void => {
  try {
    if (!abortController.signal.aborted) callback();
  } catch (error) {
    logDebug(error);
  }
};

/** Runs a callback after a delay, unless the SDK has been torn down by then. */
export const defer = (callback: () => unknown, delayMs = 0): unknown => setTimeout(safely, delayMs, callback);

/**
 * Adds a listener for each event type in a space-separated list. Listeners run in the capture phase, before the page's.
 */
export function listen<E extends Event>(types: string, handler: (event: E) => void): void {
  for (const type of types.split(" ")) {
    const listener = (event: Event): void => safely(() => handler(event as E));
    addEventListener(type, listener, { capture: true, signal: abortController.signal });
  }
}

const wrapFunction = (original: AnyFunction, hook: CallHook): AnyFunction => {
  const ownController = abortController;
  return function (this: unknown, ...args: unknown[]): unknown {
    const callSite = new Error();
    let onResult: ReturnType<CallHook>;
    safely(() => {
      if (ownController === abortController) onResult = hook(this, args, callSite);
    });
    let result = original.apply(this, args);
    safely(() => {
      if (onResult) result = onResult(result);
    });
    return result;
  };
};

/**
 * Replaces a method with a wrapper that runs `hook` around each call. Arguments and exceptions pass through unchanged.
 */
export const patchMethod = (owner: object, name: string, hook: CallHook): void => {
  const methods = owner as Record<string, AnyFunction>;
  const original = methods[name] as AnyFunction;
  const wrapper = wrapFunction(original, hook);
  methods[name] = wrapper;
  onTeardown(() => {
    // If other code has wrapped the method since, restoring the original would remove that wrapper too. In that case
    // our wrapper stays and only forwards calls.
    if (methods[name] === wrapper) methods[name] = original;
  });
};
