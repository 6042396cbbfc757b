// Serves a folder from two origins and visits its pages with Chromium.
//   node visit.mjs FOLDER CHROMIUM
// Prints the two origins; reads a line of JSON, a list of addresses to visit; prints what each page observed.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [folder, executablePath] = process.argv.slice(2);
const types = { html: "text/html", js: "text/javascript" };

function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname);
    try {
      const body = await readFile(join(folder, path));
      response.writeHead(200, { "Content-Type": types[path.split(".").pop()] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(`http://localhost:${server.address().port}`)));
}

console.log(JSON.stringify([await serve(), await serve()]));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const addresses = JSON.parse((await lines.next()).value);

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath, args: [...args, "--disable-component-update", "--disable-sync"] });
for (const address of addresses) {
  const page = await browser.newPage();
  await page.goto(address);
  console.log(JSON.stringify(await page.evaluate(() => window.observed)));
  // Leaving it is what sends its beacons.
  await page.goto("about:blank");
  await page.close();
}
// What was handed over is sent while the browser lives: whoever reads closes our input when it has arrived.
await lines.next();
await browser.close();
process.exit(0);
