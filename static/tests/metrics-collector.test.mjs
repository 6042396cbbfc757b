import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { assertAccessible, browser, KEY, service, skip, until } from "./harness.mjs";

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

/** Replaces the releases that a page gets. */
const mockReleases = async (page, releasesFor) => {
  await page.route("**/api/metrics/releases?*", (route) =>
    route.fulfill({ json: { releases: releasesFor(new URL(route.request().url()).searchParams) } }),
  );
};

async function report(points) {
  for (let first = 0; first < points.length; first += 1000) {
    await collector.ask("POST", "/api/metrics", points.slice(first, first + 1000));
  }
}

/** Reports three hours of a shop with two endpoints, where a tenth of `/pay` requests fails, and the gauge of a blog. */
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
    const vitalLabels = { source: "browser", page: ago % 2 ? "/" : "/cart/7" };
    point("web_vitals_lcp", "histogram", 2000, vitalLabels);
    point("web_vitals_inp", "histogram", 300, vitalLabels);
    point("web_vitals_cls", "histogram", ago % 4 ? 0.3 : 0.05, vitalLabels);
  }
  await report(points);
}

/** Formats a number like the page. */
const formatNumber = (value) => (value >= 100 ? Math.round(value) : Number(value.toPrecision(3))).toLocaleString("en");
const charts = (page) => page.locator(".chart canvas");
const tileValue = (page, name) =>
  page
    .locator(".tile", { has: page.getByText(name, { exact: true }) })
    .locator("b")
    .innerText();
const select = (page, label) =>
  page.locator(".field", { has: page.locator("span", { hasText: new RegExp(`^${label}$`) }) }).locator("select");
/** Length of the range in the URL. */
const rangeMinutes = (page) => {
  const params = new URL(page.url()).searchParams;
  return (Date.parse(params.get("until") ?? "") - Date.parse(params.get("since") ?? "")) / MINUTE_MS;
};
/** Drags over the first chart, between two fractions of its width. */
async function drag(page, from, to) {
  const box = await page.locator(".u-over").first().boundingBox();
  await page.mouse.move(box.x + box.width * from, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * to, box.y + 60, { steps: 4 });
  await page.mouse.up();
}
/** Triggers the refresh that otherwise happens every 30 s. */
async function refresh(page) {
  const response = page.waitForResponse((candidate) => candidate.url().includes("/api/metrics?"));
  await page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await response;
}

test("empty views explain how to send a first point", { skip }, async () => {
  for (const [view, name] of [
    ["", "overview"],
    ["?view=explore", "explorer"],
    ["?view=top", "top metrics"],
  ]) {
    const page = await chrome.visit(`${collector.url}/${view}`);
    await page.getByText("No metrics yet").waitFor();
    const help = await page.locator(".empty").innerText();
    assert.ok(help.includes(`MetricsClient("${collector.url}", `), help);
    assert.ok(help.includes(`curl ${collector.url}/api/metrics`), help);
    await assertAccessible(page, `${name}, empty`);
    await page.close();
  }
  const page = await chrome.visit(`${collector.url}/?view=vitals`);
  await page.getByText("No Web Vitals in this period").waitFor();
  await assertAccessible(page, "Web Vitals, empty");
});

test("the overview shows the values of the API", { skip }, async () => {
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
  assert.equal(await tileValue(page, "Requests"), sum("").toLocaleString("en"));
  assert.equal(await tileValue(page, "Errors"), `${formatNumber((sum("5") / sum("")) * 100)} %`);
  const { data } = await collector.ask("GET", "/api/metrics?name=http_request_duration_seconds&period=24h");
  assert.equal(await tileValue(page, "Latency (p95)"), `${formatNumber(data.at(-1).p95 * 1000)} ms`);
  await assertAccessible(page, "overview");
  const chart = page.locator(".chart", { hasText: "Latency" });
  assert.match((await chart.getByRole("img").getAttribute("aria-label")) ?? "", /p99: latest .*ms, max .*ms/);
  await chart.getByText("Table").click();
  await until(async () => (await chart.locator("tbody tr").count()) === MINUTES, "a row for each minute");
  await assertAccessible(page, "overview with a table");

  await select(page, "Project").selectOption("blog");
  await page.getByText("No requests for blog in this period").waitFor();
  assert.match(page.url(), /\?project=blog$/);
  await assertAccessible(page, "overview of a project without requests");
  await page.goBack();
  await until(async () => (await charts(page).count()) === 3, "all projects again");
});

