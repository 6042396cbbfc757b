// What the shop's containers have written, as Docker keeps it.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DAY_MS, ENDPOINTS, isTroubled, releaseAt } from "./shop.mjs";

const RED = "\u001b[31m";
const GREEN = "\u001b[32m";
const PLAIN = "\u001b[0m";

/** Who writes what, and how much of all. Each answers the lines of one entry. */
const CONTAINERS = [
  { name: "web", share: 46, writes: access },
  { name: "api", share: 28, writes: application },
  { name: "worker", share: 10, writes: worker },
  { name: "search", share: 8, writes: search },
  { name: "db", share: 5, writes: database },
  { name: "cache", share: 3, writes: cache },
];

/**
 * Writes the containers' folders with so many lines, at least, of the last day. Answers when each one's last entry is from.
 *
 * @param chance from dice.mjs
 * @param {{ now: number, lines: number, folder: string }} wanted the folder takes the place of Docker's
 */
export function writeContainers(chance, { now, lines, folder }) {
  const entries = [];
  let written = 0;
  while (written < lines) {
    const { name, writes } = chance.weighed(CONTAINERS.map((container) => [container.share, container]));
    // More of it lately, and most while there is trouble.
    const ago = DAY_MS * chance.next() ** 1.6;
    const entry = writes(chance, new Date(now - ago), ago);
    written += entry.length;
    entries.push({ name, at: now - ago, lines: entry });
  }
  entries.sort((one, other) => one.at - other.at);
  const ends = new Map();
  for (const { name } of CONTAINERS) {
    const record = (at, line, index) => {
      const time = new Date(at).toISOString().replace("Z", `${String(index).padStart(6, "0")}Z`);
      return `${JSON.stringify({ log: `${line}\n`, stream: name === "api" || name === "worker" ? "stderr" : "stdout", time })}\n`;
    };
    const own = entries.filter((entry) => entry.name === name);
    const records = own.flatMap((entry) => entry.lines.map((line, index) => record(entry.at, line, index)));
    ends.set(`shop-${name}-1`, own.at(-1)?.at);
    writeContainer(folder, name, records);
  }
  return ends;
}

function writeContainer(folder, name, records) {
  const id = Buffer.from(`demo-${name}`).toString("hex").padEnd(64, "0").slice(0, 64);
  const place = join(folder, id);
  mkdirSync(place, { recursive: true });
  const log = join(place, `${id}-json.log`);
  const logging = { Type: "json-file", Config: {} };
  const labels = { "com.docker.compose.project": "shop", "com.docker.compose.service": name };
  const config = { ID: id, Name: `/shop-${name}-1`, LogPath: log, Config: { Image: `shop/${name}:2`, Labels: labels } };
  writeFileSync(log, records.join(""));
  writeFileSync(join(place, "hostconfig.json"), JSON.stringify({ LogConfig: logging }));
  writeFileSync(
    join(place, "config.v2.json"),
    JSON.stringify({ ...config, HostConfig: { LogConfig: logging }, State: { Running: true } }),
  );
}

const address = (chance) => `10.0.${chance.whole(4)}.${1 + chance.whole(250)}`;
const clock = (at) => at.toISOString().slice(0, 19).replace("T", " ");

function access(chance, at, ago) {
  const { path } = chance.weighed(ENDPOINTS.map((endpoint) => [endpoint.share, endpoint]));
  const pay = path === "/checkout/pay";
  const status =
    pay && isTroubled(ago) && chance.next() < 0.31
      ? 504
      : chance.weighed([
          [96, 200],
          [2, 304],
          [1.6, 404],
          [0.4, 500],
        ]);
  const target = path.replace("{slug}", `${chance.one(["lamp", "chair", "table", "shelf"])}-${chance.whole(90)}`);
  const month = at.toLocaleString("en", { month: "short", timeZone: "UTC" });
  const iso = at.toISOString();
  const stamp = `${iso.slice(8, 10)}/${month}/${iso.slice(0, 4)}:${iso.slice(11, 19)} +0000`;
  return [
    `${address(chance)} - - [${stamp}] "${pay ? "POST" : "GET"} ${target} HTTP/1.1" ${status} ${200 + chance.whole(40_000)} "-" "Mozilla/5.0"`,
  ];
}

