// Formats numbers with their units.

export type Unit = "" | "/s" | "s" | "ms" | "bytes" | "bytes/s" | "%";

const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const INTEGER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const COMPACT = new Intl.NumberFormat("en", { maximumSignificantDigits: 4, notation: "compact" });
const BYTES = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Formats a number with three significant digits; from 100 on, as an integer. */
function formatNumber(value: number): string {
  return (Math.abs(value) >= 100 ? INTEGER : NUMBER).format(value);
}

/** Formats a value with its unit: `1.25 GB`, `41 ms`, `0.3 /s`. Returns a dash if there is no value. */
export function formatValue(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined) {
    return "–";
  }
  switch (unit) {
    case "s":
      return Math.abs(value) >= 1 || value === 0 ? `${formatNumber(value)} s` : `${formatNumber(value * 1000)} ms`;
    case "bytes":
    case "bytes/s": {
      const power = Math.min(Math.floor(Math.log10(Math.max(1, Math.abs(value))) / 3), BYTES.length - 1);
      return `${formatNumber(value / 1000 ** power)} ${BYTES[power]}${unit === "bytes/s" ? "/s" : ""}`;
    }
    case "%":
      return `${formatNumber(value)} %`;
    default: {
      const text = Math.abs(value) >= 1e6 ? COMPACT.format(value) : formatNumber(value);
      return unit ? `${text} ${unit}` : text;
    }
  }
}

/** Returns the unit of a metric, based on the conventional suffixes of Prometheus. */
export function unitFromName(name: string): Unit {
  const suffixes: [suffix: string, unit: Unit][] = [
    ["_seconds", "s"],
    ["_ms", "ms"],
    ["_bytes", "bytes"],
    ["_bytes_total", "bytes"],
    ["_percent", "%"],
  ];
  return suffixes.find(([suffix]) => name.endsWith(suffix))?.[1] ?? "";
}
