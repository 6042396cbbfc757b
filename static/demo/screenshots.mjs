// Takes a picture of every view, light and dark, on a wide screen and on a phone, and keeps the best for the README.
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { browser, until } from "../tests/harness.mjs";
import { stage } from "./stage.mjs";

const TOP = join(import.meta.dirname, "../..");
const ALL = join(TOP, "target/screenshots");
const BEST = join(TOP, "docs/pictures");
const SIZES = [
  { width: 1440, height: 900 },
  { width: 390, height: 844 },
];
const KEPT = [
  "errors-light-1440",
  "error-dark-1440",
  "logs-dark-1440",
  "logs-search-light-1440",
  "metrics-light-1440",
  "vitals-light-1440",
  "errors-dark-390",
];

mkdirSync(ALL, { recursive: true });
mkdirSync(BEST, { recursive: true });
const { views, stop } = await stage({ groups: 400, lines: 100_000 });
const chrome = await browser();
try {
  for (const dark of [false, true]) {
    for (const size of SIZES) {
      // Cookies ignore ports, so one sign-in for each service serves all of its views.
      const pages = new Map();
      for (const { name, url, ready } of views) {
        const { origin } = new URL(url);
        const page = pages.get(origin) ?? (await chrome.visit(origin, { ...size, dark }));
        pages.set(origin, page);
        await page.goto(url);
        await page.locator(ready).first().waitFor();
        await until(async () => (await page.locator(".loading").count()) === 0, `${name} is loaded`);
        // Fonts, charts and lines are drawn with the next frames.
        await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
        await page.screenshot({ path: join(ALL, `${name}-${dark ? "dark" : "light"}-${size.width}.png`) });
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
for (const name of KEPT) {
  copyFileSync(join(ALL, `${name}.png`), join(BEST, `${name}.png`));
}
console.log(
  `${views.length * SIZES.length * 2} pictures in target/screenshots, ${KEPT.length} of them in docs/pictures`,
);
