// Prepares Node for unit tests: lets it import the UI's TypeScript modules, which Node 20 cannot do itself, and sets the
// time zone. Used as `node --import ./tests/unit/setup.mjs tests/unit/series.test.mjs`.
import { readFile } from "node:fs/promises";
import { register } from "node:module";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";
import { transform } from "esbuild";

// A time zone with daylight saving time: in 2026 from March 29 to October 25.
process.env.TZ = "Europe/Berlin";

// Node loads this module a second time, in the thread that runs the hooks.
if (isMainThread) {
  register(import.meta.url);
}

/** Hook of Node's module loader that compiles TypeScript. */
export async function load(url, context, nextLoad) {
  const [, loader] = /^file:.*\.(tsx?)$/.exec(url) ?? [];
  if (!loader) {
    return await nextLoad(url, context);
  }
  const { code } = await transform(await readFile(fileURLToPath(url), "utf8"), {
    loader,
    sourcefile: fileURLToPath(url),
    sourcemap: "inline",
    target: "node20",
    jsx: "automatic",
    jsxImportSource: "preact",
  });
  return { format: "module", source: code, shortCircuit: true };
}
