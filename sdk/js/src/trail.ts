/** What happened before an error: the last console lines, clicks, navigations and requests. */

import { now } from "./metrics";
import { listen, patch } from "./scope";
import { clean, withoutQuery } from "./stack";
import type { Breadcrumb } from "./types";

const TRAIL_MAX = 30;
const MESSAGE_MAX_CHARS = 200;
/** Elements of a selector, each with its id or else its first class. */
const SELECTOR_MAX = 3;

/** The last 30, the oldest first. */
export const trail: Breadcrumb[] = [];

export const leave = (category: Breadcrumb["category"], message: string): void => {
  trail.push({ timestamp: now(), category, message: clean(message, MESSAGE_MAX_CHARS) });
  if (trail.length > TRAIL_MAX) trail.shift();
};

export function watchSteps(): void {
  listen(window, "click", ({ target }: Event) => {
    if (target instanceof Element) leave("click", selector(target));
  });

  let page = location.href;
  const moved = (): void => {
    const from = withoutQuery(page);
    page = location.href;
    const to = withoutQuery(page);
    if (from !== to) leave("navigation", `${from} to ${to}`);
  };
  listen(window, "popstate hashchange", moved);
  for (const name of ["pushState", "replaceState"]) {
    patch(history, name, () => (result) => {
      moved();
      return result;
    });
  }
}

/** How to find an element, without anything a person has written or reads: `form#order > div.row > button.pay`. */
function selector(element: Element): string {
  const parts = [];
  for (let at: Element | null = element; at && parts.length < SELECTOR_MAX; at = at.parentElement) {
    const id = at.getAttribute("id");
    const [firstClass] = at.classList;
    parts.unshift(at.localName + (id ? `#${id}` : firstClass ? `.${firstClass}` : ""));
  }
  return parts.join(" > ");
}
