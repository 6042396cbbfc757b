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

window.MonlightSDK = { init };
if (window.MonlightConfig) window.Monlight = init(window.MonlightConfig);
