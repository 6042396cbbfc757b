// Splits stack traces of several languages into application frames, library frames and other text.

/** Adjacent lines of the same kind. `text` is every line that does not belong to a frame. */
export interface TraceSection {
  kind: "in-app" | "library" | "text";
  lines: string[];
}

/** Frames of libraries, runtimes and frameworks. */
const LIBRARY_FRAME = [
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

/** First lines of frames, in the languages that the error tracker groups by location. */
const FRAME_START = [
  /^\s*File ".*", line \d+/,
  /^\s*at\s.+/,
  /^[^\s@]*@.+:\d+(:\d+)?$/,
  /^\s*#\d+ .+\(\d+\):?/,
  /^\s*from .+:\d+:in /,
  /^\s+\d+: /,
  /^\t.+\.go:\d+/,
];

/** Splits a trace into sections. Adjacent library frames form one section, so that the page can collapse them. */
export function splitTrace(trace: string): TraceSection[] {
  const sections: TraceSection[] = [];
  let kind: TraceSection["kind"] = "text";
  for (const line of trace.replace(/\n+$/, "").split("\n")) {
    if (FRAME_START.some((frame) => frame.test(line))) {
      kind = LIBRARY_FRAME.some((library) => library.test(line)) ? "library" : "in-app";
    } else if (!/^\s/.test(line)) {
      // A source line of the frame above would be indented.
      kind = "text";
    }
    const last = sections.at(-1);
    if (last?.kind === kind) {
      last.lines.push(line);
    } else {
      sections.push({ kind, lines: [line] });
    }
  }
  return sections;
}

/** Returns the number of frames in some lines. */
export function countFrames(lines: string[]): number {
  return lines.filter((line) => FRAME_START.some((frame) => frame.test(line))).length;
}
