/**
 * Row heights of a virtual list. A row has the default height until it is measured. Only differences from the default
 * are stored, under keys that do not change when rows are inserted at the top.
 */
export class RowHeights {
  #extraByKey = new Map<number, number>();
  /** Prefix sums of the differences, sorted by key; `undefined` until they are needed again. */
  #prefixSums: { key: number; sum: number }[] | undefined;

  constructor(readonly defaultHeight: number) {}

  get(key: number): number {
    return this.defaultHeight + (this.#extraByKey.get(key) ?? 0);
  }

  /** Stores a measured height. Returns whether it changed by half a pixel or more. */
  set(key: number, height: number): boolean {
    const extra = height - this.defaultHeight;
    if (Math.abs(extra - (this.#extraByKey.get(key) ?? 0)) < 0.5) {
      return false;
    }
    if (Math.abs(extra) < 0.5) {
      this.#extraByKey.delete(key);
    } else {
      this.#extraByKey.set(key, extra);
    }
    this.#prefixSums = undefined;
    return true;
  }

  /** Returns the offset of a row from the top of the list, in pixels. `firstKey` is the key of the first row. */
  offsetOf(key: number, firstKey: number): number {
    return (key - firstKey) * this.defaultHeight + this.#extraBefore(key) - this.#extraBefore(firstKey);
  }

  /** Returns the key of the row at an offset from the top of the list. */
  keyAt(offset: number, firstKey: number): number {
    // The upper bound assumes that all rows have the default height, plus what shorter rows could save.
    const maxRows = Math.max(0, Math.ceil((offset + this.#totalShrinkage()) / this.defaultHeight));
    let [low, high] = [firstKey, firstKey + maxRows];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.offsetOf(middle, firstKey) <= offset) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  /** Returns the number of pixels that rows shorter than the default save in total. */
  #totalShrinkage(): number {
    let sum = 0;
    for (const extra of this.#extraByKey.values()) {
      sum += Math.max(0, -extra);
    }
    return sum;
  }

  /** Returns the sum of the differences of all rows before a key. */
  #extraBefore(key: number): number {
    if (!this.#prefixSums) {
      let sum = 0;
      this.#prefixSums = [...this.#extraByKey]
        .sort(([a], [b]) => a - b)
        .map(([key, extra]) => {
          sum += extra;
          return { key, sum };
        });
    }
    let [low, high] = [0, this.#prefixSums.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#prefixSums[middle]?.key ?? 0) < key) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return this.#prefixSums[low - 1]?.sum ?? 0;
  }
}
