import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { type Backend, DSN, openBackend } from "./backend";
import { until } from "./patience";
import { missingBrowser, openBrowser, openSite, type Site, visitUnseen } from "./site";

/** How far ours may be from the library's: values are sent with four decimals. */
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

interface Measured {
  path: string;
  name: string;
  value: number;
  navigationType: string;
}

/** Puts a page that both measure: the library posts what it finds, when the page is hidden at the latest. */
function put(path: string, html: string): void {
  const config = JSON.stringify({ dsn: DSN, endpoint: backend.url });
  // Sending takes time, in which the other's clock runs on: unless the page is hidden, it comes afterwards.
  const library = `for (const on of [webVitals.onCLS, webVitals.onFCP, webVitals.onINP, webVitals.onLCP, webVitals.onTTFB])
    on(({ name, value, navigationType }) => {
      const found = JSON.stringify({ path: "${path}", name, value, navigationType });
      const send = () => navigator.sendBeacon("/collect", found);
      document.hidden ? send() : setTimeout(send);
    });`;
  site.put(path, {
    body: `<!doctype html><title>Shop</title><link rel="icon" href="data:,"><script src="/web-vitals.js"></script><script>${library}
      window.MonlightConfig = ${config}</script><script src="/monlight.min.js"></script>${html}`,
  });
}

const byLibrary = (path: string, names: string[], type?: string): Promise<Measured[]> =>
  until(
    () => `web-vitals' ${names} of ${path}: ${JSON.stringify(site.collected.filter((one) => one.path === path))}`,
    () => {
      const all = site.collected as unknown as Measured[];
      const ours = all.filter((one) => one.path === path && (!type || one.navigationType === type));
      return names.every((name) => ours.some((one) => one.name === name)) && ours;
    },
  );

/** Each vital once, and equal to the library's. */
async function compare(path: string, names: string[]): Promise<void> {
  const expected = await byLibrary(path, names);
  for (const name of names) {
    const theirs = expected.filter((one) => one.name === name);
    const labels = { page: path };
    const ours = await until(`${name} of ${path}`, async () => {
      const metric = await backend.metric(`web_vitals_${name.toLowerCase()}`, labels);
      return metric.count >= theirs.length && metric;
    });
    const sum = theirs.reduce((all, { value }) => all + value, 0);
    assert.equal(ours.count, theirs.length, `${name} is reported once for each page view`);
    assert.ok(Math.abs(ours.sum - sum) < ROUNDING * theirs.length, `${name}: ${ours.sum} here, ${sum} there`);
    console.log(`${path} ${name}: ${ours.sum} here, ${sum} by web-vitals`);
  }
}

const ALL = ["CLS", "FCP", "INP", "LCP", "TTFB"];
/** Texts that come later are larger, and push down what is there. */
const SHIFTING = `<p>Welcome</p><button>Pay</button><div id="late"></div><script>
  const paints = (then) => requestAnimationFrame(() => requestAnimationFrame(then));
  const push = (height) => { late.insertAdjacentHTML("beforebegin", "<div style='height:" + height + "px'>" + "Large ".repeat(height) + "</div><p>Below</p>") };
  late.innerHTML = "<p style='height:200px'>moved</p>";
  setTimeout(() => { push(40); paints(() => setTimeout(() => { push(90); paints(() => { document.body.id = "shifted" }) }, 1200)) }, 100);
  window.told = [];
  new PerformanceObserver((list) => list.getEntries().forEach(({ interactionId, name }) => interactionId && told.push(name)))
    .observe({ type: "event", buffered: true, durationThreshold: 16 });
  const work = (ms) => { const end = performance.now() + ms; while (performance.now() < end); };
  document.querySelector("button").onclick = () => work(130);
  addEventListener("keydown", ({ key }) => work(key === "a" ? 90 : key === "b" ? 60 : 0));
</script>`;

/**
 * Waits until the browser has told of an event that was slow to answer, which is some paints later, and until the library
 * has looked at it, which it does when there is nothing else to do.
 */
