// Formats times.
/** Units of relative times, longest first. */
const UNITS: [seconds: number, name: Intl.RelativeTimeFormatUnit][] = [
  [31_536_000, "year"],
  [2_592_000, "month"],
  [86_400, "day"],
  [3_600, "hour"],
  [60, "minute"],
];

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
const ABSOLUTE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Formats an RFC 3339 timestamp relative to `now`: `3 min. ago`. Returns any other string unchanged. */
export function formatRelative(time: string, now = Date.now()): string {
  const seconds = (Date.parse(time) - now) / 1000;
  if (Number.isNaN(seconds)) {
    return time;
  }
  const unit = UNITS.find(([length]) => Math.abs(seconds) >= length);
  return unit ? RELATIVE.format(Math.trunc(seconds / unit[0]), unit[1]) : "just now";
}

/** Formats a timestamp in the user's time zone and language. Returns any other string unchanged. */
export function formatAbsolute(time: string): string {
  const ms = Date.parse(time);
  return Number.isNaN(ms) ? time : ABSOLUTE.format(ms);
}

/** Formats a timestamp in the user's time zone: `01-31 12:00:00.123`, with the year if it is not that of `now`. */
export function formatTimestamp(time: string, now = new Date()): string {
  const date = new Date(time);
  const year = date.getFullYear() === now.getFullYear() ? "" : `${date.getFullYear()}-`;
  const twoDigits = (value: number): string => String(value).padStart(2, "0");
  const day = `${twoDigits(date.getMonth() + 1)}-${twoDigits(date.getDate())}`;
  const second = `${twoDigits(date.getHours())}:${twoDigits(date.getMinutes())}:${twoDigits(date.getSeconds())}`;
  return `${year}${day} ${second}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Returns an RFC 3339 timestamp in UTC, in whole seconds. */
export function toTimestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+/, "");
}

/** Converts a timestamp to the value of a `datetime-local` field, in the user's time zone. */
export function toLocalInput(time: string | undefined): string {
  const ms = Date.parse(time ?? "");
  return Number.isNaN(ms) ? "" : new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
