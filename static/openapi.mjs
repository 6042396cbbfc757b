// Puts together what each service says of itself in OpenAPI: its own document, and what several have in common.
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const REFERENCE = /"#\/components\/([^/"]+)\/([^/"]+)"/g;

const read = (path) => readFile(join(ROOT, path), "utf8");
const part = async (name) => JSON.parse(await read(`openapi/${name}.json`));

/** Objects are merged and lists are joined; anything else may stand in one place only. */
function merge(one, other, path) {
  if (Array.isArray(one) && Array.isArray(other)) {
    return [...one, ...other];
  }
  if (one?.constructor !== Object || other?.constructor !== Object) {
    throw new Error(`openapi: ${path} stands in two places`);
  }
  const merged = { ...one };
  for (const [name, value] of Object.entries(other)) {
    merged[name] = name in one ? merge(one[name], value, `${path}/${name}`) : value;
  }
  return merged;
}

/** Leaves out the parts that nothing refers to, since no service has use for all that is common. */
function prune(document) {
  const { securitySchemes, ...components } = document.components;
  const used = new Set();
  const look = (value) => {
    for (const [reference, kind, name] of JSON.stringify(value).matchAll(REFERENCE)) {
      if (!used.has(reference) && components[kind]?.[name]) {
        used.add(reference);
        look(components[kind][name]);
      }
    }
  };
  look(document.paths);
  const kept = Object.entries(components).map(([kind, parts]) => [
    kind,
    Object.fromEntries(Object.entries(parts).filter(([name]) => used.has(`"#/components/${kind}/${name}"`))),
  ]);
  return { ...document, components: { securitySchemes, ...Object.fromEntries(kept) } };
}

/** The document of a service, as it is served. */
export async function describe(service, hasInterface) {
  const [, version] = (await read("Cargo.toml")).match(/^version = "(.+)"$/m);
  const parts = [{ info: { version } }, await part("common")];
  if (hasInterface) {
    parts.unshift(await part("sessions"));
  }
  const merged = parts.reduce((all, more) => merge(all, more, ""), await part(service));
  const { openapi, info, servers, security, tags, ...rest } = prune(merged);
  return `${JSON.stringify({ openapi, info, servers, security, tags, ...rest }, null, 2)}\n`;
}
