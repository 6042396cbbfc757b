import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import type { ErrorGroupDetail, Occurrence, TraceSection } from "../generated/error-tracker.ts";
import type { Session } from "../generated/sessions.ts";
import { get, send } from "../shared/api.ts";
import { useFetch, useParams, useShortcuts } from "../shared/hooks.ts";
import { toPlainTexts } from "../shared/terminal.ts";
import { CopyButton, ErrorMessage, Loading, Sparkline, Timestamp } from "../shared/ui.tsx";
import { formatMarkdown, framesWithSource, plural, relatedLinks, sectionTexts } from "./trace.ts";

/** Hours in the chart: one week. */
const CHART_HOURS = 168;
const REFRESH_INTERVAL_MS = 15_000;

/** One error group: its properties, stack trace and latest events. */
export function ErrorDetail({ id, session }: { id: string; session: Session }): JSX.Element {
  const [, setParams] = useParams();
  const path = `api/errors/${encodeURIComponent(id)}?hours=${CHART_HOURS}`;
  const load = async (signal: AbortSignal): Promise<ErrorGroupDetail> =>
    toPlainTexts(await get<ErrorGroupDetail>(path, signal));
  const { value, error, reload } = useFetch(path, load, REFRESH_INTERVAL_MS);
  const [resolveError, setResolveError] = useState<Error>();
  const resolve = async (): Promise<void> => {
    try {
      await send("POST", `api/errors/${encodeURIComponent(id)}/resolve`);
      setResolveError(undefined);
      reload();
    } catch (error) {
      setResolveError(error as Error);
    }
  };
  const back = (): void => setParams({ id: undefined });
  useShortcuts({ r: () => session.admin && value && !value.resolved && void resolve(), Escape: back });
  if (error && !value) {
    return <ErrorMessage error={error} retry={reload} />;
  }
  if (!value) {
    return <Loading />;
  }
  // A release can have source maps for some of its pages only.
  const symbolicated = value.occurrences.find(({ extra }) => Array.isArray(extra.frames));
  return (
    <article class="detail">
      <div class="bar">
        <button type="button" onClick={back}>
          ← All errors
        </button>
        <span class="grow" />
        <CopyButton label="Copy as Markdown" text={() => formatMarkdown(value, location.href)} />
        {session.admin && !value.resolved && (
          <button type="button" class="primary" onClick={resolve}>
            Resolve
          </button>
        )}
      </div>
      {resolveError && <ErrorMessage error={resolveError} />}
      <div class="card">
        <h1>{value.exception_type}</h1>
        <pre>{value.message || "(no message)"}</pre>
        <dl class="properties">
          <Property name="Status">
            {value.resolved ? (
              <>
                Resolved <Timestamp at={value.resolved_at} />
              </>
            ) : (
              "Unresolved"
            )}
          </Property>
          <Property name="Events">{value.count.toLocaleString()}</Property>
          <Property name="First seen">
            <Timestamp at={value.first_seen} />
          </Property>
          <Property name="Last seen">
            <Timestamp at={value.last_seen} />
          </Property>
          <Property name="Project">{value.project}</Property>
          <Property name="Environment">{value.environment}</Property>
          {value.release && <Property name="Release">{value.release}</Property>}
          <Property name="Level">{value.level}</Property>
          {value.location && (
            <Property name="Location">
              <code>{value.location}</code>
            </Property>
          )}
          <RelatedLinks session={session} at={value.last_seen} />
        </dl>
        {value.hours && <Sparkline counts={value.hours} label="Events per hour, last 7 days" />}
      </div>
      <section class="card" aria-labelledby="stack">
        <div class="bar">
          <h2 id="stack">Stack trace</h2>
          <span class="grow" />
          <CopyButton label="Copy" text={() => value.traceback} />
        </div>
        <StackTrace trace={value.traceback} sections={value.trace} />
        {symbolicated && <SourceContext occurrence={symbolicated} />}
      </section>
      <section class="card" aria-labelledby="events">
        <h2 id="events">
          {value.occurrences.length === 1 ? "Latest event" : `Latest ${value.occurrences.length} events`}
        </h2>
        <div class="events" tabIndex={0} role="group" aria-labelledby="events">
          {value.occurrences.map((occurrence) => (
            <Event key={occurrence.id} occurrence={occurrence} group={value} />
          ))}
        </div>
      </section>
    </article>
  );
}

