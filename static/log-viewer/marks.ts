import { useEffect, useMemo, useState } from "preact/hooks";
import { Expression } from "./expression.ts";
import { type Find, finder, type Hit, merged } from "./hits.ts";
import type { Lines } from "./lines.ts";
import { bare } from "./text.tsx";

const NONE: Hit[] = [];

/** What of the lines is marked, because it was searched for. */
export interface Marks {
  find: Find | undefined;
  expression: Expression | undefined;
  /** Whether what the regular expression matches cannot be found here. */
  isGivenUp: boolean;
}

/** How to mark what some lines were searched for. */
export function useMarks(lines: Lines | undefined): Marks {
  const { search, contains, regex } = lines?.filters ?? {};
  const mode = lines?.mode;
  const [givenUp, setGivenUp] = useState<string>();
  const find = useMemo(
    () => (search || contains ? finder({ search, contains }, mode) : undefined),
    [search, contains, mode],
  );
  const expression = useMemo(() => (regex ? new Expression(regex, () => setGivenUp(regex)) : undefined), [regex]);
  useEffect(() => () => expression?.close(), [expression]);
  const isGivenUp = regex !== undefined && givenUp === regex;
  return useMemo(() => ({ find, expression, isGivenUp }), [find, expression, isGivenUp]);
}

/** What is to be marked in a message, in places of its text without sequences. */
export function useHits({ find, expression }: Marks, message: string): Hit[] {
  const text = useMemo(() => bare(message), [message]);
  const found = useMemo(() => (find ? find(text) : NONE), [find, text]);
  const [matched, setMatched] = useState<{ by: Expression; text: string; hits: Hit[] | undefined }>();
  useEffect(() => expression?.find(text, (hits) => setMatched({ by: expression, text, hits })), [expression, text]);
  const isKnown = matched && matched.by === expression && matched.text === text;
  const more = expression && isKnown ? matched.hits : NONE;
  // What does not fit the search is there as a neighbour of what does.
  return useMemo(() => (found && more ? merged([...found, ...more]) : NONE), [found, more]);
}
