// Container logs of the shop, in the folder layout of Docker's json-file driver.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DAY_MS, ENDPOINTS, isPaymentOutage, releaseAt } from "./shop.mjs";

const RED = "\u001b[31m";
const GREEN = "\u001b[32m";
const RESET = "\u001b[0m";

/** Containers with their share of all entries in percent. `generate` returns the lines of one entry. */
const CONTAINERS = [
  { name: "web", percent: 46, generate: accessLogEntry },
  { name: "api", percent: 28, generate: applicationEntry },
  { name: "worker", percent: 10, generate: workerEntry },
  { name: "search", percent: 8, generate: searchEntry },
  { name: "db", percent: 5, generate: databaseEntry },
  { name: "cache", percent: 3, generate: cacheEntry },
];

/**
 * Writes a folder with a log file for each container, with at least `lines` lines of the last day in total. Returns
 * the Unix time in milliseconds of the last entry of each container.
 *
 * @param {ReturnType<typeof import("./rng.mjs").createRng>} rng
 * @param {{ now: number, lines: number, folder: string }} options `folder` is used like `/var/lib/docker/containers`
 */
export function writeContainers(rng, { now, lines, folder }) {
  const entries = [];
  let linesGenerated = 0;
  while (linesGenerated < lines) {
    const { name, generate } = rng.pickWeighted(CONTAINERS.map((container) => [container.percent, container]));
    // The density increases towards now, so that the payment outage is well represented.
    const ageMs = DAY_MS * rng.next() ** 1.6;
    const entryLines = generate(rng, new Date(now - ageMs), ageMs);
    linesGenerated += entryLines.length;
    entries.push({ name, timestampMs: now - ageMs, lines: entryLines });
  }
  entries.sort((a, b) => a.timestampMs - b.timestampMs);
  const lastTimestamps = new Map();
  for (const { name } of CONTAINERS) {
    const stream = name === "api" || name === "worker" ? "stderr" : "stdout";
    const record = (timestampMs, line, index) => {
      const time = new Date(timestampMs).toISOString().replace("Z", `${String(index).padStart(6, "0")}Z`);
      return `${JSON.stringify({ log: `${line}\n`, stream, time })}\n`;
    };
    const containerEntries = entries.filter((entry) => entry.name === name);
    const records = containerEntries.flatMap((entry) =>
      entry.lines.map((line, index) => record(entry.timestampMs, line, index)),
    );
    lastTimestamps.set(`shop-${name}-1`, containerEntries.at(-1)?.timestampMs);
    writeContainer(folder, name, records);
  }
  return lastTimestamps;
}

function writeContainer(folder, name, records) {
  const id = Buffer.from(`demo-${name}`).toString("hex").padEnd(64, "0").slice(0, 64);
  const containerFolder = join(folder, id);
  mkdirSync(containerFolder, { recursive: true });
  const logPath = join(containerFolder, `${id}-json.log`);
  const logConfig = { Type: "json-file", Config: {} };
  const labels = { "com.docker.compose.project": "shop", "com.docker.compose.service": name };
  const config = {
    ID: id,
    Name: `/shop-${name}-1`,
    LogPath: logPath,
    Config: { Image: `shop/${name}:2`, Labels: labels },
  };
  writeFileSync(logPath, records.join(""));
  writeFileSync(join(containerFolder, "hostconfig.json"), JSON.stringify({ LogConfig: logConfig }));
  writeFileSync(
    join(containerFolder, "config.v2.json"),
    JSON.stringify({ ...config, HostConfig: { LogConfig: logConfig }, State: { Running: true } }),
  );
}

const randomAddress = (rng) => `10.0.${rng.integer(4)}.${1 + rng.integer(250)}`;
const formatTime = (time) => time.toISOString().slice(0, 19).replace("T", " ");

function accessLogEntry(rng, time, ageMs) {
  const { path } = rng.pickWeighted(ENDPOINTS.map((endpoint) => [endpoint.percent, endpoint]));
  const isPayment = path === "/checkout/pay";
  const status =
    isPayment && isPaymentOutage(ageMs) && rng.next() < 0.31
      ? 504
      : rng.pickWeighted([
          [96, 200],
          [2, 304],
          [1.6, 404],
          [0.4, 500],
        ]);
  const target = path.replace("{slug}", `${rng.pick(["lamp", "chair", "table", "shelf"])}-${rng.integer(90)}`);
  const month = time.toLocaleString("en", { month: "short", timeZone: "UTC" });
  const iso = time.toISOString();
  const logTime = `${iso.slice(8, 10)}/${month}/${iso.slice(0, 4)}:${iso.slice(11, 19)} +0000`;
  return [
    `${randomAddress(rng)} - - [${logTime}] "${isPayment ? "POST" : "GET"} ${target} HTTP/1.1" ${status} ${200 + rng.integer(40_000)} "-" "Mozilla/5.0"`,
  ];
}

