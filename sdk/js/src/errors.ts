/** Errors, made into what the relay takes: each said once and then counted, noise counted only. */

import { drop, now } from "./metrics";
import { guarded, later, listen, patch } from "./scope";
import { sessionId } from "./session";
import { callers, clean, frames, withoutOwnFrames, withoutQuery } from "./stack";
import { leave, trail } from "./trail";
import { BODY_MAX_BYTES, bytes, isRelay, json, send } from "./transport";
import type { BrowserError, MonlightConfig } from "./types";

const MESSAGE_MAX_CHARS = 2_000;
const STACK_MAX_CHARS = 16_000;
const CAUSES_MAX = 5;
/** How long the same error is counted instead of sent. */
const REPEAT_WINDOW_MS = 60_000;
/** Different errors in such a window; more are a flood, and counted only. */
const DIFFERENT_MAX = 50;
/** `chrome-extension://...`; policies name the scheme alone. */
const EXTENSION = /-extension([: ]|$)/;

export type Context = Record<string, unknown>;

/** How often an error came again, and what says so. */
type Recent = [repeats: number, send: (repeats: number) => void];

/** Errors of this minute. */
const recent = new Map<string, Recent>();
const known = new WeakSet<object>();
let config: MonlightConfig;
let sending = false;
/** Added to every error. */
export let context: Context;

const sendError = (type: string, message: string, stack: string, added: Context): void => {
  const event: BrowserError = {
    type,
    message,
    stack,
    url: withoutQuery(location.href),
    user_agent: navigator.userAgent,
    session_id: sessionId,
    release: config.release,
    environment: config.environment ?? "prod",
    timestamp: now(),
    context: { ...context, ...added, breadcrumbs: [...trail] },
  };
  sending = true;
  guarded(() => {
    const kept = config.beforeSend ? config.beforeSend(event) : event;
    if (kept) send("errors", fitting(kept));
  });
  sending = false;
};

/** Reports an error of that type. */
export function report(type: string, message: string, stack: string, added: Context = {}): void {
  // What `beforeSend` itself does wrong would come back for ever.
  if (sending) return;
  message = clean(message, MESSAGE_MAX_CHARS);
  // Without a place errors are told apart by what they say.
  stack = clean(withoutOwnFrames(stack), STACK_MAX_CHARS) || `${type}: ${message}`;
  const key = type + message + frames(stack)[0];
  const same = recent.get(key);
  if (same) same[0]++;
  else if (recent.size >= DIFFERENT_MAX) drop("limit");
  else {
    const first: Recent = [0, (repeats) => sendError(type, message, stack, { ...added, repeats })];
    recent.set(key, first);
    sendError(type, message, stack, added);
    later(() => {
      recent.delete(key);
      settle(first);
    }, REPEAT_WINDOW_MS);
  }
}

const settle = (same: Recent): void => {
  if (same[0]) same[1](same[0]);
  same[0] = 0;
};

/** Says how often errors have repeated since. */
export const settleRepeats = (): void => recent.forEach(settle);

/** Also for objects of other frames and without a prototype. */
const isObject = (value: unknown): value is object => Object(value) === value;

/** Remembers an error as one that needs no report. @returns whether it was one already */
export function seen(error: unknown): boolean {
  const before = known.has(error as Error);
  if (isObject(error)) known.add(error);
  return before;
}

/** Reports whatever was thrown; `type` and `stack` where that has none. */
export function thrown(what: unknown, type: string, stack: string, added?: Context): void {
  const error = what as Error | undefined;
  // Caught, reported and thrown on: still one error.
  if (seen(error)) return;
  if (error?.message === undefined) report(type, text(error), stack, added);
  else report(`${error.name || type}`, `${error.message}`, chain(error) || stack, added);
}

/** Reports a message, as the console's are. */
export const say = (level: string, message: string, stack: string): void =>
  report(level === "warning" ? "ConsoleWarning" : "ConsoleError", message, stack, { level });

/** Reports what nobody has caught, or counts it where it is not the page's own doing. */
function uncaught(what: unknown, type: string, place = ""): void {
  const error = what as Partial<Error> | undefined;
  if (error?.name === "AbortError") drop("aborted");
  else if (EXTENSION.test(frames(error?.stack)[0] || place)) drop("extension");
  else thrown(what, type, place);
}

export function watchErrors(settings: MonlightConfig): void {
  config = settings;
  context = {};
  recent.clear();

  listen(window, "error", ({ target, message, filename, lineno, colno, error }: ErrorEvent) => {
    if (target instanceof Element) {
      const { localName, src, href } = target as HTMLScriptElement & HTMLLinkElement;
      return report("ResourceError", `${localName} ${withoutQuery(src || href)} did not load`, "");
    }
    // Browsers say no more of what scripts of other origins do.
    if (!error && !filename) return drop("script_error");
    uncaught(error ?? message, "Error", `    at ${filename}:${lineno}:${colno}`);
  });

  listen(window, "unhandledrejection", ({ reason }: PromiseRejectionEvent) => uncaught(reason, "UnhandledRejection"));

  listen(document, "securitypolicyviolation", (event: SecurityPolicyViolationEvent) => {
    const { blockedURI, sourceFile, lineNumber, columnNumber, effectiveDirective } = event;
    // What the policy keeps from the relay cannot be told to it.
    if (isRelay(blockedURI)) return;
    if (EXTENSION.test(`${sourceFile} ${blockedURI}`)) return drop("extension");
    const place = sourceFile && `    at ${sourceFile}:${lineNumber}:${columnNumber}`;
    report("CSPViolation", `${effectiveDirective} blocks ${blockedURI}`, place);
  });

  for (const name of ["log", "info", "warn", "error"]) {
    patch(console, name, (_, args, here) => {
      const message = args.map(text).join(" ");
      leave("console", `${name}: ${message}`);
      if (config.captureConsole && /^(warn|error)$/.test(name)) {
        const error = args.find((arg) => arg instanceof Error);
        say(name === "warn" ? "warning" : name, message, (error && chain(error as Error)) || callers(here));
      }
      return undefined;
    });
  }
}

/** The stack of an error and of those that caused it. */
function chain(error: Error): string {
  let stack = error.stack || "";
  let cause = error.cause;
  for (let causes = 0; cause && causes < CAUSES_MAX; causes++) {
    const { stack: own, cause: next } = cause as Error;
    stack += `\nCaused by: ${[text(cause), ...frames(own)].join("\n")}`;
    cause = next;
  }
  return stack;
}

/** What a value says. Objects do not get a word in: that could take long, or do something. */
function text(value: unknown): string {
  const silent = isObject(value) && !(value instanceof Error);
  return (silent ? {}.toString.call(value) : String(value)).slice(0, MESSAGE_MAX_CHARS);
}

/** An event as JSON that a relay takes; what was added by hand goes where it cannot be written or is too much. */
function fitting(event: BrowserError): string {
  try {
    const body = json(event);
    if (bytes(body) <= BODY_MAX_BYTES) return body;
  } catch {
    // A cycle, or a number too great for JSON.
  }
  const { user_id, level, repeats } = event.context ?? {};
  return json({ ...event, context: { user_id, level, repeats, shortened: true } });
}
