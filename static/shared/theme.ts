// Applies the stored color theme before the first paint.
import { applyTheme, storedTheme } from "./themes.ts";

applyTheme(storedTheme());
