/** What `init` takes. */
export interface MonlightConfig {
  /** The public key of a project, 32 hexadecimal digits, made by the relay. It can report and nothing else. */
  dsn: string;
  /** Where the relay answers, such as `https://relay.example.com`. */
  endpoint: string;
  /** The version of the application, by which the relay finds its source maps. */
  release?: string;
  /** Where the application runs. Default `"prod"`. */
  environment?: string;
  /** The share of page views whose Web Vitals are sent, 0-1. Default 1. Errors and requests are always counted. */
  sampleRate?: number;
  /** Says in the console what the SDK does not send, and why. Default false. */
  debug?: boolean;
  /** False: nothing is watched, changed or sent. Default true. */
  enabled?: boolean;
  /** Also report what is written by `console.error` and `console.warn`. Default false. */
  captureConsole?: boolean;
  /** Sees each error before it is sent and answers it, changed or not, or null to drop it. If it throws, the error is dropped. */
  beforeSend?: (event: BrowserError) => BrowserError | null;
}

/** What `init` returns. None of its functions ever throws. */
export interface MonlightClient {
  /** Reports an error, or anything else that was thrown; `context` is sent with it. */
  captureError(error: unknown, context?: Record<string, unknown>): void;
  /** Reports a message. `level` is `"error"` (the default), `"warning"` or a word of your own. */
  captureMessage(message: string, level?: string): void;
  /** Names the user in all that is reported from now on; null names nobody any more. */
  setUser(userId: string | number | null): void;
  /** Adds a value to all that is reported from now on. */
  addContext(key: string, value: unknown): void;
  /** Sends what is waiting and takes the SDK out of the page. */
  destroy(): void;
}

/** An error as the relay takes it, and as `beforeSend` sees it. */
export interface BrowserError {
  /** The kind, such as `TypeError`. */
  type: string;
  /** At most 2,000 characters. */
  message: string;
  /** At most 16,000 characters, without the SDK's own frames. */
  stack: string;
  /** The page, without query and fragment. */
  url?: string;
  user_agent?: string;
  /** A random name for this tab until it is closed. */
  session_id?: string;
  release?: string | undefined;
  environment?: string;
  /** When, RFC 3339. */
  timestamp?: string;
  /** What was added by hand, `user_id`, `level`, `breadcrumbs`, and `repeats`: how often it happened, if not once. */
  context?: Record<string, unknown>;
}

/** A value as the relay takes it. */
export interface BrowserMetric {
  name: string;
  type: "counter" | "histogram" | "gauge";
  value: number;
  labels?: Record<string, string>;
  /** When, RFC 3339. */
  timestamp?: string;
}

/** Something that happened before an error. */
export interface Breadcrumb {
  /** When, RFC 3339. */
  timestamp: string;
  category: "console" | "click" | "navigation" | "fetch" | "xhr";
  /** At most 200 characters. */
  message: string;
}
