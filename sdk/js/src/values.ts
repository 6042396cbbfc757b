/** Safe access to values of the application, whose getters, proxies and `toString` may throw. */

/** Maximum length of a value as a string. */
export const TEXT_MAX_CHARS = 2_000;
/** Maximum number of keys by which a thrown object is described. */
const KEYS_MAX = 10;
/** Replaces what is too deep, too long, cyclic or unreadable. */
export const OMITTED = "[omitted]";

export type Properties = Record<string, unknown>;

/** Whether a value is an object or a function. Also works for objects of other frames and without a prototype. */
export const isObject = (value: unknown): value is Properties => Object(value) === value;

/**
 * Converts a value to a string. Never calls `toString` of an object other than an error: it could be slow or have side
 * effects.
 */
export const safeToString = (value: unknown): string => {
  try {
    const text = isObject(value) && !(value instanceof Error) ? {}.toString.call(value) : String(value);
    return text.slice(0, TEXT_MAX_CHARS);
  } catch {
    return OMITTED;
  }
};

/** Describes a thrown value that is not an error: an object by its keys, never by its values. */
export const describeThrown = (value: unknown): string => {
  const text = safeToString(value);
  if (!isObject(value)) return text;
  // Other objects, such as events and responses, have no keys of their own, or those of a framework.
  const details = /Object|Array/.test(text) ? Object.keys(value).slice(0, KEYS_MAX) : value.status || value.type;
  return [text, details || []].flat().join(" ");
};
