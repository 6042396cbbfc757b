import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { type Backend, DSN, openBackend } from "./backend";
import { missingBrowser, openBrowser, openSite, openWithoutDevTools, type Site } from "./site";
import { waitFor } from "./wait-for";

/** Maximum difference from the library's value: the SDK sends four decimals. */
const ROUNDING = 0.000_051;

const skip = missingBrowser();
let site: Site;
let backend: Backend;
let browser: Browser;
let page: Page;

before(async () => {
  if (skip) return;
  site = await openSite();
  backend = await openBackend(site.origin);
  browser = await openBrowser();
});
after(async () => {
  if (skip) return;
  await browser.close();
  await backend.close();
  await site.close();
});
afterEach(async () => {
  await page?.context().close();
});

interface LibraryValue {
  path: string;
  name: string;
  value: number;
  navigationType: string;
}

/** Serves a page that the SDK and the `web-vitals` library both measure. The library posts its values to `/collect`. */
function putMeasuredPage(path: string, html: string): void {
  const config = JSON.stringify({ dsn: DSN, endpoint: backend.url });
  // Sending is deferred unless the page is hidden, because the time it takes would change the SDK's measurements.
  const library = `for (const on of [webVitals.onCLS, webVitals.onFCP, webVitals.onINP, webVitals.onLCP, webVitals.onTTFB])
    on(({ name, value, navigationType }) => {
      const body = JSON.stringify({ path: "${path}", name, value, navigationType });
      const send = () => navigator.sendBeacon("/collect", body);
      document.hidden ? send() : setTimeout(send);
    });`;
  site.put(path, {
    body: `<!doctype html><title>Shop</title><link rel="icon" href="data:,"><script src="/web-vitals.js"></script><script>${library}
      window.MonlightConfig = ${config}</script><script src="/monlight.min.js"></script>${html}`,
  });
}

/** Waits for the library's values of a page, optionally of one navigation type. */
const libraryValues = (path: string, names: string[], type?: string): Promise<LibraryValue[]> =>
  waitFor(
    () => `web-vitals ${names} on ${path}: ${JSON.stringify(site.collected.filter((value) => value.path === path))}`,
    () => {
      const collected = site.collected as unknown as LibraryValue[];
      const values = collected.filter((value) => value.path === path && (!type || value.navigationType === type));
      return names.every((name) => values.some((value) => value.name === name)) && values;
    },
  );

/** Asserts that the SDK reported each vital once per page view, with the library's value. */
async function assertEqualsLibrary(path: string, names: string[]): Promise<void> {
  const expected = await libraryValues(path, names);
  for (const name of names) {
    const theirs = expected.filter((value) => value.name === name);
    const labels = { page: path };
    const ours = await waitFor(`${name} on ${path}`, async () => {
      const metric = await backend.metric(`web_vitals_${name.toLowerCase()}`, labels);
      return metric.count >= theirs.length && metric;
    });
    const sum = theirs.reduce((total, { value }) => total + value, 0);
    assert.equal(ours.count, theirs.length, `${name} is reported once for each page view`);
    assert.ok(
      Math.abs(ours.sum - sum) < ROUNDING * theirs.length,
      `${name}: ${ours.sum} by the SDK, ${sum} by web-vitals`,
    );
    console.log(`${path} ${name}: ${ours.sum} by the SDK, ${sum} by web-vitals`);
  }
}

const ALL = ["CLS", "FCP", "INP", "LCP", "TTFB"];
/** Page with late, larger paragraphs that shift the layout, and with slow event handlers. */
const SHIFTING_PAGE = `<p>Welcome</p><button>Pay</button><div id="late"></div><script>
  const afterPaint = (callback) => requestAnimationFrame(() => requestAnimationFrame(callback));
  const insert = (height) => { late.insertAdjacentHTML("beforebegin", "<div style='height:" + height + "px'>" + "Large ".repeat(height) + "</div><p>Below</p>") };
  late.innerHTML = "<p style='height:200px'>moved</p>";
  setTimeout(() => { insert(40); afterPaint(() => setTimeout(() => { insert(90); afterPaint(() => { document.body.id = "shifted" }) }, 1200)) }, 100);
  window.observedEvents = [];
  new PerformanceObserver((list) => list.getEntries().forEach(({ interactionId, name }) => interactionId && observedEvents.push(name)))
    .observe({ type: "event", buffered: true, durationThreshold: 16 });
  const block = (ms) => { const end = performance.now() + ms; while (performance.now() < end); };
  document.querySelector("button").onclick = () => block(130);
  addEventListener("keydown", ({ key }) => block(key === "a" ? 90 : key === "b" ? 60 : 0));
</script>`;

/**
 * Waits until the browser has delivered the entry of a slow event, which takes a few paints, and until the library has
 * processed it, which it does in an idle callback.
 */
