// How this package is bundled, and what it is measured beside.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** Bundles a file as rolldown's `output` says, and returns the code. Warnings are errors. */
export async function bundle(input, output, options = {}) {
  const built = await rolldown({
    input: join(ROOT, input),
    cwd: ROOT,
    transform: { target: "es2020" },
    onLog(level, log) {
      if (level === "warn") throw new Error(log.message);
    },
    ...options,
  });
  const write = output.file ? "write" : "generate";
  const file = output.file && join(ROOT, output.file);
  const { output: chunks } = await built[write]({ comments: !output.minify, ...output, file });
  await built.close();
  return chunks[0].code;
}
