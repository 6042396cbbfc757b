// Minimal reporter with the JSON members, headers and transports of the deployed SDK.
const config = new URLSearchParams(location.hash.slice(1));
const relay = config.get("relay");
const key = config.get("key");

export const release = config.get("release");

function reportError(error) {
  const body = {
    type: error.name,
    message: error.message,
    stack: error.stack,
    url: location.href.split("#")[0],
    user_agent: navigator.userAgent,
    session_id: "session-1",
    timestamp: new Date().toISOString(),
    environment: "test",
    release,
    context: { user_id: "u-42" },
  };
  return post("/api/browser/errors", body);
}

/**
 * Sends JSON with the key in a header, which requires a CORS preflight. Returns the response, or why the browser
 * refused.
 */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-Monlight-Key": key };
  try {
    const request = { method: "POST", headers, body: JSON.stringify(body), keepalive: true };
    const response = await fetch(relay + path, request);
    return { status: response.status, body: await response.json() };
  } catch (error) {
    return { refused: String(error) };
  }
}

/**
 * Sends plain text with the key in the URL, which requires no preflight. The page can read the response only if CORS
 * allows it.
 */
export async function postWithoutPreflight(path, body) {
  const url = `${relay}${path}?key=${key}`;
  try {
    const response = await fetch(url, { method: "POST", body: JSON.stringify(body) });
    return { status: response.status };
  } catch (error) {
    return { refused: String(error) };
  }
}

/** Queues a body in the browser, which sends it even if the page has been left. */
export function sendBeacon(path, body, type) {
  return navigator.sendBeacon(`${relay}${path}?key=${key}`, new Blob([JSON.stringify(body)], { type }));
}

export function metricBody(name) {
  return { metrics: [{ name, type: "counter", value: 1, labels: { page: location.pathname } }] };
}

/** Reports uncaught errors and rejections. Resolves with the results of the first `count` reports. */
export function reportUncaughtErrors(count) {
  const results = [];
  return new Promise((resolve) => {
    const handle = async (error) => {
      results.push(await reportError(error));
      if (results.length === count) resolve(results);
    };
    addEventListener("error", (event) => handle(event.error));
    addEventListener("unhandledrejection", (event) => handle(event.reason));
  });
}
