/** Color theme. `auto` follows the system preference. */
export type Theme = "auto" | "light" | "dark";

const THEMES: Theme[] = ["auto", "light", "dark"];

/** Returns the theme stored in this browser; `auto` if there is none. */
export function storedTheme(): Theme {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem("theme")) ?? "auto";
  } catch {
    // The browser may block storage.
    return "auto";
  }
}

/** Applies a theme to the page and stores it. */
export function applyTheme(theme: Theme): void {
  if (theme === "auto") {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = theme;
  }
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Without storage, the theme lasts until the page is closed.
  }
}

/** Returns the theme that follows this one: auto, light, dark, auto. */
export function nextTheme(theme: Theme): Theme {
  return THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
}
