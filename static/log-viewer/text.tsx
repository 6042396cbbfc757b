import type { JSX } from "preact";

// Colours (SGR), and everything else that a terminal would obey and a page need not.
const SEQUENCE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  /\u001b\[([\d;:]*)m|\u001b\[[0-?]*[ -/]*[@-~]|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-~]/g;
// Controls that would hide or reorder what stands there are shown as what they are.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

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

/** The text without sequences, and controls made visible. */
export function plain(text: string): string {
  return visible(text.replace(SEQUENCE, ""));
}

function visible(text: string): string {
  return text.replace(CONTROL, (control) => {
    const code = control.charCodeAt(0);
    // A line that Windows wrote.
    return code === 13 ? "" : code < 32 ? String.fromCharCode(0x2400 + code) : `<U+${code.toString(16).toUpperCase()}>`;
  });
}

/** The text with its colours, as spans with classes. */
export function Coloured({ text }: { text: string }): JSX.Element {
  if (!text.includes("\u001b")) {
    return <>{visible(text)}</>;
  }
  const spans: JSX.Element[] = [];
  let style: Style = {};
  let from = 0;
  const push = (to: number): void => {
    if (to > from) {
      const shown = visible(text.slice(from, to));
      spans.push(
        <span key={from} class={classes(style)}>
          {shown}
        </span>,
      );
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
  return <>{spans}</>;
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

/** What a message in JSON looks like with a line for every member, its numbers as they were written. */
export function prettyJson(message: string): string | undefined {
  const text = plain(message).trim();
  if (!/^[{[]/.test(text)) {
    return undefined;
  }
  try {
    JSON.parse(text);
  } catch {
    // Most lines are not.
    return undefined;
  }
  let depth = 0;
  let pretty = "";
  const line = (): string => `\n${"  ".repeat(depth)}`;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  for (const [index, token] of tokens.entries()) {
    const empty = /[{[]/.test(tokens[index - 1] ?? "") && (tokens[index - 1]?.length ?? 0) === 1;
    if (token === "}" || token === "]") {
      depth -= 1;
      pretty += empty ? token : line() + token;
    } else if (token === ",") {
      pretty += token + line();
    } else if (token === ":") {
      pretty += ": ";
    } else {
      pretty += (empty ? line() : "") + token;
      depth += Number(token === "{" || token === "[");
    }
  }
  return pretty;
}
