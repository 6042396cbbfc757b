#!/usr/bin/env node
import { upload } from "./upload.mjs";

const [command, ...args] = process.argv.slice(2);
if (command === "upload") {
  process.exitCode = await upload(args, "npx @monlight/browser upload");
} else {
  const isHelp = command === "--help" || command === "-h";
  console[isHelp ? "log" : "error"](
    "Usage: npx @monlight/browser upload PROJECT RELEASE FOLDER [URL]\n\nSee upload --help.",
  );
  process.exitCode = isHelp ? 0 : 2;
}
