/** Stack traces and URLs, without the SDK's own frames and without query strings and fragments. */

// Matches a URL up to its query or fragment, the query or fragment, and the `:line:column` that a stack trace appends.
const URL_QUERY = /(\w:\/\/[^\s?#"'<>()]+)[?#][^\s"'<>()]*?((:\d+){0,2})(?=["'<>()\s]|$)/g;

/** Truncates a string to `maxChars` characters and removes query strings and fragments from the URLs in it. */
export const scrub = (value: string, maxChars: number): string => value.slice(0, maxChars).replace(URL_QUERY, "$1$2");

/** Resolves a URL against the base URL of the document. */
export const resolveUrl = (url: string): URL => new URL(url, document.baseURI);

/**
 * Path segments that are one digit, contain two, or contain `@`. They can identify customers, and would split one error
 * into many groups.
 */
const ID_SEGMENTS = /\/(\d(?=\/|$)|[^/]*(\d[^/]*\d|@)[^/]*)/g;

/**
 * Resolves a URL and removes its credentials, query string and fragment. If `foldIds` is true, also replaces the path
 * segments that look like IDs by `{id}`.
 */
export const sanitizeUrl = (url: string, foldIds?: boolean): string => {
  const { host, pathname, protocol } = resolveUrl(url);
  // The path of a URL without a host, such as a `data:` URL, is its content and is removed as well.
  return `${protocol}//${host && host + (foldIds ? pathname.replace(ID_SEGMENTS, "/{id}") : pathname)}`;
};

/**
 * Returns a stack trace, or an empty string if it is not text: a library may have replaced `Error.prepareStackTrace`, and
 * the application may assign anything.
 */
export const stackToText = (stack: unknown): string => (typeof stack === "string" ? stack : "");

/** Returns the lines of a stack trace that are frames: `at f (file:1:2)` in V8, `f@file:1:2` in other engines. */
export const frameLines = (stack: unknown): string[] =>
  stackToText(stack)
    .split("\n")
    .filter((line) => /:\d+:\d+\)?$/.test(line));

/** Returns the frames of `callSite` without the first, which is the SDK function that created the error. */
export const callerFrames = (callSite: Error): string => frameLines(callSite.stack).slice(1).join("\n");

/** The `url:line:column` from which wrappers call the wrapped function. The initial value matches no frame. */
let wrapperPosition = "\n";

/** Reads the wrapper position from the second frame of a stack trace taken inside a wrapped function. */
export const setWrapperPosition = (stack: string): void => {
  // A URL may contain `@`, in which case only the part after it is kept. That part still identifies the position.
  wrapperPosition = frameLines(stack)[1]?.match(/[^\s(@]+:\d+:\d+/)?.[0] ?? "\n";
};

/** Removes the frames of the SDK's wrappers from a stack trace. */
export const withoutWrapperFrames = (stack: string): string =>
  stack
    .split("\n")
    .filter((line) => !line.replace(/\)$/, "").endsWith(wrapperPosition))
    .join("\n");
