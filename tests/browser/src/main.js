import { Cart, checkOut, priceOf } from "./cart.js";
import { beacon, point, post, postText, watch } from "./reporter.js";

const answers = watch(4);
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
  beacon("/api/browser/metrics", point("beacon_json"), "application/json");
  beacon("/api/browser/metrics", point("beacon_text"), "text/plain");
  post("/api/browser/metrics", point("keepalive_fetch"));
});

window.observed = answers.then(async (errors) => ({
  errors,
  metrics: await post("/api/browser/metrics", point("with_preflight")),
  text: await postText("/api/browser/metrics", point("without_preflight")),
}));
