// Fills running services with a month of a shop's life, over the API that programs use.
import { dice } from "./dice.mjs";
import { RESOLVED, reports } from "./errors.mjs";
import { writeContainers } from "./logs.mjs";
import { points } from "./metrics.mjs";

const SEED = 20_261_122;
const POINTS_PER_BATCH = 1_000;
/** Requests under way at once. */
const AT_ONCE = 8;
const STORED_WITHIN_MS = 60_000;

/** How much there is by default, and what the figures in docs/interfaces.md were taken with. */
export const SIZE = { days: 30, groups: 10_000, lines: 100_000 };

/**
 * Sends reports to an error tracker, and resolves what has been resolved.
 *
 * @param {(method: string, path: string, body?: object) => Promise<any>} ask the service with a key that may do everything
 * @param {{ now: number, days?: number, groups?: number }} wanted
 * @param {(done: number, all: number) => void} [say] is told how far it is
 */
export async function fillTracker(ask, { now, days = SIZE.days, groups = SIZE.groups }, say = () => {}) {
  const all = reports(dice(SEED), { now, days, groups });
  let done = 0;
  await pooled(all, async (report) => {
    await ask("POST", "/api/errors", report);
    say(++done, all.length);
  });
  for (const type of RESOLVED) {
    const { errors } = await ask("GET", `/api/errors?search=${encodeURIComponent(type)}`);
    for (const { id } of errors.filter(({ exception_type }) => exception_type === type)) {
      await ask("POST", `/api/errors/${id}/resolve`);
    }
  }
}

/** Sends points to a metrics collector, whose `MAX_POINT_AGE` reaches back as far. Parameters as above. */
export async function fillCollector(ask, { now, days = SIZE.days }, say = () => {}) {
  const all = [...points(dice(SEED), { now, days })];
  const batches = [];
  for (let first = 0; first < all.length; first += POINTS_PER_BATCH) {
    batches.push(all.slice(first, first + POINTS_PER_BATCH));
  }
  // One after the other: of a gauge the last point counts, and batches overlap in time.
  let done = 0;
  for (const batch of batches) {
    await ask("POST", "/api/metrics", batch);
    done += batch.length;
    say(done, all.length);
  }
}

/** How much of a log that it sees for the first time a viewer has to read to have all of these. */
export const TAIL_BUFFER = String(256 * 1024 * 1024);

/**
 * Writes containers' logs into a folder that a log viewer has among its `LOG_SOURCES`, and waits until it has stored them.
 * Its `TAIL_BUFFER` is as above.
 */
export async function fillViewer(ask, folder, { now, lines = SIZE.lines }, say = () => {}) {
  const ends = writeContainers(dice(SEED), { now, lines, folder });
  const deadline = Date.now() + STORED_WITHIN_MS;
  for (const [name, at] of ends) {
    const isStored = async () => {
      const { logs } = await ask("GET", `/api/logs?container=${name}&limit=1`);
      return Date.parse(logs[0]?.timestamp) >= Math.floor(at);
    };
    while (!(await isStored())) {
      if (Date.now() > deadline) {
        throw new Error(`the log viewer has not read all of ${name}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  say(lines, lines);
}

async function pooled(items, work) {
  const rest = items[Symbol.iterator]();
  const one = async () => {
    for (const item of rest) {
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}
