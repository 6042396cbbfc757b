// Renders log messages: terminal colors, highlighted matches and JSON.
import type { ComponentChildren, JSX } from "preact";
import { SEQUENCE, showControls } from "../shared/terminal.ts";
import type { Match } from "./matcher.ts";

const JSON_TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
/** Maximum number of positions in a line at which `findJson` tries to parse JSON. */
const JSON_TRIES_MAX = 16;

interface Style {
  bold?: boolean;
  italic?: boolean;
  underline?: boolean;
  dim?: boolean;
  inverse?: boolean;
  /** ANSI colors, 0-15. */
  foreground?: number;
  background?: number;
}

/** Text with the same style. */
interface StyledRun {
  /** Position in the text without sequences. */
  start: number;
  text: string;
  class: string | undefined;
}

function splitRuns(text: string): StyledRun[] {
  const runs: StyledRun[] = [];
  let style: Style = {};
  let [from, start] = [0, 0];
  const push = (to: number): void => {
    if (to > from) {
      runs.push({ start, text: text.slice(from, to), class: classNames(style) });
      start += to - from;
    }
  };
  for (const match of text.matchAll(SEQUENCE)) {
    push(match.index);
    from = match.index + match[0].length;
    if (match[1] !== undefined) {
      style = applySgr(style, match[1]);
    }
  }
  push(text.length);
  return runs;
}

/**
 * Renders text with its terminal colors and highlighted matches. `start` and `end` select a part of it; they are
 * positions in the text without sequences.
 */
export function ColoredText(props: { text: string; matches: Match[]; start?: number; end?: number }): JSX.Element {
  const { text, matches, start = 0, end = Number.POSITIVE_INFINITY } = props;
  const runs = splitRuns(text).flatMap((run): StyledRun[] => {
    const [first, last] = [Math.max(start, run.start), Math.min(end, run.start + run.text.length)];
    return first < last ? [{ ...run, start: first, text: run.text.slice(first - run.start, last - run.start) }] : [];
  });
  return (
    <>
      {runs.map((run) =>
        run.class === undefined ? (
          highlight(run.text, run.start, matches)
        ) : (
          <span key={run.start} class={run.class}>
            {highlight(run.text, run.start, matches)}
          </span>
        ),
      )}
    </>
  );
}

/** Highlights the matches in a part of a text. `start` is the position of the part. */
function highlight(part: string, start: number, matches: Match[]): ComponentChildren[] {
  const children: ComponentChildren[] = [];
  let from = start;
  for (const match of matches) {
    const [first, last] = [Math.max(match[0], from), Math.min(match[1], start + part.length)];
    if (first < last) {
      children.push(
        showControls(part.slice(from - start, first - start)),
        <mark key={first}>{showControls(part.slice(first - start, last - start))}</mark>,
      );
      from = last;
    }
  }
  children.push(showControls(part.slice(from - start)));
  return children;
}

function classNames(style: Style): string | undefined {
  const { foreground, background, inverse, bold, italic, underline, dim } = style;
  const names = [
    // Text on a background has the page's text color, because arbitrary pairs of colors can be illegible.
    inverse
      ? `bg-${foreground ?? 7}`
      : background !== undefined
        ? `bg-${background}`
        : foreground !== undefined && `fg-${foreground}`,
    bold && "bold",
    italic && "italic",
    underline && "underline",
    dim && foreground === undefined && background === undefined && "muted",
  ];
  return names.filter(Boolean).join(" ") || undefined;
}

/** Applies the parameters of an SGR sequence to a style. */
function applySgr(style: Style, parameters: string): Style {
  const codes = parameters.split(/[;:]/).map(Number);
  let next = { ...style };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] ?? 0;
    if (code === 0) {
      next = {};
    } else if (code === 38 || code === 48) {
      const [kind, a = 0, b = 0, c = 0] = codes.slice(i + 1);
      next[code === 38 ? "foreground" : "background"] = kind === 5 ? fromPalette(a) : nearestColor(a, b, c);
      i += kind === 5 ? 2 : 4;
    } else {
      next = { ...next, ...simpleSgr(code) };
    }
  }
  return next;
}

