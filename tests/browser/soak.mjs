// Load generator: visits a page in Chromium that reports to a relay with the browser package, until standard input
// closes.
//   node soak.mjs CHROMIUM
// Prints the origin of the page as JSON. Then reads one line of JSON with the URL of the relay and a public key. On
// exit, prints the number of page views and of errors thrown on them.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const executablePath = process.argv[2];
const PAGE_MS = 15_000;
const THROW_INTERVAL_MS = 400;

let html = "";
const server = createServer((request, response) => {
  const isPage = request.url === "/";
  response.writeHead(200, { "Content-Type": isPage ? "text/html" : "application/json" }).end(isPage ? html : "{}");
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://localhost:${server.address().port}`;
console.log(JSON.stringify(origin));

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { relay, key } = JSON.parse((await lines.next()).value);
const config = JSON.stringify({ dsn: key, endpoint: relay, release: "soak" });
html = `<!doctype html><meta charset="utf-8"><title>A shop</title><h1>A shop</h1>
<script>window.MonlightConfig = ${config}; window.thrown = 0;</script>
<script src="${relay}/monlight.min.js"></script>
<script>setInterval(() => {
  const item = window.thrown++;
  fetch("/item/" + item);
  throw new RangeError("item " + item);
}, ${THROW_INTERVAL_MS});</script>`;
let inputClosed = false;
const closed = lines.next().then(() => {
  inputClosed = true;
});
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
args.push("--disable-component-update", "--disable-sync");
const browser = await chromium.launch({ executablePath, args });
let [pages, thrown] = [0, 0];
while (!inputClosed) {
  const tab = await browser.newPage();
  await tab.goto(origin);
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, PAGE_MS))]);
  thrown += await tab.evaluate(() => window.thrown);
  pages += 1;
  // Leaving the page sends its Web Vitals.
  await tab.goto("about:blank");
  await tab.close();
}
// Beacons are sent asynchronously and only while the browser runs.
await new Promise((resolve) => setTimeout(resolve, 1_000));
await browser.close();
console.log(JSON.stringify({ pages, thrown }));
process.exit(0);
