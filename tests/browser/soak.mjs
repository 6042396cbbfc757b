// A visitor: Chromium on a page that reports to a relay with the browser package, until the standard input is closed.
//   node soak.mjs CHROMIUM
// Prints the origin of the page; reads a line of JSON, the address of the relay and a public key; prints in the end how many
// pages were visited and how much was raised on them.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const executablePath = process.argv[2];
const PAGE_MS = 15_000;
const THROW_EVERY_MS = 400;

let page = "";
const server = createServer((request, response) => {
  const isPage = request.url === "/";
  response.writeHead(200, { "Content-Type": isPage ? "text/html" : "application/json" }).end(isPage ? page : "{}");
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const origin = `http://localhost:${server.address().port}`;
console.log(JSON.stringify(origin));

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { relay, key } = JSON.parse((await lines.next()).value);
const config = JSON.stringify({ dsn: key, endpoint: relay, release: "soak" });
page = `<!doctype html><meta charset="utf-8"><title>A shop</title><h1>A shop</h1>
<script>window.MonlightConfig = ${config}; window.thrown = 0;</script>
<script src="${relay}/monlight.min.js"></script>
<script>setInterval(() => { const at = window.thrown++; fetch("/item/" + at); throw new RangeError("item " + at); }, ${THROW_EVERY_MS});</script>`;
let over = false;
const closed = lines.next().then(() => {
  over = true;
});
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath, args: [...args, "--disable-component-update", "--disable-sync"] });
let [pages, thrown] = [0, 0];
while (!over) {
  const tab = await browser.newPage();
  await tab.goto(origin);
  await Promise.race([closed, new Promise((end) => setTimeout(end, PAGE_MS))]);
  thrown += await tab.evaluate(() => window.thrown);
  pages += 1;
  // Leaving it is what sends its Web Vitals.
  await tab.goto("about:blank");
  await tab.close();
}
// What was handed over is sent while the browser lives.
await new Promise((end) => setTimeout(end, 1_000));
await browser.close();
console.log(JSON.stringify({ pages, thrown }));
process.exit(0);
