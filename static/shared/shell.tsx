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

const ENDED = "You have been signed out: the session was ended or is more than 30 days old. Enter a key to go on.";
const ENDED_EVERYWHERE = "Everybody is signed out. Enter a key to go on.";

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
  // Why somebody who was signed in is not.
  const [ended, setEnded] = useState<string>();
  const [error, setError] = useState<Error>();
  const load = (): void => {
    setError(undefined);
    session().then(setWho, setError);
  };
  const signOut = (why?: string): void => {
    setEnded(why);
    setWho(null);
  };
  useEffect(() => {
    whenSignedOut(() => signOut(ENDED));
    load();
  }, []);
  if (error) {
    return <Trouble error={error} retry={load} />;
  }
  if (who === undefined) {
    return <Loading />;
  }
  if (who === null) {
    return <SignIn ended={ended} onSignedIn={setWho} />;
  }
  return (
    <Frame who={who} help={help} onSignOut={signOut}>
      <App session={who} />
    </Frame>
  );
}

function Frame(props: {
  who: Session;
  help: Help;
  onSignOut: (why?: string) => void;
  children: ComponentChildren;
}): JSX.Element {
  const { who } = props;
  const [theme, setTheme] = useState(chosenTheme);
  const dialog = useRef<HTMLDialogElement>(null);
  const showHelp = (): void => dialog.current?.showModal();
  useKeys({ "?": showHelp });
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
        <Account who={who} onSignOut={props.onSignOut} />
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

/** Who is signed in, and the ways out. */
function Account({ who, onSignOut }: { who: Session; onSignOut: (why?: string) => void }): JSX.Element {
  const menu = useRef<HTMLDetailsElement>(null);
  const dialog = useRef<HTMLDialogElement>(null);
  const [error, setError] = useState<Error>();
  const close = (): void => menu.current?.removeAttribute("open");
  useEffect(() => {
    const elsewhere = (event: Event): void => {
      if (!menu.current?.contains(event.target as Node)) {
        close();
      }
    };
    addEventListener("pointerdown", elsewhere);
    addEventListener("focusin", elsewhere);
    return () => {
      removeEventListener("pointerdown", elsewhere);
      removeEventListener("focusin", elsewhere);
    };
  }, []);
  const end = async (path: string, why?: string): Promise<void> => {
    setError(undefined);
    try {
      await change("DELETE", path);
      onSignOut(why);
    } catch (why) {
      // A session that is over already has said so.
      setError(why as Error);
    }
  };
  const pressed = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && menu.current?.open) {
      event.stopPropagation();
      close();
      menu.current.querySelector("summary")?.focus();
    }
  };
  return (
    <>
      <details ref={menu} class="menu" onKeyDown={pressed}>
        <summary>Account</summary>
        <div class="paper">
          <p class="quiet">
            Signed in with the key <b>{who.name}</b>
          </p>
          <button type="button" onClick={() => end("api/session")}>
            Sign out
          </button>
          {who.admin && (
            <button type="button" onClick={() => dialog.current?.showModal()}>
              Sign out everywhere…
            </button>
          )}
          {error && <Trouble error={error} />}
        </div>
      </details>
      <dialog ref={dialog} aria-labelledby="everywhere">
        <h2 id="everywhere">Sign out everywhere?</h2>
        <p>
          Everybody who is signed in to the {who.service} in a browser has to enter a key again, you too. Keys stay as
          they are, and the other services are not concerned.
        </p>
        {error && <Trouble error={error} />}
        <form method="dialog" class="bar">
          <button type="button" class="danger" onClick={() => end("api/sessions", ENDED_EVERYWHERE)}>
            Sign out everywhere
          </button>
          <button type="submit">Cancel</button>
        </form>
      </dialog>
    </>
  );
}

function SignIn(props: { ended: string | undefined; onSignedIn: (who: Session) => void }): JSX.Element {
  const { ended, onSignedIn } = props;
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
      {ended && (
        <p class="ended" role="status">
          {ended}
        </p>
      )}
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
