/** Stacks and addresses as they may be sent: without the SDK's own frames, and without what stands behind `?` or `#`. */

// An address up to its query or fragment, these two, and the line and column that a stack puts behind them.
const QUERY = /(\w:\/\/[^\s?#"'<>()]+)[?#][^\s"'<>()]*?((:\d+){0,2})(?=["'<>()\s]|$)/g;

/** A text without queries and fragments of the addresses in it, at most so many characters long. */
export const clean = (text: string, max: number): string => text.slice(0, max).replace(QUERY, "$1$2");

/** An address as the page means it. */
export const resolve = (url: string): URL => new URL(url, document.baseURI);

/** An address without user, query and fragment. */
export const withoutQuery = (url: string): string => {
  const { host, pathname, protocol } = resolve(url);
  // Addresses without a host, such as `data:`, are their content.
  return `${protocol}//${host && host + pathname}`;
};

/** The lines of a stack that are frames: V8's `at f (file:1:2)`, the others' `f@file:1:2`. */
export const frames = (stack: unknown): string[] => `${stack}`.split("\n").filter((line) => /:\d+:\d+\)?$/.test(line));

/** The frames that called the function of the SDK in which an error was made. */
export const callers = (here: Error): string => frames(here.stack).slice(1).join("\n");

let ownPlace = "\n";

/** Remembers the second frame of a stack as the place where the SDK calls on what it has wrapped. */
export const setOwnPlace = (stack: string): void => {
  // An `@` may also be part of the address. What is behind it is still enough to tell one place from all others.
  ownPlace = frames(stack)[1]?.match(/[^\s(@]+:\d+:\d+/)?.[0] ?? "\n";
};

/** A stack without the frames of functions that the SDK has wrapped. */
export const withoutOwnFrames = (stack: string): string =>
  stack
    .split("\n")
    .filter((line) => !line.replace(/\)$/, "").endsWith(ownPlace))
    .join("\n");
