// Bundles the tests of a folder and runs them: node scripts/test.mjs unit|browser [name...]

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { bundle, ROOT } from "./bundle.mjs";

const [folder, ...names] = process.argv.slice(2);
const built = join("node_modules/.tests", folder);
const tests = readdirSync(join(ROOT, "tests", folder)).filter(
  (file) => file.endsWith(".test.ts") && (!names.length || names.some((name) => file.startsWith(name))),
);
// What tests load anew for each of them.
const fresh = readdirSync(join(ROOT, "tests", folder)).filter((file) => file === "sdk.ts");
const files = await Promise.all(
  [...tests, ...fresh].map(async (test) => {
    const file = join(built, test.replace(".ts", ".mjs"));
    await bundle(
      join("tests", folder, test),
      { file, format: "esm", sourcemap: true },
      { platform: "node", external: /^(node:|playwright-core|vite|web-vitals)/, transform: { target: "node20" } },
    );
    return file;
  }),
);
// The browser's tests share two cores with what they test.
const concurrency = folder === "browser" ? 1 : 2;
const { status } = spawnSync(
  process.execPath,
  [
    "--enable-source-maps",
    "--disable-warning=ExperimentalWarning",
    "--test",
    // Whatever hangs is named, and the others still run.
    "--test-timeout=90000",
    "--test-reporter=spec",
    `--test-concurrency=${concurrency}`,
    ...files.slice(0, tests.length),
  ],
  { cwd: ROOT, stdio: "inherit" },
);
process.exit(status ?? 1);
