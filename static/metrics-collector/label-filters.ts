// Label filters in the syntax of the API: `a:1,b:2`, or a JSON object if a name or a value contains separators.

/** Parses label filters. Example: `a:1,b:x:y` sets `a` to `1` and `b` to `x:y`. Returns none if the text is invalid. */
export function parseLabelFilters(text: string): Map<string, string> {
  if (text.startsWith("{")) {
    try {
      return new Map(Object.entries(JSON.parse(text)).map(([name, value]) => [name, String(value)]));
    } catch {
      return new Map();
    }
  }
  const pairs = text.split(",").filter((pair) => pair.includes(":"));
  return new Map(
    pairs.map((pair) => [pair.slice(0, pair.indexOf(":")).trim(), pair.slice(pair.indexOf(":") + 1).trim()]),
  );
}

/** Formats label filters as pairs, which are easier to read in a URL, or as JSON. An empty value means any. */
export function formatLabelFilters(filters: Map<string, string>): string {
  const set = [...filters].filter(([, value]) => value !== "");
  const text = set.map(([name, value]) => `${name}:${value}`).join(",");
  const parsed = parseLabelFilters(text);
  const isExact = parsed.size === set.length && set.every(([name, value]) => parsed.get(name) === value);
  return isExact ? text : JSON.stringify(Object.fromEntries(set));
}
