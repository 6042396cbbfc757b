// HTTP client for the service that served this page. Paths are relative, so that it works behind a path prefix.
import type { Health } from "../generated/common.ts";
import type { Session } from "../generated/sessions.ts";

/** A failed request. The message is a sentence that the UI can show. */
export class ApiError extends Error {
  constructor(
    /** HTTP status, or 0 if the service could not be reached. */
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const UNREACHABLE = "Cannot reach the service.";

let onUnauthorized = (): void => {};

/** Registers a callback for responses with status 401, which mean that the session has ended. */
export function setUnauthorizedHandler(callback: () => void): void {
  onUnauthorized = callback;
}

async function fetchJson<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) {
      throw error;
    }
    throw new ApiError(0, UNREACHABLE);
  }
  return response.ok ? ((await response.json().catch(() => null)) as T) : await throwApiError(response);
}

async function throwApiError(response: Response): Promise<never> {
  const body: unknown = await response.json().catch(() => null);
  const detail = (body as { detail?: unknown } | null)?.detail;
  const message = typeof detail === "string" ? detail : `The service returned status ${response.status}.`;
  throw new ApiError(response.status, message);
}

/** Returns the JSON response of a path. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return await reportUnauthorized(fetchJson<T>(path, signal ? { signal } : {}));
}

/** Returns the health of the service. A degraded service answers with status 503 and the same members. */
export async function getHealth(signal?: AbortSignal): Promise<Health> {
  const response = await fetch("health", { cache: "no-store", ...(signal ? { signal } : {}) });
  if (!response.ok && response.status !== 503) {
    await throwApiError(response);
  }
  return (await response.json()) as Health;
}

/** Sends a request that changes data. Returns its JSON response. */
export async function send<T>(method: "POST" | "DELETE", path: string): Promise<T> {
  return await reportUnauthorized(fetchJson<T>(path, { method }));
}

/**
 * Requests a closed event stream again and returns the error, or `undefined` if the stream is available. `EventSource`
 * does not expose the status or the body of a failed response.
 */
export async function fetchStreamError(path: string, signal: AbortSignal): Promise<Error | undefined> {
  const stream = new AbortController();
  try {
    const request = fetch(path, { signal: AbortSignal.any([signal, stream.signal]), cache: "no-store" });
    const response = await request.catch((error) => {
      if (signal.aborted) {
        throw error;
      }
      throw new ApiError(0, UNREACHABLE);
    });
    if (!response.ok) {
      await reportUnauthorized(throwApiError(response));
    }
    return undefined;
  } catch (error) {
    return error as Error;
  } finally {
    // Only the status matters here. The caller opens its own stream to read the events.
    stream.abort();
  }
}

async function reportUnauthorized<T>(response: Promise<T>): Promise<T> {
  try {
    return await response;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      onUnauthorized();
    }
    throw error;
  }
}

/** Returns the current session, or `null` if the user is not signed in. */
export async function getSession(): Promise<Session | null> {
  try {
    return await fetchJson<Session>("api/session", {});
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      return null;
    }
    throw error;
  }
}

/** Exchanges an API key for a session cookie. The key is not stored. */
export async function signIn(key: string): Promise<Session> {
  return await fetchJson<Session>("api/session", { method: "POST", headers: { "X-API-Key": key } });
}

/** Returns a query string that starts with `?`, or an empty string. Skips parameters that are undefined or empty. */
export function query(parameters: Record<string, string | number | undefined>): string {
  const set = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "");
  return set.length > 0 ? `?${new URLSearchParams(set.map(([name, value]) => [name, String(value)]))}` : "";
}
