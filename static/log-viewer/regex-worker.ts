// Runs the service's regular expressions in the browser, to highlight matches. They run in a worker thread, which can be
// terminated: some expressions take exponential time in a backtracking engine.
import { findMatches, type Match, mergeMatches } from "./matcher.ts";

const TIMEOUT_MS = 500;
/** The service's `\w`, which is not limited to ASCII: letters, marks, digits and connectors. */
const WORD_CHARS = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const TOKEN = /\\x\{|\\[\s\S]|\(\?P<|&&|--|~~|[\s\S]/g;

/**
 * Translates a pattern of Rust's regex crate to JavaScript. Returns `undefined` if JavaScript would reject it or
 * interpret it differently, as with nested character classes.
 */
export function translateRegex(pattern: string): RegExp | undefined {
  const [opening = "", flags = ""] = /^\(\?([ims]+)\)/.exec(pattern) ?? [];
  let isInClass = false;
  let isSupported = true;
  const translateToken = (token: string): string => {
    if (token === "[" || token === "]") {
      isSupported &&= !(token === "[" && isInClass);
      isInClass = token === "[";
      return token;
    }
    if (/^(?:&&|--|~~)$/.test(token)) {
      isSupported &&= !isInClass;
      return token;
    }
    if (token === "." && !isInClass && !flags.includes("s")) {
      return "[^\\n]";
    }
    switch (token) {
      case "(?P<":
        return "(?<";
      case "\\x{":
        return "\\u{";
      case "\\d":
        return "\\p{Nd}";
      case "\\D":
        return "\\P{Nd}";
      case "\\w":
        return isInClass ? WORD_CHARS : `[${WORD_CHARS}]`;
      case "\\W":
        isSupported &&= !isInClass;
        return `[^${WORD_CHARS}]`;
      case "\\A":
        isSupported &&= !flags.includes("m");
        return "^";
      case "\\z":
        isSupported &&= !flags.includes("m");
        return "$";
      case "\\a":
        return "\\x07";
    }
    // With the flag `u`, JavaScript rejects escapes that are not needed. In a class, the hyphen needs one.
    const isEscapedPunctuation = /^\\[!-/:-@[-`{-~]$/.test(token);
    const needsEscape = /^\\[\\^$.*+?()[\]{}|/]$/.test(token) || (isInClass && token === "\\-");
    return isEscapedPunctuation && !needsEscape ? token.slice(1) : token;
  };
  const translated = pattern.slice(opening.length).replace(TOKEN, translateToken);
  try {
    return isSupported ? new RegExp(translated, `gu${[...new Set(flags)].join("")}`) : undefined;
  } catch {
    return undefined;
  }
}

/** Finds the matches of one pattern on a worker thread, one text at a time. */
export class RegexWorker {
  #worker: Worker | undefined;
  #isReady = false;
  /** Texts to search. The worker is busy with the first one. */
  #queue: { text: string; onResult: (matches: Match[] | undefined) => void }[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(
    readonly pattern: string,
    /** Called once if the pattern is not supported or a search times out. */
    readonly onFailed: () => void,
  ) {}

  /**
   * Queues a text and calls back with its matches, or with `undefined` if there are none. After a failure, it does not
   * call back. Returns a function that cancels the search.
   */
  find(text: string, onResult: (matches: Match[] | undefined) => void): () => void {
    const task = { text, onResult };
    if (!this.#isClosed) {
      this.#queue.push(task);
      this.#start();
    }
    return () => {
      // The first task is already running: only its result is ignored.
      const index = this.#queue.indexOf(task);
      if (index > 0) {
        this.#queue.splice(index, 1);
      } else if (index === 0) {
        task.onResult = () => {};
      }
    };
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#worker?.terminate();
    this.#isClosed = true;
    this.#queue = [];
  }

  #start(): void {
    if (this.#worker) {
      if (this.#isReady && this.#queue.length === 1) {
        this.#sendNext();
      }
      return;
    }
    if (!translateRegex(this.pattern)) {
      this.#fail();
      return;
    }
    // The service serves a single script. In a worker, it runs only `serveRegexRequests`.
    const worker = new Worker("app.js");
    this.#worker = worker;
    worker.addEventListener("error", () => this.#fail());
    worker.addEventListener("message", ({ data }: MessageEvent<RegexResponse>) => {
      clearTimeout(this.#timer);
      this.#isReady = true;
      if (data !== "ready") {
        this.#queue.shift()?.onResult(data ?? undefined);
      }
      this.#sendNext();
    });
  }

  #sendNext(): void {
    const [first] = this.#queue;
    if (first) {
      this.#timer = setTimeout(() => this.#fail(), TIMEOUT_MS);
      this.#worker?.postMessage({ pattern: this.pattern, text: first.text } satisfies RegexRequest);
    }
  }

  #fail(): void {
    if (!this.#isClosed) {
      this.close();
      this.onFailed();
    }
  }
}

interface RegexRequest {
  pattern: string;
  text: string;
}
/** `null` if the pattern does not match. */
type RegexResponse = "ready" | Match[] | null;

/** Answers requests of a `RegexWorker`. Runs in the worker thread. */
export function serveRegexRequests(): void {
  const respond = (response: RegexResponse): void => postMessage(response);
  addEventListener("message", ({ data }: MessageEvent<RegexRequest>) => {
    const expression = translateRegex(data.pattern);
    const matches = expression && findMatches(expression, data.text);
    respond(matches ? mergeMatches(matches) : null);
  });
  respond("ready");
}
