/**
 * Where rows of different heights are. All have the usual one until they were seen; of those that have another, the
 * difference is kept, by a key that stays the same when others come in front.
 */
export class Heights {
  #extra = new Map<number, number>();
  /** Keys in order, and the sums of their differences. */
  #sums: { key: number; upTo: number }[] | undefined;

  constructor(readonly usual: number) {}

  of(key: number): number {
    return this.usual + (this.#extra.get(key) ?? 0);
  }

  /** Notes a height. Answers whether it is news. */
  set(key: number, height: number): boolean {
    const extra = height - this.usual;
    if (Math.abs(extra - (this.#extra.get(key) ?? 0)) < 0.5) {
      return false;
    }
    if (Math.abs(extra) < 0.5) {
      this.#extra.delete(key);
    } else {
      this.#extra.set(key, extra);
    }
    this.#sums = undefined;
    return true;
  }

  /** How far down a row is, when the first has the key `first`. */
  top(key: number, first: number): number {
    return (key - first) * this.usual + this.#before(key) - this.#before(first);
  }

  /** The row that is so far down. */
  at(top: number, first: number): number {
    // Between two rows with a difference all have the usual height.
    let [low, high] = [first, first + Math.max(0, Math.ceil((top + this.#shrunk()) / this.usual))];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.top(middle, first) <= top) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  /** By how much rows can be less than usual. */
  #shrunk(): number {
    let sum = 0;
    for (const extra of this.#extra.values()) {
      sum += Math.max(0, -extra);
    }
    return sum;
  }

  /** The differences of all rows in front of one. */
  #before(key: number): number {
    if (!this.#sums) {
      let upTo = 0;
      this.#sums = [...this.#extra]
        .sort(([a], [b]) => a - b)
        .map(([key, extra]) => {
          upTo += extra;
          return { key, upTo };
        });
    }
    let [low, high] = [0, this.#sums.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#sums[middle]?.key ?? 0) < key) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return this.#sums[low - 1]?.upTo ?? 0;
  }
}
