import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { browser, isAccessible, service, skip, until } from "./harness.mjs";

const MINUTE_MS = 60_000;
const MINUTES = 180;
const PAYLOADS = [
  "<img src=x onerror=alert(1)>",
  "<script>alert(1)</script>",
  "javascript:alert(1)",
  '"><svg onload=alert(1)>',
  "\u001b[31m{{alert(1)}}\u202e",
];

/** @type {Awaited<ReturnType<typeof service>>} */
let collector;
/** @type {Awaited<ReturnType<typeof browser>>} */
let chrome;

before(async () => {
  if (!skip) {
    collector = await service("metrics-collector", { HOST_METRICS: "0", MAX_SERIES_PER_METRIC: "20" });
    chrome = await browser();
  }
});

after(async () => {
  try {
    await chrome?.close();
  } finally {
    await collector?.stop();
  }
});

/** Has the service tell a page of other releases than there are. */
const releases = async (page, answer) => {
  await page.route("**/api/metrics/releases?*", (route) =>
    route.fulfill({ json: { releases: answer(new URL(route.request().url()).searchParams) } }),
  );
};

async function report(points) {
  for (let first = 0; first < points.length; first += 1000) {
    await collector.ask("POST", "/api/metrics", points.slice(first, first + 1000));
  }
}

/** Three hours of a shop: two endpoints, one request in ten of `/pay` fails, and a blog with nothing but a gauge. */
async function reportShop() {
  const points = [];
  const now = Date.now();
  for (let ago = MINUTES; ago > 0; ago--) {
    const timestamp = new Date(now - ago * MINUTE_MS).toISOString();
    const point = (name, type, value, labels, project = "shop") =>
      points.push({ name, type, value, labels, project, timestamp });
    for (const endpoint of ["/cart", "/pay"]) {
      const failed = endpoint === "/pay" && ago % 10 === 0;
      const labels = { method: "GET", endpoint, status: failed ? "500" : "200" };
      point("http_requests_total", "counter", 3, labels);
      point("http_request_duration_seconds", "histogram", endpoint === "/pay" ? 0.4 : 0.1, labels);
    }
    point("queue_depth", "gauge", ago % 30, {}, "blog");
    const visitor = { source: "browser", page: ago % 2 ? "/" : "/cart/7" };
    point("web_vitals_lcp", "histogram", 2000, visitor);
    point("web_vitals_inp", "histogram", 300, visitor);
    point("web_vitals_cls", "histogram", ago % 4 ? 0.3 : 0.05, visitor);
  }
  await report(points);
}

/** A number as it is shown. */
const digits = (value) => (value >= 100 ? Math.round(value) : Number(value.toPrecision(3))).toLocaleString("en");
const charts = (page) => page.locator(".chart canvas");
const figure = (page, name) =>
  page
    .locator(".tile", { has: page.getByText(name, { exact: true }) })
    .locator("b")
    .innerText();
const choice = (page, label) =>
  page.locator(".choice", { has: page.locator("span", { hasText: new RegExp(`^${label}$`) }) }).locator("select");
const minutes = (page) => {
  const params = new URL(page.url()).searchParams;
  return (Date.parse(params.get("until") ?? "") - Date.parse(params.get("since") ?? "")) / MINUTE_MS;
};
/** Drags over a chart, from one share of its width to another. */
async function drag(page, from, to) {
  const box = await page.locator(".u-over").first().boundingBox();
  await page.mouse.move(box.x + box.width * from, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * to, box.y + 60, { steps: 4 });
  await page.mouse.up();
}
/** As it does by itself every 30 s, while the page is looked at. */
async function refresh(page) {
  const answered = page.waitForResponse((response) => response.url().includes("/api/metrics?"));
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await answered;
}

test("where nothing was measured, what would send a first point", { skip }, async () => {
  for (const [view, name] of [
    ["", "overview"],
    ["?view=explore", "explorer"],
    ["?view=top", "top metrics"],
  ]) {
    const page = await chrome.visit(`${collector.url}/${view}`);
    await page.getByText("No metrics yet").waitFor();
    const said = await page.locator(".empty").innerText();
    assert.ok(said.includes(`MetricsClient("${collector.url}", `), said);
    assert.ok(said.includes(`curl ${collector.url}/api/metrics`), said);
    await isAccessible(page, `${name}, empty`);
    await page.close();
  }
  const page = await chrome.visit(`${collector.url}/?view=vitals`);
  await page.getByText("No Web Vitals in this time").waitFor();
  await isAccessible(page, "Web Vitals, empty");
});

