// Prints the size of the script-tag bundle next to comparable packages built with the same bundler. Exits with status 1 if
// the bundle exceeds its limit. With a path argument, also writes the sizes there as JSON for benches/figures.py:
//   node scripts/size.mjs [FILE]

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { brotliCompressSync } from "node:zlib";
import { bundle, ROOT } from "./bundle.mjs";

/** Maximum size of dist/monlight.min.js, compressed with `gzip -9`. */
const LIMIT_BYTES = 5_500;
/** Size of the original's dist/monlight.min.js, compressed with `gzip -9`. */
const ORIGINAL_BYTES = 3_849;

/** Returns rolldown options that bundle a virtual application which initializes Sentry with these options. */
const sentryApplication = (initOptions) => ({
  plugins: [
    {
      name: "sentry-application",
      resolveId: (id) => (id.endsWith("application.js") ? join(ROOT, "application.js") : null),
      load: (id) =>
        id.endsWith("/application.js")
          ? `import * as Sentry from "@sentry/browser"; Sentry.init({ ${initOptions} });`
          : null,
    },
  ],
  transform: { target: "es2020", define: { __SENTRY_DEBUG__: "false" } },
});
const bundleSentry = (initOptions) =>
  bundle("application.js", { format: "iife", minify: true }, sentryApplication(initOptions));

const bundled = readFileSync(join(ROOT, "dist/monlight.min.js"));
// Runs the gzip program, because the output of Node's zlib differs by a few bytes.
const gzip = (code) => execFileSync("gzip", ["-9"], { input: code }).length;
const sizes = (code) => [Buffer.byteLength(code), gzip(code), brotliCompressSync(code).length];
const rows = [
  ["@monlight/browser", ...sizes(bundled)],
  ["@sentry/browser, errors alone", ...sizes(await bundleSentry("dsn: ''"))],
  [
    "@sentry/browser with browserTracing",
    ...sizes(await bundleSentry("dsn: '', integrations: [Sentry.browserTracingIntegration()]")),
  ],
  ["the original, as published", null, ORIGINAL_BYTES, null],
];
const columns = ["minified", "gzip -9", "brotli"];
const print = (name, cells) => console.log(name.padEnd(38) + cells.map((cell) => `${cell ?? ""}`.padStart(9)).join(""));
print("bytes", columns);
for (const [name, ...cells] of rows) print(name, cells);

const path = process.argv[2];
if (path) {
  const [[name, , gzipBytes], [, , sentryGzipBytes]] = rows;
  const figures = {
    name: "js",
    title: "In a web page",
    command: "make bench ONLY=js",
    order: 80,
    notes: ["Bytes that a page loads, compared with other packages built with the same bundler."],
    summary: [
      ["The browser package, `gzip -9`", `${gzipBytes} bytes; @sentry/browser, errors alone ${sentryGzipBytes}`],
    ],
    tables: [{ title: "", columns: ["", ...columns.map((column) => `${column}, bytes`)], rows }],
    ratios: [{ row: name, to: `its limit of ${LIMIT_BYTES} bytes by gzip -9`, value: LIMIT_BYTES / gzipBytes }],
  };
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, JSON.stringify(figures, null, 2));
}

if (gzip(bundled) > LIMIT_BYTES) {
  console.error(`size limit exceeded: dist/monlight.min.js has ${gzip(bundled)} bytes (gzip -9), limit ${LIMIT_BYTES}`);
  process.exit(1);
}
