import { Cart, checkOut, priceOf } from "./cart.js";
import { metricBody, post, postWithoutPreflight, reportUncaughtErrors, sendBeacon } from "./reporter.js";

const reports = reportUncaughtErrors(4);
setTimeout(function pay() {
  priceOf({});
});
setTimeout(function fill() {
  new Cart().add("shoe");
});
setTimeout(function leave() {
  Cart.refuse("rejected");
});
setTimeout(async function order() {
  await checkOut(new Cart());
});

addEventListener("pagehide", () => {
  sendBeacon("/api/browser/metrics", metricBody("beacon_json"), "application/json");
  sendBeacon("/api/browser/metrics", metricBody("beacon_text"), "text/plain");
  post("/api/browser/metrics", metricBody("keepalive_fetch"));
});

window.observed = reports.then(async (errors) => ({
  errors,
  metrics: await post("/api/browser/metrics", metricBody("with_preflight")),
  text: await postWithoutPreflight("/api/browser/metrics", metricBody("without_preflight")),
}));
