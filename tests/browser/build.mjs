// Builds the page in `src` with three bundlers, minified and with source maps, and a bundle whose source map has 5 MB.
//   node build.mjs FOLDER
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { build } from "vite";
import webpack from "webpack";

const here = dirname(fileURLToPath(import.meta.url));
const outFolder = resolve(process.argv[2]);
const entry = join(here, "src/main.js");

await esbuild.build({
  entryPoints: [entry],
  bundle: true,
  minify: true,
  sourcemap: true,
  outfile: join(outFolder, "esbuild/app.js"),
});

await build({
  configFile: false,
  root: here,
  logLevel: "error",
  build: {
    outDir: join(outFolder, "vite"),
    sourcemap: true,
    rollupOptions: { input: entry, output: { entryFileNames: "app.js", format: "iife" } },
  },
});

await new Promise((resolvePromise, reject) => {
  const output = { path: join(outFolder, "webpack"), filename: "app.js" };
  const options = { mode: "production", context: here, entry, devtool: "source-map", output };
  webpack(options, (error, stats) =>
    error || stats.hasErrors() ? reject(error ?? new Error(stats.toString())) : resolvePromise(),
  );
});

for (const bundler of ["esbuild", "vite", "webpack"]) {
  const page = '<!doctype html><meta charset="utf-8"><title>A shop</title><script src="app.js"></script>\n';
  await writeFile(join(outFolder, bundler, "index.html"), page);
}

await mkdir(join(outFolder, "large"), { recursive: true });
const packages = ["three", "terser", "acorn"];
const contents = packages.map((name, index) => `export * as part${index} from "${name}";`).join("\n");
await esbuild.build({
  stdin: { contents, resolveDir: here },
  bundle: true,
  minify: true,
  sourcemap: true,
  format: "esm",
  outfile: join(outFolder, "large/app.js"),
});
