// Uploads the source maps in a folder to the browser relay. Requires Node 18.17 or newer and no packages.

import { readdir, readFile } from "node:fs/promises";
import { join, sep } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const SOURCE_MAP = /\.[cm]?js\.map$/;
const REQUEST_TIMEOUT_MS = 120_000;
/** Answers after which the same request can succeed later. */
const TEMPORARY_STATUSES = [429, 502, 503, 504];
/** Answers that every other file would get too, because of a wrong key or a wrong MONLIGHT_URL. */
const FINAL_STATUSES = [301, 302, 303, 307, 308, 401, 403, 404, 405];
const ATTEMPTS_MAX = 5;
const WAIT_MAX_S = 120;
/** Consecutive files without an answer after which the rest is not tried. */
const UNANSWERED_MAX = 3;
const REASON_CHARS_MAX = 300;

const usage = (command) => `Usage: MONLIGHT_URL=URL MONLIGHT_KEY=KEY ${command} PROJECT RELEASE FOLDER [URL]

Uploads all source maps (.js.map, .mjs.map, .cjs.map) in FOLDER to the browser relay.

  PROJECT       project of the public key with which the pages report
  RELEASE       release that the pages report
  FOLDER        folder with the source maps
  URL           URL at which FOLDER is served, for example https://shop.example/assets/, or its path [/]
  MONLIGHT_URL  URL of the browser relay, for example https://monitoring.example.com/monitoring/relay
  MONLIGHT_KEY  key of the relay with the scope admin, for example its ADMIN_API_KEY

Exit codes: 0 all source maps were uploaded, 1 at least one was not, 2 invalid arguments`;

/** A mistake in the arguments or the environment. */
class UsageError extends Error {}

/**
 * Uploads as the arguments say and returns the exit code. `command` is the command of the user, for the usage.
 */
export async function upload(args, command) {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(usage(command));
    return 0;
  }
  try {
    return await uploadFolder(parseArguments(args, process.env));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`${error.message}\n\n${usage(command)}`);
    return 2;
  }
}

function parseArguments(args, { MONLIGHT_URL: relay = "", MONLIGHT_KEY: key = "" }) {
  const [project, release, folder, base = "/"] = args;
  const option = args.find((argument) => argument.startsWith("-"));
  if (option) throw new UsageError(`unknown option ${option}`);
  if (args.length < 3 || args.length > 4) throw new UsageError(`3 or 4 arguments are required; got ${args.length}`);
  if (!key) throw new UsageError("MONLIGHT_KEY is not set");
  if (!/^https?:\/\/[^/?#]+[^?#]*$/.test(relay))
    throw new UsageError("MONLIGHT_URL must be set to an http or https URL");
  if (/[?#]/.test(base)) throw new UsageError("the URL of the folder must not have a query or a fragment");
  const endpoint = `${relay.replace(/\/+$/, "")}/api/source-maps`;
  return { project, release, folder, base: base.endsWith("/") ? base : `${base}/`, endpoint, key };
}

async function uploadFolder(target) {
  const files = await findSourceMaps(target.folder);
  const failures = [];
  let unanswered = 0;
  for (const [index, file] of files.entries()) {
    const { failure, status } = await uploadFile(target, file);
    if (!failure) {
      console.log(`uploaded ${fileUrl(target.base, file)} (${target.project} ${target.release})`);
    } else {
      failures.push(`${file}: ${failure}`);
    }
    unanswered = failure && status === undefined ? unanswered + 1 : 0;
    if (unanswered === UNANSWERED_MAX || FINAL_STATUSES.includes(status)) {
      failures.push(...files.slice(index + 1).map((rest) => `${rest}: not tried`));
      break;
    }
  }
  if (failures.length === 0) return 0;
  console.error(`upload failed for ${failures.length} of ${files.length} source maps:\n  ${failures.join("\n  ")}`);
  return 1;
}

/** Returns the paths of the source maps relative to the folder, in a stable order. */
async function findSourceMaps(folder) {
  const files = await readdir(folder, { recursive: true }).catch((error) => {
    throw new UsageError(`cannot read ${folder}: ${error.code}`);
  });
  const maps = files.filter((file) => SOURCE_MAP.test(file)).sort();
  if (maps.length === 0) throw new UsageError(`no .js.map files found in ${folder}`);
  return maps;
}

/** Returns the URL of the generated file. Characters that would end the path of a URL are encoded. */
function fileUrl(base, file) {
  const path = file.slice(0, -".map".length).split(sep).join("/");
  return base + path.replace(/[%?#]/g, encodeURIComponent);
}

/**
 * Uploads one source map, again after temporary failures. Returns the last status, if there was an answer, and the reason of
 * the failure, if it failed.
 */
async function uploadFile(target, file) {
  const { project, release, base, folder } = target;
  let body;
  try {
    const map_content = await readFile(join(folder, file), "utf8");
    body = JSON.stringify({ project, release, file_url: fileUrl(base, file), map_content });
  } catch (error) {
    return { status: 0, failure: error.message };
  }
  for (let attempt = 1; ; attempt++) {
    const { failure, status, retryAfter } = await send(target, body);
    if (!failure || attempt === ATTEMPTS_MAX || !TEMPORARY_STATUSES.includes(status)) return { status, failure };
    const wait_s = Math.min(retryAfter > 0 ? retryAfter : 2 ** attempt, WAIT_MAX_S);
    console.error(`${file}: ${failure}; next attempt in ${wait_s} s`);
    await sleep(wait_s * 1_000);
  }
}

/** Sends one request. Returns the status, if there was an answer, and the reason of a failure. */
async function send({ endpoint, key }, body) {
  try {
    const response = await fetch(endpoint, {
      method: "POST",
      headers: { "X-API-Key": key, "Content-Type": "application/json" },
      body,
      // A redirected POST would become a GET.
      redirect: "manual",
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
    const text = await response.text();
    if (response.status === 201) return { status: 201 };
    const location = response.headers.get("Location");
    const reason = location ? `redirected to ${location}; set MONLIGHT_URL to the new URL` : detail(text);
    const failure = `${response.status} ${reason}`.slice(0, REASON_CHARS_MAX);
    return { status: response.status, failure, retryAfter: Number(response.headers.get("Retry-After")) };
  } catch (error) {
    return { failure: `no answer from ${endpoint}: ${error.cause?.message || error.message}` };
  }
}

/** Returns the relay's explanation, or the first line of another server's response. */
function detail(text) {
  try {
    return JSON.parse(text).detail ?? text;
  } catch {
    return text.trim().split("\n")[0];
  }
}
