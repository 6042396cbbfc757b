/** Repair and serialization of events, which contain values of the application and may be changed by `beforeSend`. */

import { logDebug, safely } from "./instrumentation";
import { BODY_MAX_BYTES, byteLength, toJson } from "./transport";
import type { BrowserError } from "./types";
import { isObject, type Properties } from "./values";

/** Matches JSON with an indentation of one space that is nested more than 50 levels deep. Relays accept 62 levels. */
const TOO_DEEP = /\n {51}/;
/** Maximum length of a value in the context as JSON with that indentation. */
const VALUE_MAX_CHARS = 50_000;

/** Converts a member to a string. An object, which is accepted as user, is replaced by its ID, name or address. */
const repair = (key: string, value: unknown): string | undefined => {
  const text = (isObject(value) ? (value.id ?? value.username ?? value.email) : value)?.toString();
  if (text !== value) logDebug("repaired", key, value);
  return text;
};

/** Copies a context. Omits values that are too long, too deep, or cannot be read or serialized. */
export const copyContext = (context: Properties | undefined): Properties => {
  const copy: Properties = {};
  const copyMember = (key: string): void =>
    safely(() => {
      const original = context?.[key];
      // Undefined if the value is, which removes it.
      const json: string | undefined = JSON.stringify(key === "user_id" ? repair(key, original) : original, null, 1);
      if (json && (TOO_DEEP.test(json) || json.length > VALUE_MAX_CHARS)) throw `${key} too long or deep`;
      copy[key] = json && JSON.parse(json);
    });
  safely(() => Object.keys(context || {}).forEach(copyMember));
  return copy;
};

/** Serializes an event. If it exceeds `BODY_MAX_BYTES`, only `user_id`, `level` and `repeats` are kept of the context. */
export const serializeEvent = (event: BrowserError): string => {
  const { context, fingerprint, ...fields } = event as unknown as Properties & { context?: Properties };
  for (const key of Object.keys(fields)) fields[key] = repair(key, fields[key]);
  const copy = copyContext(context);
  Object.assign(fields, copyContext({ fingerprint }));
  const body = toJson({ ...fields, context: copy });
  if (byteLength(body) <= BODY_MAX_BYTES) return body;
  const { user_id, level, repeats } = copy;
  return toJson({ ...fields, context: { user_id, level, repeats, shortened: true } });
};