function application(chance, at, ago) {
  const request = chance.hexadecimal(8);
  const head = (level, name) =>
    `${clock(at)},${String(at.getUTCMilliseconds()).padStart(3, "0")} ${level.padEnd(8)} ${name} `;
  if (isTroubled(ago) && chance.next() < 0.12) {
    return [
      `${head("ERROR", "shop.checkout")}payment failed request=${request} order=${20_000 + chance.whole(9_000)}`,
      "Traceback (most recent call last):",
      '  File "/app/shop/checkout/pay.py", line 88, in pay',
      "    receipt = await provider.charge(order, token)",
      '  File "/app/shop/payments/provider.py", line 141, in charge',
      "    raise PaymentTimeout(self.patience_s)",
      "shop.payments.PaymentTimeout: the payment provider did not answer within 8.0 s",
    ];
  }
  const milliseconds = chance.duration(60, 0.6).toFixed(1);
  const said = [
    [
      60,
      () => [`${head("INFO", "shop.request")}request=${request} ${chance.one(ENDPOINTS).path} took ${milliseconds} ms`],
    ],
    [14, () => [`${head("DEBUG", "shop.cache")}miss key=product:${chance.whole(400)}`]],
    [
      6,
      () => [
        `${head("WARNING", "shop.search")}slow query (${(300 + chance.whole(900)).toFixed(0)} ms): ${chance.one(["lamp", "chair oak", "table round"])}`,
      ],
    ],
    [3, () => [`${head("WARNING", "shop.cart")}voucher SPRING26 has expired request=${request}`]],
    [1, () => [`${head("ERROR", "shop.cart")}cart ${chance.hexadecimal(6)} has no item ${chance.whole(90)}`]],
    [1, () => [`${head("INFO", "shop.release")}release ${releaseAt(ago)} is ready`]],
  ];
  return chance.weighed(said)();
}

function worker(chance, at) {
  const task = `${chance.hexadecimal(8)}-${chance.hexadecimal(4)}`;
  const head = (level) => `[${clock(at)}: ${level}/ForkPoolWorker-${1 + chance.whole(3)}] `;
  const name = chance.one(["mail.send", "invoices.render", "stock.count"]);
  return chance.weighed([
    [20, [`${head("INFO")}Task ${name}[${task}] succeeded in ${chance.duration(0.4).toFixed(3)}s: None`]],
    [12, [`${head("INFO")}Task ${name}[${task}] received`]],
    [
      1,
      [
        `${head("WARNING")}Task ${name}[${task}] retry: Retry in 30s: SMTPServerDisconnected('Connection unexpectedly closed')`,
      ],
    ],
    [0.5, [`${head("ERROR")}Task ${name}[${task}] raised unexpected: SoftTimeLimitExceeded()`]],
  ]);
}

function search(chance, at) {
  const level = chance.weighed([
    [30, "info"],
    [4, "debug"],
    [2, "warn"],
    [0.5, "error"],
  ]);
  const line = {
    level,
    ts: at.getTime() / 1_000,
    msg: level === "error" ? "shard does not answer" : "query answered",
    terms: chance.one(["lamp", "oak chair", "round table"]),
    hits: chance.whole(300),
    took_ms: Number(chance.duration(9).toFixed(2)),
    shard: chance.whole(4),
  };
  return [JSON.stringify(line)];
}

function database(chance, at) {
  const head = `${clock(at)}.${String(at.getUTCMilliseconds()).padStart(3, "0")} UTC [${60 + chance.whole(40)}] `;
  return chance.weighed([
    [
      10,
      [`${head}LOG:  checkpoint complete: wrote ${chance.whole(900)} buffers (${chance.between(0.1, 6).toFixed(1)}%)`],
    ],
    [
      3,
      [
        `${head}LOG:  duration: ${(1_000 + chance.whole(2_000)).toFixed(3)} ms  statement: SELECT * FROM orders WHERE placed_at > $1`,
      ],
    ],
    [
      1,
      [
        `${head}ERROR:  duplicate key value violates unique constraint "orders_pkey"`,
        `${head}DETAIL:  Key (id)=(${20_000 + chance.whole(9_000)}) already exists.`,
      ],
    ],
    [0.3, [`${head}FATAL:  sorry, too many clients already`]],
  ]);
}

function cache(chance, at) {
  return chance.weighed([
    [10, [`1:M ${clock(at)} * 100 changes in 300 seconds. Saving...`]],
    [6, [`1:M ${clock(at)} * ${GREEN}DB saved on disk${PLAIN}`]],
    [1, [`1:M ${clock(at)} # ${RED}WARNING${PLAIN} Memory overcommit must be enabled!`]],
  ]);
}
