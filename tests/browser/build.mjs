// Builds the page in `src` with three bundlers, each minified and with a source map, and a map of 5 MB.
//   node build.mjs FOLDER
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { build } from "vite";
import webpack from "webpack";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2]);
const entry = join(here, "src/main.js");

await esbuild.build({ entryPoints: [entry], bundle: true, minify: true, sourcemap: true, outfile: join(out, "esbuild/app.js") });

await build({
  configFile: false,
  root: here,
  logLevel: "error",
  build: {
    outDir: join(out, "vite"),
    sourcemap: true,
    rollupOptions: { input: entry, output: { entryFileNames: "app.js", format: "iife" } },
  },
});

await new Promise((done, fail) => {
  const output = { path: join(out, "webpack"), filename: "app.js" };
  const settings = { mode: "production", context: here, entry, devtool: "source-map", output };
  webpack(settings, (why, stats) => (why || stats.hasErrors() ? fail(why ?? new Error(stats.toString())) : done()));
});

for (const bundler of ["esbuild", "vite", "webpack"]) {
  const page = '<!doctype html><meta charset="utf-8"><title>A shop</title><script src="app.js"></script>\n';
  await writeFile(join(out, bundler, "index.html"), page);
}

await mkdir(join(out, "large"), { recursive: true });
const contents = ["three", "terser", "acorn"].map((name, at) => `export * as part${at} from "${name}";`).join("\n");
await esbuild.build({
  stdin: { contents, resolveDir: here },
  bundle: true,
  minify: true,
  sourcemap: true,
  format: "esm",
  outfile: join(out, "large/app.js"),
});
