// What the lines of a stack trace are, whatever language wrote it.

/** Some lines of a trace: a frame of the application's, frames of libraries, or anything else. */
export interface Part {
  kind: "in-app" | "library" | "text";
  lines: string[];
}

/** Files that nobody who reads the trace has written. */
const LIBRARIES = [
  /[/\\](site|dist)-packages[/\\]/,
  /[/\\]lib[/\\]python\d/,
  /<frozen /,
  /node_modules[/\\]/,
  /\bnode:[a-z_]+/,
  /webpack[/\\]bootstrap/,
  /\bat (java|javax|jdk|sun|kotlin|org\.springframework|org\.apache|org\.hibernate|io\.netty|reactor)\./,
  /[/\\](usr|opt)[/\\].*[/\\]go[/\\]src[/\\]/,
  /[/\\]pkg[/\\]mod[/\\]/,
  /[/\\]gems[/\\]/,
  /[/\\]ruby[/\\]\d/,
  /[/\\]vendor[/\\]/,
  /[/\\]rustc[/\\]/,
  /[/\\]\.cargo[/\\]registry[/\\]/,
  /\bat System\.|\bat Microsoft\./,
];

/** A line that begins a frame, in the forms of the languages that are grouped by location. */
const FRAME = [
  /^\s*File ".*", line \d+/,
  /^\s*at\s.+/,
  /^[^\s@]*@.+:\d+(:\d+)?$/,
  /^\s*#\d+ .+\(\d+\):?/,
  /^\s*from .+:\d+:in /,
  /^\s+\d+: /,
  /^\t.+\.go:\d+/,
];

/** The parts of a trace: neighbouring library frames are one, so that they can be folded away. */
export function parts(trace: string): Part[] {
  const found: Part[] = [];
  let kind: Part["kind"] = "text";
  for (const line of trace.replace(/\n+$/, "").split("\n")) {
    if (FRAME.some((frame) => frame.test(line))) {
      kind = LIBRARIES.some((library) => library.test(line)) ? "library" : "in-app";
    } else if (!/^\s/.test(line)) {
      // What is not set in is no source line of the frame above.
      kind = "text";
    }
    const last = found.at(-1);
    if (last?.kind === kind) {
      last.lines.push(line);
    } else {
      found.push({ kind, lines: [line] });
    }
  }
  return found;
}

/** How many frames some lines have. */
export function frameCount(lines: string[]): number {
  return lines.filter((line) => FRAME.some((frame) => frame.test(line))).length;
}
