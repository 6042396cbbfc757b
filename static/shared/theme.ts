// Before anything is painted: the theme that was chosen here last, if one was.
import { applyTheme, chosenTheme } from "./themes.ts";

applyTheme(chosenTheme());
