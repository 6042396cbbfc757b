/**
 * Error reporting: turns errors, rejections, messages and violations into the relay's JSON. Duplicates are sent once
 * and then counted. Noise, such as errors of browser extensions, is only counted.
 */

import { addBreadcrumb, breadcrumbs } from "./breadcrumbs";
import { defer, listen, patchMethod, safely } from "./instrumentation";
import { countDropped, isoNow } from "./metrics";
import { sessionId } from "./session";
import { callerFrames, frameLines, sanitizeUrl, scrub, withoutWrapperFrames } from "./stack";
import { BODY_MAX_BYTES, byteLength, enqueue, isRelayUrl, toJson } from "./transport";
import type { BrowserError, MonlightConfig } from "./types";

const MESSAGE_MAX_CHARS = 2_000;
const STACK_MAX_CHARS = 16_000;
const CAUSES_MAX = 5;
/** Period during which duplicates of an error are counted instead of sent. */
const REPEAT_WINDOW_MS = 60_000;
/** Maximum number of distinct errors per window. Further ones are only counted. */
const DISTINCT_ERRORS_MAX = 50;
/** Matches `chrome-extension://...` and the bare scheme, which is what a policy violation contains. */
const EXTENSION = /-extension([: ]|$)/;

export type Context = Record<string, unknown>;

/** Number of duplicates since the last report, and a function that reports them. */
type RecentError = [repeats: number, sendRepeats: (repeats: number) => void];

/** Errors of the current window by type, message and first frame. */
const recentErrors = new Map<string, RecentError>();
/** Error objects that need no further report. */
const reportedErrors = new WeakSet<object>();
let config: MonlightConfig;
let isSending = false;
/** Context that is added to every error. */
export let globalContext: Context;

const sendError = (type: string, message: string, stack: string, extraContext: Context): void => {
  const event: BrowserError = {
    type,
    message,
    stack,
    url: sanitizeUrl(location.href),
    user_agent: navigator.userAgent,
    session_id: sessionId,
    release: config.release,
    environment: config.environment ?? "prod",
    timestamp: isoNow(),
    context: { ...globalContext, ...extraContext, breadcrumbs: [...breadcrumbs] },
  };
  isSending = true;
  safely(() => {
    const result = config.beforeSend ? config.beforeSend(event) : event;
    if (result) enqueue("errors", serializeEvent(result));
  });
  isSending = false;
};

/** Sends an event, or counts it if it is a duplicate or exceeds `DISTINCT_ERRORS_MAX`. */
export function captureEvent(type: string, message: string, stack: string, extraContext: Context = {}): void {
  // An event that `beforeSend` itself causes would recurse without end.
  if (isSending) return;
  message = scrub(message, MESSAGE_MAX_CHARS);
  // An error without a stack is identified by its type and message.
  stack = scrub(withoutWrapperFrames(stack), STACK_MAX_CHARS) || `${type}: ${message}`;
  const key = type + message + frameLines(stack)[0];
  const duplicate = recentErrors.get(key);
  if (duplicate) duplicate[0]++;
  else if (recentErrors.size >= DISTINCT_ERRORS_MAX) countDropped("limit");
  else {
    const recent: RecentError = [0, (repeats) => sendError(type, message, stack, { ...extraContext, repeats })];
    recentErrors.set(key, recent);
    sendError(type, message, stack, extraContext);
    defer(() => {
      recentErrors.delete(key);
      reportRepeats(recent);
    }, REPEAT_WINDOW_MS);
  }
}

const reportRepeats = (recent: RecentError): void => {
  if (recent[0]) recent[1](recent[0]);
  recent[0] = 0;
};

/** Reports all duplicates counted so far. */
export const flushRepeats = (): void => recentErrors.forEach(reportRepeats);

/** Whether a value is an object or a function. Also works for objects of other frames and without a prototype. */
const isObject = (value: unknown): value is object => Object(value) === value;

/** Marks an error as reported. @returns whether it was already marked */
export function markReported(error: unknown): boolean {
  const alreadyReported = reportedErrors.has(error as Error);
  if (isObject(error)) reportedErrors.add(error);
  return alreadyReported;
}

/** Reports any thrown value. `type` and `stack` are used if the value has none of its own. */
export function captureException(value: unknown, type: string, stack: string, extraContext?: Context): void {
  const error = value as Error | undefined;
  // An error that is caught, reported and rethrown is reported once.
  if (markReported(error)) return;
  if (error?.message === undefined) captureEvent(type, safeToString(error), stack, extraContext);
  else captureEvent(`${error.name || type}`, `${error.message}`, stackWithCauses(error) || stack, extraContext);
}