test("the overview's figures are what the API says", { skip }, async () => {
  await reportShop();
  const page = await chrome.visit(collector.url);
  await until(async () => (await charts(page).count()) === 3, "three charts");
  const { groups } = await collector.ask("GET", "/api/metrics?name=http_requests_total&period=24h&group_by=status");
  const sum = (status) =>
    groups
      .filter(({ value }) => value.startsWith(status))
      .flatMap(({ data }) => data)
      .reduce((sum, bucket) => sum + bucket.sum, 0);
  assert.equal(sum(""), MINUTES * 6);
  assert.equal(await figure(page, "Requests"), sum("").toLocaleString("en"));
  assert.equal(await figure(page, "Errors"), `${digits((sum("5") / sum("")) * 100)} %`);
  const { data } = await collector.ask("GET", "/api/metrics?name=http_request_duration_seconds&period=24h");
  assert.equal(await figure(page, "Latency, p95"), `${digits(data.at(-1).p95 * 1000)} ms`);
  await isAccessible(page, "overview");
  const chart = page.locator(".chart", { hasText: "Latency" });
  assert.match((await chart.getByRole("img").getAttribute("aria-label")) ?? "", /p99: latest .*ms, highest .*ms/);
  await chart.getByText("Table").click();
  await until(async () => (await chart.locator("tbody tr").count()) === MINUTES, "a row for each minute");
  await isAccessible(page, "overview with a table");

  await choice(page, "Project").selectOption("blog");
  await page.getByText("No requests of blog in this time").waitFor();
  assert.match(page.url(), /\?project=blog$/);
  await isAccessible(page, "overview of a project without requests");
  await page.goBack();
  await until(async () => (await charts(page).count()) === 3, "all projects again");
});

test("a metric is found, filtered and grouped, and the URL holds every choice", { skip }, async () => {
  const page = await chrome.visit(collector.url);
  await until(async () => (await charts(page).count()) === 3, "the overview");
  await page.keyboard.press("/");
  await page.getByRole("searchbox").waitFor();
  await page.keyboard.type("duration");
  await until(async () => (await page.locator(".picker li").count()) === 1, "one fits");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "http_request_duration_seconds histogram" }).waitFor();
  await until(async () => (await charts(page).count()) === 2, "its charts");
  const legend = page.locator(".chart").first().locator(".legend .name");
  assert.deepEqual(await legend.allInnerTexts(), ["p99", "p95", "p50"]);

  await choice(page, "Group by").selectOption("endpoint");
  await until(async () => (await legend.allInnerTexts()).join() === "/cart,/pay", "a line for each endpoint");
  const rows = page.getByRole("group", { name: "Totals" }).locator("tbody tr");
  assert.deepEqual(
    (await rows.allInnerTexts()).map((row) => row.split("\t")[1]),
    [`${MINUTES}`, `${MINUTES}`],
  );
  await choice(page, "status").selectOption("500");
  await until(async () => (await legend.allInnerTexts()).join() === "/pay", "what failed");
  await choice(page, "Show").selectOption("max");
  await choice(page, "Period").selectOption("7d");
  await page.getByText("18 points by the hour").waitFor();
  const params = Object.fromEntries(new URL(page.url()).searchParams);
  assert.deepEqual(params, {
    view: "explore",
    search: "duration",
    metric: "http_request_duration_seconds",
    type: "histogram",
    group_by: "endpoint",
    labels: "status:500",
    show: "max",
    period: "7d",
  });
  assert.match(await rows.innerText(), new RegExp(`^/pay\\t${MINUTES / 10}\\t7.2 s\\t400 ms\\t400 ms\\t400 ms$`));
  await isAccessible(page, "explorer");

  const copy = await chrome.visit(page.url());
  await until(async () => (await copy.locator(".legend .name").allInnerTexts())[0] === "/pay", "a link shows the same");
  assert.equal(await choice(copy, "status").inputValue(), "500");
  assert.equal(await choice(copy, "Show").inputValue(), "max");
  await copy.close();
  await page.goBack();
  assert.equal(await choice(page, "Period").inputValue(), "24h");
  await page.goBack();
  assert.equal(await choice(page, "Show").inputValue(), "p95");
  await page.goBack();
  await until(async () => (await legend.allInnerTexts()).join() === "/cart,/pay", "both endpoints again");
  await page.goForward();
  await until(async () => (await legend.allInnerTexts()).join() === "/pay", "what failed again");

  await page.goto(`${collector.url}/?view=explore`);
  await page.getByText("Choose a metric").waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.getByRole("heading", { name: "http_requests_total counter" }).waitFor();
  await page.keyboard.press("k");
  await page.getByRole("heading", { name: "http_request_duration_seconds histogram" }).waitFor();
  await page.keyboard.press("2");
  await page.keyboard.press("4");
  await page.getByText("Metrics with most points").waitFor();
  await page.keyboard.press("1");
  await page.getByRole("heading", { name: "Requests", exact: true }).waitFor();
});

