/** A group of similar error reports, as `GET /api/errors` returns it. */
export interface ErrorGroup {
  id: number;
  project: string;
  environment: string;
  exception_type: string;
  message: string;
  location: string | null;
  release: string | null;
  level: string;
  source: string;
  count: number;
  first_seen: string;
  last_seen: string;
  resolved: boolean;
  resolved_at: string | null;
  /** Events per hour, oldest first. */
  hours?: number[];
}

/** A page of error groups. */
export interface ErrorPage {
  errors: ErrorGroup[];
  total: number;
  limit: number;
  offset: number;
}

/** One report of a group. The UI calls it an event. */
export interface Occurrence {
  id: number;
  timestamp: string;
  environment: string;
  release: string | null;
  level: string;
  message: string;
  request_url: string | null;
  request_method: string | null;
  request_headers: Record<string, unknown> | null;
  user_id: string | null;
  session_id: string | null;
  extra: Record<string, unknown> | null;
  traceback: string;
}

/** Adjacent lines of a stack trace: frames of the program, frames of libraries, or other text. */
export interface TraceSection {
  kind: "in_app" | "library" | "text";
  /** Index of the first line, from 0. */
  first_line: number;
  lines: number;
  frames: number;
}

/** An error group with its latest reports. */
export interface ErrorGroupDetail extends ErrorGroup {
  traceback: string;
  trace: TraceSection[];
  occurrences: Occurrence[];
}

/** An alert and its delivery status. */
export interface Alert {
  id: number;
  kind: string;
  error_id: number | null;
  project: string | null;
  exception_type: string | null;
  created_at: string;
  state: string;
  finished_at: string | null;
  /** The result for each channel. A string is the reason why the alert was suppressed. */
  detail: (string | Delivery)[];
}

/** The result of sending an alert through one channel. */
export interface Delivery {
  channel: string;
  outcome: string;
  reason: string | null;
}
