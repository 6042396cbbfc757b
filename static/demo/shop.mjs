// Scenario of the demo data: a web shop that deployed a faulty release three hours ago, after which payments time out.
// Ages are in milliseconds before now.

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/** Releases of the shop, oldest first, with the age of their deployment. */
export const RELEASES = [
  { release: "2.11.0", ageMs: 26 * DAY_MS },
  { release: "2.12.0", ageMs: 18.3 * DAY_MS },
  { release: "2.12.1", ageMs: 17.9 * DAY_MS },
  { release: "2.13.0", ageMs: 7.4 * DAY_MS },
  { release: "2.14.0", ageMs: 3.2 * HOUR_MS },
  { release: "2.14.1", ageMs: 0.6 * HOUR_MS },
];

/** Endpoints with their share of all requests in percent and their median response time in seconds. */
export const ENDPOINTS = [
  { path: "/", percent: 34, medianS: 0.035 },
  { path: "/products/{slug}", percent: 30, medianS: 0.06 },
  { path: "/search", percent: 14, medianS: 0.12 },
  { path: "/cart", percent: 12, medianS: 0.045 },
  { path: "/checkout", percent: 6, medianS: 0.18 },
  { path: "/checkout/pay", percent: 4, medianS: 0.34 },
];

export const PAGES = ["/", "/products/42", "/products/7", "/search?q=lamp", "/cart", "/checkout"];

/** Returns the release that was deployed at this age. */
export function releaseAt(ageMs) {
  return RELEASES.findLast((release) => release.ageMs >= ageMs)?.release ?? "2.10.4";
}

/** Whether payments were timing out at this age. */
export function isPaymentOutage(ageMs) {
  return releaseAt(ageMs) === "2.14.0";
}

/**
 * Returns the relative traffic at a Unix time in milliseconds: from 0.2 at night to 1 in the evening, reduced by up to
 * 36 % depending on the day of the week.
 */
export function trafficLevel(timestampMs) {
  const hour = (timestampMs / HOUR_MS) % 24;
  const weekday = Math.floor(timestampMs / DAY_MS) % 7;
  return (0.6 - 0.4 * Math.cos(((hour - 6) / 12) * Math.PI)) * (1 - 0.06 * weekday);
}
