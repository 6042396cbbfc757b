import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { change, get, type Session } from "../shared/api.ts";
import { useLoaded } from "../shared/hooks.ts";
import { Empty, Loading, Moment, Trouble } from "../shared/ui.tsx";
import type { Alert } from "./types.ts";

export function Alerts({ session }: { session: Session }): JSX.Element {
  const { value, error, reload } = useLoaded(
    "alerts",
    (signal) => get<{ alerts: Alert[]; channels: string[] }>("api/alerts", signal),
    5_000,
  );
  const [said, setSaid] = useState<{ text: string; bad: boolean }>();
  const test = async (): Promise<void> => {
    try {
      await change("POST", "api/test-alert");
      setSaid({ text: "A test alert is on its way; what becomes of it stands below.", bad: false });
      reload();
    } catch (why) {
      setSaid({ text: (why as Error).message, bad: true });
    }
  };
  return (
    <>
      <div class="bar">
        <h1>Alerts</h1>
        <span class="grow" />
        {session.admin && (
          <button type="button" onClick={test}>
            Send a test alert
          </button>
        )}
      </div>
      <p role="status" class={said?.bad ? "tag error" : "quiet"}>
        {said?.text}
      </p>
      {error && <Trouble error={error} retry={reload} />}
      {!value && !error && <Loading />}
      {value && (
        <div class="paper">
          {value.alerts.length === 0 ? (
            <Empty title="No alert was sent yet">
              <p>
                {value.channels.length > 0
                  ? `New and reopened errors go to ${value.channels.join(", ")}.`
                  : "Nobody is told of new errors: set ALERT_EMAILS with SMTP_HOST, or ALERT_WEBHOOK_URL."}
              </p>
            </Empty>
          ) : (
            <table class="alerts">
              <thead>
                <tr>
                  {["When", "What", "State", "What was said"].map((title) => (
                    <th key={title} scope="col">
                      {title}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {value.alerts.map((alert) => (
                  <tr key={alert.id}>
                    <td>
                      <Moment at={alert.created_at} />
                    </td>
                    <td>
                      {alert.kind}
                      {alert.error_id && (
                        <>
                          {" "}
                          <a href={`?id=${alert.error_id}`}>{alert.exception_type ?? `error ${alert.error_id}`}</a>{" "}
                          {alert.project}
                        </>
                      )}
                    </td>
                    <td>
                      <span
                        class={`tag ${alert.state === "failed" ? "error" : alert.state === "sent" ? "resolved" : ""}`}
                      >
                        {alert.state}
                      </span>
                    </td>
                    <td>{inWords(alert.detail)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </div>
      )}
    </>
  );
}

/** What became of an alert, in words. */
function inWords(detail: Alert["detail"]): string {
  if (typeof detail === "string") {
    return detail;
  }
  const words = detail.map(({ channel, outcome, reason }) => `${channel}: ${reason ?? outcome}`);
  return words.join("; ");
}
