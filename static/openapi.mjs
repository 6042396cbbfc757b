// Builds the OpenAPI document of a service from its own part and the parts that it shares with other services.
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
/** A JSON reference to a component. */
const REFERENCE = /"#\/components\/([^/"]+)\/([^/"]+)"/g;

const readText = (path) => readFile(join(ROOT, path), "utf8");
export const readPart = async (name) => JSON.parse(await readText(`openapi/${name}.json`));

/** Merges objects recursively and concatenates lists. Throws an error if both parts define any other value. */
function merge(one, other, path) {
  if (Array.isArray(one) && Array.isArray(other)) {
    return [...one, ...other];
  }
  if (one?.constructor !== Object || other?.constructor !== Object) {
    throw new Error(`openapi: ${path} is defined in two parts`);
  }
  const merged = { ...one };
  for (const [name, value] of Object.entries(other)) {
    merged[name] = name in one ? merge(one[name], value, `${path}/${name}`) : value;
  }
  return merged;
}

/** Removes components without references: no service uses all shared components. */
function removeUnused(document) {
  const { securitySchemes, ...components } = document.components;
  const used = new Set();
  const visit = (value) => {
    for (const [reference, kind, name] of JSON.stringify(value).matchAll(REFERENCE)) {
      if (!used.has(reference) && components[kind]?.[name]) {
        used.add(reference);
        visit(components[kind][name]);
      }
    }
  };
  visit(document.paths);
  const usedComponents = Object.entries(components).map(([kind, definitions]) => [
    kind,
    Object.fromEntries(Object.entries(definitions).filter(([name]) => used.has(`"#/components/${kind}/${name}"`))),
  ]);
  return { ...document, components: { securitySchemes, ...Object.fromEntries(usedComponents) } };
}

/** Returns the document of a service as JSON text. Services with a web UI also have the routes for sessions. */
export async function buildOpenApi(service, hasUi) {
  const [, version] = (await readText("Cargo.toml")).match(/^version = "(.+)"$/m);
  const parts = [{ info: { version } }, await readPart("common")];
  if (hasUi) {
    parts.unshift(await readPart("sessions"));
  }
  const merged = parts.reduce((merged, part) => merge(merged, part, ""), await readPart(service));
  const { openapi, info, servers, security, tags, ...rest } = removeUnused(merged);
  return `${JSON.stringify({ openapi, info, servers, security, tags, ...rest }, null, 2)}\n`;
}
