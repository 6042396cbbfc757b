/** Session ID: a random identifier of the browser tab. It is not derived from the user or the device. */

import { safely } from "./instrumentation";

const STORAGE_KEY = "monlight_session_id";

/** Returns 128 random bits as decimal numbers. `crypto.randomUUID` is missing on pages served without TLS. */
export const randomId = (): string => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** The session ID. Persists until the tab is closed or, if the page may not use storage, until the next page load. */
export let sessionId: string;

/** Loads the session ID from `sessionStorage`, or generates and stores a new one. */
export const loadSessionId = (): void => {
  sessionId = sessionId || randomId();
  // If storage is blocked or full, the in-memory ID is used.
  safely(() => {
    sessionStorage[STORAGE_KEY] = sessionId = sessionStorage[STORAGE_KEY] || sessionId;
  });
};
