/** Who reports: a tab, by a random name that nothing else knows. */

const STORAGE_KEY = "monlight_session_id";

/** 128 random bits as text. `crypto.randomUUID` would be missing where pages come without TLS. */
export const randomId = (): string => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** The name of this tab, kept until it is closed; where pages may store nothing, until the next page. */
export let sessionId: string;

export function findSession(): void {
  sessionId ||= randomId();
  try {
    sessionId = sessionStorage[STORAGE_KEY] ||= sessionId;
  } catch {
    // Blocked or full. The page is told apart all the same.
  }
}