test("a metric can be found, filtered and grouped, and the URL contains the settings", { skip }, async () => {
  const page = await chrome.visit(collector.url);
  await until(async () => (await charts(page).count()) === 3, "the overview");
  await page.keyboard.press("/");
  await page.getByRole("searchbox").waitFor();
  await page.keyboard.type("duration");
  await until(async () => (await page.locator(".picker li").count()) === 1, "one match");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "http_request_duration_seconds histogram" }).waitFor();
  await until(async () => (await charts(page).count()) === 2, "its charts");
  const legend = page.locator(".chart").first().locator(".legend .name");
  assert.deepEqual(await legend.allInnerTexts(), ["p99", "p95", "p50"]);

  await select(page, "Group by").selectOption("endpoint");
  await until(async () => (await legend.allInnerTexts()).join() === "/cart,/pay", "a line for each endpoint");
  const rows = page.getByRole("group", { name: "Totals" }).locator("tbody tr");
  assert.deepEqual(
    (await rows.allInnerTexts()).map((row) => row.split("\t")[1]),
    [`${MINUTES}`, `${MINUTES}`],
  );
  await select(page, "status").selectOption("500");
  await until(async () => (await legend.allInnerTexts()).join() === "/pay", "failed requests");
  await select(page, "Statistic").selectOption("max");
  await select(page, "Period").selectOption("7d");
  await page.getByText("18 points in 1-hour buckets").waitFor();
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
  await assertAccessible(page, "explorer");

  const copy = await chrome.visit(page.url());
  await until(
    async () => (await copy.locator(".legend .name").allInnerTexts())[0] === "/pay",
    "the same charts from a link",
  );
  assert.equal(await select(copy, "status").inputValue(), "500");
  assert.equal(await select(copy, "Statistic").inputValue(), "max");
  await copy.close();
  await page.goBack();
  assert.equal(await select(page, "Period").inputValue(), "24h");
  await page.goBack();
  assert.equal(await select(page, "Statistic").inputValue(), "p95");
  await page.goBack();
  await until(async () => (await legend.allInnerTexts()).join() === "/cart,/pay", "both endpoints again");
  await page.goForward();
  await until(async () => (await legend.allInnerTexts()).join() === "/pay", "failed requests again");

  await page.goto(`${collector.url}/?view=explore`);
  await page.getByText("Select a metric").waitFor();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.getByRole("heading", { name: "http_requests_total counter" }).waitFor();
  await page.keyboard.press("k");
  await page.getByRole("heading", { name: "http_request_duration_seconds histogram" }).waitFor();
  await page.keyboard.press("2");
  await page.keyboard.press("4");
  await page.getByText("Top metrics by points").waitFor();
  await page.keyboard.press("1");
  await page.getByRole("heading", { name: "Requests", exact: true }).waitFor();
});

test("dragging zooms, and a refresh keeps the zoom", { skip }, async () => {
  const page = await chrome.visit(`${collector.url}/?period=1h`);
  await until(async () => (await charts(page).count()) === 3, "charts");
  const before = await tileValue(page, "Requests");
  await drag(page, 0.25, 0.75);
  await page.getByRole("button", { name: "Reset zoom" }).waitFor();
  assert.ok(Math.abs(rangeMinutes(page) - 30) < 3, page.url());
  await until(async () => (await tileValue(page, "Requests")) !== before, "fewer requests");
  const requests = Number(await tileValue(page, "Requests"));
  assert.ok(Math.abs(requests - 180) <= 18, `${requests} in half an hour`);
  const url = page.url();
  await refresh(page);
  assert.equal(page.url(), url);
  assert.equal(Number(await tileValue(page, "Requests")), requests);
  await assertAccessible(page, "zoomed");
  await drag(page, 0, 0.5);
  await until(() => Math.abs(rangeMinutes(page) - 15) < 2, "zoomed in");
  await page.goBack();
  await until(() => page.url() === url, "the previous zoom");
  await page.keyboard.press("+");
  await until(() => Math.abs(rangeMinutes(page) - 15) < 2, "zoomed in with a shortcut");
  const zoomedUrl = page.url();
  await page.getByRole("button", { name: "Earlier" }).click();
  await until(() => page.url() !== zoomedUrl && Math.abs(rangeMinutes(page) - 15) < 2, "earlier");
  await page.keyboard.press("Escape");
  // The period has moved by a minute or two during the test.
  const isWholeHour = async () => Math.abs(Number(await tileValue(page, "Requests")) - Number(before)) <= 12;
  await until(isWholeHour, "the whole hour");
  assert.match(page.url(), /\?period=1h$/);

  // A link from another service.
  const timestamp = (ago) => new Date(Date.now() - ago * MINUTE_MS).toISOString();
  await page.goto(`${collector.url}/?period=1h&since=${timestamp(100)}&until=${timestamp(40)}`);
  await until(async () => Math.abs(Number(await tileValue(page, "Requests")) - 360) <= 12, "an hour's requests");
});

