// Prints random positions of a generated file and their original positions according to an independent library. Each
// line has tab-separated fields: generated line and column, then source, original line, original column and name. Lines
// and columns start at 1. Unmapped positions have dashes and zeros.
//   node positions.mjs FILE.js COUNT SEED
import { readFileSync } from "node:fs";
import { originalPositionFor, TraceMap } from "@jridgewell/trace-mapping";

const [file, count, seed] = process.argv.slice(2);
const lines = readFileSync(file, "utf8").split("\n");
const map = new TraceMap(readFileSync(`${file}.map`, "utf8"));

// Seeded random number generator (mulberry32), so that failures are reproducible.
let state = Number(seed);
function randomBelow(limit) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % limit;
}

// Positions are drawn uniformly from all characters. Drawing lines first would over-represent short lines.
const lineEnds = [];
for (const line of lines) lineEnds.push((lineEnds.at(-1) ?? 0) + line.length + 1);
const rows = [];
for (let row = 0; row < Number(count); row++) {
  const offset = randomBelow(lineEnds.at(-1));
  const line = lineEnds.findIndex((end) => offset < end);
  const column = offset - (line === 0 ? 0 : lineEnds[line - 1]);
  const position = originalPositionFor(map, { line: line + 1, column });
  const { source, name } = position;
  const original = source === null ? ["-", 0, 0, "-"] : [source, position.line, position.column + 1, name ?? "-"];
  rows.push([line + 1, column + 1, ...original].join("\t"));
}
console.log(rows.join("\n"));
