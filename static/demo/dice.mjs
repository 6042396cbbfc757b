// Chance that comes out the same again: the same seed makes the same data.

/**
 * Numbers that look random, from 0 up to 1 (Tommy Ettinger's mulberry32), and what is drawn with them.
 *
 * @param {number} seed a whole number
 */
export function dice(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const whole = (below) => Math.floor(next() * below);
  return {
    next,
    whole,
    between: (low, high) => low + next() * (high - low),
    one: (list) => list[whole(list.length)],
    /** One of the entries `[weight, value]`, by weight. */
    weighed: (entries) => {
      let rest = next() * entries.reduce((sum, [weight]) => sum + weight, 0);
      for (const [weight, value] of entries) {
        rest -= weight;
        if (rest < 0) {
          return value;
        }
      }
      return entries.at(-1)[1];
    },
    /** How long something takes that mostly takes `median` and sometimes much longer. */
    duration: (median, spread = 0.5) =>
      median * Math.exp(spread * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())),
    hexadecimal: (digits) => Array.from({ length: digits }, () => whole(16).toString(16)).join(""),
  };
}
