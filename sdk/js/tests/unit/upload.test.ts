import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

const ROOT = process.cwd();
const BIN = join(ROOT, "bin/monlight.mjs");
const MAP = JSON.stringify({ version: 3, sources: ["a.ts"], mappings: "AAAA" });

interface Upload {
  path: string | undefined;
  key: unknown;
  body: { project: string; release: string; file_url: string; map_content: string };
}
/** Response of the relay: the status, the header Retry-After or Location, and the body. */
type Reply = [status: number, header?: string | undefined, body?: string];
type Result = { code: number | null; stdout: string; stderr: string };

let relay: Server;
let url: string;
let folder: string;
let uploads: Upload[];
/** Returns the response to the upload with this index. */
let reply: (index: number, upload: Upload) => Reply;

before(async () => {
  const readJson = async (request: IncomingMessage) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    return JSON.parse(text);
  };
  relay = createServer(async (request, response) => {
    const upload = { path: request.url, key: request.headers["x-api-key"], body: await readJson(request) };
    const [status, value, body = "{}"] = reply(uploads.push(upload) - 1, upload);
    const name = value?.startsWith("http") ? "Location" : "Retry-After";
    response.writeHead(status, value ? { [name]: value } : {}).end(body);
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(relay.address() as AddressInfo).port}`;
  folder = mkdtempSync(join(tmpdir(), "monlight-upload-"));
});
after(() => {
  relay.close();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  uploads = [];
  reply = () => [201];
});

/** Writes source maps into a new folder and returns its path. */
function maps(name: string, files: string[]): string {
  for (const file of files) {
    mkdirSync(join(folder, name, file, ".."), { recursive: true });
    writeFileSync(join(folder, name, file), MAP);
  }
  return join(folder, name);
}

function run(args: string[], env: Record<string, string> = {}): Promise<Result> {
  const settings = { PATH: process.env.PATH, MONLIGHT_URL: url, MONLIGHT_KEY: "s3cret", ...env };
  const child = spawn(process.execPath, [BIN, ...args], { env: settings as NodeJS.ProcessEnv });
  const result: Result = { code: null, stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => {
    result.stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    result.stderr += chunk;
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ ...result, code })));
}

const fileUrls = (): string[] => uploads.map(({ body }) => body.file_url);

test("upload keeps the path of the relay and joins the URL of the folder with one slash", async () => {
  const dist = maps("dist", ["app.js.map", "pages/[slug].mjs.map", "pages/50%?#1.cjs.map", "style.css.map"]);
  for (const [base, prefix] of [
    ["https://shop.example/assets", "https://shop.example/assets/"],
    ["https://shop.example/assets/", "https://shop.example/assets/"],
    [undefined, "/"],
  ] as const) {
    uploads = [];
    const args = ["upload", "shop", "1.4.2", dist, ...(base ? [base] : [])];
    const result = await run(args, { MONLIGHT_URL: `${url}/monitoring/relay/` });
    assert.deepEqual([result.code, result.stderr], [0, ""]);
    assert.deepEqual(fileUrls(), [`${prefix}app.js`, `${prefix}pages/50%25%3F%231.cjs`, `${prefix}pages/[slug].mjs`]);
    assert.equal(result.stdout.split("\n")[0], `uploaded ${prefix}app.js (shop 1.4.2)`);
  }
  const [{ path, key, body }] = uploads as [Upload];
  assert.deepEqual([path, key], ["/monitoring/relay/api/source-maps", "s3cret"]);
  assert.deepEqual(body, { project: "shop", release: "1.4.2", file_url: "/app.js", map_content: MAP });
});

test("upload waits while the relay is busy, continues after failures and reports them at the end", async () => {
  const dist = maps("busy", ["a.js.map", "b.js.map", "c.js.map", "d.js.map"]);
  const replies: Reply[] = [
    [201],
    [429, "1", '{"detail":"Too many requests; retry in 1 s"}'],
    [503, "1"],
    [201],
    [413, undefined, '{"detail":"The source map is larger than 5 bytes"}'],
    [201],
  ];
  reply = (index) => replies[index] ?? [500];
  const startMs = Date.now();
  const result = await run(["upload", "shop", "1", dist]);
  assert.ok(Date.now() - startMs >= 2_000, "both waits took place");
  assert.deepEqual(fileUrls(), ["/a.js", "/b.js", "/b.js", "/b.js", "/c.js", "/d.js"]);
  assert.equal(result.code, 1);
  assert.equal(result.stdout.match(/^uploaded /gm)?.length, 3);
  assert.match(result.stderr, /^b\.js\.map: 429 Too many requests; retry in 1 s; next attempt in 1 s$/m);
  const summary = "upload failed for 1 of 4 source maps:\n  c.js.map: 413 The source map is larger than 5 bytes\n";
  assert.ok(result.stderr.endsWith(summary), result.stderr);
});

test("upload stops if no further file can succeed", async () => {
  const dist = maps("stop", ["a.js.map", "b.js.map", "c.js.map", "d.js.map", "e.js.map"]);
  for (const [response, reason] of [
    [[401, undefined, '{"detail":"A valid API key is required"}'], "401 A valid API key is required"],
    [[302, "https://other.example/"], "302 redirected to https://other.example/; set MONLIGHT_URL to the new URL"],
    [[404, undefined, "<html>\nnginx"], "404 <html>"],
  ] as [Reply, string][]) {
    uploads = [];
    reply = () => response;
    const result = await run(["upload", "shop", "1", dist]);
    assert.equal(result.code, 1);
    assert.equal(uploads.length, 1);
    assert.deepEqual(result.stderr.split("\n").slice(0, 3), [
      "upload failed for 5 of 5 source maps:",
      `  a.js.map: ${reason}`,
      "  b.js.map: not tried",
    ]);
  }
  const down = await run(["upload", "shop", "1", dist], { MONLIGHT_URL: "http://127.0.0.1:9" });
  assert.equal(down.code, 1);
  assert.equal(down.stderr.match(/: no answer from http:\/\/127\.0\.0\.1:9\/api\/source-maps: /g)?.length, 3);
  assert.match(down.stderr, /d\.js\.map: not tried\n {2}e\.js\.map: not tried\n$/);
});

test("a page that answers every request is not taken for the relay", async () => {
  reply = () => [200, undefined, "<!doctype html>"];
  const result = await run(["upload", "shop", "1", maps("page", ["a.js.map"])]);
  assert.equal(result.code, 1);
  assert.match(result.stderr, /a\.js\.map: 200 <!doctype html>/);
});

test("invalid arguments print the reason and the usage", async () => {
  const dist = maps("usage", ["a.js.map"]);
  const empty = maps("empty", ["a.css.map"]);
  const cases: [string[], Record<string, string>, string][] = [
    [["upload"], {}, "3 or 4 arguments are required; got 0"],
    [["upload", "a", "b", "c", "d", "e"], {}, "3 or 4 arguments are required; got 5"],
    [["upload", "shop", "1", dist, "--dry-run"], {}, "unknown option --dry-run"],
    [["upload", "shop", "1", dist], { MONLIGHT_KEY: "" }, "MONLIGHT_KEY is not set"],
    [
      ["upload", "shop", "1", dist],
      { MONLIGHT_URL: "relay.example" },
      "MONLIGHT_URL must be set to an http or https URL",
    ],
    [["upload", "shop", "1", dist, "/assets?v=1"], {}, "the URL of the folder must not have a query or a fragment"],
    [["upload", "shop", "1", "missing"], {}, "cannot read missing: ENOENT"],
    [["upload", "shop", "1", empty], {}, `no .js.map files found in ${empty}`],
    [[], {}, ""],
    [["download"], {}, ""],
  ];
  const results = await Promise.all(cases.map(([args, env]) => run(args, env)));
  for (const [index, { code, stdout, stderr }] of results.entries()) {
    const reason = cases[index]?.[2] ?? "";
    assert.deepEqual([code, stdout], [2, ""], reason);
    assert.ok(stderr.startsWith(reason) && stderr.includes("Usage: "), stderr);
    assert.doesNotMatch(stderr, /\bat .*\.mjs/);
  }
  for (const args of [["--help"], ["upload", "--help"]]) {
    const result = await run(args);
    assert.deepEqual([result.code, result.stderr], [0, ""]);
    assert.match(result.stdout, /^Usage: /);
  }
  assert.equal(uploads.length, 0);
});

test("npx runs the command of the installed package", async () => {
  const app = join(folder, "app");
  mkdirSync(app);
  const npm = (args: string[], cwd: string) => {
    const { status, stdout, stderr } = spawnSync("npm", [...args, "--ignore-scripts"], { cwd, encoding: "utf8" });
    assert.equal(status, 0, stderr);
    return stdout.trim();
  };
  const tarball = npm(["pack", "--silent", "--pack-destination", app], ROOT);
  writeFileSync(join(app, "package.json"), "{}");
  npm(["install", "--offline", "--no-audit", "--no-fund", `./${tarball}`], app);
  maps("app/dist", ["app.js.map"]);
  const env = { ...process.env, MONLIGHT_URL: url, MONLIGHT_KEY: "s3cret", npm_config_offline: "true" };
  const args = ["@monlight/browser", "upload", "shop", "1.4.2", "dist", "https://shop.example/"];
  const child = spawn("npx", args, { cwd: app, env, stdio: "inherit" });
  assert.equal(await new Promise((resolve) => child.on("close", resolve)), 0);
  assert.deepEqual(fileUrls(), ["https://shop.example/app.js"]);
});
