/**
 * Error reporting: turns errors, rejections, messages and violations into the relay's JSON. Duplicates are sent once
 * and then counted. Noise, such as errors of browser extensions, is only counted.
 */

import { addBreadcrumb, breadcrumbs } from "./breadcrumbs";
import { config, defer, listen, logDebug, patchMethod, safely } from "./instrumentation";
import { countDropped, isoNow } from "./metrics";
import { copyContext, serializeEvent } from "./serialize";
import { sessionId } from "./session";
import { callerFrames, frameLines, sanitizeUrl, scrub, stackToText, withoutWrapperFrames } from "./stack";
import { enqueue, isRelayUrl, shutDown } from "./transport";
import type { BrowserError } from "./types";
import { describeThrown, isObject, OMITTED, safeToString, TEXT_MAX_CHARS } from "./values";

const STACK_MAX_CHARS = 16_000;
/** Maximum number of causes and members of an error. */
const CAUSES_MAX = 5;
/** Period during which duplicates of an error are counted instead of sent. */
const REPEAT_WINDOW_MS = 60_000;
/** Maximum number of distinct errors per window. Further ones are only counted. */
const DISTINCT_ERRORS_MAX = 50;
/**
 * Matches `chrome-extension://...`, the bare scheme, which is what a policy violation contains, and the URL that Safari
 * shows instead of an extension's.
 */
const EXTENSION = /-extension([: ]|$)|webkit-masked-url:/;

export type Context = Record<string, unknown>;

/** Number of duplicates since the last report, and a function that sends the error with that number. */
type RecentError = [repeats: number, send: (repeats: number) => void];

/** Errors of the current window by type, message and first frame. */
const recentErrors = new Map<string, RecentError>();
/** Error objects that need no further report. */
const reportedErrors = new WeakSet<object>();
let isSending = false;
/** Context that is added to every error. */
let globalContext: Context;

/** Adds a copy of these values to the context of all later errors. */
export const addToContext = (context: Context): unknown => Object.assign(globalContext, copyContext(context));

/** Adds a tag to all later errors. Undefined removes it. */
export const addTag = (key: string, value: unknown): unknown =>
  addToContext({ tags: { ...(globalContext.tags as Context), [key]: value } });

/** Passes an event to `beforeSend`, if there is one, and enqueues the result. */
const sendEvent = (event: BrowserError, source: unknown): void => {
  const send = (result: unknown): void =>
    safely(() => {
      if (result !== event) logDebug("beforeSend returned", result);
      if ((result as Promise<unknown> | null)?.then) (result as Promise<unknown>).then(send, logDebug);
      else if (result) enqueue("errors", serializeEvent(result === true ? event : (result as BrowserError)));
    });
  isSending = true;
  safely(() => send(config.beforeSend ? config.beforeSend(event, source) : event));
  isSending = false;
};

/** Sends an event, or counts it if it is a duplicate or exceeds `DISTINCT_ERRORS_MAX`. */
export const captureEvent = (
  type: string,
  message: string,
  stack: string,
  context?: Context,
  source?: unknown,
): void => {
  // An event that `beforeSend` itself causes would recurse without end.
  if (isSending) return;
  message = scrub(message, TEXT_MAX_CHARS);
  const extraContext = copyContext(context);
  if (extraContext.tags) extraContext.tags = { ...(globalContext.tags as Context), ...(extraContext.tags as Context) };
  // An error without a stack is identified by its type and message.
  stack = scrub(withoutWrapperFrames(stack), STACK_MAX_CHARS) || `${type}: ${message}`;
  const key = type + message + frameLines(stack)[0] + extraContext.fingerprint;
  const duplicate = recentErrors.get(key);
  if (duplicate) duplicate[0]++;
  else if (recentErrors.size >= DISTINCT_ERRORS_MAX) countDropped("limit");
  else {
    const send = (repeats?: number): void => {
      const { fingerprint, ...context } = { ...globalContext, ...extraContext };
      sendEvent(
        {
          type,
          message,
          stack,
          url: sanitizeUrl(location.href),
          user_agent: navigator.userAgent,
          session_id: sessionId,
          release: config.release,
          environment: config.environment ?? "prod",
          timestamp: isoNow(),
          fingerprint: fingerprint as string[],
          context: { ...context, repeats, breadcrumbs: [...breadcrumbs] },
        },
        source,
      );
    };
    const recent: RecentError = [0, send];
    recentErrors.set(key, recent);
    send();
    defer(() => {
      recentErrors.delete(key);
      reportRepeats(recent);
    }, REPEAT_WINDOW_MS);
  }
};

const reportRepeats = (recent: RecentError): void => {
  if (recent[0]) recent[1](recent[0]);
  recent[0] = 0;
};

