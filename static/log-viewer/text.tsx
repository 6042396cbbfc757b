import type { ComponentChildren, JSX } from "preact";
import type { Hit } from "./hits.ts";

// Colours (SGR), and everything else that a terminal would obey and a page need not.
const SEQUENCE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  /\u001b\[([\d;:]*)m|\u001b\[[0-?]*[ -/]*[@-~]|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-~]/g;
// Controls that would hide or reorder what stands there are shown as what they are.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** What JSON is made of. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
/** Places of a line where JSON may begin. */
const JSON_TRIES_MAX = 16;

interface Style {
  bold?: boolean;
  italic?: boolean;
  underline?: boolean;
  dim?: boolean;
  inverse?: boolean;
  /** Of the sixteen. */
  ink?: number;
  paper?: number;
}

/** A piece of a text between two sequences, and how it looks. */
interface Run {
  /** Where it begins in the text without sequences. */
  at: number;
  text: string;
  class: string | undefined;
}

/** The text without sequences: what searches look through. */
export function bare(text: string): string {
  return text.replace(SEQUENCE, "");
}

/** The text without sequences, and controls made visible. */
export function plain(text: string): string {
  return visible(bare(text));
}

function visible(text: string): string {
  return text.replace(CONTROL, (control) => {
    const code = control.charCodeAt(0);
    // A line that Windows wrote.
    return code === 13 ? "" : code < 32 ? String.fromCharCode(0x2400 + code) : `<U+${code.toString(16).toUpperCase()}>`;
  });
}

function runs(text: string): Run[] {
  const found: Run[] = [];
  let style: Style = {};
  let [from, at] = [0, 0];
  const push = (to: number): void => {
    if (to > from) {
      found.push({ at, text: text.slice(from, to), class: classes(style) });
      at += to - from;
    }
  };
  for (const match of text.matchAll(SEQUENCE)) {
    push(match.index);
    from = match.index + match[0].length;
    if (match[1] !== undefined) {
      style = changed(style, match[1]);
    }
  }
  push(text.length);
  return found;
}

/** The text with its colours, as spans with classes, and with what was searched for marked; or a part of it. */
export function Coloured(props: { text: string; hits: Hit[]; from?: number; to?: number }): JSX.Element {
  const { text, hits, from = 0, to = Number.POSITIVE_INFINITY } = props;
  const shown = runs(text).flatMap((run): Run[] => {
    const [first, last] = [Math.max(from, run.at), Math.min(to, run.at + run.text.length)];
    return first < last ? [{ ...run, at: first, text: run.text.slice(first - run.at, last - run.at) }] : [];
  });
  return (
    <>
      {shown.map((run) =>
        run.class === undefined ? (
          marked(run.text, run.at, hits)
        ) : (
          <span key={run.at} class={run.class}>
            {marked(run.text, run.at, hits)}
          </span>
        ),
      )}
    </>
  );
}

/** A piece of a text, which begins at a place of it, with what was searched for marked. */
function marked(text: string, at: number, hits: Hit[]): ComponentChildren[] {
  const pieces: ComponentChildren[] = [];
  let from = at;
  for (const hit of hits) {
    const [first, last] = [Math.max(hit[0], from), Math.min(hit[1], at + text.length)];
    if (first < last) {
      pieces.push(
        visible(text.slice(from - at, first - at)),
        <mark key={first}>{visible(text.slice(first - at, last - at))}</mark>,
      );
      from = last;
    }
  }
  pieces.push(visible(text.slice(from - at)));
  return pieces;
}

function classes({ ink, paper, inverse, bold, italic, underline, dim }: Style): string | undefined {
  const names = [
    // On a colour, the text has the page's: of two any, one could be unreadable on the other.
    inverse ? `b${ink ?? 7}` : paper !== undefined ? `b${paper}` : ink !== undefined && `f${ink}`,
    bold && "bold",
    italic && "italic",
    underline && "underline",
    dim && ink === undefined && paper === undefined && "quiet",
  ];
  return names.filter(Boolean).join(" ") || undefined;
}

function changed(before: Style, parameters: string): Style {
  const codes = parameters.split(/[;:]/).map(Number);
  let style = { ...before };
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at] ?? 0;
    if (code === 0) {
      style = {};
    } else if (code === 38 || code === 48) {
      const [kind, a = 0, b = 0, c = 0] = codes.slice(at + 1);
      style[code === 38 ? "ink" : "paper"] = kind === 5 ? ofIndex(a) : nearest(a, b, c);
      at += kind === 5 ? 2 : 4;
    } else {
      style = { ...style, ...simple(code) };
    }
  }
  return style;
}

