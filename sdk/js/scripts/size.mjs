// Prints what pages load, beside others built the same way, and fails when ours has outgrown its limit. With a path it
// leaves the figures there for benches/figures.py.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { brotliCompressSync } from "node:zlib";
import { bundle, ROOT } from "./bundle.mjs";

/** Bytes of dist/monlight.min.js by `gzip -9`. */
const LIMIT_BYTES = 5_000;
/** The original's dist/monlight.min.js by `gzip -9`. */
const ORIGINAL_BYTES = 3_849;

const sentry = (body) => ({
  plugins: [
    {
      name: "an application",
      resolveId: (id) => (id.endsWith("application.js") ? join(ROOT, "application.js") : null),
      load: (id) =>
        id.endsWith("/application.js") ? `import * as Sentry from "@sentry/browser"; Sentry.init({ ${body} });` : null,
    },
  ],
  transform: { target: "es2020", define: { __SENTRY_DEBUG__: "false" } },
});
const application = (body) => bundle("application.js", { format: "iife", minify: true }, sentry(body));

const ours = readFileSync(join(ROOT, "dist/monlight.min.js"));
// The program itself: Node's zlib is another, and a few bytes off.
const gzip = (code) => execFileSync("gzip", ["-9"], { input: code }).length;
const sizes = (code) => [Buffer.byteLength(code), gzip(code), brotliCompressSync(code).length];
const rows = [
  ["@monlight/browser", ...sizes(ours)],
  ["@sentry/browser, errors alone", ...sizes(await application("dsn: ''"))],
  [
    "@sentry/browser with browserTracing",
    ...sizes(await application("dsn: '', integrations: [Sentry.browserTracingIntegration()]")),
  ],
  ["the original, as published", null, ORIGINAL_BYTES, null],
];
const columns = ["minified", "gzip -9", "brotli"];
const print = (name, cells) => console.log(name.padEnd(38) + cells.map((cell) => `${cell ?? ""}`.padStart(9)).join(""));
print("bytes", columns);
for (const [name, ...cells] of rows) print(name, cells);

const path = process.argv[2];
if (path) {
  const [[name, , bytes], ...others] = rows;
  const part = {
    name: "js",
    title: "In a web page",
    command: "make bench ONLY=js",
    order: 80,
    notes: ["Bytes that a page loads, beside others that were built in the same way."],
    summary: [["The browser package, `gzip -9`", `${bytes} bytes; @sentry/browser, errors alone ${others[0][2]}`]],
    tables: [{ title: "", columns: ["", ...columns.map((column) => `${column}, bytes`)], rows }],
    ratios: [{ row: name, to: `its limit of ${LIMIT_BYTES} bytes by gzip -9`, value: LIMIT_BYTES / bytes }],
  };
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, JSON.stringify(part, null, 2));
}

if (gzip(ours) > LIMIT_BYTES) {
  console.error(`dist/monlight.min.js has ${gzip(ours)} bytes by gzip -9, and may have ${LIMIT_BYTES}`);
  process.exit(1);
}
