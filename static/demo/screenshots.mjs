// Takes screenshots of every view in light and dark mode at desktop and phone sizes. Copies the ones that the README
// and the docs show to docs/pictures.
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { browser, until } from "../tests/harness.mjs";
import { startDemoServices } from "./fixtures.mjs";

const ROOT = join(import.meta.dirname, "../..");
const OUTPUT_FOLDER = join(ROOT, "target/screenshots");
const DOCS_FOLDER = join(ROOT, "docs/pictures");
const SIZES = [
  { width: 1440, height: 900 },
  { width: 390, height: 844 },
];
const DOCS_SCREENSHOTS = [
  "errors-light-1440",
  "error-dark-1440",
  "logs-dark-1440",
  "logs-search-light-1440",
  "metrics-light-1440",
  "vitals-light-1440",
  "errors-dark-390",
];

mkdirSync(OUTPUT_FOLDER, { recursive: true });
mkdirSync(DOCS_FOLDER, { recursive: true });
const { views, stop } = await startDemoServices({ groups: 400, lines: 100_000 });
const chrome = await browser();
try {
  for (const dark of [false, true]) {
    for (const size of SIZES) {
      // Browsers share cookies between ports, so each service has its own context and needs only one sign-in.
      const pages = new Map();
      for (const { name, url, ready } of views) {
        const { origin } = new URL(url);
        const page = pages.get(origin) ?? (await chrome.visit(origin, { ...size, dark }));
        pages.set(origin, page);
        await page.goto(url);
        await page.locator(ready).first().waitFor();
        await until(async () => (await page.locator(".loading").count()) === 0, `the data of ${name}`);
        // Fonts, charts and log lines are painted in the next two frames.
        await page.evaluate(
          () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))),
        );
        await page.screenshot({ path: join(OUTPUT_FOLDER, `${name}-${dark ? "dark" : "light"}-${size.width}.png`) });
      }
      for (const page of pages.values()) {
        await page.close();
      }
    }
  }
} finally {
  await chrome.close();
  await stop();
}
for (const name of DOCS_SCREENSHOTS) {
  copyFileSync(join(OUTPUT_FOLDER, `${name}.png`), join(DOCS_FOLDER, `${name}.png`));
}
console.log(`${views.length * SIZES.length * 2} screenshots written to target/screenshots`);
console.log(`${DOCS_SCREENSHOTS.length} screenshots copied to docs/pictures`);
