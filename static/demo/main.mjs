// Fills the databases that `make run` uses with a month of a shop's life. What was in them stays. To be run while the
// services are not: it starts them by itself, without limits on its own requests, and ends them.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fillCollector, fillTracker, fillViewer, SIZE, TAIL_BUFFER } from "./fill.mjs";

const TOP = join(import.meta.dirname, "../..");
const RUN = join(TOP, ".run");
const wanted = { now: Date.now(), ...SIZE };

for (const name of ["groups", "lines", "days"]) {
  const given = process.env[name.toUpperCase()];
  if (given !== undefined) {
    wanted[name] = Number(given);
    if (!(Number.isInteger(wanted[name]) && wanted[name] > 0)) {
      console.error(`${name.toUpperCase()} must be a whole number above zero, not ${given}`);
      process.exit(2);
    }
  }
}

mkdirSync(RUN, { recursive: true, mode: 0o700 });
const key = keyOfRun();

/** The key that `make run` has generated, or will find generated. */
function keyOfRun() {
  const file = join(RUN, "api-key");
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    if (error.code !== "ENOENT") {
      throw error;
    }
    const made = randomBytes(16).toString("hex");
    writeFileSync(file, made);
    return made;
  }
}

/** Starts a service on a free port for as long as `work` takes, which gets what asks it. */
async function during(name, env, work) {
  const settings = { API_KEY: key, PORT: "0", LISTEN_ADDR: "127.0.0.1", RATE_LIMIT: "0", HOST_METRICS: "0", ...env };
  const child = spawn(join(TOP, name), { cwd: RUN, env: settings, stdio: ["ignore", "ignore", "pipe"] });
  const url = await new Promise((resolve, reject) => {
    let said = "";
    child.on("error", reject);
    child.on("exit", () => reject(new Error(`${name} did not start:\n${said}`)));
    child.stderr.on("data", (bytes) => {
      said += bytes;
      const address = /listening on (\S+)[\s\S]* is ready/.exec(said)?.[1];
      if (address) {
        resolve(`http://${address}`);
      }
    });
  });
  const ask = async (method, path, body) => {
    const headers = { "X-API-Key": key, "Content-Type": "application/json" };
    const answer = await fetch(url + path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
    if (!answer.ok) {
      throw new Error(`${name}: ${method} ${path}: ${answer.status} ${await answer.text()}`);
    }
    return answer.json();
  };
  try {
    await work(ask);
  } finally {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await ended;
  }
}

/** Says how far something is, on one line of a terminal, or at its end where there is none. */
function progress(what) {
  return (done, all) => {
    if (process.stdout.isTTY && (done % 100 === 0 || done === all)) {
      process.stdout.write(`\r${what}: ${done} of ${all}`);
    }
    if (done === all) {
      process.stdout.write(process.stdout.isTTY ? "\n" : `${what}: ${all}\n`);
    }
  };
}

try {
  await during("error-tracker", { DATABASE_PATH: "errors.db" }, (ask) => fillTracker(ask, wanted, progress("reports")));
  const past = {
    DATABASE_PATH: "metrics.db",
    MAX_POINT_AGE: String((wanted.days + 1) * 24),
    AGGREGATION_INTERVAL: "1",
  };
  await during("metrics-collector", past, (ask) => fillCollector(ask, wanted, progress("points")));
  const containers = join(RUN, "containers");
  mkdirSync(containers, { recursive: true });
  const whole = { DATABASE_PATH: "logs.db", LOG_SOURCES: containers, TAIL_BUFFER };
  await during("log-viewer", whole, (ask) => fillViewer(ask, containers, wanted, progress("lines")));
  console.log("make run shows them.");
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