const told = async (name: string): Promise<void> => {
  await page.waitForFunction(`told.splice(0).includes("${name}")`);
  await page.evaluate("new Promise((resolve) => requestIdleCallback(resolve, { timeout: 2000 }))");
};

test("a page with late texts, shifts and slow answers has the library's vitals", { skip }, async () => {
  put("/shop", SHIFTING);
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/shop`);
  await page.waitForSelector("#shifted");
  await page.click("button");
  await told("click");
  await page.keyboard.press("a");
  await told("keydown");
  await page.goto("about:blank");
  await compare("/shop", ALL);
});

test("of more than fifty interactions the second slowest counts", { skip }, async () => {
  put("/busy", SHIFTING);
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/busy`);
  await page.waitForSelector("#shifted");
  for (const key of `a${"c".repeat(55)}`) await page.keyboard.press(key);
  await told("keydown");
  await page.keyboard.press("b");
  await told("keydown");
  await page.goto("about:blank");
  await compare("/busy", ALL);
  const inp = await backend.metric("web_vitals_inp", { page: "/busy" });
  assert.ok(inp.sum >= 56 && inp.sum < 88, `${inp.sum} ms are the second's, not the first's`);
});

test("a page without interactions has no INP", { skip }, async () => {
  put("/calm", "<p>Welcome</p>");
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/calm`);
  await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
  await page.goto("about:blank");
  await compare("/calm", ["CLS", "FCP", "LCP", "TTFB"]);
  assert.equal((await backend.metric("web_vitals_inp", { page: "/calm" })).count, 0);
});

test("what comes back from the back/forward cache is a page view of its own", { skip }, async () => {
  put("/back", SHIFTING);
  page = await (await browser.newContext()).newPage();
  await page.goto(`${site.origin}/back`);
  await page.waitForSelector("#shifted");
  await page.evaluate(
    "addEventListener('pageshow', ({ persisted }) => { if (persisted) document.title = 'restored' })",
  );
  site.put("/other", { body: "<!doctype html><title>Other</title><p>Other" });
  await page.goto(`${site.origin}/other`);
  await byLibrary("/back", ["CLS", "FCP", "LCP", "TTFB"]);
  await page.evaluate("history.back()");
  await until("the page from the cache", async () => (await page.title().catch(() => "")) === "restored");
  await byLibrary("/back", ["FCP", "LCP", "TTFB"], "back-forward-cache");
  await page.keyboard.press("a");
  await told("keydown");
  await page.goto("about:blank");
  await byLibrary("/back", ALL, "back-forward-cache");
  // The moment of the second paint is taken by each for itself.
  for (const name of ["FCP", "LCP"]) {
    const theirs = (await byLibrary("/back", [name])).filter((one) => one.name === name);
    const ours = await until(`two ${name}`, async () => {
      const metric = await backend.metric(`web_vitals_${name.toLowerCase()}`, { page: "/back" });
      return metric.count >= 2 && metric;
    });
    const sum = theirs.reduce((all, { value }) => all + value, 0);
    assert.deepEqual([ours.count, theirs.length], [2, 2]);
    assert.ok(Math.abs(ours.sum - sum) < 20, `${name}: ${ours.sum} here, ${sum} there`);
  }
  await compare("/back", ["CLS", "INP", "TTFB"]);
  assert.equal((await backend.metric("page_load_time", { page: "/back" })).count, 1);
});

test("a page that was rendered before it was visited counts from the visit", { skip }, async () => {
  put(
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
        const look = async () => {
          if ((await fetch("/api/prerendered")).ok) location.href = "/next"; else setTimeout(look, 50);
        };
        look();
      </script>`,
  });
  // Where DevTools look on, nothing is rendered in advance: this page is on its own.
  const close = await visitUnseen(`${site.origin}/first`);
  try {
    await byLibrary("/next", ["TTFB", "FCP", "LCP"], "prerender");
    await compare("/next", ["CLS", "FCP", "LCP", "TTFB"]);
  } finally {
    await close();
  }
});
