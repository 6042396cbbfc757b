// What a search has found in a text, by the rules by which the service finds: src/log_viewer/search.rs and FTS5's syntax.
import type { Filters, Page } from "./types.ts";

/** From where up to where. */
export type Hit = readonly [from: number, to: number];

/** More in one text are not told apart by anybody. */
export const HITS_MAX = 1_000;
/** Pieces of a plain search that count. */
const PIECES_MAX = 16;
/** What FTS5's tokenizer takes for a word, and what it takes for one behind its first letter. */
const WORD = /[\p{L}\p{N}\p{Co}][\p{L}\p{N}\p{Co}\p{M}]*/gu;
/** A string, a bare word or a sign of a search. */
const LEXEME = /"((?:[^"]|"")*)"|[\w\u{80}-\u{10ffff}]+|[()+*^,:{}-]/gu;

/** A word of a text as it is compared, and where it stands. */
interface Word {
  text: string;
  from: number;
  to: number;
}

/** What must be found for a text to fit. */
type Wanted =
  /** Words one after the other, the last of which may be the beginning of a longer one; `isFirst` at the beginning only. */
  | { kind: "phrase"; words: string[]; isPrefix: boolean; isFirst: boolean }
  | { kind: "all" | "any"; parts: Wanted[] }
  | { kind: "without"; wanted: Wanted; unwanted: Wanted };

/** Finds everything but what a regular expression matches. Answers `undefined` of a text that does not fit. */
export type Find = (text: string) => Hit[] | undefined;

/** How to find what filters look for, after the service has said how it understood them. */
export function finder(filters: Filters, mode: Page["search_mode"]): Find {
  const typed = filters.search?.trim();
  const plain = typed && mode === "plain" ? ofPlain(typed) : undefined;
  const wanted = plain?.wanted ?? (typed ? new Parser(typed).parse() : undefined);
  const parts = [...(plain?.parts ?? []), ...(filters.contains ? [filters.contains] : [])].map(containing);
  return (text) => {
    const found = wanted ? [hitsOf(wanted, wordsOf(text))] : [];
    for (const part of parts) {
      found.push(matches(part, text));
    }
    return found.some((hits) => hits === undefined) ? undefined : merged(found.flatMap((hits) => hits ?? []));
  };
}

/** Where an expression with the flag `g` matches anything, if it does. */
export function matches(expression: RegExp, text: string): Hit[] | undefined {
  const hits: Hit[] = [];
  let isFitting = false;
  for (const match of text.matchAll(expression)) {
    isFitting = true;
    if (match[0] !== "") {
      hits.push([match.index, match.index + match[0].length]);
    }
    if (hits.length === HITS_MAX) {
      break;
    }
  }
  return isFitting ? hits : undefined;
}

/** In order, those that touch as one. */
export function merged(hits: Hit[]): Hit[] {
  const apart: Hit[] = [];
  for (const [from, to] of [...hits].sort(([a], [b]) => a - b)) {
    const last = apart.at(-1);
    if (last && from <= last[1]) {
      apart[apart.length - 1] = [last[0], Math.max(last[1], to)];
    } else {
      apart.push([from, to]);
    }
  }
  return apart.slice(0, HITS_MAX);
}

function containing(part: string): RegExp {
  return new RegExp(part.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), "giu");
}

/** Without case and diacritics, as the index has words. */
function folded(word: string): string {
  return word.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}

function wordsOf(text: string): Word[] {
  return Array.from(text.matchAll(WORD), ({ 0: word, index }) => ({
    text: folded(word),
    from: index,
    to: index + word.length,
  }));
}

