/** Polling helper for asynchronous expectations. */

const TIMEOUT_MS = 20_000;
const POLL_INTERVAL_MS = 50;

/** Polls `probe` until it returns neither undefined nor false, and returns that value. Throws after `TIMEOUT_MS`. */
export async function waitFor<T>(
  description: string | (() => string),
  probe: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const deadline = Date.now() + TIMEOUT_MS;
  for (;;) {
    const result = await probe();
    if (result !== undefined && result !== false) return result as T;
    if (Date.now() > deadline) {
      throw new Error(`timed out waiting for ${typeof description === "string" ? description : description()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}
