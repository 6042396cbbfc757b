import { type ComponentChildren, type JSX, render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Session } from "../generated/sessions.ts";
import { ApiError, getSession, send, setUnauthorizedHandler, signIn } from "./api.ts";
import { HealthButton } from "./health.tsx";
import { useShortcuts } from "./hooks.ts";
import { applyTheme, nextTheme, storedTheme } from "./themes.ts";
import { ErrorMessage, Loading } from "./ui.tsx";

/** Services with a web UI, in the order of the header's links. */
const SERVICES: [name: string, title: string][] = [
  ["error-tracker", "Errors"],
  ["log-viewer", "Logs"],
  ["metrics-collector", "Metrics"],
];

const SESSION_ENDED = "Your session has ended or has expired after 30 days. Sign in again to continue.";
const ALL_SESSIONS_ENDED = "All sessions have ended. Sign in again to continue.";

/** Keyboard shortcuts and their descriptions, for the help dialog. */
export type ShortcutHelp = [keys: string, description: string][];

/** Renders a service's UI inside the shared shell, which handles signing in. */
export function renderApp(shortcuts: ShortcutHelp, App: (props: { session: Session }) => JSX.Element): void {
  const root = document.getElementById("app");
  if (root) {
    render(<Shell shortcuts={shortcuts} App={App} />, root);
  }
}

function Shell(props: { shortcuts: ShortcutHelp; App: (props: { session: Session }) => JSX.Element }): JSX.Element {
  const { shortcuts, App } = props;
  const [session, setSession] = useState<Session | null | undefined>();
  const [signOutReason, setSignOutReason] = useState<string>();
  const [error, setError] = useState<Error>();
  const load = (): void => {
    setError(undefined);
    getSession().then(setSession, setError);
  };
  const onSignedOut = (reason?: string): void => {
    setSignOutReason(reason);
    setSession(null);
  };
  useEffect(() => {
    setUnauthorizedHandler(() => onSignedOut(SESSION_ENDED));
    load();
  }, []);
  if (error) {
    return <ErrorMessage error={error} retry={load} />;
  }
  if (session === undefined) {
    return <Loading />;
  }
  if (session === null) {
    return <SignIn reason={signOutReason} onSignedIn={setSession} />;
  }
  return (
    <Layout session={session} shortcuts={shortcuts} onSignedOut={onSignedOut}>
      <App session={session} />
    </Layout>
  );
}