/** Of a search that is no syntax: its words, and the pieces that stand in the text as they were typed. */
function ofPlain(typed: string): { wanted: Wanted; parts: string[] } {
  const pieces = typed.split(/[\s"]/u).slice(0, PIECES_MAX);
  const isWord = (piece: string): boolean => /^[\p{Alphabetic}\p{N}]+$/u.test(piece);
  return {
    wanted: { kind: "all", parts: pieces.filter(isWord).map((piece) => phrase([piece], true)) },
    parts: pieces.filter((piece) => piece !== "" && !isWord(piece)),
  };
}

function phrase(typed: string[], isPrefix: boolean, isFirst = false): Wanted {
  return { kind: "phrase", words: typed.flatMap((part) => wordsOf(part).map(({ text }) => text)), isPrefix, isFirst };
}

function hitsOf(wanted: Wanted, words: Word[]): Hit[] | undefined {
  switch (wanted.kind) {
    case "phrase": {
      const hits = occurrences(wanted, words);
      // What has no letter is not looked for.
      return hits.length > 0 || wanted.words.length === 0 ? hits : undefined;
    }
    case "without":
      return hitsOf(wanted.unwanted, words) ? undefined : hitsOf(wanted.wanted, words);
    default: {
      const found = wanted.parts.map((part) => hitsOf(part, words));
      const fit = found.filter((hits) => hits !== undefined);
      const isFitting = wanted.kind === "all" ? fit.length === found.length : fit.length > 0;
      return isFitting ? fit.flat() : undefined;
    }
  }
}

function occurrences(wanted: Wanted & { kind: "phrase" }, words: Word[]): Hit[] {
  const { words: typed, isPrefix, isFirst } = wanted;
  const end = isFirst ? 1 : words.length;
  const hits: Hit[] = [];
  for (let at = 0; typed.length > 0 && at < end && hits.length < HITS_MAX; at++) {
    const fits = typed.every((word, index) => {
      const there = words[at + index]?.text;
      return isPrefix && index === typed.length - 1 ? there?.startsWith(word) : there === word;
    });
    const [first, last] = [words[at], words[at + typed.length - 1]];
    if (fits && first && last) {
      hits.push([first.from, last.to]);
    }
  }
  return hits;
}

/** Reads what the service has understood as FTS5's syntax, so that it need not tell what is wrong with it. */
class Parser {
  readonly #lexemes: { text: string; isString: boolean }[];
  #at = 0;

  constructor(typed: string) {
    this.#lexemes = Array.from(typed.matchAll(LEXEME), ([text, string]) =>
      string === undefined ? { text, isString: false } : { text: string.replaceAll('""', '"'), isString: true },
    );
  }

  parse(): Wanted {
    return this.#any();
  }

  #sign(ahead = 0): string | undefined {
    const lexeme = this.#lexemes[this.#at + ahead];
    return lexeme?.isString ? undefined : lexeme?.text;
  }

  #take(sign: string): boolean {
    const isThere = this.#sign() === sign;
    this.#at += Number(isThere);
    return isThere;
  }

  #any(): Wanted {
    const parts = [this.#both()];
    while (this.#take("OR")) {
      parts.push(this.#both());
    }
    return { kind: "any", parts };
  }

  #both(): Wanted {
    const parts = [this.#without()];
    while (this.#take("AND")) {
      parts.push(this.#without());
    }
    return { kind: "all", parts };
  }

  #without(): Wanted {
    let wanted = this.#neighbours();
    while (this.#take("NOT")) {
      wanted = { kind: "without", wanted, unwanted: this.#neighbours() };
    }
    return wanted;
  }

  /** What stands side by side belongs together more closely than what has an operator between. */
  #neighbours(): Wanted {
    const parts: Wanted[] = [];
    while (this.#at < this.#lexemes.length && !/^(?:AND|OR|NOT|[),])$/.test(this.#sign() ?? "")) {
      parts.push(this.#one());
    }
    return { kind: "all", parts };
  }

  #one(): Wanted {
    if (this.#sign(1) === ":" || /^[-{]$/.test(this.#sign() ?? "")) {
      // A column, of which there is one.
      while (this.#at < this.#lexemes.length && !this.#take(":")) {
        this.#at += 1;
      }
    }
    const isNear = this.#sign() === "NEAR" && this.#sign(1) === "(";
    this.#at += Number(isNear);
    if (this.#take("(")) {
      // That they are near each other was looked at by the service.
      const inside = isNear ? this.#neighbours() : this.#any();
      if (this.#take(",")) {
        this.#at += 1;
      }
      this.#take(")");
      return inside;
    }
    const isFirst = this.#take("^");
    const typed: string[] = [];
    let isPrefix = false;
    do {
      typed.push(this.#lexemes[this.#at]?.text ?? "");
      this.#at += 1;
      isPrefix = this.#take("*");
    } while (this.#take("+"));
    return phrase(typed, isPrefix, isFirst);
  }
}
