import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Health, Quota, Rejection, StoreUsage } from "../generated/common.ts";
import { get, getHealth } from "./api.ts";
import { useFetch } from "./hooks.ts";
import { ErrorMessage, Loading, Timestamp } from "./ui.tsx";

const HEALTH_INTERVAL_MS = 60_000;
/** Largest users of a store that the dialog lists. */
const PROJECTS_MAX = 5;

/** A button with the number of the service's warnings. Opens a dialog with the warnings and the usage of the quotas. */
export function HealthButton(): JSX.Element {
  const health = useFetch("health", getHealth, HEALTH_INTERVAL_MS);
  const dialog = useRef<HTMLDialogElement>(null);
  const [isOpen, setOpen] = useState(false);
  const show = (): void => {
    health.reload();
    setOpen(true);
    dialog.current?.showModal();
  };
  const warnings = health.value?.warnings?.length ?? 0;
  const isDegraded = health.value?.status === "degraded";
  return (
    <>
      <button type="button" onClick={show} class={warnings > 0 || isDegraded ? "attention" : undefined}>
        {warnings > 0 || isDegraded ? `Health: ${warnings + (isDegraded ? 1 : 0)} ⚠` : "Health"}
      </button>
      <dialog ref={dialog} aria-labelledby="health" class="health" onClose={() => setOpen(false)}>
        <h2 id="health">Health</h2>
        {isOpen && <HealthDetails health={health.value} error={health.error} />}
        <form method="dialog">
          <button type="submit">Close</button>
        </form>
      </dialog>
    </>
  );
}

function HealthDetails({ health, error }: { health: Health | undefined; error: Error | undefined }): JSX.Element {
  const quota = useFetch("quota", (signal) => get<Quota>("api/quota", signal));
  return (
    <>
      {error && <ErrorMessage error={error} />}
      {health && <Warnings health={health} />}
      {quota.error && <ErrorMessage error={quota.error} retry={quota.reload} />}
      {quota.value ? <Quotas quota={quota.value} /> : !quota.error && <Loading />}
    </>
  );
}

function Warnings({ health }: { health: Health }): JSX.Element {
  const { reason, warnings = [] } = health;
  if (!reason && warnings.length === 0) {
    return <p>No problems.</p>;
  }
  return (
    <ul class="warnings">
      {reason && <li class="error-message">Degraded: {reason}</li>}
      {warnings.map(({ code, count, message, project }) => (
        <li key={`${code} ${project} ${message}`}>
          {project && <b>{project}: </b>}
          {message ?? `${code}: ${count}`}
        </li>
      ))}
    </ul>
  );
}

function Quotas({ quota: { shares, stores, rejections } }: { quota: Quota }): JSX.Element | null {
  if (stores.length === 0) {
    return null;
  }
  return (
    <>
      <h3>Storage by project</h3>
      <p class="muted">
        One project may use {shares.project_percent} % of a store, or {100 - shares.server_reserve_percent} % if it is
        alone; its browser keys {shares.browser_percent} %. All browser keys together may use{" "}
        {shares.all_browsers_percent} % of the alerts. Stores that can delete take from the largest project.
      </p>
      {stores.map((store) => (
        <Store key={store.name} store={store} />
      ))}
      {rejections.length > 0 && <Rejections rejections={rejections} />}
    </>
  );
}

function Store({ store }: { store: StoreUsage }): JSX.Element {
  const { name, rows, rows_max, bytes, bytes_max, projects } = store;
  const title = name.replaceAll("_", " ");
  return (
    <section>
      <h4>{title}</h4>
      {rows_max !== null && <Usage label={`${title}, rows`} used={rows} max={rows_max} format={formatCount} />}
      {bytes_max !== null && <Usage label={`${title}, size`} used={bytes} max={bytes_max} format={formatBytes} />}
      <table>
        <tbody>
          {projects.slice(0, PROJECTS_MAX).map((usage) => (
            <tr key={`${usage.project} ${usage.key_kind}`}>
              <th scope="row">
                {usage.project || "(no project)"}
                {usage.key_kind === "browser" && <span class="muted"> browser keys</span>}
              </th>
              <td>{formatCount(usage.rows)}</td>
              <td>{formatBytes(usage.bytes)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Usage(props: { label: string; used: number; max: number; format: (value: number) => string }): JSX.Element {
  const { label, used, max, format } = props;
  return (
    <p class="usage">
      <meter aria-label={label} min={0} max={max} value={used} high={max * 0.9} />
      {format(used)} of {format(max)}
    </p>
  );
}

function Rejections({ rejections }: { rejections: Rejection[] }): JSX.Element {
  return (
    <>
      <h3>Not stored as sent</h3>
      <div class="scroll" tabIndex={0} role="region" aria-label="Not stored as sent">
        <table>
          <thead>
            <tr>
              <th scope="col">Project</th>
              <th scope="col">Store</th>
              <th scope="col">Reason</th>
              <th scope="col">Count</th>
              <th scope="col">Last</th>
            </tr>
          </thead>
          <tbody>
            {rejections.map(({ store, project, reason, count, last_at }) => (
              <tr key={`${store} ${project} ${reason}`}>
                <th scope="row">{project || "(no project)"}</th>
                <td>{store.replaceAll("_", " ")}</td>
                <td>{reason.replaceAll("_", " ")}</td>
                <td>{formatCount(count)}</td>
                <td>
                  <Timestamp at={last_at} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function formatCount(count: number): string {
  return count.toLocaleString("en");
}

function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1);
  return `${(bytes / 1000 ** power).toLocaleString("en", { maximumFractionDigits: power > 0 ? 1 : 0 })} ${units[power]}`;
}
