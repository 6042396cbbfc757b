// Bundles and runs the tests of a folder. Name arguments select test files by prefix:
//   node scripts/test.mjs unit|browser [NAME...]

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { bundle, ROOT } from "./bundle.mjs";

const [folder, ...names] = process.argv.slice(2);
const outputFolder = join("node_modules/.tests", folder);
const tests = readdirSync(join(ROOT, "tests", folder)).filter(
  (file) => file.endsWith(".test.ts") && (!names.length || names.some((name) => file.startsWith(name))),
);
// Bundled separately, because each unit test imports its own copy.
const testedModules = readdirSync(join(ROOT, "tests", folder)).filter((file) => file === "sdk.ts");
const files = await Promise.all(
  [...tests, ...testedModules].map(async (entry) => {
    const file = join(outputFolder, entry.replace(".ts", ".mjs"));
    await bundle(
      join("tests", folder, entry),
      { file, format: "esm", sourcemap: true },
      { platform: "node", external: /^(node:|playwright-core|vite|web-vitals)/, transform: { target: "node20" } },
    );
    return file;
  }),
);
// Browser tests run one at a time, because they share two cores with Chromium and the services.
const concurrency = folder === "browser" ? 1 : 2;
const { status } = spawnSync(
  process.execPath,
  [
    "--enable-source-maps",
    "--disable-warning=ExperimentalWarning",
    "--test",
    // A hanging test fails by name instead of blocking the others.
    "--test-timeout=90000",
    "--test-reporter=spec",
    `--test-concurrency=${concurrency}`,
    ...files.slice(0, tests.length),
  ],
  { cwd: ROOT, stdio: "inherit" },
);
process.exit(status ?? 1);
