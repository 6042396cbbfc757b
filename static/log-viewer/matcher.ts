// Finds the matches of a search in a text, by the same rules as the service: src/log_viewer/search.rs and FTS5.
import type { Page } from "../generated/log-viewer.ts";
import type { Filters } from "./filters.ts";

/** Start (inclusive) and end (exclusive) of a match in a text. */
export type Match = readonly [start: number, end: number];

/** Maximum number of matches that are highlighted in one text. */
export const MATCHES_MAX = 1_000;
/** The service ignores all further terms of a plain search. */
const PLAIN_TERMS_MAX = 16;
/** Marks that FTS5's unicode61 tokenizer removes from a word. It treats all other marks as separators. */
const MARKS = "\\u0300-\\u0304\\u0306-\\u030c\\u030f\\u0311\\u031b\\u0323-\\u0328\\u032d\\u032e\\u0330\\u0331";
/** A word of that tokenizer, which knows Unicode 6.1. Marks cannot start a word. */
const WORD = new RegExp(`[\\p{L}\\p{N}\\p{Co}][\\p{L}\\p{N}\\p{Co}${MARKS}]*`, "gu");
const MARK = new RegExp(`[${MARKS}]`, "gu");
/** A string, a bare word or an operator of FTS5's query syntax. */
const TOKEN = /"((?:[^"]|"")*)"|[\w\u{80}-\u{10ffff}]+|[()+*^,:{}-]/gu;

/** A normalized word of a text and its position. */
interface Word {
  normalized: string;
  start: number;
  end: number;
}

/** A parsed search. */
type Query =
  /** Consecutive words. `isPrefix`: the last one may be a prefix. `isAtStart`: only at the start of the text. */
  | { kind: "phrase"; words: string[]; isPrefix: boolean; isAtStart: boolean }
  | { kind: "and" | "or"; operands: Query[] }
  | { kind: "not"; included: Query; excluded: Query };

/** Returns the matches in a text, or `undefined` if the text does not satisfy the search. */
export type Matcher = (text: string) => Match[] | undefined;

/** Creates a matcher for the filters `search` and `contains`. `mode` is how the service interpreted the search. */
export function createMatcher(filters: Filters, mode: Page["search_mode"]): Matcher {
  const search = filters.search?.trim();
  const plain = search && mode === "plain" ? parsePlainSearch(search) : undefined;
  const query = plain?.query ?? (search ? new QueryParser(search).parse() : undefined);
  const substrings = [...(plain?.substrings ?? []), ...(filters.contains ? [filters.contains] : [])].map(toRegex);
  return (text) => {
    const results = query ? [matchQuery(query, splitWords(text))] : [];
    for (const substring of substrings) {
      results.push(findMatches(substring, text));
    }
    return results.some((matches) => matches === undefined)
      ? undefined
      : mergeMatches(results.flatMap((matches) => matches ?? []));
  };
}

/** Returns the matches of an expression with the flag `g`, or `undefined` if there are none. */
export function findMatches(expression: RegExp, text: string): Match[] | undefined {
  const matches: Match[] = [];
  let hasMatch = false;
  for (const match of text.matchAll(expression)) {
    hasMatch = true;
    if (match[0] !== "") {
      matches.push([match.index, match.index + match[0].length]);
    }
    if (matches.length === MATCHES_MAX) {
      break;
    }
  }
  return hasMatch ? matches : undefined;
}

/** Sorts matches and merges those that overlap or touch. */
export function mergeMatches(matches: Match[]): Match[] {
  const merged: Match[] = [];
  for (const [start, end] of [...matches].sort(([a], [b]) => a - b)) {
    const last = merged.at(-1);
    if (last && start <= last[1]) {
      merged[merged.length - 1] = [last[0], Math.max(last[1], end)];
    } else {
      merged.push([start, end]);
    }
  }
  return merged.slice(0, MATCHES_MAX);
}

function toRegex(substring: string): RegExp {
  return new RegExp(substring.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "giu");
}

/** Removes case and diacritics, as the full-text index does. */
function normalize(word: string): string {
  return Array.from(word.replace(MARK, ""), normalizeChar).join("");
}

function normalizeChar(char: string): string {
  const [base = char, ...marks] = char.normalize("NFD");
  // The index removes only single diacritics, and only from Latin letters.
  const letter = marks.length === 1 && /[a-z]/i.test(base) ? base : char;
  // Folds case: both forms of the Greek sigma become equal.
  const folded = letter.toUpperCase().toLowerCase();
  return [...folded].length === 1 ? folded : letter;
}

function splitWords(text: string): Word[] {
  return Array.from(text.matchAll(WORD), ({ 0: word, index }) => ({
    normalized: normalize(word),
    start: index,
    end: index + word.length,
  }));
}