function simple(code: number): Style {
  const switches: Record<number, Style> = {
    1: { bold: true },
    2: { dim: true },
    3: { italic: true },
    4: { underline: true },
    7: { inverse: true },
    22: { bold: false, dim: false },
    23: { italic: false },
    24: { underline: false },
    27: { inverse: false },
  };
  const colour = code % 10;
  const ground = Math.floor(code / 10);
  if (ground === 3 || ground === 9) {
    return colour < 8 ? { ink: colour + (ground === 9 ? 8 : 0) } : colour === 9 ? withoutColour("ink") : {};
  }
  if (ground === 4 || ground === 10) {
    return colour < 8 ? { paper: colour + (ground === 10 ? 8 : 0) } : colour === 9 ? withoutColour("paper") : {};
  }
  return switches[code] ?? {};
}

function withoutColour(name: "ink" | "paper"): Style {
  return { [name]: undefined };
}

/** One of 256 colours as the nearest of the sixteen, which can be read on both themes. */
function ofIndex(index: number): number {
  if (index < 16) {
    return index;
  }
  if (index >= 232) {
    return index < 244 ? 8 : 7;
  }
  const part = (by: number): number => (Math.floor((index - 16) / by) % 6) * 51;
  return nearest(part(36), part(6), part(1));
}

function nearest(red: number, green: number, blue: number): number {
  const most = Math.max(red, green, blue);
  const bit = (value: number): number => Number(most > 0 && value * 2 > most);
  return bit(red) + 2 * bit(green) + 4 * bit(blue) + (most > 191 ? 8 : 0);
}

/** Where a text without sequences has JSON in it: all of it, or an object or objects behind what else is said. */
export function jsonIn(text: string): { from: number; to: number } | undefined {
  const whole = /^\s*(?=[{[])/.exec(text)?.[0].length;
  if (whole !== undefined) {
    const to = end(text, whole);
    if (to !== undefined && text.slice(to).trim() === "") {
      return { from: whole, to };
    }
  }
  let tries = 0;
  for (const { index } of text.matchAll(/\{\s*"|\[\s*\{\s*"/g)) {
    const to = end(text, index);
    if (to !== undefined) {
      return { from: index, to };
    }
    tries += 1;
    if (tries === JSON_TRIES_MAX) {
      break;
    }
  }
  return undefined;
}

/** Where JSON ends that begins at a place, if it does. */
function end(text: string, from: number): number | undefined {
  let depth = 0;
  let to = from;
  for (const { 0: token, index } of text.slice(from).matchAll(TOKEN)) {
    depth += token === "{" || token === "[" ? 1 : token === "}" || token === "]" ? -1 : 0;
    to = from + index + token.length;
    if (depth === 0) {
      break;
    }
  }
  try {
    JSON.parse(visible(text.slice(from, to)));
    return to;
  } catch {
    // Most lines are none.
    return undefined;
  }
}

/** JSON with a line for every member, its numbers as they were written. */
export function Pretty(props: { text: string; from: number; to: number; hits: Hit[] }): JSX.Element {
  const { text, from, to, hits } = props;
  let depth = 0;
  let before = "";
  const pieces: ComponentChildren[] = [];
  const line = (): string => `\n${"  ".repeat(depth)}`;
  for (const { 0: token, index } of text.slice(from, to).matchAll(TOKEN)) {
    const isEmpty = before === "{" || before === "[";
    const isEnd = token === "}" || token === "]";
    depth -= Number(isEnd);
    if (isEmpty !== isEnd) {
      pieces.push(line());
    }
    pieces.push(...marked(token, from + index, hits));
    if (token === ",") {
      pieces.push(line());
    } else if (token === ":") {
      pieces.push(" ");
    }
    depth += Number(token === "{" || token === "[");
    before = token;
  }
  return <>{pieces}</>;
}
