import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { change, get, type Session } from "../shared/api.ts";
import { useKeys, useLoaded, useParams } from "../shared/hooks.ts";
import { absolute } from "../shared/time.ts";
import { Copy, Loading, Moment, Sparkline, Trouble } from "../shared/ui.tsx";
import { frameCount, parts } from "./trace.ts";
import type { Detail, Occurrence } from "./types.ts";

const HOURS = 168;
const EVERY_MS = 15_000;

export function ErrorDetail({ id, session }: { id: string; session: Session }): JSX.Element {
  const [, setParams] = useParams();
  const path = `api/errors/${encodeURIComponent(id)}?hours=${HOURS}`;
  const { value, error, reload } = useLoaded(path, (signal) => get<Detail>(path, signal), EVERY_MS);
  const [trouble, setTrouble] = useState<Error>();
  const resolve = async (): Promise<void> => {
    try {
      await change("POST", `api/errors/${encodeURIComponent(id)}/resolve`);
      setTrouble(undefined);
      reload();
    } catch (why) {
      setTrouble(why as Error);
    }
  };
  const back = (): void => setParams({ id: undefined });
  useKeys({ r: () => session.admin && value && !value.resolved && void resolve(), Escape: back });
  if (error && !value) {
    return <Trouble error={error} retry={reload} />;
  }
  if (!value) {
    return <Loading />;
  }
  // Not every page of a release is one that has a map.
  const mapped = value.occurrences.find(({ extra }) => Array.isArray(extra?.frames));
  return (
    <article class="detail">
      <div class="bar">
        <button type="button" onClick={back}>
          ← All errors
        </button>
        <span class="grow" />
        <Copy label="Copy as Markdown" text={() => markdown(value)} />
        {session.admin && !value.resolved && (
          <button type="button" class="main" onClick={resolve}>
            Resolve
          </button>
        )}
      </div>
      {trouble && <Trouble error={trouble} />}
      <div class="paper">
        <h1>{value.exception_type}</h1>
        <pre>{value.message || "no message"}</pre>
        <dl class="facts">
          <Fact name="State">
            {value.resolved ? (
              <>
                resolved <Moment at={value.resolved_at} />
              </>
            ) : (
              "open"
            )}
          </Fact>
          <Fact name="Reports">{value.count.toLocaleString()}</Fact>
          <Fact name="First seen">
            <Moment at={value.first_seen} />
          </Fact>
          <Fact name="Last seen">
            <Moment at={value.last_seen} />
          </Fact>
          <Fact name="Project">{value.project}</Fact>
          <Fact name="Environment">{value.environment}</Fact>
          {value.release && <Fact name="Release">{value.release}</Fact>}
          <Fact name="Level">{value.level}</Fact>
          {value.location && (
            <Fact name="Location">
              <code>{value.location}</code>
            </Fact>
          )}
          <Elsewhere session={session} at={value.last_seen} />
        </dl>
        {value.hours && <Sparkline counts={value.hours} label="Reports by the hour, in the last week" />}
      </div>
      <section class="paper" aria-labelledby="stack">
        <div class="bar">
          <h2 id="stack">Stack</h2>
          <span class="grow" />
          <Copy label="Copy" text={() => value.traceback} />
        </div>
        <Trace trace={value.traceback} />
        {mapped && <Context occurrence={mapped} />}
      </section>
      <section class="paper" aria-labelledby="occurrences">
        <h2 id="occurrences">
          {value.occurrences.length === 1 ? "The last report" : `The last ${value.occurrences.length} reports`}
        </h2>
        <div class="compare" tabIndex={0} role="group" aria-labelledby="occurrences">
          {value.occurrences.map((occurrence) => (
            <Report key={occurrence.id} occurrence={occurrence} of={value} />
          ))}
        </div>
      </section>
    </article>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** The other services at that minute. */
function Elsewhere({ session, at }: { session: Session; at: string }): JSX.Element | null {
  const minute = 60_000;
  const around = (before: number, after: number): string => {
    const time = Date.parse(at);
    const of = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+/, "");
    return new URLSearchParams({ since: of(time - before), until: of(time + after) }).toString();
  };
  const links = [
    { name: "log-viewer", title: "logs", query: around(2 * minute, minute) },
    { name: "metrics-collector", title: "metrics", query: around(30 * minute, 30 * minute) },
  ].flatMap(({ name, title, query }) => {
    const url = session.services.find((service) => service.name === name)?.url;
    return url ? [{ title, href: `${url.replace(/\/?$/, "/")}?${query}` }] : [];
  });
  return links.length === 0 ? null : (
    <Fact name="Around the last report">
      {links.map(({ title, href }, index) => (
        <>
          {index > 0 && ", "}
          <a key={title} href={href}>
            {title}
          </a>
        </>
      ))}
    </Fact>
  );
}

function Trace({ trace }: { trace: string }): JSX.Element {
  return (
    <div class="trace" tabIndex={0} role="group" aria-label="Stack trace">
      {parts(trace).map((part, index) =>
        part.kind === "library" ? (
          <details key={index}>
            <summary>{plural(frameCount(part.lines), "library frame")}</summary>
            <pre>{part.lines.join("\n")}</pre>
          </details>
        ) : (
          <pre key={index} class={part.kind}>
            {part.lines.join("\n")}
          </pre>
        ),
      )}
    </div>
  );
}

const plural = (count: number, thing: string): string => `${count} ${thing}${count === 1 ? "" : "s"}`;

/** A frame that the relay mapped, with the lines of source around it. */
interface SourceFrame {
  function?: unknown;
  file?: unknown;
  line?: unknown;
  context?: { line?: unknown; text?: unknown }[];
}

/** The lines of source around each frame, where a source map has them. */
function Context({ occurrence }: { occurrence: Occurrence }): JSX.Element | null {
  const frames = occurrence.extra?.frames;
  if (!Array.isArray(frames)) {
    return null;
  }
  const shown = (frames as (SourceFrame | null)[]).filter(
    (frame) => Array.isArray(frame?.context) && frame.context.length > 0,
  );
  return (
    <div class="frames">
      {shown.map((frame, index) => (
        <div key={index}>
          <p class="quiet">
            {String(frame?.function ?? "")} {String(frame?.file ?? "")}:{String(frame?.line ?? "")}
          </p>
          <pre>
            {frame?.context?.map((source, index) => (
              <span key={index} class={source?.line === frame.line ? "source at" : "source"}>
                {String(source?.line ?? "").padStart(5)} {String(source?.text ?? "")}
              </span>
            ))}
          </pre>
        </div>
      ))}
    </div>
  );
}

function Report({ occurrence, of }: { occurrence: Occurrence; of: Detail }): JSX.Element {
  const { breadcrumbs, frames: _, ...extra } = occurrence.extra ?? {};
  const trail = breadcrumbs ?? (extra.context as { breadcrumbs?: unknown } | undefined)?.breadcrumbs;
  const json = (value: unknown): string => JSON.stringify(value, null, 2);
  const filled = (value: object | null): value is object => value !== null && Object.keys(value).length > 0;
  return (
    <article>
      <h3>
        <Moment at={occurrence.timestamp} />
      </h3>
      <dl class="facts">
        {occurrence.request_url && (
          <Fact name="Request">
            {occurrence.request_method} {occurrence.request_url}
          </Fact>
        )}
        {occurrence.user_id && <Fact name="User">{occurrence.user_id}</Fact>}
        <Fact name="Environment">{occurrence.environment}</Fact>
        {occurrence.release && <Fact name="Release">{occurrence.release}</Fact>}
      </dl>
      {occurrence.message !== of.message && <pre>{occurrence.message}</pre>}
      {Array.isArray(trail) && <Breadcrumbs crumbs={trail} />}
      {filled(extra) && (
        <details open>
          <summary>Context</summary>
          <pre tabIndex={0}>{json(extra)}</pre>
        </details>
      )}
      {filled(occurrence.request_headers) && (
        <details>
          <summary>Headers</summary>
          <pre tabIndex={0}>{json(occurrence.request_headers)}</pre>
        </details>
      )}
      {occurrence.traceback !== of.traceback && (
        <details>
          <summary>Stack of this report</summary>
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
  const shown = (crumb: unknown): JSX.Element => {
    const { timestamp, category, message } = (crumb ?? {}) as Breadcrumb;
    return typeof message === "string" ? (
      <>
        {typeof timestamp === "string" && <Moment at={timestamp} />} <b>{String(category ?? "")}</b>{" "}
        <code>{message}</code>
      </>
    ) : (
      <code>{JSON.stringify(crumb)}</code>
    );
  };
  return (
    <details open>
      <summary>What happened before</summary>
      <ol>
        {crumbs.map((crumb, index) => (
          <li key={index}>{shown(crumb)}</li>
        ))}
      </ol>
    </details>
  );
}

/** For an issue tracker or a chat. */
function markdown(error: Detail): string {
  const fence = "`".repeat(Math.max(3, ...[...error.traceback.matchAll(/`+/g)].map(([ticks]) => ticks.length + 1)));
  return [
    `## ${error.exception_type}: ${error.message.split("\n", 1)[0]}`,
    "",
    `- project ${error.project}, ${error.environment}${error.release ? `, release ${error.release}` : ""}`,
    `- ${error.count} reports, first ${absolute(error.first_seen)}, last ${absolute(error.last_seen)}`,
    `- ${location.href}`,
    "",
    fence,
    error.traceback.replace(/\n+$/, ""),
    fence,
    "",
  ].join("\n");
}
