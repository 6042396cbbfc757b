import { useEffect, useMemo, useState } from "preact/hooks";
import { stripSequences } from "../shared/terminal.ts";
import type { LogFeed } from "./feed.ts";
import { createMatcher, type Match, type Matcher, mergeMatches } from "./matcher.ts";
import { RegexWorker } from "./regex-worker.ts";

const NO_MATCHES: Match[] = [];

/** Finds the matches of the current search, which the page highlights. */
export interface Highlighter {
  matcher: Matcher | undefined;
  regexWorker: RegexWorker | undefined;
  /** Whether the browser cannot run the regular expression, or not fast enough. */
  isRegexUnsupported: boolean;
}

/** Returns the highlighter for a feed's search. */
export function useHighlighter(feed: LogFeed | undefined): Highlighter {
  const { search, contains, regex } = feed?.filters ?? {};
  const mode = feed?.searchMode;
  const [failedRegex, setFailedRegex] = useState<string>();
  const matcher = useMemo(
    () => (search || contains ? createMatcher({ search, contains }, mode) : undefined),
    [search, contains, mode],
  );
  const regexWorker = useMemo(() => (regex ? new RegexWorker(regex, () => setFailedRegex(regex)) : undefined), [regex]);
  useEffect(() => () => regexWorker?.close(), [regexWorker]);
  const isRegexUnsupported = regex !== undefined && failedRegex === regex;
  return useMemo(() => ({ matcher, regexWorker, isRegexUnsupported }), [matcher, regexWorker, isRegexUnsupported]);
}

/** Returns the matches in a message. Positions refer to the text without escape sequences. */
export function useMatches({ matcher, regexWorker }: Highlighter, message: string): Match[] {
  const text = useMemo(() => stripSequences(message), [message]);
  const matches = useMemo(() => (matcher ? matcher(text) : NO_MATCHES), [matcher, text]);
  const [result, setResult] = useState<{ worker: RegexWorker; text: string; matches: Match[] | undefined }>();
  useEffect(
    () => regexWorker?.find(text, (matches) => setResult({ worker: regexWorker, text, matches })),
    [regexWorker, text],
  );
  const isCurrent = result && result.worker === regexWorker && result.text === text;
  const regexMatches = regexWorker && isCurrent ? result.matches : NO_MATCHES;
  // A context line that does not match the search has no highlights, even if it contains some of the words.
  return useMemo(
    () => (matches && regexMatches ? mergeMatches([...matches, ...regexMatches]) : NO_MATCHES),
    [matches, regexMatches],
  );
}
