/** What the SDK puts into a page, and how all of it is taken out again without a trace. */

import { setOwnPlace } from "./stack";

/** Sees a call before it is made. What it returns sees the result, and may put another in its place. */
export type Watch = (self: unknown, args: unknown[], here: Error) => ((result: unknown) => unknown) | undefined;

// biome-ignore lint/suspicious/noExplicitAny: what is patched can be any function.
type AnyFunction = (...args: any[]) => any;

let ender = new AbortController();
let debugging: boolean | undefined;
/** The page's own: the SDK does not watch what it says. */
export const { warn } = console;

/** Begins anew. @param debug to say in the console what the SDK itself does wrong */
export const begin = (debug?: boolean): void => {
  ender = new AbortController();
  debugging = debug;
  // Every wrapper calls its original at the same place in this file; a stack is asked where that is in the built one.
  setOwnPlace(
    wrap(
      () => new Error().stack,
      () => undefined,
    )(),
  );
};

/** Takes everything out of the page. */
export const end = (): void => ender.abort();

export const atEnd = (run: () => void): void => ender.signal.addEventListener("abort", run);

/** Runs what belongs to the SDK so that nothing it throws reaches the application, and not at all after the end. */
export const guarded = (run: () => unknown): void => {
  try {
    if (!ender.signal.aborted) run();
  } catch (why) {
    if (debugging) warn("[Monlight]", why);
  }
};

/** Does something later, unless it has ended by then. */
export const later = (run: () => unknown, wait_ms = 0): unknown => setTimeout(guarded, wait_ms, run);

/** Handles events of each of the types, separated by spaces, before the page's own handlers. */
export function listen<E extends Event>(target: EventTarget, types: string, handle: (event: E) => void): void {
  for (const type of types.split(" ")) {
    const listener = (event: Event): void => guarded(() => handle(event as E));
    target.addEventListener(type, listener, { capture: true, signal: ender.signal });
  }
}

const wrap = (original: AnyFunction, watch: Watch): AnyFunction => {
  const mine = ender;
  return function (this: unknown, ...args: unknown[]): unknown {
    const here = new Error();
    let after: ReturnType<Watch>;
    guarded(() => {
      if (mine === ender) after = watch(this, args, here);
    });
    let result = original.apply(this, args);
    guarded(() => {
      if (after) result = after(result);
    });
    return result;
  };
};

/** Watches the calls of a method. The call itself, its result and what it throws stay as they are. */
export function patch(owner: object, name: string, watch: Watch): void {
  const methods = owner as Record<string, AnyFunction>;
  const original = methods[name] as AnyFunction;
  const wrapper = wrap(original, watch);
  methods[name] = wrapper;
  atEnd(() => {
    // Whoever has wrapped this since would be taken out with it; as it is the wrapper only passes on.
    if (methods[name] === wrapper) methods[name] = original;
  });
}
