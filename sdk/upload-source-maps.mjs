// Uploads all source maps in a folder to the browser relay. Requires Node 18 or newer and no packages:
//   MONLIGHT_URL=https://relay.example MONLIGHT_KEY=... node upload-source-maps.mjs PROJECT RELEASE FOLDER [URL]
// URL is the base URL at which the folder is served, for example https://shop.example/assets/. Without it, the relay
// matches files by path alone.
import { readFile, readdir } from "node:fs/promises";
import { join, sep } from "node:path";

const [project, release, folder, baseUrl = "/"] = process.argv.slice(2);
const { MONLIGHT_URL: relay, MONLIGHT_KEY: key } = process.env;
if (!project || !release || !folder || !relay || !key) {
  throw new Error(
    "usage: MONLIGHT_URL=URL MONLIGHT_KEY=KEY node upload-source-maps.mjs PROJECT RELEASE FOLDER [URL]",
  );
}

const files = (await readdir(folder, { recursive: true })).filter((file) => /\.[cm]?js\.map$/.test(file));
if (files.length === 0) throw new Error(`no .js.map files found in ${folder}`);
for (const file of files) {
  const file_url = baseUrl + file.slice(0, -".map".length).split(sep).join("/");
  const map_content = await readFile(join(folder, file), "utf8");
  const body = JSON.stringify({ project, release, file_url, map_content });
  const headers = { "X-API-Key": key };
  const response = await fetch(new URL("/api/source-maps", relay), { method: "POST", headers, body });
  if (!response.ok) throw new Error(`upload of ${file} failed: ${response.status} ${await response.text()}`);
  console.log(`uploaded ${file_url} (${project} ${release})`);
}
