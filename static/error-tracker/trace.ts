// Prepares an error group for display: the text of its stack trace, links to other services, and Markdown.
import type { ErrorGroupDetail, Occurrence, TraceSection } from "../generated/error-tracker.ts";
import type { ServiceLink } from "../generated/sessions.ts";
import { formatAbsolute, toTimestamp } from "../shared/time.ts";

const MINUTE_MS = 60_000;

/** Returns the text of each section of a stack trace. */
export function sectionTexts(trace: string, sections: TraceSection[]): string[] {
  const lines = trace.split("\n");
  return sections.map(({ first_line: start, lines: count }) => lines.slice(start, start + count).join("\n"));
}

/** A frame that the browser relay symbolicated, with the surrounding source lines. Clients can send anything. */
export interface SourceFrame {
  function?: unknown;
  file?: unknown;
  line?: unknown;
  context: { line?: unknown; text?: unknown }[];
}

/** Returns the frames whose source map contains the source. */
export function framesWithSource({ extra }: Occurrence): SourceFrame[] {
  const frames: (Partial<SourceFrame> | null)[] = Array.isArray(extra.frames) ? extra.frames : [];
  return frames.filter((frame) => Array.isArray(frame?.context) && frame.context.length > 0) as SourceFrame[];
}

/** Returns links to the logs and metrics around a timestamp, for the services whose URL is known. */
export function relatedLinks(services: ServiceLink[], at: string): { title: string; href: string }[] {
  const time = Date.parse(at);
  const links = [
    { name: "log-viewer", title: "View logs", beforeMs: 2 * MINUTE_MS, afterMs: MINUTE_MS },
    { name: "metrics-collector", title: "View metrics", beforeMs: 30 * MINUTE_MS, afterMs: 30 * MINUTE_MS },
  ];
  return links.flatMap(({ name, title, beforeMs, afterMs }) => {
    const url = services.find((service) => service.name === name)?.url;
    const range = { since: toTimestamp(time - beforeMs), until: toTimestamp(time + afterMs) };
    return url ? [{ title, href: `${url.replace(/\/?$/, "/")}?${new URLSearchParams(range)}` }] : [];
  });
}

/** Formats a count with its noun: `1 frame`, `2 frames`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * Escapes the characters that Markdown, its HTML and its extensions give a meaning, and breaks URLs and mentions, because a
 * client can send any text. Zero-width spaces keep what cannot be escaped from becoming a link.
 */
function escapeMarkdown(text: string): string {
  return text
    .replace(/[\p{Cc}\u2028\u2029]+/gu, " ")
    .replace(/[\\`*_[\]<>#|~&$]/g, "\\$&")
    .replace(/:(?=\/\/)|@|(?<=\bwww)\./gi, "$&\u200b");
}

/**
 * Formats an error as Markdown, for issue trackers and chats. `url` is the address of the page. The fence is longer than
 * any run of backticks inside.
 */
export function formatMarkdown(error: ErrorGroupDetail, url: string): string {
  const fence = "`".repeat(Math.max(3, ...[...error.traceback.matchAll(/`+/g)].map(([ticks]) => ticks.length + 1)));
  return [
    `## ${escapeMarkdown(error.exception_type)}: ${escapeMarkdown(error.message.split("\n", 1)[0] ?? "")}`,
    "",
    `- Project ${escapeMarkdown(error.project)}, ${escapeMarkdown(error.environment)}${
      error.release ? `, release ${escapeMarkdown(error.release)}` : ""
    }`,
    `- ${plural(error.count, "event")}, first seen ${formatAbsolute(error.first_seen)}, last seen ${formatAbsolute(error.last_seen)}`,
    `- ${url}`,
    "",
    fence,
    error.traceback.replace(/\n+$/, ""),
    fence,
    "",
  ].join("\n");
}
