// The tests expect the original position of each error: the line and column of its `new` expression.
export class Cart {
  #items = [];

  add(item) {
    if (this.#items.length === 0) {
      throw new Error("class-method");
    }
    this.#items.push(item);
  }

  static refuse(reason) {
    return Promise.reject(new SyntaxError(reason));
  }
}

export function priceOf(item) {
  if (!item.price) {
    throw new RangeError("thrown");
  }
  return item.price * 1.2;
}

export async function checkOut(cart) {
  await new Promise((resolve) => setTimeout(resolve, 1));
  if (cart) {
    throw new TypeError("async");
  }
}