/** Parses a search without FTS5 syntax. Terms with other characters than letters and digits match as substrings. */
function parsePlainSearch(search: string): { query: Query; substrings: string[] } {
  const terms = search.split(/[\p{White_Space}"]/u).slice(0, PLAIN_TERMS_MAX);
  const isWord = (term: string): boolean => /^[\p{Alphabetic}\p{N}]+$/u.test(term);
  return {
    query: implicitAnd(terms.filter(isWord).map((term) => phrase([term], true))),
    substrings: terms.filter((term) => term !== "" && !isWord(term)),
  };
}

/** Combines adjacent terms. FTS5 ignores phrases without words among them; alone, such a phrase matches nothing. */
function implicitAnd(operands: Query[]): Query {
  const withWords = operands.filter((operand) => operand.kind !== "phrase" || operand.words.length > 0);
  return { kind: "and", operands: withWords.length > 0 ? withWords : operands };
}

function phrase(parts: string[], isPrefix: boolean, isAtStart = false): Query {
  const words = parts.flatMap((part) => splitWords(part).map(({ normalized }) => normalized));
  return { kind: "phrase", words, isPrefix, isAtStart };
}

function matchQuery(query: Query, words: Word[]): Match[] | undefined {
  switch (query.kind) {
    case "phrase": {
      const matches = matchPhrase(query, words);
      return matches.length > 0 ? matches : undefined;
    }
    case "not":
      return matchQuery(query.excluded, words) ? undefined : matchQuery(query.included, words);
    default: {
      const results = query.operands.map((operand) => matchQuery(operand, words));
      const satisfied = results.filter((matches) => matches !== undefined);
      const isSatisfied = query.kind === "and" ? satisfied.length === results.length : satisfied.length > 0;
      return isSatisfied ? satisfied.flat() : undefined;
    }
  }
}

function matchPhrase(phrase: Query & { kind: "phrase" }, words: Word[]): Match[] {
  const { words: phraseWords, isPrefix, isAtStart } = phrase;
  const startsMax = isAtStart ? 1 : words.length;
  const matches: Match[] = [];
  for (let i = 0; phraseWords.length > 0 && i < startsMax && matches.length < MATCHES_MAX; i++) {
    const isMatch = phraseWords.every((phraseWord, offset) => {
      const word = words[i + offset]?.normalized;
      return isPrefix && offset === phraseWords.length - 1 ? word?.startsWith(phraseWord) : word === phraseWord;
    });
    const [first, last] = [words[i], words[i + phraseWords.length - 1]];
    if (isMatch && first && last) {
      matches.push([first.start, last.end]);
    }
  }
  return matches;
}

/** Recursive-descent parser for FTS5 queries. The service has already accepted the query, so errors need no reports. */
class QueryParser {
  readonly #tokens: { text: string; isString: boolean }[];
  #position = 0;

  constructor(search: string) {
    this.#tokens = Array.from(search.matchAll(TOKEN), ([text, string]) =>
      string === undefined ? { text, isString: false } : { text: string.replaceAll('""', '"'), isString: true },
    );
  }

  parse(): Query {
    return this.#parseOr();
  }

  /** Returns the token at an offset from the position, or `undefined` at the end and for strings. */
  #peek(offset = 0): string | undefined {
    const token = this.#tokens[this.#position + offset];
    return token?.isString ? undefined : token?.text;
  }

  /** Skips a token if it comes next. Returns whether it did. */
  #accept(token: string): boolean {
    const isNext = this.#peek() === token;
    this.#position += Number(isNext);
    return isNext;
  }

  #parseOr(): Query {
    const operands = [this.#parseAnd()];
    while (this.#accept("OR")) {
      operands.push(this.#parseAnd());
    }
    return { kind: "or", operands };
  }

  #parseAnd(): Query {
    const operands = [this.#parseNot()];
    while (this.#accept("AND")) {
      operands.push(this.#parseNot());
    }
    return { kind: "and", operands };
  }

  #parseNot(): Query {
    let query = this.#parseImplicitAnd();
    while (this.#accept("NOT")) {
      query = { kind: "not", included: query, excluded: this.#parseImplicitAnd() };
    }
    return query;
  }

  /** Parses adjacent terms, which bind more tightly than terms with an operator between them. */
  #parseImplicitAnd(): Query {
    const operands: Query[] = [];
    while (this.#position < this.#tokens.length && !/^(?:AND|OR|NOT|[),])$/.test(this.#peek() ?? "")) {
      operands.push(this.#parseTerm());
    }
    return implicitAnd(operands);
  }

  #parseTerm(): Query {
    if (this.#peek(1) === ":" || /^[-{]$/.test(this.#peek() ?? "")) {
      // Skips a column filter: the index has a single column.
      while (this.#position < this.#tokens.length && !this.#accept(":")) {
        this.#position += 1;
      }
    }
    const isNear = this.#peek() === "NEAR" && this.#peek(1) === "(";
    this.#position += Number(isNear);
    if (this.#accept("(")) {
      // The service has already checked the distance in NEAR groups.
      const group = isNear ? this.#parseImplicitAnd() : this.#parseOr();
      if (this.#accept(",")) {
        this.#position += 1;
      }
      this.#accept(")");
      return group;
    }
    const isAtStart = this.#accept("^");
    const parts: string[] = [];
    let isPrefix = false;
    do {
      parts.push(this.#tokens[this.#position]?.text ?? "");
      this.#position += 1;
      isPrefix = this.#accept("*");
    } while (this.#accept("+"));
    return phrase(parts, isPrefix, isAtStart);
  }
}
