// What a regular expression of the service's matches, found by the browser's own, on a thread that can be ended: there
// are expressions that a browser would look for until tomorrow.
import { type Hit, matches, merged } from "./hits.ts";

/** After which an expression is given up. */
const PATIENCE_MS = 500;
/** Letters, marks, digits and connectors: `\w` of the service knows more than ASCII. */
const LETTERS = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const TOKEN = /\\x\{|\\[\s\S]|\(\?P<|&&|--|~~|[\s\S]/g;

/** The same expression for browsers, or `undefined` where it would be an error or mean something else. */
export function translated(pattern: string): RegExp | undefined {
  const [opening = "", switched = ""] = /^\(\?([ims]+)\)/.exec(pattern) ?? [];
  let isInside = false;
  let isKnown = true;
  const token = (token: string): string => {
    if (token === "[" || token === "]") {
      isKnown &&= !(token === "[" && isInside);
      isInside = token === "[";
      return token;
    }
    if (/^(?:&&|--|~~)$/.test(token)) {
      isKnown &&= !isInside;
      return token;
    }
    if (token === "." && !isInside && !switched.includes("s")) {
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
        return isInside ? LETTERS : `[${LETTERS}]`;
      case "\\W":
        isKnown &&= !isInside;
        return `[^${LETTERS}]`;
      case "\\A":
        isKnown &&= !switched.includes("m");
        return "^";
      case "\\z":
        isKnown &&= !switched.includes("m");
        return "$";
      case "\\a":
        return "\\x07";
    }
    // What needs no escape has none in a browser, but for a hyphen among others.
    return /^\\[!-/:-@[-`{-~]$/.test(token) && !/^\\[\\^$.*+?()[\]{}|/]$/.test(token) && !(isInside && token === "\\-")
      ? token.slice(1)
      : token;
  };
  const text = pattern.slice(opening.length).replace(TOKEN, token);
  try {
    return isKnown ? new RegExp(text, `gu${[...new Set(switched)].join("")}`) : undefined;
  } catch {
    return undefined;
  }
}

/** Finds where an expression matches, one text after the other. */
export class Expression {
  #worker: Worker | undefined;
  #isReady = false;
  #waiting: { text: string; answer: (hits: Hit[] | undefined) => void }[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isGivenUp = false;

  constructor(
    readonly pattern: string,
    /** Its hits cannot be found here. */
    readonly onGivenUp: () => void,
  ) {}

  /** Calls back with what it matches, unless it is given up. Answers how to want it no more. */
  find(text: string, answer: (hits: Hit[] | undefined) => void): () => void {
    const task = { text, answer };
    if (!this.#isGivenUp) {
      this.#waiting.push(task);
      this.#begin();
    }
    return () => {
      // The first is being looked for, and what is found is nobody's.
      const at = this.#waiting.indexOf(task);
      if (at > 0) {
        this.#waiting.splice(at, 1);
      } else if (at === 0) {
        task.answer = () => {};
      }
    };
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#worker?.terminate();
    this.#isGivenUp = true;
    this.#waiting = [];
  }

  #begin(): void {
    if (this.#worker) {
      if (this.#isReady && this.#waiting.length === 1) {
        this.#next();
      }
      return;
    }
    if (!translated(this.pattern)) {
      this.#giveUp();
      return;
    }
    // The page's own script, since the service serves no other; on a thread it does nothing but this.
    const worker = new Worker("app.js");
    this.#worker = worker;
    worker.addEventListener("error", () => this.#giveUp());
    worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
      clearTimeout(this.#timer);
      this.#isReady = true;
      if (data !== "ready") {
        this.#waiting.shift()?.answer(data ?? undefined);
      }
      this.#next();
    });
  }

  #next(): void {
    const [first] = this.#waiting;
    if (first) {
      this.#timer = setTimeout(() => this.#giveUp(), PATIENCE_MS);
      this.#worker?.postMessage({ pattern: this.pattern, text: first.text } satisfies Question);
    }
  }

  #giveUp(): void {
    if (!this.#isGivenUp) {
      this.close();
      this.onGivenUp();
    }
  }
}

interface Question {
  pattern: string;
  text: string;
}
type Answer = "ready" | Hit[] | null;

/** The other side: answers where expressions match. */
export function answerOnThread(): void {
  const answer = (answer: Answer): void => postMessage(answer);
  addEventListener("message", ({ data }: MessageEvent<Question>) => {
    const expression = translated(data.pattern);
    const hits = expression && matches(expression, data.text);
    answer(hits ? merged(hits) : null);
  });
  answer("ready");
}