function Layout(props: {
  session: Session;
  shortcuts: ShortcutHelp;
  onSignedOut: (reason?: string) => void;
  children: ComponentChildren;
}): JSX.Element {
  const { session } = props;
  const [theme, setTheme] = useState(storedTheme);
  const dialog = useRef<HTMLDialogElement>(null);
  const showHelp = (): void => dialog.current?.showModal();
  useShortcuts({ "?": showHelp });
  const links = SERVICES.map(([name, title]) => {
    const url = name === session.service ? "./" : session.services.find((link) => link.name === name)?.url;
    return url ? { name, title, url } : undefined;
  });
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <span class="brand">Monlight</span>
        <nav aria-label="Services">
          {links.map(
            (link) =>
              link && (
                <a key={link.name} href={link.url} aria-current={link.name === session.service ? "page" : undefined}>
                  {link.title}
                </a>
              ),
          )}
        </nav>
        <span class="grow" />
        <button
          type="button"
          onClick={() => {
            const next = nextTheme(theme);
            applyTheme(next);
            setTheme(next);
          }}
        >
          Theme: {theme}
        </button>
        <HealthButton />
        <button type="button" onClick={showHelp} aria-keyshortcuts="?">
          Help
        </button>
        <AccountMenu session={session} onSignedOut={props.onSignedOut} />
      </header>
      <main id="main" tabIndex={-1}>
        {props.children}
      </main>
      <dialog ref={dialog} aria-labelledby="help">
        <h2 id="help">Keyboard shortcuts</h2>
        <table>
          <tbody>
            {[...props.shortcuts, ["?", "Show this help"] as const].map(([keys, description]) => (
              <tr key={keys}>
                <th scope="row">
                  <kbd>{keys}</kbd>
                </th>
                <td>{description}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <p class="muted">
          {session.service} {session.version}
        </p>
        <form method="dialog">
          <button type="submit">Close</button>
        </form>
      </dialog>
    </>
  );
}

/** A menu with the name of the API key and the buttons to sign out. */
function AccountMenu(props: { session: Session; onSignedOut: (reason?: string) => void }): JSX.Element {
  const { session } = props;
  const menu = useRef<HTMLDetailsElement>(null);
  const dialog = useRef<HTMLDialogElement>(null);
  const [error, setError] = useState<Error>();
  const close = (): void => menu.current?.removeAttribute("open");
  useEffect(() => {
    const closeIfOutside = (event: Event): void => {
      if (!menu.current?.contains(event.target as Node)) {
        close();
      }
    };
    addEventListener("pointerdown", closeIfOutside);
    addEventListener("focusin", closeIfOutside);
    return () => {
      removeEventListener("pointerdown", closeIfOutside);
      removeEventListener("focusin", closeIfOutside);
    };
  }, []);
  const signOut = async (path: string, reason?: string): Promise<void> => {
    setError(undefined);
    try {
      await send("DELETE", path);
      props.onSignedOut(reason);
    } catch (error) {
      // For a session that has already ended, the handler for status 401 shows the sign-in page.
      setError(error as Error);
    }
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && menu.current?.open) {
      event.stopPropagation();
      close();
      menu.current.querySelector("summary")?.focus();
    }
  };
  return (
    <>
      <details ref={menu} class="menu" onKeyDown={onKeyDown}>
        <summary>Account</summary>
        <div class="card">
          <p class="muted">
            Signed in with key <b>{session.name}</b>
          </p>
          <button type="button" onClick={() => signOut("api/session")}>
            Sign out
          </button>
          {session.admin && (
            <button type="button" onClick={() => dialog.current?.showModal()}>
              Sign out everywhere…
            </button>
          )}
          {error && <ErrorMessage error={error} />}
        </div>
      </details>
      <dialog ref={dialog} aria-labelledby="sign-out-everywhere">
        <h2 id="sign-out-everywhere">Sign out everywhere?</h2>
        <p>
          This ends all browser sessions of the {session.service}, including yours. API keys stay valid, and sessions of
          other services do not end.
        </p>
        {error && <ErrorMessage error={error} />}
        <form method="dialog" class="bar">
          <button type="button" class="danger" onClick={() => signOut("api/sessions", ALL_SESSIONS_ENDED)}>
            Sign out everywhere
          </button>
          <button type="submit">Cancel</button>
        </form>
      </dialog>
    </>
  );
}

function SignIn(props: { reason: string | undefined; onSignedIn: (session: Session) => void }): JSX.Element {
  const { reason, onSignedIn } = props;
  const [error, setError] = useState<string>();
  const [isSubmitting, setSubmitting] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const key = input.current?.value.trim() ?? "";
    setSubmitting(true);
    try {
      onSignedIn(await signIn(key));
    } catch (error) {
      const isInvalidKey = error instanceof ApiError && error.status === 401;
      setError(isInvalidKey ? "Invalid API key" : (error as Error).message);
      input.current?.select();
    } finally {
      setSubmitting(false);
    }
  };
  return (
    <main class="sign-in">
      <h1>Monlight</h1>
      {reason && (
        <p class="sign-out-reason" role="status">
          {reason}
        </p>
      )}
      <form onSubmit={submit}>
        <label>
          API key
          <input
            ref={input}
            type="password"
            autocomplete="current-password"
            required
            aria-describedby="sign-in-error"
          />
        </label>
        <p id="sign-in-error" role="alert">
          {error}
        </p>
        <button type="submit" class="primary" disabled={isSubmitting}>
          Sign in
        </button>
      </form>
      <p class="muted">
        The API key is the setting <code>API_KEY</code> of the service; <code>make run</code> prints it. Signing in
        exchanges the key for a cookie that is valid for 30 days. The page does not store the key.
      </p>
    </main>
  );
}
