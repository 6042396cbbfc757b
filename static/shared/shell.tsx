import { type ComponentChildren, type JSX, render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, change, type Session, session, signIn, whenSignedOut } from "./api.ts";
import { useKeys } from "./hooks.ts";
import { applyTheme, chosenTheme, nextTheme } from "./themes.ts";
import { Loading, Trouble } from "./ui.tsx";

/** The services with an interface, in the order of the header. */
const SERVICES: [name: string, title: string][] = [
  ["error-tracker", "Errors"],
  ["log-viewer", "Logs"],
  ["metrics-collector", "Metrics"],
];

/** A key and what it does, for the help. */
export type Help = [keys: string, what: string][];

/** Shows a service's interface to whoever is signed in. */
export function start(help: Help, App: (props: { session: Session }) => JSX.Element): void {
  const root = document.getElementById("app");
  if (root) {
    render(<Shell help={help} App={App} />, root);
  }
}

function Shell({ help, App }: { help: Help; App: (props: { session: Session }) => JSX.Element }): JSX.Element {
  const [who, setWho] = useState<Session | null | undefined>();
  const [error, setError] = useState<Error>();
  const load = (): void => {
    setError(undefined);
    session().then(setWho, setError);
  };
  useEffect(() => {
    whenSignedOut(() => setWho(null));
    load();
  }, []);
  if (error) {
    return <Trouble error={error} retry={load} />;
  }
  if (who === undefined) {
    return <Loading />;
  }
  if (who === null) {
    return <SignIn onSignedIn={setWho} />;
  }
  return (
    <Frame who={who} help={help} onSignOut={() => setWho(null)}>
      <App session={who} />
    </Frame>
  );
}

function Frame(props: { who: Session; help: Help; onSignOut: () => void; children: ComponentChildren }): JSX.Element {
  const { who } = props;
  const [theme, setTheme] = useState(chosenTheme);
  const dialog = useRef<HTMLDialogElement>(null);
  const showHelp = (): void => dialog.current?.showModal();
  useKeys({ "?": showHelp });
  const signOut = async (): Promise<void> => {
    await change("DELETE", "api/session").catch(() => undefined);
    props.onSignOut();
  };
  const links = SERVICES.map(([name, title]) => {
    const url = name === who.service ? "./" : who.services.find((link) => link.name === name)?.url;
    return url ? { name, title, url } : undefined;
  });
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <span class="brand">Monlight</span>
        <nav aria-label="Services">
          {links.map(
            (link) =>
              link && (
                <a key={link.name} href={link.url} aria-current={link.name === who.service ? "page" : undefined}>
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
        <button type="button" onClick={showHelp} aria-keyshortcuts="?">
          Help
        </button>
        <button type="button" onClick={signOut} title={`Signed in with the key ${who.name}`}>
          Sign out
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        {props.children}
      </main>
      <dialog ref={dialog} aria-labelledby="help">
        <h2 id="help">Keys</h2>
        <table>
          <tbody>
            {[...props.help, ["?", "this help"] as const].map(([keys, what]) => (
              <tr key={keys}>
                <th scope="row">
                  <kbd>{keys}</kbd>
                </th>
                <td>{what}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <p class="quiet">
          {who.service} {who.version}
        </p>
        <form method="dialog">
          <button type="submit">Close</button>
        </form>
      </dialog>
    </>
  );
}

function SignIn({ onSignedIn }: { onSignedIn: (who: Session) => void }): JSX.Element {
  const [error, setError] = useState<string>();
  const [busy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const key = field.current?.value.trim() ?? "";
    setBusy(true);
    try {
      onSignedIn(await signIn(key));
    } catch (why) {
      const wrong = why instanceof ApiError && why.status === 401;
      setError(wrong ? "That is not a key of this service." : (why as Error).message);
      field.current?.select();
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="sign-in">
      <h1>Monlight</h1>
      <form onSubmit={submit}>
        <label>
          API key
          <input
            ref={field}
            type="password"
            autocomplete="current-password"
            required
            aria-describedby="sign-in-error"
          />
        </label>
        <p id="sign-in-error" role="alert">
          {error}
        </p>
        <button type="submit" class="main" disabled={busy}>
          Sign in
        </button>
      </form>
      <p class="quiet">
        The key stands in the service's settings as <code>API_KEY</code>; <code>make run</code> prints it. It is
        exchanged for a cookie that lasts 30 days and is kept nowhere in this browser.
      </p>
    </main>
  );
}
