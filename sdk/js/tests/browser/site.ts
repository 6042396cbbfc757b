/** Test web site, and the Chromium that visits it. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";

const ROOT = process.cwd();
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS =
  "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";

export interface StaticFile {
  body: string;
  headers?: Record<string, string>;
  type?: string;
}

export interface Site {
  origin: string;
  /** Serves an HTML page or another file at a path. */
  put(path: string, file: StaticFile): void;
  /** JSON bodies that pages have posted to `/collect`. */
  collected: Record<string, unknown>[];
  close(): Promise<void>;
}

export async function openSite(): Promise<Site> {
  const files = new Map<string, StaticFile>();
  const prerendered = new Set<string>();
  const collected: Record<string, unknown>[] = [];
  const hanging = new Set<ServerResponse>();
  const script = (path: string): StaticFile => ({
    body: readFileSync(join(ROOT, path), "utf8"),
    type: "text/javascript",
  });
  files.set("/monlight.min.js", script("dist/monlight.min.js"));
  files.set("/web-vitals.js", script("node_modules/web-vitals/dist/web-vitals.iife.js"));
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "", "http://site");
    // The browser sends this header when it prerenders a page.
    if (request.headers["sec-purpose"]?.includes("prerender")) prerendered.add(pathname);
    const file = files.get(pathname);
    if (file) {
      response.writeHead(200, { "Content-Type": file.type ?? "text/html", ...file.headers });
      return response.end(file.body);
    }
    if (pathname.startsWith("/api/reset")) return request.socket.destroy();
    switch (pathname) {
      case "/collect": {
        let body = "";
        request.on("data", (chunk) => {
          body += chunk;
        });
        request.on("end", () => {
          collected.push(JSON.parse(body));
          response.end();
        });
        return;
      }
      case "/api/hang":
        return hanging.add(response);
      case "/api/prerendered":
        response.statusCode = prerendered.size ? 200 : 404;
        return response.end();
      case "/api/ok":
        return response.end("ok");
      default:
        response.statusCode = pathname.startsWith("/api/fail") ? 500 : 404;
        response.end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    put: (path, file) => files.set(path, file),
    collected,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Options of `putSdkPage`. */
export interface SdkPage {
  /** Script that runs before the SDK, for example to add a function to `MonlightConfig`. */
  before?: string;
  /** Script that runs after the SDK. */
  script?: string;
  config?: object;
  html?: string;
  headers?: Record<string, string>;
}

/** Serves a page that loads the SDK, followed by the script `{path}.js`. */
export function putSdkPage(
  site: Site,
  settings: object,
  path: string,
  { before = "", script = "", config = {}, html = "", headers = {} }: SdkPage,
): void {
  const configScript = `window.MonlightConfig = ${JSON.stringify({ ...settings, ...config })}; ${before}`;
  site.put(`${path}.config.js`, { body: configScript, type: "text/javascript" });
  site.put(`${path}.js`, { body: script, type: "text/javascript" });
  site.put(path, {
    headers,
    body: `<!doctype html><title>Shop</title><link rel="icon" href="data:,"><script src="${path}.config.js"></script>
      <script src="/monlight.min.js"></script><main>${html}<p>Welcome</p></main><script src="${path}.js"></script>`,
  });
}

/** Returns why browser tests are skipped, or false if Chromium is installed. Throws instead if `CI` is set. */
export function missingBrowser(): string | false {
  if (existsSync(CHROMIUM)) return false;
  const reason = `SKIPPED ALL BROWSER TESTS: ${CHROMIUM} not found (run apt-get install chromium, or set CHROMIUM)`;
  assert.ok(!process.env.CI, reason);
  console.error(reason);
  return reason;
}

export const openBrowser = (): Promise<Browser> =>
  chromium.launch({
    executablePath: CHROMIUM,
    args: FLAGS.split(" "),
    // Playwright disables the back/forward cache by default.
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
  });

/** Opens a URL in a Chromium without DevTools, which disable prerendering. Returns a function that closes it. */
export async function openWithoutDevTools(url: string): Promise<() => Promise<void>> {
  const profile = mkdtempSync(join(tmpdir(), "monlight-js-"));
  const child = spawn(CHROMIUM, ["--headless=new", ...FLAGS.split(" "), `--user-data-dir=${profile}`, url], {
    stdio: "ignore",
    detached: true,
  });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  return async () => {
    // Kills the process group, because Chromium consists of several processes.
    if (child.pid) process.kill(-child.pid, "SIGKILL");
    await exited;
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  };
}
