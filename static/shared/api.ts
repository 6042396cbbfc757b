// Asking the service this page came from. Paths are relative, so that everything works behind a path prefix.

/** What went wrong, in a sentence for people. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    sentence: string,
  ) {
    super(sentence);
  }
}

/** Another service, as a browser reaches it. */
export interface Link {
  name: string;
  url: string;
}

/** Who is signed in. */
export interface Session {
  name: string;
  admin: boolean;
  service: string;
  version: string;
  services: Link[];
}

const UNREACHABLE = "The service cannot be reached.";

let onSignedOut = (): void => {};

/** Calls back when the service says that nobody is signed in any more. */
export function whenSignedOut(call: () => void): void {
  onSignedOut = call;
}

async function ask<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, cache: "no-store" });
  } catch (why) {
    if (init.signal?.aborted) {
      throw why;
    }
    throw new ApiError(0, UNREACHABLE);
  }
  return response.ok ? ((await response.json().catch(() => null)) as T) : await failed(response);
}

async function failed(response: Response): Promise<never> {
  const body: unknown = await response.json().catch(() => null);
  const detail = (body as { detail?: unknown } | null)?.detail;
  throw new ApiError(response.status, typeof detail === "string" ? detail : `The service answered ${response.status}.`);
}

/** What a path answers. A 401 means that the session is over. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return await watched(ask<T>(path, signal ? { signal } : {}));
}

/** Changes something. */
export async function change<T>(method: "POST" | "DELETE", path: string): Promise<T> {
  return await watched(ask<T>(path, { method }));
}

/** Why a stream that broke off cannot be had; `undefined` when it can be again. */
export async function refusal(path: string, signal: AbortSignal): Promise<Error | undefined> {
  const stream = new AbortController();
  try {
    const asked = fetch(path, { signal: AbortSignal.any([signal, stream.signal]), cache: "no-store" });
    const response = await asked.catch((why) => {
      if (signal.aborted) {
        throw why;
      }
      throw new ApiError(0, UNREACHABLE);
    });
    if (!response.ok) {
      await watched(failed(response));
    }
    return undefined;
  } catch (why) {
    return why as Error;
  } finally {
    // What would come is for the stream to have.
    stream.abort();
  }
}

async function watched<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (why) {
    if (why instanceof ApiError && why.status === 401) {
      onSignedOut();
    }
    throw why;
  }
}

/** The session, or `null` when nobody is signed in. */
export async function session(): Promise<Session | null> {
  try {
    return await ask<Session>("api/session", {});
  } catch (why) {
    if (why instanceof ApiError && why.status === 401) {
      return null;
    }
    throw why;
  }
}

/** Exchanges a key for a session. The key is kept nowhere. */
export async function signIn(key: string): Promise<Session> {
  return await ask<Session>("api/session", { method: "POST", headers: { "X-API-Key": key } });
}

/** A query string of what is set, beginning with `?`, or empty. */
export function query(parameters: Record<string, string | number | undefined>): string {
  const set = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "");
  return set.length > 0 ? `?${new URLSearchParams(set.map(([name, value]) => [name, String(value)]))}` : "";
}
