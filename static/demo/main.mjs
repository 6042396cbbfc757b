// Fills the databases of `make run` with the demo data and keeps their existing content. Run it while the services
// are stopped: it starts each of them without a rate limit and stops it afterwards. The environment variables GROUPS,
// LINES and DAYS set the amount of data.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_SIZE, fillCollector, fillTracker, fillViewer, TAIL_BUFFER } from "./fill.mjs";

const ROOT = join(import.meta.dirname, "../..");
const RUN_FOLDER = join(ROOT, ".run");
const PROGRESS_STEP = 100;
const size = { now: Date.now(), ...DEFAULT_SIZE };

for (const name of ["groups", "lines", "days"]) {
  const value = process.env[name.toUpperCase()];
  if (value !== undefined) {
    size[name] = Number(value);
    if (!(Number.isInteger(size[name]) && size[name] > 0)) {
      console.error(`${name.toUpperCase()} must be a positive integer, got '${value}'`);
      process.exit(2);
    }
  }
}

mkdirSync(RUN_FOLDER, { recursive: true, mode: 0o700 });
const key = readOrCreateApiKey();

/** Returns the API key of `make run`. Generates it if `make run` has not done so yet. */
function readOrCreateApiKey() {
  const file = join(RUN_FOLDER, "api-key");
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    if (error.code !== "ENOENT") {
      throw error;
    }
    const newKey = randomBytes(16).toString("hex");
    writeFileSync(file, newKey);
    return newKey;
  }
}

/** Starts a service on a free port, calls `action` with a function that sends requests to it, and stops the service. */
async function withService(name, env, action) {
  const settings = { API_KEY: key, PORT: "0", LISTEN_ADDR: "127.0.0.1", RATE_LIMIT: "0", HOST_METRICS: "0", ...env };
  const child = spawn(join(ROOT, name), { cwd: RUN_FOLDER, env: settings, stdio: ["ignore", "ignore", "pipe"] });
  const url = await new Promise((resolve, reject) => {
    let log = "";
    child.on("error", reject);
    child.on("exit", () => reject(new Error(`${name} failed to start:\n${log}`)));
    child.stderr.on("data", (chunk) => {
      log += chunk;
      const address = /listening on (\S+)[\s\S]* is ready/.exec(log)?.[1];
      if (address) {
        resolve(`http://${address}`);
      }
    });
  });
  const request = async (method, path, body) => {
    const headers = { "X-API-Key": key, "Content-Type": "application/json" };
    const response = await fetch(url + path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
    if (!response.ok) {
      throw new Error(`${name}: ${method} ${path} failed: ${response.status} ${await response.text()}`);
    }
    return response.json();
  };
  try {
    await action(request);
  } finally {
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await exited;
  }
}

/** Returns a progress callback that updates one line of a terminal, or prints only the final count to a pipe. */
function progress(noun) {
  return (done, total) => {
    if (process.stdout.isTTY && (done % PROGRESS_STEP === 0 || done === total)) {
      process.stdout.write(`\r${noun}: ${done} of ${total}`);
    }
    if (done === total) {
      process.stdout.write(process.stdout.isTTY ? "\n" : `${noun}: ${total}\n`);
    }
  };
}

try {
  const trackerSettings = { DATABASE_PATH: "errors.db" };
  await withService("error-tracker", trackerSettings, (request) => fillTracker(request, size, progress("reports")));
  const collectorSettings = {
    DATABASE_PATH: "metrics.db",
    MAX_POINT_AGE: String((size.days + 1) * 24),
    AGGREGATION_INTERVAL: "1",
  };
  await withService("metrics-collector", collectorSettings, (request) =>
    fillCollector(request, size, progress("points")),
  );
  const containers = join(RUN_FOLDER, "containers");
  mkdirSync(containers, { recursive: true });
  const viewerSettings = { DATABASE_PATH: "logs.db", LOG_SOURCES: containers, TAIL_BUFFER };
  await withService("log-viewer", viewerSettings, (request) =>
    fillViewer(request, containers, size, progress("lines")),
  );
  console.log("Demo data written. Run `make run` to view it.");
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
