import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import type { Alert, Alerts as AlertHistory } from "../generated/error-tracker.ts";
import type { Session } from "../generated/sessions.ts";
import { get, send } from "../shared/api.ts";
import { useFetch } from "../shared/hooks.ts";
import { toPlainTexts } from "../shared/terminal.ts";
import { EmptyState, ErrorMessage, Loading, Timestamp } from "../shared/ui.tsx";
import { plural } from "./trace.ts";

const REFRESH_INTERVAL_MS = 5_000;
const KINDS: Record<Alert["kind"], string> = {
  new: "New error",
  reopened: "Regression",
  digest: "Digest",
  test: "Test",
};
const STATES: Record<Alert["state"], string> = {
  waiting: "Queued",
  sent: "Sent",
  failed: "Failed",
  held: "Suppressed",
};

/** The history of alerts and a button that sends a test alert. */
export function Alerts({ session }: { session: Session }): JSX.Element {
  const { value, error, reload } = useFetch(
    "alerts",
    async (signal) => toPlainTexts(await get<AlertHistory>("api/alerts", signal)),
    REFRESH_INTERVAL_MS,
  );
  const [testResult, setTestResult] = useState<{ message: string; isError: boolean }>();
  const sendTest = async (): Promise<void> => {
    try {
      await send("POST", "api/test-alert");
      setTestResult({ message: "Test alert queued. Its delivery status appears below.", isError: false });
      reload();
    } catch (error) {
      setTestResult({ message: (error as Error).message, isError: true });
    }
  };
  return (
    <>
      <div class="bar">
        <h1>Alerts</h1>
        <span class="grow" />
        {session.admin && (
          <button type="button" onClick={sendTest}>
            Send test alert
          </button>
        )}
      </div>
      <p role="status" class={testResult?.isError ? "tag error" : "muted"}>
        {testResult?.message}
      </p>
      {error && <ErrorMessage error={error} retry={reload} />}
      {!value && !error && <Loading />}
      {value && (
        <div class="card">
          {value.alerts.length === 0 ? (
            <EmptyState title="No alerts yet">
              <p>
                {value.channels.length > 0
                  ? `New errors and regressions are sent to ${value.channels.join(", ")}.`
                  : "No alert channel is configured. Set ALERT_EMAILS and SMTP_HOST, or ALERT_WEBHOOK_URL."}
              </p>
            </EmptyState>
          ) : (
            <table class="alerts">
              <thead>
                <tr>
                  {["Time", "Alert", "Status", "Delivery"].map((title) => (
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
                      <Timestamp at={alert.created_at} />
                    </td>
                    <td>
                      {KINDS[alert.kind]}
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
                        {STATES[alert.state]}
                      </span>
                    </td>
                    <td>{describeDelivery(alert)}</td>
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

/** Returns the progress of each channel, or the reason why the alert was suppressed. */
function describeDelivery({ detail, deliveries }: Alert): ComponentChildren {
  if (deliveries.length === 0) {
    return detail
      .map((result) => (typeof result === "string" ? result : `${result.channel}: ${result.reason ?? result.outcome}`))
      .join("; ");
  }
  return deliveries.map(({ channel, state, attempts, reason, next_attempt_at }, index) => (
    <>
      {index > 0 && "; "}
      <span key={channel}>
        {channel}: {state === "sent" ? "sent" : (reason ?? "queued")}
        {state === "waiting" && attempts > 0 && next_attempt_at && (
          <>
            {" "}
            ({plural(attempts, "attempt")}, next <Timestamp at={next_attempt_at} />)
          </>
        )}
      </span>
    </>
  ));
}