test("dragging zooms, and nothing but the reader ends it", { skip }, async () => {
  const page = await chrome.visit(`${collector.url}/?period=1h`);
  await until(async () => (await charts(page).count()) === 3, "charts");
  const before = await figure(page, "Requests");
  await drag(page, 0.25, 0.75);
  await page.getByRole("button", { name: "Whole period" }).waitFor();
  assert.ok(Math.abs(minutes(page) - 30) < 3, page.url());
  await until(async () => (await figure(page, "Requests")) !== before, "fewer requests");
  const requests = Number(await figure(page, "Requests"));
  assert.ok(Math.abs(requests - 180) <= 18, `${requests} in half an hour`);
  const url = page.url();
  await refresh(page);
  assert.equal(page.url(), url);
  assert.equal(Number(await figure(page, "Requests")), requests);
  await isAccessible(page, "zoomed");
  await drag(page, 0, 0.5);
  await until(() => Math.abs(minutes(page) - 15) < 2, "closer");
  await page.goBack();
  await until(() => page.url() === url, "as before");
  await page.keyboard.press("+");
  await until(() => Math.abs(minutes(page) - 15) < 2, "closer by a key");
  const closer = page.url();
  await page.getByRole("button", { name: "Earlier" }).click();
  await until(() => page.url() !== closer && Math.abs(minutes(page) - 15) < 2, "earlier");
  await page.keyboard.press("Escape");
  // The hour goes on meanwhile.
  const whole = async () => Math.abs(Number(await figure(page, "Requests")) - Number(before)) <= 12;
  await until(whole, "the whole hour");
  assert.match(page.url(), /\?period=1h$/);

  // A link of another service.
  const moment = (ago) => new Date(Date.now() - ago * MINUTE_MS).toISOString();
  await page.goto(`${collector.url}/?period=1h&since=${moment(100)}&until=${moment(40)}`);
  await until(async () => Math.abs(Number(await figure(page, "Requests")) - 360) <= 12, "an hour's requests");
});

test("the crosshair is at the same moment in all charts", { skip }, async () => {
  const page = await chrome.visit(`${collector.url}/?period=1h`);
  await until(async () => (await charts(page).count()) === 3, "charts");
  const times = () => page.locator(".legend li:last-child").allInnerTexts();
  assert.deepEqual(await times(), ["latest", "latest", "latest"]);
  await page.locator(".u-over").nth(1).hover();
  await until(async () => !(await times()).includes("latest"), "a moment in each");
  assert.equal(new Set(await times()).size, 1);
});

