// Measures the first load of each view with the default amount of demo data. Prints the Markdown table for
// docs/web-ui.md.
import { browser } from "../tests/harness.mjs";
import { DEFAULT_SIZE } from "./fill.mjs";
import { startDemoServices } from "./fixtures.mjs";

const ROUNDS = 5;

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/**
 * Opens a view with an empty cache. Returns the number of requests, the bytes received, and the time until it is
 * usable.
 */
async function measureLoad(context, { url, ready }) {
  const page = await context.newPage();
  try {
    const network = await context.newCDPSession(page);
    await network.send("Network.enable");
    await network.send("Network.setCacheDisabled", { cacheDisabled: true });
    let requests = 0;
    let bytes = 0;
    network.on("Network.requestWillBeSent", () => requests++);
    network.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
    const startedAt = performance.now();
    await page.goto(url, { waitUntil: "commit" });
    await page.locator(ready).first().waitFor();
    const usableMs = performance.now() - startedAt;
    // Includes requests that finish later, for example the counts of the filters.
    await page.waitForLoadState("load");
    return { requests, bytes, usableMs };
  } finally {
    await page.close();
  }
}

const { views, stop } = await startDemoServices();
const chrome = await browser();
try {
  console.log(`| View | Requests | kB | Usable after, ms |\n|---|---|---|---|`);
  for (const view of views) {
    const signedIn = await chrome.visit(new URL(view.url).origin);
    const loads = [];
    for (let round = 0; round < ROUNDS; round++) {
      loads.push(await measureLoad(signedIn.context(), view));
    }
    await signedIn.context().close();
    const medianOf = (field) => median(loads.map((load) => load[field]));
    const kilobytes = Math.round(medianOf("bytes") / 1000);
    console.log(`| ${view.title} | ${medianOf("requests")} | ${kilobytes} | ${Math.round(medianOf("usableMs"))} |`);
  }
  const { lines, groups, days } = DEFAULT_SIZE;
  console.log(`\n${lines} lines, ${groups} groups, ${days} days; median of ${ROUNDS} loads with an empty cache`);
} finally {
  await chrome.close();
  await stop();
}
