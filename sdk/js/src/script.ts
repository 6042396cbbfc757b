/**
 * Script-tag entry point: initializes the SDK from `window.MonlightConfig` and stores the client in `window.Monlight`.
 */

import { init } from "./index";
import type { MonlightClient, MonlightConfig } from "./types";

declare global {
  interface Window {
    MonlightConfig?: MonlightConfig;
    Monlight?: MonlightClient;
    MonlightSDK?: { init: typeof init };
  }
}

// If the script is on the page twice, the second copy calls the first, so that its client replaces the earlier one.
window.MonlightSDK = window.MonlightSDK || { init };
if (window.MonlightConfig) window.Monlight = window.MonlightSDK.init(window.MonlightConfig);
