// Text that programs reported, without terminal control sequences and with visible control characters.

/**
 * Terminal control sequences, by the same rules as src/log_viewer/parse/ansi.rs. The first group contains the parameters of
 * colors and styles (SGR). All other sequences are dropped. A string such as a window title is only dropped if it ends on
 * the same line.
 */
export const SEQUENCE = new RegExp(
  [
    "(?:\\u001b\\[|\\u009b)(?:([\\d;:]*)m|[0-?]*[ -/]*[@-~]?)",
    "(?:\\u001b[\\]PX^_]|[\\u0090\\u0098\\u009d-\\u009f])" +
      "(?:[^\\n\\u0007\\u001b\\u0080-\\u009f]*(?:\\u0007|\\u009c|\\u001b\\\\|(?=[\\u001b\\u0080-\\u009f])))?",
    "\\u001b[ -/]*[0-~]?",
  ].join("|"),
  "g",
);
// Control characters, including those that hide or reorder text. They are shown as visible symbols.
// biome-ignore lint/suspicious/noControlCharactersInRegex: the expression matches control characters
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Removes the text of each line that a carriage return overwrote, such as all steps of a progress bar but the last. The
 * service searches the same text.
 */
export function dropOverwritten(text: string): string {
  return text.replace(/[^\n]*\r[^\n]*/g, (line) => {
    const parts = line.split("\r");
    return parts.findLast((part) => stripSequences(part).trim() !== "") ?? parts[0] ?? "";
  });
}

/** Removes escape sequences. The log viewer searches the same text. */
export function stripSequences(text: string): string {
  return text.replace(SEQUENCE, "");
}

/** Makes control characters visible. */
export function showControls(text: string): string {
  return text.replace(CONTROL, (control) => {
    const code = control.charCodeAt(0);
    // Drops the carriage return of a Windows line ending.
    return code === 13 ? "" : code < 32 ? String.fromCharCode(0x2400 + code) : `<U+${code.toString(16).toUpperCase()}>`;
  });
}

/** Removes escape sequences and makes control characters visible. */
export function toPlainText(text: string): string {
  return showControls(stripSequences(text));
}

/** Applies `toPlainText` to all strings of a JSON value, also to the names of members. */
export function toPlainTexts<T>(value: T): T {
  if (typeof value === "string") {
    return toPlainText(value) as T;
  }
  if (Array.isArray(value)) {
    return value.map(toPlainTexts) as T;
  }
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value).map(([name, member]) => [toPlainText(name), toPlainTexts(member)]);
    return Object.fromEntries(members) as T;
  }
  return value;
}
