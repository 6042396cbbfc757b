// Bundler configuration, shared by the build, the size comparison and the tests.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * Bundles a file and returns the code of the bundle. Throws on every warning.
 *
 * @param {string} input path below the package folder
 * @param {object} output rolldown's output options; without `file`, nothing is written
 * @param {object} [options] additional rolldown input options
 */
export async function bundle(input, output, options = {}) {
  const build = await rolldown({
    input: join(ROOT, input),
    cwd: ROOT,
    transform: { target: "es2020" },
    onLog(level, log) {
      if (level === "warn") throw new Error(log.message);
    },
    ...options,
  });
  const method = output.file ? "write" : "generate";
  const file = output.file && join(ROOT, output.file);
  const { output: chunks } = await build[method]({ comments: !output.minify, ...output, file });
  await build.close();
  return chunks[0].code;
}