test("all charts have the crosshair at the same time", { skip }, async () => {
  const page = await chrome.visit(`${collector.url}/?period=1h`);
  await until(async () => (await charts(page).count()) === 3, "charts");
  const times = () => page.locator(".legend li:last-child").allInnerTexts();
  assert.deepEqual(await times(), ["latest", "latest", "latest"]);
  await page.locator(".u-over").nth(1).hover();
  await until(async () => !(await times()).includes("latest"), "a time in each chart");
  assert.equal(new Set(await times()).size, 1);
});

test("releases are marked in charts, have tooltips and are listed", { skip }, async () => {
  const at = (ago) => new Date(Date.now() - ago * MINUTE_MS).toISOString().replace(/\.\d+/, "");
  const known = [
    { at: at(45), release: "1.4.2", project: "shop" },
    { at: at(30), release: "<img src=x onerror=alert(1)>", project: "blog" },
    { at: at(29), release: "a-release-with-a-name-that-is-too-long-for-the-chart", project: "shop" },
  ];
  const asked = [];
  const prepare = (page) =>
    mockReleases(page, (params) => {
      asked.push(Object.fromEntries(params));
      const [since, until] = [params.get("since") ?? "", params.get("until") ?? "9"];
      const project = params.get("project");
      return known.filter((one) => one.at >= since && one.at <= until && (!project || one.project === project));
    });
  const page = await chrome.visit(`${collector.url}/?period=1h`, { prepare });
  await until(async () => (await charts(page).count()) === 3, "charts");
  const list = page.getByRole("region", { name: "Releases" });
  await list.waitFor();
  assert.deepEqual(asked.at(-1), { period: "1h" });
  const listed = await list.locator("li").allInnerTexts();
  assert.equal(listed.length, 3);
  assert.match(listed[2] ?? "", /^1\.4\.2 \(shop\) at .*\d\d:\d\d$/);
  assert.match(listed[1] ?? "", /^<img src=x onerror=alert\(1\)> \(blog\) at /);
  await assertAccessible(page, "releases");

  // The canvas looks different with and without releases.
  const canvasImage = () =>
    charts(page)
      .first()
      .evaluate((canvas) => canvas.toDataURL());
  const imageWithReleases = await canvasImage();
  const box = await page.locator(".u-over").first().boundingBox();
  await page.mouse.move(box.x + box.width * 0.25 + 1, box.y + 60);
  const tooltip = page.locator(".release-tooltip");
  await until(async () => (await tooltip.count()) === 3, "a tooltip in each chart");
  assert.match(await tooltip.first().innerText(), /^Release 1\.4\.2 \(shop\) at /);
  await assertAccessible(page, "tooltip of a release");
  await page.mouse.move(box.x + box.width * 0.9, box.y + 60);
  await until(async () => (await tooltip.count()) === 0, "no tooltip");
  known.splice(1);
  await select(page, "Project").selectOption("shop");
  await until(async () => (await list.locator("li").allInnerTexts()).length === 1, "releases of the project");
  assert.match(await list.locator("li").innerText(), /^1\.4\.2 at /);
  assert.deepEqual(asked.at(-1), { period: "1h", project: "shop" });
  known.splice(0);
  await refresh(page);
  await list.waitFor({ state: "detached" });
  await page.mouse.move(0, 0);
  await until(async () => (await canvasImage()) !== imageWithReleases, "releases are no longer drawn");

  known.push(...Array.from({ length: 20 }, (_, n) => ({ at: at(50 - n), release: `2.0.${n}`, project: "shop" })));
  for (const view of ["?view=explore&metric=queue_depth&type=gauge", "?view=vitals", ""]) {
    await page.goto(`${collector.url}/${view}`);
    await list.getByText("8 earlier").click();
    assert.equal(await list.locator("li").count(), 20);
    await charts(page).first().waitFor();
    await assertAccessible(page, `${view} with releases`);
  }
  const [since, end] = [at(46.5), at(39.5)];
  await page.goto(`${collector.url}/?since=${since}&until=${end}`);
  await until(async () => (await list.locator("li").count()) === 7, "releases in the range");
  assert.deepEqual(asked.at(-1), { since, until: end });

  const failing = await chrome.visit(collector.url, {
    allowedStatus: 503,
    prepare: (page) =>
      page.route("**/api/metrics/releases?*", (route) =>
        route.fulfill({ status: 503, json: { detail: "Unavailable" } }),
      ),
  });
  await failing.getByRole("alert").getByText("Unavailable").waitFor();
  await until(async () => (await charts(failing).count()) === 3, "charts without releases");
});