const waitForEvent = async (name: string): Promise<void> => {
  await page.waitForFunction(`observedEvents.splice(0).includes("${name}")`);
  await page.evaluate("new Promise((resolve) => requestIdleCallback(resolve, { timeout: 2000 }))");
};

test("vitals equal the library's on a page with late paints, layout shifts and slow handlers", { skip }, async () => {
  putMeasuredPage("/shop", SHIFTING_PAGE);
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/shop`);
  await page.waitForSelector("#shifted");
  await page.click("button");
  await waitForEvent("click");
  await page.keyboard.press("a");
  await waitForEvent("keydown");
  await page.goto("about:blank");
  await assertEqualsLibrary("/shop", ALL);
});

test("INP is the second-longest interaction if there are more than fifty", { skip }, async () => {
  putMeasuredPage("/busy", SHIFTING_PAGE);
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/busy`);
  await page.waitForSelector("#shifted");
  for (const key of `a${"c".repeat(55)}`) await page.keyboard.press(key);
  await waitForEvent("keydown");
  await page.keyboard.press("b");
  await waitForEvent("keydown");
  await page.goto("about:blank");
  await assertEqualsLibrary("/busy", ALL);
  const inp = await backend.metric("web_vitals_inp", { page: "/busy" });
  assert.ok(
    inp.sum >= 56 && inp.sum < 88,
    `expected the duration of the second-longest interaction, got ${inp.sum} ms`,
  );
});

test("a page without interactions has no INP", { skip }, async () => {
  putMeasuredPage("/calm", "<p>Welcome</p>");
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/calm`);
  await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
  await page.goto("about:blank");
  await assertEqualsLibrary("/calm", ["CLS", "FCP", "LCP", "TTFB"]);
  assert.equal((await backend.metric("web_vitals_inp", { page: "/calm" })).count, 0);
});

test("a restore from the back/forward cache is a new page view", { skip }, async () => {
  putMeasuredPage("/back", SHIFTING_PAGE);
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/back`);
  await page.waitForSelector("#shifted");
  await page.evaluate(
    "addEventListener('pageshow', ({ persisted }) => { if (persisted) document.title = 'restored' })",
  );
  site.put("/other", { body: "<!doctype html><title>Other</title><p>Other" });
  await page.goto(`${site.origin}/other`);
  await libraryValues("/back", ["CLS", "FCP", "LCP", "TTFB"]);
  await page.evaluate("history.back()");
  await waitFor("the restored page", async () => (await page.title().catch(() => "")) === "restored");
  await libraryValues("/back", ["FCP", "LCP", "TTFB"], "back-forward-cache");
  await page.keyboard.press("a");
  await waitForEvent("keydown");
  await page.goto("about:blank");
  await libraryValues("/back", ALL, "back-forward-cache");
  // The SDK and the library each measure the paint after the restore, so the values differ slightly.
  for (const name of ["FCP", "LCP"]) {
    const theirs = (await libraryValues("/back", [name])).filter((value) => value.name === name);
    const ours = await waitFor(`two ${name}`, async () => {
      const metric = await backend.metric(`web_vitals_${name.toLowerCase()}`, { page: "/back" });
      return metric.count >= 2 && metric;
    });
    const sum = theirs.reduce((total, { value }) => total + value, 0);
    assert.deepEqual([ours.count, theirs.length], [2, 2]);
    assert.ok(Math.abs(ours.sum - sum) < 20, `${name}: ${ours.sum} by the SDK, ${sum} by web-vitals`);
  }
  await assertEqualsLibrary("/back", ["CLS", "INP", "TTFB"]);
  assert.equal((await backend.metric("page_load_time", { page: "/back" })).count, 1);
});

test("times of a prerendered page are relative to its activation", { skip }, async () => {
  putMeasuredPage(
    "/next",
    `<p>Welcome</p><script>
      const leave = () => new PerformanceObserver(() => setTimeout(() => { location.href = "/gone" }))
        .observe({ type: "largest-contentful-paint", buffered: true });
      document.prerendering ? document.addEventListener("prerenderingchange", leave) : leave();
    </script>`,
  );
  site.put("/gone", { body: "<!doctype html><title>Gone</title>" });
  site.put("/first", {
    body: `<!doctype html><title>Shop</title><p>First</p>
      <script type="speculationrules">{"prerender":[{"source":"list","urls":["/next"],"eagerness":"immediate"}]}</script>
      <script>
        const poll = async () => {
          if ((await fetch("/api/prerendered")).ok) location.href = "/next"; else setTimeout(poll, 50);
        };
        poll();
      </script>`,
  });
  // Chromium does not prerender while DevTools are attached, so Playwright cannot open this page.
  const close = await openWithoutDevTools(`${site.origin}/first`);
  try {
    await libraryValues("/next", ["TTFB", "FCP", "LCP"], "prerender");
    await assertEqualsLibrary("/next", ["CLS", "FCP", "LCP", "TTFB"]);
  } finally {
    await close();
  }
});
