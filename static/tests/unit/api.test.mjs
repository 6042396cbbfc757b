import assert from "node:assert/strict";
import { afterEach, describe, mock, test } from "node:test";
import { ApiError, fetchStreamError, get, getSession, query, send, setUnauthorizedHandler } from "../../shared/api.ts";

/** Makes `fetch` return a response. Returns the mock. */
function respondWith(body, status = 200) {
  return mock.method(globalThis, "fetch", async () => new Response(body, { status })).mock;
}

describe("the HTTP client", () => {
  afterEach(() => {
    mock.restoreAll();
    setUnauthorizedHandler(() => {});
  });

  test("query strings skip undefined and empty parameters", () => {
    assert.equal(query({}), "");
    assert.equal(query({ a: undefined, b: "" }), "");
    assert.equal(query({ a: 0, b: "x y&z", c: "ü" }), "?a=0&b=x+y%26z&c=%C3%BC");
  });

  test("responses are parsed and never cached", async () => {
    const fetch = respondWith('{"a":1}');
    assert.deepEqual(await get("api/x"), { a: 1 });
    assert.deepEqual(fetch.calls[0].arguments, ["api/x", { cache: "no-store" }]);
    assert.deepEqual(await send("POST", "api/x"), { a: 1 });
    assert.deepEqual(fetch.calls[1].arguments, ["api/x", { method: "POST", cache: "no-store" }]);
  });

  test("errors have the service's detail, or else the status", async () => {
    respondWith('{"detail":"Error group 5 not found"}', 404);
    await assert.rejects(get("api/errors/5"), { status: 404, message: "Error group 5 not found" });
    for (const body of ["<html>", "", "null", '{"detail":5}']) {
      mock.restoreAll();
      respondWith(body, 502);
      await assert.rejects(get("api/x"), { status: 502, message: "The service returned status 502." }, body);
    }
  });

  test("an unreachable service is an error without a status", async () => {
    mock.method(globalThis, "fetch", async () => {
      throw new TypeError("failed");
    });
    await assert.rejects(get("api/x"), (error) => error instanceof ApiError && error.status === 0);
  });

  test("an aborted request keeps its error", async () => {
    const reason = new Error("aborted");
    mock.method(globalThis, "fetch", async () => {
      throw reason;
    });
    await assert.rejects(get("api/x", AbortSignal.abort()), reason);
  });

  test("a response with status 401 ends the session", async () => {
    let calls = 0;
    setUnauthorizedHandler(() => {
      calls += 1;
    });
    respondWith('{"detail":"No key"}', 401);
    await assert.rejects(get("api/x"), { status: 401 });
    assert.equal(calls, 1);
    // Before the sign-in, there is no session that could end.
    assert.equal(await getSession(), null);
    assert.equal(calls, 1);
  });

  test("a closed stream has the error of a new request, if there is one", async () => {
    const { signal } = new AbortController();
    respondWith('{"detail":"Too many streams"}', 503);
    assert.equal((await fetchStreamError("api/logs/tail", signal)).message, "Too many streams");
    mock.restoreAll();
    respondWith("event: log");
    assert.equal(await fetchStreamError("api/logs/tail", signal), undefined);
  });
});
