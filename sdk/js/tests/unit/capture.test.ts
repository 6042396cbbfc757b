import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { BrowserError, MonlightClient } from "../../src/types";
import { CONFIG, type FakePage, openFakePage, type Sdk } from "./fake-page";

let page: FakePage;
let sdk: Sdk;
beforeEach(async () => {
  [page, sdk] = await openFakePage();
});

const start = (config: object = {}): MonlightClient => sdk.init({ ...CONFIG, sampleRate: 0, ...config });
const sentErrors = async (): Promise<BrowserError[]> => {
  await page.advance(0);
  return page.errors();
};

test("captureException reports a thrown value with the stack of the caller", async () => {
  start().captureException("no stock", { cart: 7 });
  const [error] = await sentErrors();
  assert.deepEqual([error?.type, error?.message, error?.context], ["Error", "no stock", { cart: 7, breadcrumbs: [] }]);
  assert.match(error?.stack ?? "", /^ {4}at .*capture\.test/);
});

test("the fingerprint of a call is a field of the report", async () => {
  const client = start();
  const fingerprint = ["{{ default }}", "checkout"];
  client.captureException(new Error("one"), { fingerprint, cart: 7 });
  client.captureMessage("two", { fingerprint, level: "warning" });
  client.captureMessage("three");
  const [one, two, three] = await sentErrors();
  assert.deepEqual([one?.fingerprint, one?.context], [fingerprint, { cart: 7, breadcrumbs: [] }]);
  assert.deepEqual([two?.fingerprint, two?.context], [fingerprint, { level: "warning", breadcrumbs: [] }]);
  assert.ok(three && !("fingerprint" in three));
});

test("addContext sets the fingerprint of all later reports", async () => {
  const client = start();
  client.addContext("fingerprint", ["shop"]);
  client.captureMessage("one");
  client.captureMessage("two", { fingerprint: ["cart"] });
  assert.deepEqual(
    (await sentErrors()).map(({ fingerprint }) => fingerprint),
    [["shop"], ["cart"]],
  );
});

test("errors with different fingerprints are not duplicates", async () => {
  const client = start();
  for (const part of ["a", "b", "a"]) client.captureMessage("same", { fingerprint: [part] });
  await page.advance(61_000);
  assert.deepEqual(
    page.errors().map(({ fingerprint, context }) => [fingerprint, context?.repeats]),
    [
      [["a"], undefined],
      [["b"], undefined],
      [["a"], 1],
    ],
  );
});

test("beforeSend sets the fingerprint, and one that JSON cannot hold is left out", async () => {
  const fingerprints: Record<string, unknown> = { array: ["a", 7], string: "a", cyclic: [], bigint: [1n] };
  (fingerprints.cyclic as unknown[]).push(fingerprints.cyclic);
  const beforeSend = (event: BrowserError): object => ({ ...event, fingerprint: fingerprints[event.message] });
  const client = start({ beforeSend });
  for (const message of Object.keys(fingerprints)) client.captureMessage(message, { fingerprint: [message] });
  assert.deepEqual(
    (await sentErrors()).map(({ message, fingerprint }) => [message, fingerprint]),
    [
      ["array", ["a", 7]],
      ["string", "a"],
      ["cyclic", undefined],
      ["bigint", undefined],
    ],
  );
});

test("a report that is too large keeps its fingerprint", async () => {
  const large = Object.fromEntries(["a", "b", "c"].map((key) => [key, "€".repeat(9_000)]));
  start().captureException(new Error("one"), { ...large, fingerprint: ["cart"] });
  const [error] = await sentErrors();
  assert.deepEqual([error?.fingerprint, error?.context], [["cart"], { shortened: true }]);
});

test("tags are added to all later reports until they are removed", async () => {
  const client = start();
  client.setTag("tenant", "acme");
  client.setTag("plan", 2);
  client.captureMessage("one");
  client.captureException(new Error("two"), { tags: { plan: 3, step: "pay" } });
  client.setTag("plan", undefined);
  client.setTag("total", 10n as never);
  client.captureMessage("three");
  assert.deepEqual(
    (await sentErrors()).map(({ context }) => context?.tags),
    [{ tenant: "acme", plan: 2 }, { tenant: "acme", plan: 3, step: "pay" }, { tenant: "acme" }],
  );
});

test("captureMessage accepts a level or a context", async () => {
  const client = start();
  client.captureMessage("one", "warning");
  client.captureMessage("two", { level: "warning", extra: { cart: 7 } });
  client.captureMessage("three", { extra: { cart: 7 } });
  client.captureMessage("four", null as never);
  assert.deepEqual(
    (await sentErrors()).map(({ type, context }) => [type, context?.level, context?.extra]),
    [
      ["ConsoleWarning", "warning", undefined],
      ["ConsoleWarning", "warning", { cart: 7 }],
      ["ConsoleError", undefined, { cart: 7 }],
      ["ConsoleError", null, undefined],
    ],
  );
});
