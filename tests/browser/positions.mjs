// Prints random positions of a map's generated code, and what an independent library says of them: tab-separated line
// and column from 1, and the source, line, column from 1 and name, or dashes and zeros.
//   node positions.mjs FILE.js COUNT SEED
import { readFileSync } from "node:fs";
import { originalPositionFor, TraceMap } from "@jridgewell/trace-mapping";

const [file, count, seed] = process.argv.slice(2);
const lines = readFileSync(file, "utf8").split("\n");
const map = new TraceMap(readFileSync(`${file}.map`, "utf8"));

// A generator of its own (mulberry32), so that a failure can be repeated.
let state = Number(seed);
function random(below) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % below;
}

// Lines by their length, or short ones would be asked about as often as the one with the code.
const ends = [];
for (const line of lines) ends.push((ends.at(-1) ?? 0) + line.length + 1);
const rows = [];
for (let at = 0; at < Number(count); at++) {
  const place = random(ends.at(-1));
  const line = ends.findIndex((end) => place < end);
  const column = place - (line === 0 ? 0 : ends[line - 1]);
  const found = originalPositionFor(map, { line: line + 1, column });
  const original = found.source === null ? ["-", 0, 0, "-"] : [found.source, found.line, found.column + 1, found.name ?? "-"];
  rows.push([line + 1, column + 1, ...original].join("\t"));
}
console.log(rows.join("\n"));
