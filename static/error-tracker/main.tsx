import "./style.css";
import type { JSX } from "preact";
import type { Session } from "../generated/sessions.ts";
import { useParams } from "../shared/hooks.ts";
import { renderApp } from "../shared/shell.tsx";
import { Alerts } from "./alerts.tsx";
import { ErrorDetail } from "./detail.tsx";
import { ErrorList } from "./list.tsx";

function App({ session }: { session: Session }): JSX.Element {
  const [params, setParams] = useParams();
  const id = params.get("id");
  const alerts = params.has("alerts");
  const openTab = (event: MouseEvent, changes: Record<string, string | undefined>): void => {
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
          onClick={(event) => openTab(event, { id: undefined, alerts: undefined })}
        >
          Errors
        </a>
        <a
          href="?alerts=1"
          aria-current={alerts ? "page" : undefined}
          onClick={(event) => openTab(event, { id: undefined, alerts: "1" })}
        >
          Alerts
        </a>
      </nav>
      {alerts ? (
        <Alerts session={session} />
      ) : id ? (
        <ErrorDetail id={id} session={session} />
      ) : (
        <ErrorList session={session} />
      )}
    </>
  );
}

renderApp(
  [
    ["/", "Search"],
    ["j", "Next error"],
    ["k", "Previous error"],
    ["Enter", "Open error"],
    ["x", "Select error"],
    ["r", "Resolve error or selection"],
    ["Escape", "Back to list"],
  ],
  App,
);
