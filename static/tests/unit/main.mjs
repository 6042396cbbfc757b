// Runs all unit tests in one process: starting one for each file would take longer than the tests.
import { readdirSync } from "node:fs";

for (const file of readdirSync(import.meta.dirname).sort()) {
  if (file.endsWith(".test.mjs")) {
    await import(`./${file}`);
  }
}
