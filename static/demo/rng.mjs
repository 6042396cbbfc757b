// Seeded random number generator, so that the demo data is reproducible.

/**
 * Creates a generator (mulberry32 by Tommy Ettinger) with helpers for common distributions.
 *
 * @param {number} seed integer
 */
export function createRng(seed) {
  let state = seed >>> 0;
  /** Returns a uniform number from 0 (inclusive) to 1 (exclusive). */
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  /** Returns an integer from 0 (inclusive) to `limit` (exclusive). */
  const integer = (limit) => Math.floor(next() * limit);
  return {
    next,
    integer,
    /** Returns a uniform number from `low` (inclusive) to `high` (exclusive). */
    between: (low, high) => low + next() * (high - low),
    pick: (list) => list[integer(list.length)],
    /** Returns the value of a random `[weight, value]` entry. */
    pickWeighted: (entries) => {
      let remaining = next() * entries.reduce((sum, [weight]) => sum + weight, 0);
      for (const [weight, value] of entries) {
        remaining -= weight;
        if (remaining < 0) {
          return value;
        }
      }
      return entries.at(-1)[1];
    },
    /** Returns a log-normally distributed number, a realistic distribution of latencies. */
    logNormal: (median, sigma = 0.5) =>
      median * Math.exp(sigma * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())),
    hex: (digits) => Array.from({ length: digits }, () => integer(16).toString(16)).join(""),
  };
}
