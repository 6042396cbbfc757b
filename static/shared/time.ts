const STEPS: [seconds: number, unit: Intl.RelativeTimeFormatUnit][] = [
  [31_536_000, "year"],
  [2_592_000, "month"],
  [86_400, "day"],
  [3_600, "hour"],
  [60, "minute"],
];

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
const ABSOLUTE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** `3 min. ago`, of a time in RFC 3339; what is none stays as it is. */
export function relative(time: string, now = Date.now()): string {
  const seconds = (Date.parse(time) - now) / 1000;
  if (Number.isNaN(seconds)) {
    return time;
  }
  const step = STEPS.find(([length]) => Math.abs(seconds) >= length);
  return step ? RELATIVE.format(Math.trunc(seconds / step[0]), step[1]) : "just now";
}

/** In the reader's zone and language; what is no time stays as it is. */
export function absolute(time: string): string {
  const at = Date.parse(time);
  return Number.isNaN(at) ? time : ABSOLUTE.format(at);
}