test("reported releases are marked", { skip }, async (context) => {
  const alone = await service("metrics-collector", { HOST_METRICS: "0" });
  context.after(alone.stop);
  const now = Date.now();
  const releaseInfo = (ago, release, project) => ({
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
    releaseInfo(50, "1.4.1", "shop"),
    releaseInfo(20, "1.4.2", "shop"),
    releaseInfo(10, "7", "blog"),
    requests,
  ]);
  const known = async () => (await alone.ask("GET", "/api/metrics/releases?period=1h")).releases;
  await until(async () => (await known()).length === 3, "all releases are stored");
  const page = await chrome.visit(`${alone.url}/?period=1h`);
  const listed = page.getByRole("region", { name: "Releases" }).locator("li b");
  await until(async () => (await listed.count()) === 3, "all releases are listed");
  assert.deepEqual(await listed.allInnerTexts(), ["7 (blog)", "1.4.2 (shop)", "1.4.1 (shop)"]);
  const box = await page.locator(".u-over").first().boundingBox();
  await page.mouse.move(box.x + (box.width * 40) / 60, box.y + 60);
  await page.locator(".release-tooltip").first().getByText("1.4.2 (shop)").waitFor();
  await drag(page, 0.5, 0.75);
  await until(async () => (await listed.allInnerTexts()).join() === "1.4.2", "the release in that quarter of an hour");
  await page.close();
});

test("last values are summed, and hours are shown where minutes are not stored", { skip }, async (context) => {
  const short = await service("metrics-collector", { HOST_METRICS: "0", RETENTION_MINUTE: "1" });
  context.after(short.stop);
  const depth = (host, value) => ({ name: "depth", type: "gauge", value, labels: { host } });
  await short.ask("POST", "/api/metrics", [depth("a, west", 20), depth("b", 200)]);
  const page = await chrome.visit(`${short.url}/?view=explore&metric=depth`);
  await page.getByText("2 points in 1-hour buckets").waitFor();
  const latest = page.locator(".chart").first().locator(".legend li").first();
  await until(async () => (await latest.innerText()).includes("220"), "the sum of both series");
  await select(page, "Statistic").selectOption("last_avg");
  await until(async () => (await latest.innerText()).includes("110"), "their average");
  await select(page, "host").selectOption("a, west");
  await page.getByText("1 points in 1-hour buckets").waitFor();
  await until(async () => (await latest.innerText()).includes("20"), "the only series");
  await select(page, "Period").selectOption("1h");
  await page.getByText("1 points in 1-minute buckets").waitFor();
  await page.reload();
  await page.getByText("1 points in 1-minute buckets").waitFor();
  assert.equal(await select(page, "host").inputValue(), "a, west");
  await page.close();
});

test("views request only the selected range", { skip }, async () => {
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
      const countPoints = async (range) =>
        (await collector.ask("GET", `/api/dashboard?project=shop&${range}`)).summary.total_datapoints;
      const inside = await countPoints(`since=${since}&until=${end}`);
      assert.equal(await tileValue(page, "Points"), inside.toLocaleString("en"));
      assert.ok(inside > 0 && inside < (await countPoints(`since=${since}`)), "fewer points than up to now");
    }
    assert.deepEqual(asked.at(-1), { since, until: end, project: "shop" });
    await page.goto(`${collector.url}/?view=${view}&period=1h`);
    await page.locator(ready).first().waitFor();
    assert.deepEqual(asked.at(-1), { period: "1h" });
  }
});

test("Web Vitals show ratings, shares, a chart and pages", { skip }, async () => {
  const page = await chrome.visit(`${collector.url}/?view=vitals`);
  await page.locator(".vital").first().waitFor();
  const vital = (name) => page.locator(".vital", { hasText: name });
  const { web_vitals } = await collector.ask("GET", "/api/dashboard?period=24h");
  assert.equal(await vital("LCP").locator(".tag").innerText(), "good");
  assert.equal(await vital("INP").locator(".tag").innerText(), "needs improvement");
  assert.equal(await vital("CLS").locator(".tag").innerText(), "poor");
  const p75 = `${formatNumber(web_vitals.summary.inp.p75)} ms`;
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
  await assertAccessible(page, "Web Vitals");
});

