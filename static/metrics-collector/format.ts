// Numbers for people.

export type Unit = "" | "/s" | "s" | "ms" | "bytes" | "bytes/s" | "%";

const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat("en", { maximumSignificantDigits: 4, notation: "compact" });
const BYTES = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Three digits, or all before the point. */
function number(value: number): string {
  return (Math.abs(value) >= 100 ? WHOLE : NUMBER).format(value);
}

/** `1.25 GB`, `41 ms`, `0.3 /s`; a dash where there is no number. */
export function format(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined) {
    return "–";
  }
  switch (unit) {
    case "s":
      return Math.abs(value) >= 1 || value === 0 ? `${number(value)} s` : `${number(value * 1000)} ms`;
    case "bytes":
    case "bytes/s": {
      const step = Math.min(Math.floor(Math.log10(Math.max(1, Math.abs(value))) / 3), BYTES.length - 1);
      return `${number(value / 1000 ** step)} ${BYTES[step]}${unit === "bytes/s" ? "/s" : ""}`;
    }
    case "%":
      return `${number(value)} %`;
    default: {
      const text = Math.abs(value) >= 1e6 ? COMPACT.format(value) : number(value);
      return unit ? `${text} ${unit}` : text;
    }
  }
}

/** What a metric's name says of its unit, by the usual endings. */
export function unitOf(name: string): Unit {
  const endings: [ending: string, unit: Unit][] = [
    ["_seconds", "s"],
    ["_ms", "ms"],
    ["_bytes", "bytes"],
    ["_bytes_total", "bytes"],
    ["_percent", "%"],
  ];
  return endings.find(([ending]) => name.endsWith(ending))?.[1] ?? "";
}
