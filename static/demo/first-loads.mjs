// How long the first look at each view takes, with as much data as docs/interfaces.md says: a table in Markdown.
import { browser } from "../tests/harness.mjs";
import { SIZE } from "./fill.mjs";
import { stage } from "./stage.mjs";

const ROUNDS = 5;

const median = (values) => values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)];

/** Opens a view with an empty cache. Answers how many requests it took, of how many bytes, and for how long. */
async function open(context, { url, ready }) {
  const page = await context.newPage();
  try {
    const network = await context.newCDPSession(page);
    await network.send("Network.enable");
    await network.send("Network.setCacheDisabled", { cacheDisabled: true });
    let requests = 0;
    let bytes = 0;
    network.on("Network.requestWillBeSent", () => requests++);
    network.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
    const begun = performance.now();
    await page.goto(url, { waitUntil: "commit" });
    await page.locator(ready).first().waitFor();
    const usable_ms = performance.now() - begun;
    // What comes after that, such as counts of filters, belongs to the load as well.
    await page.waitForLoadState("load");
    return { requests, bytes, usable_ms };
  } finally {
    await page.close();
  }
}

const { views, stop } = await stage();
const chrome = await browser();
try {
  console.log(`| View | Requests | kB | Usable after, ms |\n|---|---|---|---|`);
  for (const view of views) {
    const signedIn = await chrome.visit(new URL(view.url).origin);
    const loads = [];
    for (let round = 0; round < ROUNDS; round++) {
      loads.push(await open(signedIn.context(), view));
    }
    await signedIn.context().close();
    const of = (what) => median(loads.map((load) => load[what]));
    console.log(
      `| ${view.name} | ${of("requests")} | ${Math.round(of("bytes") / 1000)} | ${Math.round(of("usable_ms"))} |`,
    );
  }
  console.log(
    `\n${SIZE.lines} lines, ${SIZE.groups} groups, ${SIZE.days} days; median of ${ROUNDS} with an empty cache`,
  );
} finally {
  await chrome.close();
  await stop();
}
