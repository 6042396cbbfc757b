/**
 * Backends that receive reports in tests. If the folder in MONLIGHT_BIN_DIR contains `browser-relay`, `error-tracker` and
 * `metrics-collector`, the backend runs these binaries and reads the reports from their APIs. Otherwise it is a stub that
 * implements the relay's contract.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserError, BrowserMetric } from "../../src/types";
import { waitFor } from "./wait-for";

export const DSN = "0123456789abcdef0123456789abcdef";
const BODY_MAX_BYTES = 65_536;
const KEY = "key-used-by-tests";
const PROJECT = "shop";

/** Error report that the backend received. */
export interface ReceivedError {
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
  /** Base URL of the relay, `http://host:port`. */
  url: string;
  /** URL of `monlight.min.js`: at the relay or, with the stub, at the page's own host. */
  script: string;
  /** Returns the errors of pages with this path. */
  errors(page: string): Promise<ReceivedError[]>;
  /** Returns the number and the sum of the values with this name and all of these labels. */
  metric(name: string, labels: Record<string, string>): Promise<{ count: number; sum: number }>;
  close(): Promise<void>;
}

/** Opens the backend that is available. @param origin origin of the pages, which CORS must allow */
export function openBackend(origin: string): Promise<Backend> {
  const folder = process.env.MONLIGHT_BIN_DIR;
  return folder && existsSync(join(folder, "browser-relay")) ? openServices(folder, origin) : openStub(origin);
}

const pathOf = (url: string): string => new URL(url).pathname;

async function openStub(origin: string): Promise<Backend> {
  const errors: BrowserError[] = [];
  const metrics: BrowserMetric[] = [];
  const keys = new Set<string>();

  /** Sets the response headers and returns the status. */
  const handle = (request: IncomingMessage, response: ServerResponse, body: Buffer): number => {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://stub");
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
    const { idempotency_key: key, ...payload } = JSON.parse(body.toString());
    if (key !== undefined) {
      if (!/^.{1,64}$/.test(key)) return 400;
      if (keys.has(key)) return 202;
      keys.add(key);
    }
    if (pathname === "/api/browser/errors") {
      errors.push(payload);
      return 201;
    }
    if (pathname === "/api/browser/metrics") {
      metrics.push(...payload.metrics);
      return 202;
    }
    return 404;
  };

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      response.statusCode = handle(request, response, Buffer.concat(chunks));
      const { statusCode } = response;
      response.end(statusCode === 204 ? undefined : statusCode < 400 ? "{}" : '{"detail":"rejected"}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    script: "/monlight.min.js",
    async errors(page) {
      return errors
        .filter(({ url }) => url && pathOf(url) === page)
        .map(({ type, message, stack, url = "", release, environment, session_id, context = {} }) => {
          return { type, message, stack, url, release, environment, session_id, context };
        });
    },
    async metric(name, labels) {
      const values = metrics
        .filter((metric) => metric.name === name)
        .filter((metric) => Object.entries(labels).every(([label, value]) => metric.labels?.[label] === value))
        .map((metric) => metric.value);
      const isCounter = metrics.some((metric) => metric.name === name && metric.type === "counter");
      const sum = values.reduce((total, value) => total + value, 0);
      return { count: isCounter ? sum : values.length, sum };
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Running binary on a free port. */
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
      stream?.on("data", (chunk) => {
        this.output += chunk;
      });
    }
  }

  async ready(): Promise<this> {
    this.url = await waitFor("the service to listen", () => {
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

  async stop(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const exited = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill();
    await exited;
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
          .filter(({ request_url }) => pathOf(request_url) === page)
          .map(({ request_url: url, environment, extra: { release, session_id, context = {} } }) => {
            return { type, message, stack, url, release, environment, session_id, context };
          }),
      );
    },
    async metric(name, labels) {
      const filters = Object.entries({ ...labels, source: "browser" }).map(([label, value]) => `${label}:${value}`);
      const query = new URLSearchParams({ name, period: "1h", project: PROJECT, labels: filters.join(",") });
      const { data } = (await collector.get(`/api/metrics?${query}`)) as { data: { count: number; sum: number }[] };
      const total = (field: "count" | "sum"): number => data.reduce((sum, bucket) => sum + bucket[field], 0);
      return name.endsWith("_total")
        ? { count: total("sum"), sum: total("sum") }
        : { count: total("count"), sum: total("sum") };
    },
    async close() {
      await relay.stop();
      await Promise.all([tracker.stop(), collector.stop()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