test("releases are marked in charts, named where one points, and listed", { skip }, async () => {
  const at = (ago) => new Date(Date.now() - ago * MINUTE_MS).toISOString().replace(/\.\d+/, "");
  const known = [
    { at: at(45), release: "1.4.2", project: "shop" },
    { at: at(30), release: "<img src=x onerror=alert(1)>", project: "blog" },
    { at: at(29), release: "a-release-with-a-very-long-name-that-nobody-can-read", project: "shop" },
  ];
  const asked = [];
  const prepare = (page) =>
    releases(page, (params) => {
      asked.push(Object.fromEntries(params));
      const [since, until] = [params.get("since") ?? "", params.get("until") ?? "9"];
      const project = params.get("project");
      return known.filter((one) => one.at >= since && one.at <= until && (!project || one.project === project));
    });
  const page = await chrome.visit(`${collector.url}/?period=1h`, { prepare });
  await until(async () => (await charts(page).count()) === 3, "charts");
  const list = page.getByRole("region", { name: "Releases in view" });
  await list.waitFor();
  assert.deepEqual(asked.at(-1), { period: "1h" });
  const listed = await list.locator("li").allInnerTexts();
  assert.equal(listed.length, 3);
  assert.match(listed[2] ?? "", /^1\.4\.2 \(shop\) at .*\d\d:\d\d$/);
  assert.match(listed[1] ?? "", /^<img src=x onerror=alert\(1\)> \(blog\) at /);
  await isAccessible(page, "releases");

  // What stands where the first release is, is another picture than without it.
  const picture = () =>
    charts(page)
      .first()
      .evaluate((canvas) => canvas.toDataURL());
  const marked = await picture();
  const box = await page.locator(".u-over").first().boundingBox();
  await page.mouse.move(box.x + box.width * 0.25 + 1, box.y + 60);
  const near = page.locator(".near");
  await until(async () => (await near.count()) === 3, "named in each chart");
  assert.match(await near.first().innerText(), /^Release 1\.4\.2 \(shop\) at /);
  await isAccessible(page, "a release is pointed at");
  await page.mouse.move(box.x + box.width * 0.9, box.y + 60);
  await until(async () => (await near.count()) === 0, "pointed at no more");
  known.splice(1);
  await choice(page, "Project").selectOption("shop");
  await until(async () => (await list.locator("li").allInnerTexts()).length === 1, "the project's alone");
  assert.match(await list.locator("li").innerText(), /^1\.4\.2 at /);
  assert.deepEqual(asked.at(-1), { period: "1h", project: "shop" });
  known.splice(0);
  await refresh(page);
  await list.waitFor({ state: "detached" });
  await page.mouse.move(0, 0);
  await until(async () => (await picture()) !== marked, "not drawn any more");

  known.push(...Array.from({ length: 20 }, (_, n) => ({ at: at(50 - n), release: `2.0.${n}`, project: "shop" })));
  for (const view of ["?view=explore&metric=queue_depth&type=gauge", "?view=vitals", ""]) {
    await page.goto(`${collector.url}/${view}`);
    await list.getByText("8 earlier").click();
    assert.equal(await list.locator("li").count(), 20);
    await charts(page).first().waitFor();
    await isAccessible(page, `${view} with releases`);
  }
  const [since, end] = [at(46.5), at(39.5)];
  await page.goto(`${collector.url}/?since=${since}&until=${end}`);
  await until(async () => (await list.locator("li").count()) === 7, "those of a part");
  assert.deepEqual(asked.at(-1), { since, until: end });

  const failing = await chrome.visit(collector.url, {
    refused: 503,
    prepare: (page) =>
      page.route("**/api/metrics/releases?*", (route) => route.fulfill({ status: 503, json: { detail: "Not now" } })),
  });
  await failing.getByRole("alert").getByText("Not now").waitFor();
  await until(async () => (await charts(failing).count()) === 3, "charts all the same");
});

test("a release that a program told of is marked", { skip }, async (context) => {
  const alone = await service("metrics-collector", { HOST_METRICS: "0" });
  context.after(alone.stop);
  const now = Date.now();
  const told = (ago, release, project) => ({
    name: "release_info",
    type: "gauge",
    value: 1,
    labels: { release },
    project,
    timestamp: new Date(now - ago * MINUTE_MS).toISOString(),
  });
  const requests = {
    name: "http_requests_total",
    type: "counter",
    value: 5,
    labels: { status: "200" },
    project: "shop",
  };
  await alone.ask("POST", "/api/metrics", [
    told(50, "1.4.1", "shop"),
    told(20, "1.4.2", "shop"),
    told(10, "7", "blog"),
    requests,
  ]);
  const known = async () => (await alone.ask("GET", "/api/metrics/releases?period=1h")).releases;
  await until(async () => (await known()).length === 3, "the service knows them");
  const page = await chrome.visit(`${alone.url}/?period=1h`);
  const listed = page.getByRole("region", { name: "Releases in view" }).locator("li b");
  await until(async () => (await listed.count()) === 3, "all are listed");
  assert.deepEqual(await listed.allInnerTexts(), ["7 (blog)", "1.4.2 (shop)", "1.4.1 (shop)"]);
  const box = await page.locator(".u-over").first().boundingBox();
  await page.mouse.move(box.x + (box.width * 40) / 60, box.y + 60);
  await page.locator(".near").first().getByText("1.4.2 (shop)").waitFor();
  await drag(page, 0.5, 0.75);
  await until(async () => (await listed.allInnerTexts()).join() === "1.4.2", "the one of that quarter");
  await page.close();
});

