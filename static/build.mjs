// Bundles each interface into dist/, every file packed twice: what the programs carry inside.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";
import { describe } from "./openapi.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const TITLES = { "error-tracker": "Errors", "log-viewer": "Logs", "metrics-collector": "Metrics" };
const SCRIPT_BYTES_MAX = 60_000;

const page = await readFile(join(HERE, "shared/index.html"), "utf8");
const icon = await readFile(join(HERE, "shared/icon.svg"));
await rm(join(HERE, "dist"), { recursive: true, force: true });

/** Packs a file in both ways browsers take. Answers how many bytes each has. */
async function pack(folder, name, content) {
  const bytes = Buffer.from(content);
  const gzip = gzipSync(bytes, { level: 9 });
  const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${name}.gz`), gzip);
  await writeFile(join(folder, `${name}.br`), brotli);
  return [bytes.length, gzip.length, brotli.length];
}

// What each service says of itself.
for (const service of ["browser-relay", ...Object.keys(TITLES)]) {
  await pack(join(HERE, "dist", service), "openapi.json", await describe(service, service in TITLES));
}

// What the relay gives to pages.
await pack(
  join(HERE, "dist/browser-relay"),
  "monlight.min.js",
  await readFile(join(HERE, "../sdk/js/dist/monlight.min.js")),
);

for (const [service, title] of Object.entries(TITLES)) {
  const { outputFiles } = await build({
    absWorkingDir: HERE,
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
    const [bytes, gzip, brotli] = await pack(join(HERE, "dist", service), name, content);
    if (name === "app.js") {
      console.log(`${service}: ${bytes} bytes of script, ${gzip} gzipped, ${brotli} with brotli`);
      if (gzip > SCRIPT_BYTES_MAX) {
        throw new Error(`${service}'s script is more than ${SCRIPT_BYTES_MAX} bytes`);
      }
    }
  }
}
