// Builds dist/: the script-tag bundle, the ES modules and the type declarations.

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { bundle, ROOT } from "./bundle.mjs";

rmSync(join(ROOT, "dist"), { recursive: true, force: true });
await Promise.all([
  // Without a sourceMappingURL comment, because the file is often served without its source map.
  bundle("src/script.ts", { file: "dist/monlight.min.js", format: "iife", minify: true, sourcemap: "hidden" }),
  // Not minified: applications minify their bundle, and readable code is easier to debug.
  bundle("src/index.ts", { file: "dist/monlight.esm.js", format: "esm", sourcemap: true }),
  bundle("src/extra.ts", { file: "dist/extra.esm.js", format: "esm", sourcemap: true }),
]);
execFileSync(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "--project", "tsconfig.types.json"], {
  cwd: ROOT,
  stdio: "inherit",
});
