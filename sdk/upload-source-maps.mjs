// Uploads every source map below a folder to the browser relay. Node 18 or newer, nothing to install:
//   MONLIGHT_URL=https://relay.example MONLIGHT_KEY=... node upload-source-maps.mjs PROJECT RELEASE FOLDER [URL]
// URL is where the folder is served, such as https://shop.example/assets/; without it files are told by their path.
import { readFile, readdir } from "node:fs/promises";
import { join, sep } from "node:path";

const [project, release, folder, served = "/"] = process.argv.slice(2);
const { MONLIGHT_URL: relay, MONLIGHT_KEY: key } = process.env;
if (!project || !release || !folder || !relay || !key) throw new Error("see the head of this file for what is needed");

const files = (await readdir(folder, { recursive: true })).filter((file) => /\.[cm]?js\.map$/.test(file));
if (files.length === 0) throw new Error(`there is no .js.map below ${folder}`);
for (const file of files) {
  const file_url = served + file.slice(0, -".map".length).split(sep).join("/");
  const map_content = await readFile(join(folder, file), "utf8");
  const body = JSON.stringify({ project, release, file_url, map_content });
  const answer = await fetch(new URL("/api/source-maps", relay), { method: "POST", headers: { "X-API-Key": key }, body });
  if (!answer.ok) throw new Error(`${file}: ${answer.status} ${await answer.text()}`);
  console.log(`${file_url} of ${project} ${release}`);
}
