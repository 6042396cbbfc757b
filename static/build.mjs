// Builds the web UIs into dist/. The binaries embed these files, each compressed with gzip and with Brotli.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";
import { buildOpenApi } from "./openapi.mjs";

const STATIC_DIR = dirname(fileURLToPath(import.meta.url));
/** Page titles of the services with a web UI. */
const TITLES = { "error-tracker": "Errors", "log-viewer": "Logs", "metrics-collector": "Metrics" };
/** Maximum size of a UI's script after gzip. */
const SCRIPT_BYTES_MAX = 60_000;

const page = await readFile(join(STATIC_DIR, "shared/index.html"), "utf8");
const icon = await readFile(join(STATIC_DIR, "shared/icon.svg"));
await rm(join(STATIC_DIR, "dist"), { recursive: true, force: true });

/** Writes a file in both compressed forms. Returns its size and the two compressed sizes in bytes. */
async function writeCompressed(folder, name, content) {
  const bytes = Buffer.from(content);
  const gzip = gzipSync(bytes, { level: 9 });
  const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${name}.gz`), gzip);
  await writeFile(join(folder, `${name}.br`), brotli);
  return [bytes.length, gzip.length, brotli.length];
}

// The OpenAPI document of each service.
for (const service of ["browser-relay", ...Object.keys(TITLES)]) {
  await writeCompressed(
    join(STATIC_DIR, "dist", service),
    "openapi.json",
    await buildOpenApi(service, service in TITLES),
  );
}

// The JavaScript SDK, which the relay serves to web pages.
await writeCompressed(
  join(STATIC_DIR, "dist/browser-relay"),
  "monlight.min.js",
  await readFile(join(STATIC_DIR, "../sdk/js/dist/monlight.min.js")),
);

for (const [service, title] of Object.entries(TITLES)) {
  const { outputFiles } = await build({
    absWorkingDir: STATIC_DIR,
    entryPoints: { app: `${service}/main.tsx`, theme: "shared/theme.ts" },
    outdir: "dist",
    bundle: true,
    minify: true,
    write: false,
    target: "es2022",
    format: "iife",
    legalComments: "none",
    jsx: "automatic",
    jsxImportSource: "preact",
    logLevel: "warning",
  });
  const files = new Map(outputFiles.map(({ path, contents }) => [path.split("/").at(-1), contents]));
  files.set("index.html", page.replaceAll("{title}", title));
  files.set("icon.svg", icon);
  for (const [name, content] of files) {
    const [bytes, gzip, brotli] = await writeCompressed(join(STATIC_DIR, "dist", service), name, content);
    if (name === "app.js") {
      console.log(`${service}: ${bytes} bytes of script, ${gzip} with gzip, ${brotli} with Brotli`);
      if (gzip > SCRIPT_BYTES_MAX) {
        throw new Error(`the script of ${service} has ${gzip} bytes after gzip; the maximum is ${SCRIPT_BYTES_MAX}`);
      }
    }
  }
}
