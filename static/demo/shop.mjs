// What the demonstration is about: a shop that went live with a new release three hours ago, whose payments time out.

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/** Releases of the shop and how long before now they went live. */
export const RELEASES = [
  { release: "2.11.0", ago: 26 * DAY_MS },
  { release: "2.12.0", ago: 18.3 * DAY_MS },
  { release: "2.12.1", ago: 17.9 * DAY_MS },
  { release: "2.13.0", ago: 7.4 * DAY_MS },
  { release: "2.14.0", ago: 3.2 * HOUR_MS },
  { release: "2.14.1", ago: 0.6 * HOUR_MS },
];

export const ENDPOINTS = [
  { path: "/", share: 34, median_s: 0.035 },
  { path: "/products/{slug}", share: 30, median_s: 0.06 },
  { path: "/search", share: 14, median_s: 0.12 },
  { path: "/cart", share: 12, median_s: 0.045 },
  { path: "/checkout", share: 6, median_s: 0.18 },
  { path: "/checkout/pay", share: 4, median_s: 0.34 },
];

export const PAGES = ["/", "/products/42", "/products/7", "/search?q=lamp", "/cart", "/checkout"];

/** What was live so long before now. */
export function releaseAt(ago) {
  return RELEASES.findLast((release) => release.ago >= ago)?.release ?? "2.10.4";
}

/** Whether payments time out. */
export function isTroubled(ago) {
  return releaseAt(ago) === "2.14.0";
}

/** How many people are there, from 0.2 at night to 1 in the evening; fewer on some days. */
export function crowd(at) {
  const hours = (at / HOUR_MS) % 24;
  const day = Math.floor(at / DAY_MS) % 7;
  return (0.6 - 0.4 * Math.cos(((hours - 6) / 12) * Math.PI)) * (1 - 0.06 * day);
}