test("top metrics link to the explorer, and exceeded series limits are shown", { skip }, async () => {
  await report(
    Array.from({ length: 30 }, (_, n) => ({ name: "wide_total", type: "counter", value: 1, labels: { id: `${n}` } })),
  );
  const page = await chrome.visit(`${collector.url}/?view=top`);
  const { summary, top_metrics, warnings } = await collector.ask("GET", "/api/dashboard?period=24h");
  assert.match(warnings.join(), /wide_total/);
  await page.getByText(warnings[0]).waitFor();
  assert.equal(await tileValue(page, "Points"), summary.total_datapoints.toLocaleString("en"));
  const names = await page.locator(".figures tbody th").allInnerTexts();
  assert.deepEqual(
    names,
    top_metrics.map(({ name }) => name),
  );
  await assertAccessible(page, "top metrics");
  await page.getByRole("link", { name: "queue_depth" }).click();
  await page.getByRole("heading", { name: "queue_depth gauge" }).waitFor();
  await page.reload();
  const health = await collector.ask("GET", "/health");
  await page.getByText(health.warnings[0].message).waitFor();
});

test("reported values are never executed or rendered as HTML", { skip }, async () => {
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
    await select(page, "Group by").selectOption(payload);
    await until(async () => (await page.locator(".legend .name").first().textContent()) === payload, "its group");
    await page.locator(".chart summary").first().click();
    await page.locator(".chart table").waitFor();
    // The chart, its legend and its crosshair show the payload.
    await page.locator(".u-over").first().hover();
    await until(
      async () => (await page.locator(".legend li:last-child").first().innerText()) !== "latest",
      "the crosshair",
    );
    assert.equal(await page.locator(".chart thead th").nth(1).textContent(), payload);
    await select(page, payload.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).selectOption(payload);
    await page.getByRole("button", { name: "Clear labels" }).waitFor();
    await select(page, "Project").selectOption(payload);
    await page.keyboard.press("Escape");
    for (const view of ["vitals", "top", "", "explore"]) {
      const query = new URLSearchParams({ ...params, view, project: payload });
      await page.goto(`${collector.url}/?${query}`);
      await page.locator(".view > *").first().waitFor();
      assert.equal(await select(page, "Project").inputValue(), payload);
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

test("the health dialog shows warnings, usage and rejections by project", { skip }, async () => {
  const project = PAYLOADS[0];
  const point = { name: "host_cpu_percent", type: "gauge", value: 100, project };
  const headers = { "X-API-Key": KEY, "X-Monlight-Key-Kind": "browser" };
  const forged = await fetch(`${collector.url}/api/metrics`, {
    method: "POST",
    headers,
    body: JSON.stringify([point]),
  });
  assert.equal(forged.status, 400);
  for (const dark of [false, true]) {
    const page = await chrome.visit(collector.url, { width: 390, dark });
    const button = page.getByRole("button", { name: /^Health: \d+ ⚠$/ });
    await button.focus();
    await page.keyboard.press("Enter");
    const dialog = page.getByRole("dialog", { name: "Health" });
    await dialog.getByText("only server keys may write this name").waitFor();
    await dialog.getByRole("heading", { name: "series" }).waitFor();
    await dialog.getByRole("row", { name: `${project} metric names reserved name 1` }).waitFor();
    await assertAccessible(page, `health at 390 px, ${dark ? "dark" : "light"}`);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    assert.ok(await button.evaluate((element) => element === document.activeElement));
    await page.close();
  }
});

test("every view fits a phone in both themes", { skip }, async () => {
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
      await assertAccessible(page, `${view} at 360 px, ${dark ? "dark" : "light"}`);
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
  await until(async () => (await drawn()) !== light, "drawn in other colors");
  await page.keyboard.press("?");
  await page.getByRole("dialog").getByText("search metrics").waitFor();
  await assertAccessible(page, "help");
});

test("host metrics are shown if they are measured", { skip }, async () => {
  const alone = await service("metrics-collector");
  try {
    await until(
      async () => (await alone.ask("GET", "/api/metrics?name=host_memory_used_bytes")).data.length > 0,
      "first measurement",
    );
    const page = await chrome.visit(alone.url);
    await page.getByText("No metrics yet").waitFor();
    await page.getByRole("heading", { name: "Host", exact: true }).waitFor();
    assert.match(await tileValue(page, "Memory"), /^[\d.]+ %$/);
    await assertAccessible(page, "host metrics");
    await page.close();
  } finally {
    await alone.stop();
  }
});