/** Returns the changes that an SGR code without arguments makes. */
function simpleSgr(code: number): Style {
  const attributes: Record<number, Style> = {
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
  const color = code % 10;
  const group = Math.floor(code / 10);
  if (group === 3 || group === 9) {
    return color < 8 ? { foreground: color + (group === 9 ? 8 : 0) } : color === 9 ? resetColor("foreground") : {};
  }
  if (group === 4 || group === 10) {
    return color < 8 ? { background: color + (group === 10 ? 8 : 0) } : color === 9 ? resetColor("background") : {};
  }
  return attributes[code] ?? {};
}

function resetColor(name: "foreground" | "background"): Style {
  return { [name]: undefined };
}

/** Returns the ANSI color nearest to a color of the 256-color palette. Only ANSI colors are legible in both themes. */
function fromPalette(index: number): number {
  if (index < 16) {
    return index;
  }
  if (index >= 232) {
    return index < 244 ? 8 : 7;
  }
  const component = (weight: number): number => (Math.floor((index - 16) / weight) % 6) * 51;
  return nearestColor(component(36), component(6), component(1));
}

/** Returns the ANSI color nearest to an RGB color. */
function nearestColor(red: number, green: number, blue: number): number {
  const max = Math.max(red, green, blue);
  const bit = (value: number): number => Number(max > 0 && value * 2 > max);
  return bit(red) + 2 * bit(green) + 4 * bit(blue) + (max > 191 ? 8 : 0);
}

/**
 * Finds JSON in a text without sequences: the whole text, or the first object or array of objects in it. Returns its
 * start and end.
 */
export function findJson(text: string): { start: number; end: number } | undefined {
  const start = /^\s*(?=[{[])/.exec(text)?.[0].length;
  if (start !== undefined) {
    const end = findJsonEnd(text, start);
    if (end !== undefined && text.slice(end).trim() === "") {
      return { start, end };
    }
  }
  let tries = 0;
  for (const { index } of text.matchAll(/\{\s*"|\[\s*\{\s*"/g)) {
    const end = findJsonEnd(text, index);
    if (end !== undefined) {
      return { start: index, end };
    }
    tries += 1;
    if (tries === JSON_TRIES_MAX) {
      break;
    }
  }
  return undefined;
}

/** Returns the end of the JSON value that starts at a position, or `undefined` if there is no valid JSON. */
function findJsonEnd(text: string, start: number): number | undefined {
  let depth = 0;
  let end = start;
  for (const { 0: token, index } of text.slice(start).matchAll(JSON_TOKEN)) {
    depth += token === "{" || token === "[" ? 1 : token === "}" || token === "]" ? -1 : 0;
    end = start + index + token.length;
    if (depth === 0) {
      break;
    }
  }
  try {
    JSON.parse(showControls(text.slice(start, end)));
    return end;
  } catch {
    return undefined;
  }
}

/** Renders JSON with one member per line. Keeps numbers as they were written, which `JSON.parse` would round. */
export function FormattedJson(props: { text: string; start: number; end: number; matches: Match[] }): JSX.Element {
  const { text, start, end, matches } = props;
  let depth = 0;
  let previous = "";
  const children: ComponentChildren[] = [];
  const newline = (): string => `\n${"  ".repeat(depth)}`;
  for (const { 0: token, index } of text.slice(start, end).matchAll(JSON_TOKEN)) {
    const isAfterOpening = previous === "{" || previous === "[";
    const isClosing = token === "}" || token === "]";
    depth -= Number(isClosing);
    if (isAfterOpening !== isClosing) {
      children.push(newline());
    }
    children.push(...highlight(token, start + index, matches));
    if (token === ",") {
      children.push(newline());
    } else if (token === ":") {
      children.push(" ");
    }
    depth += Number(token === "{" || token === "[");
    previous = token;
  }
  return <>{children}</>;
}
