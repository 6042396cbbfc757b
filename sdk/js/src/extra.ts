/**
 * Optional refinements of reports: `init(withExtra({ dsn, endpoint }))`. They are not part of the main bundle because of
 * its size limit.
 */

import { sanitizeUrl, scrub } from "./stack";
import type { BrowserError, MonlightConfig } from "./types";
import { safeToString, TEXT_MAX_CHARS } from "./values";

/** Rejection that mail scanners cause when they open a link. */
const MAIL_SCANNER = /^Object Not Found Matching Id/;
/** Message of `throw null`, for which a browser provides no value. */
const THROWN_NOTHING = /^Uncaught (null|undefined)$/;
/** Maximum number of remembered URLs that a policy has blocked. */
const BLOCKED_URLS_MAX = 50;

/** Returns the message of a console call. Fills in the placeholders of its first argument, such as `%s`. */
const formatConsoleArgs = (args: unknown[]): string => {
  const [first = "", ...rest] = args.map(safeToString);
  const filled = first.replace(/%[sdifoOc]/g, (placeholder) => {
    const text = rest.shift() ?? placeholder;
    // The argument of `%c` is a style.
    return placeholder === "%c" ? "" : text;
  });
  return [filled, ...rest].join(" ");
};

/** Returns the URL in the message of a violation or a resource error, with `{id}` in place of IDs. */
const urlIn = (message: string): string | undefined => {
  const url = /\w+:\/\/\S+/.exec(message)?.[0];
  return url && sanitizeUrl(url, true);
};

/** Returns a configuration that refines each error before its `beforeSend` receives it. */
export const withExtra = (config: MonlightConfig): MonlightConfig => {
  const { beforeSend } = config;
  const blockedUrls: string[] = [];

  const refine = (event: BrowserError, source: unknown): BrowserError | null => {
    const { type, message } = event;
    if (MAIL_SCANNER.test(message)) return null;
    if (type === "CSPViolation") {
      const url = urlIn(message);
      if (url && blockedUrls.push(url) > BLOCKED_URLS_MAX) blockedUrls.shift();
    }
    // The violation was reported already.
    if (type === "ResourceError" && blockedUrls.includes(urlIn(message) ?? "")) return null;
    if (type.startsWith("Console") && Array.isArray(source)) {
      return { ...event, message: scrub(formatConsoleArgs(source), TEXT_MAX_CHARS) };
    }
    if (source instanceof Event && source.target instanceof Element) {
      return { ...event, message: `${message} ${source.target.localName}` };
    }
    return { ...event, message: message.replace(THROWN_NOTHING, "$1") };
  };

  return {
    ...config,
    beforeSend(event, source) {
      const refined = refine(event, source);
      return refined && beforeSend ? beforeSend(refined, source) : refined;
    },
  };
};
