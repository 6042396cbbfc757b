import "./style.css";
import type { JSX } from "preact";
import type { Session } from "../shared/api.ts";
import { useParams } from "../shared/hooks.ts";
import { start } from "../shared/shell.tsx";
import { Alerts } from "./alerts.tsx";
import { ErrorDetail } from "./detail.tsx";
import { Groups } from "./list.tsx";

function App({ session }: { session: Session }): JSX.Element {
  const [params, setParams] = useParams();
  const id = params.get("id");
  const alerts = params.has("alerts");
  const tab = (event: MouseEvent, changes: Record<string, string | undefined>): void => {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      setParams(changes);
    }
  };
  return (
    <>
      <nav class="tabs" aria-label="Views">
        <a
          href="./"
          aria-current={alerts ? undefined : "page"}
          onClick={(event) => tab(event, { id: undefined, alerts: undefined })}
        >
          Errors
        </a>
        <a
          href="?alerts=1"
          aria-current={alerts ? "page" : undefined}
          onClick={(event) => tab(event, { id: undefined, alerts: "1" })}
        >
          Alerts
        </a>
      </nav>
      {alerts ? (
        <Alerts session={session} />
      ) : id ? (
        <ErrorDetail id={id} session={session} />
      ) : (
        <Groups session={session} />
      )}
    </>
  );
}

start(
  [
    ["/", "search"],
    ["j", "next error"],
    ["k", "previous error"],
    ["Enter", "open it"],
    ["x", "choose it"],
    ["r", "resolve it, or all that are chosen"],
    ["Escape", "back to the list"],
  ],
  App,
);