/** Reports all duplicates counted so far. */
export const flushRepeats = (): void => recentErrors.forEach(reportRepeats);

/** Marks an error as reported. @returns whether it was already marked */
export const markReported = (error: unknown): boolean => {
  const alreadyReported = reportedErrors.has(error as Error);
  if (isObject(error)) reportedErrors.add(error);
  return alreadyReported;
};

/**
 * Reports any thrown value. `type` and `stack` are used if the value has none of its own. An uncaught exception is only
 * counted if the page aborted it or did not cause it.
 */
export const captureException = (
  value: unknown,
  type: string,
  stack: string,
  isUncaught: boolean,
  context?: Context,
): unknown => {
  let message = OMITTED;
  try {
    const error = value as Error | undefined;
    if (isUncaught) {
      if (error?.name === "AbortError") return countDropped("aborted");
      if (EXTENSION.test(frameLines(error?.stack)[0] || stack)) return countDropped("extension");
    }
    message = describeThrown(error?.message ?? error);
    if (error?.message !== undefined) {
      type = `${error.name || type}`;
      stack = stackWithCauses(error) || stack;
    }
  } catch {
    // Reading the value throws.
  }
  // An error that is caught, reported and rethrown is reported once.
  return markReported(value) || captureEvent(type, message, stack, context, value);
};

/** Reports a message with the types that console messages have. `context` contains its level. */
export const captureMessage = (context: Context, message: string, stack: string, source?: unknown): void =>
  captureEvent(context.level === "warning" ? "ConsoleWarning" : "ConsoleError", message, stack, context, source);

/** Resets the error state and installs the handlers for errors, rejections, policy violations and the console. */
export const instrumentErrors = (): void => {
  globalContext = {};
  recentErrors.clear();

  listen("error", ({ target, message, filename, lineno, colno, error }: ErrorEvent) => {
    if (target instanceof Element) {
      const { localName, currentSrc, src, href } = target as HTMLImageElement & HTMLLinkElement;
      const isImage = localName === "img";
      if (isImage && !config.captureImages) return;
      const url = sanitizeUrl(currentSrc || src || href, isImage);
      return captureEvent("ResourceError", `${localName} ${url} did not load`, "");
    }
    // Browsers hide the details of errors in cross-origin scripts. Notices of `ResizeObserver` look the same.
    if (!error && !lineno) countDropped("script_error");
    else captureException(error ?? message, "Error", `    at ${filename}:${lineno}:${colno}`, true);
  });

  listen("unhandledrejection", ({ reason }: PromiseRejectionEvent) =>
    captureException(reason, "UnhandledRejection", "", true),
  );

  listen("securitypolicyviolation", (event: SecurityPolicyViolationEvent) => {
    const { blockedURI, sourceFile, lineNumber, columnNumber, effectiveDirective } = event;
    if (isRelayUrl(blockedURI)) {
      // A violation that blocks the relay cannot be reported to the relay.
      if (event.disposition === "enforce") shutDown(effectiveDirective);
    } else if (EXTENSION.test(`${sourceFile} ${blockedURI}`)) countDropped("extension");
    else {
      const frame = sourceFile && `    at ${sourceFile}:${lineNumber}:${columnNumber}`;
      captureEvent("CSPViolation", `${effectiveDirective} blocks ${blockedURI}`, frame);
    }
  });

  for (const [name, level] of [["log"], ["info"], ["warn", "warning"], ["error", "error"]] as const) {
    patchMethod(console, name, (_, args, callSite) => {
      const message = args.map(safeToString).join(" ");
      addBreadcrumb("console", `${name}: ${message}`);
      if (level && config.captureConsole) {
        const error = args.find((arg) => arg instanceof Error) as Error | undefined;
        captureMessage({ level }, message, (error && stackWithCauses(error)) || callerFrames(callSite), args);
      }
      return undefined;
    });
  }
};

/** Returns the stack trace of an error, followed by those of at most `CAUSES_MAX` causes and members. */
const stackWithCauses = (error: Error): string => {
  // In V8, the message precedes the frames. A long one would displace them.
  let stack = stackToText(error.stack).replace(error.message, safeToString);
  const related = relatedErrors(error);
  let causes = 0;
  for (const cause of related) {
    if (!cause || causes++ >= CAUSES_MAX) continue;
    stack += `\nCaused by: ${[safeToString(cause), ...frameLines(cause.stack)].join("\n")}`;
    related.push(...relatedErrors(cause));
  }
  return stack;
};

/** Returns the cause of an error, if it has one, and the members of an `AggregateError`. */
const relatedErrors = ({ cause, errors }: Error & { errors?: unknown }): (Error | undefined)[] => [
  cause as Error | undefined,
  ...[errors].flat().filter((member) => member instanceof Error),
];
