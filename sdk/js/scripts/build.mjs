// Builds dist/: the file for script tags, the module, and its types.

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { bundle, ROOT } from "./bundle.mjs";

rmSync(join(ROOT, "dist"), { recursive: true, force: true });
await Promise.all([
  // The map is there to be uploaded or looked at; whoever serves the file alone is not asked for it by every page.
  bundle("src/script.ts", { file: "dist/monlight.min.js", format: "iife", minify: true, sourcemap: "hidden" }),
  // Applications minify for themselves, and read what they debug.
  bundle("src/index.ts", { file: "dist/monlight.esm.js", format: "esm", sourcemap: true }),
]);
execFileSync(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "--project", "tsconfig.types.json"], {
  cwd: ROOT,
  stdio: "inherit",
});