test("what a part of time holds is asked for that part", { skip }, async () => {
  const at = (ago) => new Date(Date.now() - ago * MINUTE_MS).toISOString().replace(/\.\d+/, "");
  const [since, end] = [at(100), at(40)];
  const asked = [];
  const page = await chrome.visit(collector.url);
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.pathname === "/api/dashboard") {
      asked.push(Object.fromEntries(url.searchParams));
    }
  });
  for (const [view, ready] of [
    ["vitals", ".vital"],
    ["top", ".figures"],
  ]) {
    await page.goto(`${collector.url}/?view=${view}&project=shop&since=${since}&until=${end}`);
    await page.locator(ready).first().waitFor();
    if (view === "top") {
      const points = async (part) =>
        (await collector.ask("GET", `/api/dashboard?project=shop&${part}`)).summary.total_datapoints;
      const inside = await points(`since=${since}&until=${end}`);
      assert.equal(await figure(page, "Points"), inside.toLocaleString("en"));
      assert.ok(inside > 0 && inside < (await points(`since=${since}`)), "less than until now");
    }
    assert.deepEqual(asked.at(-1), { since, until: end, project: "shop" });
    await page.goto(`${collector.url}/?view=${view}&period=1h`);
    await page.locator(ready).first().waitFor();
    assert.deepEqual(asked.at(-1), { period: "1h" });
  }
});

test("web vitals have ratings, shares, a trend and pages", { skip }, async () => {
  const page = await chrome.visit(`${collector.url}/?view=vitals`);
  await page.locator(".vital").first().waitFor();
  const vital = (name) => page.locator(".vital", { hasText: name });
  const { web_vitals } = await collector.ask("GET", "/api/dashboard?period=24h");
  assert.equal(await vital("LCP").locator(".tag").innerText(), "good");
  assert.equal(await vital("INP").locator(".tag").innerText(), "needs improvement");
  assert.equal(await vital("CLS").locator(".tag").innerText(), "poor");
  const p75 = `${digits(web_vitals.summary.inp.p75)} ms`;
  assert.equal(await vital("INP").locator("b").innerText(), p75);
  const shares = vital("CLS").getByRole("img");
  assert.equal(await shares.getAttribute("aria-label"), "good 25 %, needs improvement 0 %, poor 75 %");
  const widths = await shares
    .locator("i")
    .evaluateAll((bars) => bars.map((bar) => Math.round(bar.getBoundingClientRect().width)));
  assert.ok(Math.abs(widths[2] - 3 * widths[0]) <= 8 && widths[1] <= 1, widths.join());
  assert.equal(await charts(page).count(), 3);
  const rows = await page.locator(".pages tbody tr").allInnerTexts();
  const cells = rows.map((row) => row.split("\t"));
  assert.deepEqual(
    cells.map(([path, views]) => [path, views]),
    web_vitals.by_page.map(({ page, page_views }) => [page, String(page_views)]),
  );
  assert.deepEqual(cells.map(([path]) => path).sort(), ["/", "/cart/:id"]);
  await isAccessible(page, "Web Vitals");
});

test("top metrics lead to the explorer, and caps that were reached are said", { skip }, async () => {
  await report(
    Array.from({ length: 30 }, (_, n) => ({ name: "wide_total", type: "counter", value: 1, labels: { id: `${n}` } })),
  );
  const page = await chrome.visit(`${collector.url}/?view=top`);
  await page.getByText("wide_total has more series than MAX_SERIES_PER_METRIC").waitFor();
  const { summary, top_metrics } = await collector.ask("GET", "/api/dashboard?period=24h");
  assert.equal(await figure(page, "Points"), summary.total_datapoints.toLocaleString("en"));
  const names = await page.locator(".figures tbody th").allInnerTexts();
  assert.deepEqual(
    names,
    top_metrics.map(({ name }) => name),
  );
  await isAccessible(page, "top metrics");
  await page.getByRole("link", { name: "queue_depth" }).click();
  await page.getByRole("heading", { name: "queue_depth gauge" }).waitFor();
  await page.reload();
  await page.getByText("was reached by 1 metric").waitFor();
});

