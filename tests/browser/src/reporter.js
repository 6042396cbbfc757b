// Reports as the deployed SDK does: the same members, headers and ways of sending.
const config = new URLSearchParams(location.hash.slice(1));
const relay = config.get("relay");
const key = config.get("key");

export const release = config.get("release");

function report(error) {
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

/** Sends JSON with the key in its header, which a browser asks for by a preflight. Answers the status, or why not. */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-Monlight-Key": key };
  try {
    const answer = await fetch(relay + path, { method: "POST", headers, body: JSON.stringify(body), keepalive: true });
    return { status: answer.status, body: await answer.json() };
  } catch (why) {
    return { refused: String(why) };
  }
}

/** Sends text, which needs no preflight, and whose answer another origin may not read unless it is listed. */
export async function postText(path, body) {
  const url = `${relay}${path}?key=${key}`;
  try {
    const answer = await fetch(url, { method: "POST", body: JSON.stringify(body) });
    return { status: answer.status };
  } catch (why) {
    return { refused: String(why) };
  }
}

/** Hands a body over to the browser, to be sent after the page is gone. */
export function beacon(path, body, type) {
  return navigator.sendBeacon(`${relay}${path}?key=${key}`, new Blob([JSON.stringify(body)], { type }));
}

export function point(name) {
  return { metrics: [{ name, type: "counter", value: 1, labels: { page: location.pathname } }] };
}

/** Reports what nobody catches; answers a promise of the answers to so many reports. */
export function watch(count) {
  const answers = [];
  return new Promise((resolve) => {
    const caught = async (error) => {
      answers.push(await report(error));
      if (answers.length === count) resolve(answers);
    };
    addEventListener("error", (event) => caught(event.error));
    addEventListener("unhandledrejection", (event) => caught(event.reason));
  });
}
