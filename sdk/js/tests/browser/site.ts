/** A shop with pages, and a browser that visits them. */

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

export interface PageText {
  body: string;
  headers?: Record<string, string>;
  type?: string;
}

export interface Site {
  origin: string;
  /** Puts a page, or another file, at a path. */
  put(path: string, page: PageText): void;
  /** What pages have posted to `/collect`. */
  collected: Record<string, unknown>[];
  close(): Promise<void>;
}

export async function openSite(): Promise<Site> {
  const pages = new Map<string, PageText>();
  const prerendered = new Set<string>();
  const collected: Record<string, unknown>[] = [];
  const hanging = new Set<ServerResponse>();
  const file = (path: string): PageText => ({ body: readFileSync(join(ROOT, path), "utf8"), type: "text/javascript" });
  pages.set("/monlight.min.js", file("dist/monlight.min.js"));
  pages.set("/web-vitals.js", file("node_modules/web-vitals/dist/web-vitals.iife.js"));
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "", "http://site");
    // Asked for in advance, to be rendered before it is visited.
    if (request.headers["sec-purpose"]?.includes("prerender")) prerendered.add(pathname);
    const page = pages.get(pathname);
    if (page) {
      response.writeHead(200, { "Content-Type": page.type ?? "text/html", ...page.headers });
      return response.end(page.body);
    }
    switch (pathname) {
      case "/collect": {
        let text = "";
        request.on("data", (part) => {
          text += part;
        });
        request.on("end", () => {
          collected.push(JSON.parse(text));
          response.end();
        });
        return;
      }
      case "/api/hang":
        return hanging.add(response);
      case "/api/reset":
        return request.socket.destroy();
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
    put: (path, page) => pages.set(path, page),
    collected,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Why there is no browser here, if there is none. Where `CI` is set, that is a failure. */
export function missingBrowser(): string | false {
  if (existsSync(CHROMIUM)) return false;
  const why = `${CHROMIUM} is not here: NOTHING WAS TESTED IN A BROWSER (apt-get install chromium, or set CHROMIUM)`;
  assert.ok(!process.env.CI, why);
  console.error(why);
  return why;
}

export const openBrowser = (): Promise<Browser> =>
  chromium.launch({
    executablePath: CHROMIUM,
    args: FLAGS.split(" "),
    // Playwright turns it off, and it is what is tested.
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
  });

/** Opens a page in a browser that nobody looks into. @returns what ends it */
export async function visitUnseen(url: string): Promise<() => Promise<void>> {
  const profile = mkdtempSync(join(tmpdir(), "monlight-js-"));
  const child = spawn(CHROMIUM, ["--headless=new", ...FLAGS.split(" "), `--user-data-dir=${profile}`, url], {
    stdio: "ignore",
    detached: true,
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return async () => {
    // The browser is several processes.
    if (child.pid) process.kill(-child.pid, "SIGKILL");
    await ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  };
}