/** Reports a message with the types that console messages have. */
export const captureMessage = (level: string, message: string, stack: string): void =>
  captureEvent(level === "warning" ? "ConsoleWarning" : "ConsoleError", message, stack, { level });

/**
 * Reports an uncaught exception or rejection. Only counts it if a browser extension threw it or the page aborted it.
 */
function captureUncaught(value: unknown, type: string, fallbackStack = ""): void {
  const error = value as Partial<Error> | undefined;
  if (error?.name === "AbortError") countDropped("aborted");
  else if (EXTENSION.test(frameLines(error?.stack)[0] || fallbackStack)) countDropped("extension");
  else captureException(value, type, fallbackStack);
}

/** Resets the error state and installs the handlers for errors, rejections, policy violations and the console. */
export function instrumentErrors(settings: MonlightConfig): void {
  config = settings;
  globalContext = {};
  recentErrors.clear();

  listen(window, "error", ({ target, message, filename, lineno, colno, error }: ErrorEvent) => {
    if (target instanceof Element) {
      const { localName, src, href } = target as HTMLScriptElement & HTMLLinkElement;
      return captureEvent("ResourceError", `${localName} ${sanitizeUrl(src || href)} did not load`, "");
    }
    // Browsers hide the details of errors in cross-origin scripts.
    if (!error && !filename) return countDropped("script_error");
    captureUncaught(error ?? message, "Error", `    at ${filename}:${lineno}:${colno}`);
  });

  listen(window, "unhandledrejection", ({ reason }: PromiseRejectionEvent) =>
    captureUncaught(reason, "UnhandledRejection"),
  );

  listen(document, "securitypolicyviolation", (event: SecurityPolicyViolationEvent) => {
    const { blockedURI, sourceFile, lineNumber, columnNumber, effectiveDirective } = event;
    // A violation that blocks the relay cannot be reported to the relay.
    if (isRelayUrl(blockedURI)) return;
    if (EXTENSION.test(`${sourceFile} ${blockedURI}`)) return countDropped("extension");
    const frame = sourceFile && `    at ${sourceFile}:${lineNumber}:${columnNumber}`;
    captureEvent("CSPViolation", `${effectiveDirective} blocks ${blockedURI}`, frame);
  });

  for (const name of ["log", "info", "warn", "error"]) {
    patchMethod(console, name, (_, args, callSite) => {
      const message = args.map(safeToString).join(" ");
      addBreadcrumb("console", `${name}: ${message}`);
      if (config.captureConsole && /^(warn|error)$/.test(name)) {
        const error = args.find((arg) => arg instanceof Error);
        captureMessage(
          name === "warn" ? "warning" : name,
          message,
          (error && stackWithCauses(error as Error)) || callerFrames(callSite),
        );
      }
      return undefined;
    });
  }
}

/** Returns the stack trace of an error, followed by those of at most `CAUSES_MAX` causes. */
function stackWithCauses(error: Error): string {
  let stack = error.stack || "";
  let cause = error.cause;
  for (let causes = 0; cause && causes < CAUSES_MAX; causes++) {
    const { stack: causeStack, cause: nextCause } = cause as Error;
    stack += `\nCaused by: ${[safeToString(cause), ...frameLines(causeStack)].join("\n")}`;
    cause = nextCause;
  }
  return stack;
}

/**
 * Converts a value to a string. Never calls `toString` of an application object: it could be slow or have side effects.
 */
function safeToString(value: unknown): string {
  const isOpaque = isObject(value) && !(value instanceof Error);
  return (isOpaque ? {}.toString.call(value) : String(value)).slice(0, MESSAGE_MAX_CHARS);
}

/**
 * Serializes an event. If that fails or exceeds `BODY_MAX_BYTES`, only `user_id`, `level` and `repeats` are kept of the
 * context.
 */
function serializeEvent(event: BrowserError): string {
  try {
    const body = toJson(event);
    if (byteLength(body) <= BODY_MAX_BYTES) return body;
  } catch {
    // The context contains a cycle or a BigInt.
  }
  const { user_id, level, repeats } = event.context ?? {};
  return toJson({ ...event, context: { user_id, level, repeats, shortened: true } });
}
