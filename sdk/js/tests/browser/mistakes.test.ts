import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { type Backend, DSN, openBackend, type ReceivedError } from "./backend";
import { missingBrowser, openBrowser, openSite, putSdkPage, type SdkPage, type Site } from "./site";
import { waitFor } from "./wait-for";

const skip = missingBrowser();
let site: Site;
let backend: Backend;
let browser: Browser;

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

/** Opens a page that loads the SDK in debug mode. Also returns what the SDK logs. */
async function open(path: string, options: SdkPage): Promise<{ page: Page; log: string[] }> {
  const log: string[] = [];
  putSdkPage(site, { dsn: DSN, endpoint: backend.url, debug: true }, path, options);
  const page = await browser.newPage();
  page.on("console", (message) => {
    if (message.text().startsWith("[Monlight]")) log.push(message.text());
  });
  await page.goto(site.origin + path);
  return { page, log };
}

const receivedErrors = (path: string, count = 1): Promise<ReceivedError[]> =>
  waitFor(`${count} errors on ${path}`, async () => {
    const errors = await backend.errors(path);
    return errors.length >= count && errors;
  });
const receivedMetric = (name: string, labels: Record<string, string>, count = 1): Promise<{ count: number }> =>
  waitFor(`${count} of ${name} ${JSON.stringify(labels)}`, async () => {
    const metric = await backend.metric(name, labels);
    return metric.count >= count && metric;
  });

const THROW = "setTimeout(() => { throw new Error('mistake') });";

/** Mistakes of an application. With each, `Error: mistake` must still be reported. */
const MISTAKES: Record<string, SdkPage & { explanation: RegExp }> = {
  "setUser with an object": {
    script: `Monlight.setUser({ id: 7, email: "eve@shop.example" }); ${THROW}`,
    explanation: /repaired user_id {id: 7/,
  },
  "an object as user_id in the context": {
    script: `Monlight.addContext("user_id", { id: 7 }); ${THROW}`,
    explanation: /repaired user_id {id: 7/,
  },
  "a number as release": {
    config: { release: 142 },
    script: THROW,
    explanation: /repaired release 142/,
  },
  "a beforeSend that sets numbers and an array": {
    before: `MonlightConfig.beforeSend = (event) =>
      Object.assign(event, { type: 5, url: location.href, release: 7, context: [1] });`,
    script: THROW,
    explanation: /repaired release 7/,
  },
  "an asynchronous beforeSend": {
    before: "MonlightConfig.beforeSend = async (event) => event;",
    script: THROW,
    explanation: /beforeSend returned Promise/,
  },
  "a beforeSend that returns true": {
    before: "MonlightConfig.beforeSend = () => true;",
    script: THROW,
    explanation: /beforeSend returned true/,
  },
  "a context of seventy levels": {
    script: `let deep = 1;
      for (let i = 0; i < 70; i++) deep = { deep };
      Monlight.captureError(new Error("mistake"), { deep });`,
    explanation: /deep too long or deep/,
  },
  "a context with a cycle and a DOM element": {
    script: `const cycle = { node: document.body };
      cycle.self = cycle;
      Monlight.captureError(new Error("mistake"), { cycle, total: 10n });`,
    explanation: /Converting circular structure to JSON/,
  },
};

for (const [index, [mistake, { explanation, ...options }]] of Object.entries(MISTAKES).entries()) {
  test(`${mistake} does not lose the error, and debug explains it`, { skip }, async () => {
    const path = `/mistakes/${index}`;
    const { page, log } = await open(path, options);
    const [error] = await receivedErrors(path);
    assert.equal(error?.message, "mistake");
    assert.ok(!JSON.stringify(error).includes("eve@"));
    await waitFor(
      () => `an explanation: ${log}`,
      () => log.some((line) => explanation.test(line)),
    );
    await page.close();
  });
}

test("debug logs that the relay does not know the key", { skip }, async () => {
  const { page, log } = await open("/wrong-key", { config: { dsn: "f".repeat(32) }, script: THROW });
  await waitFor(
    () => `the relay's answer: ${log}`,
    () => log.some((line) => /\/api\/browser\/errors\?key=\S+ 401 .*detail/.test(line)),
  );
  await page.close();
});

test("debug logs that a content security policy forbids the relay, and the SDK stops", { skip }, async () => {
  const headers = { "Content-Security-Policy": "connect-src 'self'" };
  const { page, log } = await open("/forbidden", { headers, script: THROW });
  await waitFor(
    () => `a reason: ${log}`,
    () => log.some((line) => line.includes("stopped: connect-src")),
  );
  await page.close();
});

test("the script on a page twice, and a second init, report everything once", { skip }, async () => {
  const { page } = await open("/twice", {
    script: `fetch("/api/ok").then(() => { document.body.id = "settled" });
      setTimeout(() => { throw new Error("once") });`,
    html: '<script src="/monlight.min.js"></script>',
  });
  await page.waitForSelector("#settled");
  await page.waitForFunction("document.readyState === 'complete'");
  await receivedErrors("/twice");
  await page.evaluate("Monlight.destroy(); MonlightSDK.init(MonlightConfig); fetch('/api/ok')");
  await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
  await page.goto("about:blank");
  const labels = { page: "/twice", status: "200" };
  const requests = await receivedMetric("browser_http_requests_total", labels, 2);
  assert.equal(requests.count, 2);
  for (const name of ["page_load_time", ...["fcp", "ttfb", "lcp", "cls"].map((vital) => `web_vitals_${vital}`)]) {
    assert.equal((await receivedMetric(name, { page: "/twice" })).count, 1, name);
  }
  assert.equal((await backend.errors("/twice")).length, 1);
});
