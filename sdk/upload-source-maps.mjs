// Uploads all source maps in a folder to the browser relay, from a checkout: the same as `npx @monlight/browser upload`.
import { upload } from "./js/bin/upload.mjs";

process.exitCode = await upload(process.argv.slice(2), "node sdk/upload-source-maps.mjs");