function applicationEntry(rng, time, ageMs) {
  const request = rng.hex(8);
  const prefix = (level, name) =>
    `${formatTime(time)},${String(time.getUTCMilliseconds()).padStart(3, "0")} ${level.padEnd(8)} ${name} `;
  if (isPaymentOutage(ageMs) && rng.next() < 0.12) {
    return [
      `${prefix("ERROR", "shop.checkout")}payment failed request=${request} order=${20_000 + rng.integer(9_000)}`,
      "Traceback (most recent call last):",
      '  File "/app/shop/checkout/pay.py", line 88, in pay',
      "    receipt = await provider.charge(order, token)",
      '  File "/app/shop/payments/provider.py", line 141, in charge',
      "    raise PaymentTimeout(self.timeout_s)",
      "shop.payments.PaymentTimeout: the payment provider did not answer within 8.0 s",
    ];
  }
  const milliseconds = rng.logNormal(60, 0.6).toFixed(1);
  const messages = [
    [
      60,
      () => [`${prefix("INFO", "shop.request")}request=${request} ${rng.pick(ENDPOINTS).path} took ${milliseconds} ms`],
    ],
    [14, () => [`${prefix("DEBUG", "shop.cache")}miss key=product:${rng.integer(400)}`]],
    [
      6,
      () => [
        `${prefix("WARNING", "shop.search")}slow query (${(300 + rng.integer(900)).toFixed(0)} ms): ${rng.pick(["lamp", "chair oak", "table round"])}`,
      ],
    ],
    [3, () => [`${prefix("WARNING", "shop.cart")}voucher SPRING26 has expired request=${request}`]],
    [1, () => [`${prefix("ERROR", "shop.cart")}cart ${rng.hex(6)} has no item ${rng.integer(90)}`]],
    [1, () => [`${prefix("INFO", "shop.release")}release ${releaseAt(ageMs)} is ready`]],
  ];
  return rng.pickWeighted(messages)();
}

function workerEntry(rng, time) {
  const task = `${rng.hex(8)}-${rng.hex(4)}`;
  const prefix = (level) => `[${formatTime(time)}: ${level}/ForkPoolWorker-${1 + rng.integer(3)}] `;
  const name = rng.pick(["mail.send", "invoices.render", "stock.count"]);
  return rng.pickWeighted([
    [20, [`${prefix("INFO")}Task ${name}[${task}] succeeded in ${rng.logNormal(0.4).toFixed(3)}s: None`]],
    [12, [`${prefix("INFO")}Task ${name}[${task}] received`]],
    [
      1,
      [
        `${prefix("WARNING")}Task ${name}[${task}] retry: Retry in 30s: SMTPServerDisconnected('Connection unexpectedly closed')`,
      ],
    ],
    [0.5, [`${prefix("ERROR")}Task ${name}[${task}] raised unexpected: SoftTimeLimitExceeded()`]],
  ]);
}

function searchEntry(rng, time) {
  const level = rng.pickWeighted([
    [30, "info"],
    [4, "debug"],
    [2, "warn"],
    [0.5, "error"],
  ]);
  const line = {
    level,
    ts: time.getTime() / 1_000,
    msg: level === "error" ? "shard not responding" : "query answered",
    terms: rng.pick(["lamp", "oak chair", "round table"]),
    hits: rng.integer(300),
    took_ms: Number(rng.logNormal(9).toFixed(2)),
    shard: rng.integer(4),
  };
  return [JSON.stringify(line)];
}

function databaseEntry(rng, time) {
  const prefix = `${formatTime(time)}.${String(time.getUTCMilliseconds()).padStart(3, "0")} UTC [${60 + rng.integer(40)}] `;
  return rng.pickWeighted([
    [
      10,
      [`${prefix}LOG:  checkpoint complete: wrote ${rng.integer(900)} buffers (${rng.between(0.1, 6).toFixed(1)}%)`],
    ],
    [
      3,
      [
        `${prefix}LOG:  duration: ${(1_000 + rng.integer(2_000)).toFixed(3)} ms  statement: SELECT * FROM orders WHERE placed_at > $1`,
      ],
    ],
    [
      1,
      [
        `${prefix}ERROR:  duplicate key value violates unique constraint "orders_pkey"`,
        `${prefix}DETAIL:  Key (id)=(${20_000 + rng.integer(9_000)}) already exists.`,
      ],
    ],
    [0.3, [`${prefix}FATAL:  sorry, too many clients already`]],
  ]);
}

function cacheEntry(rng, time) {
  return rng.pickWeighted([
    [10, [`1:M ${formatTime(time)} * 100 changes in 300 seconds. Saving...`]],
    [6, [`1:M ${formatTime(time)} * ${GREEN}DB saved on disk${RESET}`]],
    [1, [`1:M ${formatTime(time)} # ${RED}WARNING${RESET} Memory overcommit must be enabled!`]],
  ]);
}