function Property({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Links to the logs and metrics around a timestamp. */
function RelatedLinks({ session, at }: { session: Session; at: string }): JSX.Element | null {
  const links = relatedLinks(session.services, at);
  return links.length === 0 ? null : (
    <Property name="Around last event">
      {links.map(({ title, href }, index) => (
        <>
          {index > 0 && ", "}
          <a key={title} href={href}>
            {title}
          </a>
        </>
      ))}
    </Property>
  );
}

/** A stack trace with its library frames collapsed. */
function StackTrace({ trace, sections }: { trace: string; sections: TraceSection[] }): JSX.Element {
  const texts = sectionTexts(trace, sections);
  return (
    <div class="trace" tabIndex={0} role="group" aria-label="Stack trace">
      {sections.map(({ kind, first_line, frames }, index) =>
        kind === "library" ? (
          <details key={first_line}>
            <summary>{plural(frames, "library frame")}</summary>
            <pre>{texts[index]}</pre>
          </details>
        ) : (
          <pre key={first_line} class={kind === "in_app" ? "in-app" : kind}>
            {texts[index]}
          </pre>
        ),
      )}
    </div>
  );
}

/** Source lines around each frame, for frames whose source map contains the source. */
function SourceContext({ occurrence }: { occurrence: Occurrence }): JSX.Element {
  return (
    <div class="frames">
      {framesWithSource(occurrence).map((frame, index) => (
        <div key={index}>
          <p class="muted">
            {String(frame.function ?? "")} {String(frame.file ?? "")}:{String(frame.line ?? "")}
          </p>
          <pre>
            {frame.context.map((source, index) => (
              <span key={index} class={source?.line === frame.line ? "source current" : "source"}>
                {String(source?.line ?? "").padStart(5)} {String(source?.text ?? "")}
              </span>
            ))}
          </pre>
        </div>
      ))}
    </div>
  );
}

/** One event of the group. Shows its message and stack trace only where they differ from the group's. */
function Event({ occurrence, group }: { occurrence: Occurrence; group: ErrorGroupDetail }): JSX.Element {
  const { breadcrumbs, frames: _, ...extra } = occurrence.extra;
  const crumbs = breadcrumbs ?? (extra.context as { breadcrumbs?: unknown } | undefined)?.breadcrumbs;
  const formatJson = (value: unknown): string => JSON.stringify(value, null, 2);
  const hasMembers = (value: object): boolean => Object.keys(value).length > 0;
  return (
    <article>
      <h3>
        <Timestamp at={occurrence.timestamp} />
      </h3>
      <dl class="properties">
        {occurrence.request_url && (
          <Property name="Request">
            {occurrence.request_method} {occurrence.request_url}
          </Property>
        )}
        {occurrence.user_id && <Property name="User">{occurrence.user_id}</Property>}
        <Property name="Environment">{occurrence.environment}</Property>
        {occurrence.release && <Property name="Release">{occurrence.release}</Property>}
      </dl>
      {occurrence.message !== group.message && <pre>{occurrence.message}</pre>}
      {Array.isArray(crumbs) && <Breadcrumbs crumbs={crumbs} />}
      {hasMembers(extra) && (
        <details open>
          <summary>Context</summary>
          <pre tabIndex={0}>{formatJson(extra)}</pre>
        </details>
      )}
      {hasMembers(occurrence.request_headers) && (
        <details>
          <summary>Headers</summary>
          <pre tabIndex={0}>{formatJson(occurrence.request_headers)}</pre>
        </details>
      )}
      {occurrence.traceback !== group.traceback && (
        <details>
          <summary>Stack trace of this event</summary>
          <pre tabIndex={0}>{occurrence.traceback}</pre>
        </details>
      )}
    </article>
  );
}

interface Breadcrumb {
  timestamp?: unknown;
  category?: unknown;
  message?: unknown;
}

function Breadcrumbs({ crumbs }: { crumbs: unknown[] }): JSX.Element {
  const renderCrumb = (crumb: unknown): JSX.Element => {
    const { timestamp, category, message } = (crumb ?? {}) as Breadcrumb;
    return typeof message === "string" ? (
      <>
        {typeof timestamp === "string" && <Timestamp at={timestamp} />} <b>{String(category ?? "")}</b>{" "}
        <code>{message}</code>
      </>
    ) : (
      <code>{JSON.stringify(crumb)}</code>
    );
  };
  return (
    <details open>
      <summary>Breadcrumbs</summary>
      <ol>
        {crumbs.map((crumb, index) => (
          <li key={index}>{renderCrumb(crumb)}</li>
        ))}
      </ol>
    </details>
  );
}
