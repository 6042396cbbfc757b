/** A group of reports, as `GET /api/errors` lists it. */
export interface Group {
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
  hours?: number[];
}

export interface List {
  errors: Group[];
  total: number;
  limit: number;
  offset: number;
}

/** One report. */
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

export interface Detail extends Group {
  traceback: string;
  occurrences: Occurrence[];
}

/** What became of an alert. */
export interface Alert {
  id: number;
  kind: string;
  error_id: number | null;
  project: string | null;
  exception_type: string | null;
  created_at: string;
  state: string;
  finished_at: string | null;
  /** Why it is held, or what each channel said. */
  detail: string | { channel: string; outcome: string; reason: string | null }[];
}
