/** Breadcrumbs: the console lines, clicks, navigations and requests that precede an error. */

import { listen, patchMethod } from "./instrumentation";
import { isoNow } from "./metrics";
import { sanitizeUrl, scrub } from "./stack";
import type { Breadcrumb } from "./types";

const BREADCRUMBS_MAX = 30;
const MESSAGE_MAX_CHARS = 200;
/** Maximum number of elements in the selector of a clicked element. */
const SELECTOR_ELEMENTS_MAX = 3;

/** The most recent breadcrumbs, oldest first. */
export const breadcrumbs: Breadcrumb[] = [];

/** Appends a breadcrumb and evicts the oldest one above `BREADCRUMBS_MAX`. */
export const addBreadcrumb = (category: Breadcrumb["category"], message: string): void => {
  breadcrumbs.push({ timestamp: isoNow(), category, message: scrub(message, MESSAGE_MAX_CHARS) });
  if (breadcrumbs.length > BREADCRUMBS_MAX) breadcrumbs.shift();
};

/** Records clicks and navigations as breadcrumbs. */
export const instrumentInteractions = (): void => {
  listen("click", ({ target }: Event) => {
    if (target instanceof Element) addBreadcrumb("click", selector(target));
  });

  let currentUrl = sanitizeUrl(location.href);
  const recordNavigation = (): void => {
    const from = currentUrl;
    currentUrl = sanitizeUrl(location.href);
    if (from !== currentUrl) addBreadcrumb("navigation", `${from} to ${currentUrl}`);
  };
  listen("popstate hashchange", recordNavigation);
  for (const name of ["pushState", "replaceState"]) {
    patchMethod(history, name, () => (result) => {
      recordNavigation();
      return result;
    });
  }
};

/**
 * Returns a CSS selector for an element, for example `form#order > div.row > button.pay`. Each element contributes its
 * tag name and its id or, without an id, its first class. Text content and form values are never included.
 */
const selector = (element: Element): string => {
  const parts = [];
  for (
    let current: Element | null = element;
    current && parts.length < SELECTOR_ELEMENTS_MAX;
    current = current.parentElement
  ) {
    const id = current.getAttribute("id");
    const [firstClass] = current.classList;
    parts.unshift(current.localName + (id ? `#${id}` : firstClass ? `.${firstClass}` : ""));
  }
  return parts.join(" > ");
};
