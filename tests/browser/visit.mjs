// Serves a folder from two origins and visits its pages in Chromium.
//   node visit.mjs FOLDER CHROMIUM
// Prints the two origins as JSON. Then reads one line of JSON, a list of URLs to visit, and prints the value of
// `window.observed` for each.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [folder, executablePath] = process.argv.slice(2);
const contentTypes = { html: "text/html", js: "text/javascript" };

function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    try {
      const body = await readFile(join(folder, path));
      const contentType = contentTypes[path.split(".").pop()] ?? "application/octet-stream";
      response.writeHead(200, { "Content-Type": contentType }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`http://localhost:${server.address().port}`));
  });
}

console.log(JSON.stringify([await serve(), await serve()]));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const urls = JSON.parse((await lines.next()).value);

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
args.push("--disable-component-update", "--disable-sync");
const browser = await chromium.launch({ executablePath, args });
for (const url of urls) {
  const page = await browser.newPage();
  await page.goto(url);
  console.log(JSON.stringify(await page.evaluate(() => window.observed)));
  // Leaving the page sends its beacons.
  await page.goto("about:blank");
  await page.close();
}
// Beacons are sent asynchronously and only while the browser runs. The parent process closes standard input when they
// have arrived.
await lines.next();
await browser.close();
process.exit(0);