test("nothing that was reported runs", { skip }, async () => {
  const points = PAYLOADS.flatMap((text) => [
    { name: text, type: "counter", value: 1, labels: { [text]: text }, project: text },
    { name: "release_info", type: "gauge", value: 1, labels: { release: text }, project: text },
    { name: "web_vitals_lcp", type: "histogram", value: 1, labels: { source: "browser", page: text }, project: text },
  ]);
  await report(points);
  const page = await chrome.visit(collector.url);
  for (const payload of PAYLOADS) {
    await page.goto(`${collector.url}/?view=explore`);
    const params = { view: "explore", metric: payload, group_by: payload, labels: `${payload}:${payload}` };
    await page.locator(".picker .name", { hasText: payload }).first().click();
    await page.locator("h2.metric").waitFor();
    assert.ok((await page.locator("h2.metric").textContent())?.startsWith(payload));
    await choice(page, "Group by").selectOption(payload);
    await until(async () => (await page.locator(".legend .name").first().textContent()) === payload, "its group");
    await page.locator(".chart summary").first().click();
    await page.locator(".chart table").waitFor();
    // Its line, its legend and what is said where one points at it.
    await page.locator(".u-over").first().hover();
    await until(
      async () => (await page.locator(".legend li:last-child").first().innerText()) !== "latest",
      "the crosshair",
    );
    assert.equal(await page.locator(".chart thead th").nth(1).textContent(), payload);
    await choice(page, payload.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).selectOption(payload);
    await page.getByRole("button", { name: "Any label" }).waitFor();
    await choice(page, "Project").selectOption(payload);
    await page.keyboard.press("Escape");
    for (const view of ["vitals", "top", "", "explore"]) {
      const query = new URLSearchParams({ ...params, view, project: payload });
      await page.goto(`${collector.url}/?${query}`);
      await page.locator(".view > *").first().waitFor();
      assert.equal(await choice(page, "Project").inputValue(), payload);
      await page.locator(".loading").waitFor({ state: "detached" });
      if (view !== "top") {
        await page.locator(".releases li").first().waitFor();
        assert.equal(await page.locator(".releases li b").textContent(), payload);
      }
    }
  }
  await page.goto(`${collector.url}/?view=vitals`);
  await page.locator(".pages tbody tr").first().waitFor();
  const pages = await page.locator(".pages tbody th").allTextContents();
  assert.ok(pages.includes("<img src=x onerror=alert(1)>"), pages.join("\n"));
});

test("every view fits a phone, light and dark", { skip }, async () => {
  const explore = "?view=explore&metric=http_requests_total&type=counter&group_by=endpoint";
  const views = [
    ["", ".chart canvas"],
    ["?view=explore", ".picker li"],
    [explore, ".chart canvas"],
    ["?view=vitals", ".chart canvas"],
    ["?view=top", ".figures"],
    [`?since=${new Date(Date.now() - 3_600_000).toISOString()}`, ".chart canvas"],
  ];
  for (const dark of [false, true]) {
    const page = await chrome.visit(collector.url, { width: 360, height: 740, dark });
    for (const [view, ready] of views) {
      await page.goto(`${collector.url}/${view}`);
      await page.locator(ready).first().waitFor();
      await isAccessible(page, `${view} at 360 px, ${dark ? "dark" : "light"}`);
    }
  }
});

test("charts follow the theme", { skip }, async () => {
  const page = await chrome.visit(collector.url);
  await until(async () => (await charts(page).count()) === 3, "charts");
  const drawn = () =>
    charts(page)
      .first()
      .evaluate((canvas) => canvas.toDataURL());
  const light = await drawn();
  await page.getByRole("button", { name: "Theme: auto" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await until(async () => (await drawn()) !== light, "drawn in other colours");
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("search metrics").waitFor();
  await isAccessible(page, "help");
});

test("the machine's figures are shown where they are measured", { skip }, async () => {
  const alone = await service("metrics-collector");
  try {
    await until(
      async () => (await alone.ask("GET", "/api/metrics?name=host_memory_used_bytes")).data.length > 0,
      "measured once",
    );
    const page = await chrome.visit(alone.url);
    await page.getByText("No metrics yet").waitFor();
    await page.getByRole("heading", { name: "The machine of this service" }).waitFor();
    assert.match(await figure(page, "Memory"), /^[\d.]+ %$/);
    await isAccessible(page, "the machine's figures");
    await page.close();
  } finally {
    await alone.stop();
  }
});
