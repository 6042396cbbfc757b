/**
 * Where reports arrive: a receiver that holds to the relay's contract, or, when MONLIGHT_BIN_DIR names a folder with
 * `browser-relay`, `error-tracker` and `metrics-collector`, these; then what arrived is what their APIs say.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserError, BrowserMetric } from "../../src/types";
import { until } from "./patience";

export const DSN = "0123456789abcdef0123456789abcdef";
const BODY_MAX_BYTES = 65_536;
const KEY = "a-key-of-the-tests";
const PROJECT = "shop";

/** An error as it arrived. */
export interface Arrived {
  type: string;
  message: string;
  stack: string;
  url: string;
  release: string | undefined;
  environment: string | undefined;
  session_id: string | undefined;
  context: Record<string, unknown>;
}

export interface Backend {
  /** `http://host:port` of the relay. */
  url: string;
  /** Where the package itself is: at the relay, or where there is only a receiver at the page's own host. */
  script: string;
  /** Errors of pages with that path. */
  errors(page: string): Promise<Arrived[]>;
  /** Values of that name with all these labels: how many and their sum. */
  metric(name: string, labels: Record<string, string>): Promise<{ count: number; sum: number }>;
  close(): Promise<void>;
}

/** @param origin of the pages */
export function openBackend(origin: string): Promise<Backend> {
  const folder = process.env.MONLIGHT_BIN_DIR;
  return folder && existsSync(join(folder, "browser-relay")) ? openServices(folder, origin) : openReceiver(origin);
}

/** The path of a URL. */
const path = (url: string): string => new URL(url).pathname;

async function openReceiver(origin: string): Promise<Backend> {
  const errors: BrowserError[] = [];
  const metrics: BrowserMetric[] = [];
  const keys = new Set<string>();

  const answer = (request: IncomingMessage, response: ServerResponse, body: Buffer): number => {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://receiver");
    if (request.headers.origin === origin) {
      response.setHeader("Access-Control-Allow-Origin", origin);
      response.setHeader("Access-Control-Allow-Credentials", "true");
      response.setHeader("Access-Control-Expose-Headers", "Retry-After");
      response.setHeader("Vary", "Origin");
    }
    if (request.method === "OPTIONS") {
      response.setHeader("Access-Control-Allow-Methods", "POST, OPTIONS");
      response.setHeader("Access-Control-Allow-Headers", "Content-Type, X-Monlight-Key, Idempotency-Key");
      response.setHeader("Access-Control-Max-Age", "86400");
      return 204;
    }
    if (request.method !== "POST") return 405;
    if ((request.headers["x-monlight-key"] ?? searchParams.get("key")) !== DSN) return 401;
    if (request.headers["content-type"] !== "application/json") return 415;
    if (body.length > BODY_MAX_BYTES) return 413;
    const key = request.headers["idempotency-key"];
    if (typeof key === "string") {
      if (!/^.{1,64}$/.test(key)) return 400;
      if (keys.has(key)) return 202;
      keys.add(key);
    }
    const sent = JSON.parse(body.toString());
    if (pathname === "/api/browser/errors") {
      errors.push(sent);
      return 201;
    }
    if (pathname === "/api/browser/metrics") {
      metrics.push(...sent.metrics);
      return 202;
    }
    return 404;
  };

  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      response.statusCode = answer(request, response, Buffer.concat(parts));
      response.end(response.statusCode === 204 ? undefined : "{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    script: "/monlight.min.js",
    async errors(page) {
      return errors
        .filter(({ url }) => url && path(url) === page)
        .map(({ type, message, stack, url = "", release, environment, session_id, context = {} }) => {
          return { type, message, stack, url, release, environment, session_id, context };
        });
    },
    async metric(name, labels) {
      const values = metrics
        .filter((metric) => metric.name === name)
        .filter((metric) => Object.entries(labels).every(([label, value]) => metric.labels?.[label] === value))
        .map((metric) => metric.value);
      const counter = metrics.some((metric) => metric.name === name && metric.type === "counter");
      const sum = values.reduce((all, value) => all + value, 0);
      return { count: counter ? sum : values.length, sum };
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

class Service {
  url = "";
  private child: ChildProcess;
  private output = "";

  constructor(binary: string, database: string, settings: Record<string, string>) {
    this.child = spawn(binary, {
      env: {
        PORT: "0",
        LISTEN_ADDR: "127.0.0.1",
        DATABASE_PATH: database,
        RATE_LIMIT: "0",
        HOST_METRICS: "0",
        ...settings,
      },
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (part) => {
        this.output += part;
      });
    }
  }

  async ready(): Promise<this> {
    this.url = await until("a service that listens", () => {
      if (this.child.exitCode !== null) throw new Error(this.output);
      return /listening on (\S+)/.exec(this.output)?.[1];
    });
    this.url = `http://${this.url}`;
    return this;
  }

  async get(path: string): Promise<unknown> {
    const response = await fetch(this.url + path, { headers: { "X-API-Key": KEY } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill();
    await ended;
  }
}

interface Occurrence {
  request_url: string;
  environment: string;
  extra: { release?: string; session_id?: string; context?: Record<string, unknown> };
}
interface Group {
  exception_type: string;
  message: string;
  traceback: string;
  occurrences: Occurrence[];
}

async function openServices(binaries: string, origin: string): Promise<Backend> {
  const folder = mkdtempSync(join(tmpdir(), "monlight-js-"));
  const start = (name: string, settings: Record<string, string>): Promise<Service> =>
    new Service(join(binaries, name), join(folder, `${name}.db`), settings).ready();
  const [tracker, collector] = await Promise.all([
    start("error-tracker", { API_KEY: KEY }),
    start("metrics-collector", { API_KEY: KEY }),
  ]);
  const relay = await start("browser-relay", {
    ADMIN_API_KEY: KEY,
    ERROR_TRACKER_URL: tracker.url,
    ERROR_TRACKER_API_KEY: KEY,
    METRICS_COLLECTOR_URL: collector.url,
    METRICS_COLLECTOR_API_KEY: KEY,
    CORS_ORIGINS: origin,
    DSN_KEYS: `${PROJECT}:${DSN}`,
    KEY_RATE_LIMIT: "0",
  });
  return {
    url: relay.url,
    script: `${relay.url}/monlight.min.js`,
    async errors(page) {
      const list = (await tracker.get(`/api/errors?resolved=all&limit=200&project=${PROJECT}`)) as {
        errors: { id: number }[];
      };
      const groups = (await Promise.all(list.errors.map(({ id }) => tracker.get(`/api/errors/${id}`)))) as Group[];
      return groups.flatMap(({ exception_type: type, message, traceback: stack, occurrences }) =>
        occurrences
          .filter(({ request_url }) => path(request_url) === page)
          .map(({ request_url: url, environment, extra: { release, session_id, context = {} } }) => {
            return { type, message, stack, url, release, environment, session_id, context };
          }),
      );
    },
    async metric(name, labels) {
      const all = Object.entries({ ...labels, source: "browser" }).map(([label, value]) => `${label}:${value}`);
      const query = new URLSearchParams({ name, period: "1h", project: PROJECT, labels: all.join(",") });
      const { data } = (await collector.get(`/api/metrics?${query}`)) as { data: { count: number; sum: number }[] };
      const total = (field: "count" | "sum"): number => data.reduce((whole, bucket) => whole + bucket[field], 0);
      return name.endsWith("_total")
        ? { count: total("sum"), sum: total("sum") }
        : { count: total("count"), sum: total("sum") };
    },
    async close() {
      await relay.end();
      await Promise.all([tracker.end(), collector.end()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
