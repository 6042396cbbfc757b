// Prints what pages load, beside others built the same way, and fails when ours has outgrown its limit.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
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
const rows = [
  ["@monlight/browser", ours],
  ["@sentry/browser, errors alone", await application("dsn: ''")],
  [
    "@sentry/browser with browserTracing",
    await application("dsn: '', integrations: [Sentry.browserTracingIntegration()]"),
  ],
];
const row = (name, ...cells) => console.log(name.padEnd(38) + cells.map((cell) => `${cell}`.padStart(9)).join(""));
row("bytes", "minified", "gzip -9", "brotli");
for (const [name, code] of rows) row(name, Buffer.byteLength(code), gzip(code), brotliCompressSync(code).length);
row("the original, as published", "", ORIGINAL_BYTES, "");

if (gzip(ours) > LIMIT_BYTES) {
  console.error(`dist/monlight.min.js has ${gzip(ours)} bytes by gzip -9, and may have ${LIMIT_BYTES}`);
  process.exit(1);
}
