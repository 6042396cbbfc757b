//! Mail by SMTP (RFC 5321), over TLS where there is any.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS, Mechanism};
use lettre::transport::smtp::client::{Certificate as Root, SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Auth, Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use ureq::tls::Certificate;

use super::{Channel, Failure, Gap, LIMITS, Letter, Limits, Setup, mail, mailbox, text};
use crate::env::{Env, Secret};

const PORT_IMPLICIT_TLS: u16 = 465;
/// Exchanges that may still be running when another begins: those that a silent server keeps waiting.
const EXCHANGES_MAX: usize = 4;
/// The mail is taken by then; this only spares the server a broken connection.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// The mail server and what it needs to know. Every running exchange holds the `Arc` as well, which counts them.
pub(super) struct Smtp(Arc<Relay>);

struct Relay {
    host: String,
    port: u16,
    from: Mailbox,
    to: Vec<Mailbox>,
    login: Option<Login>,
    tls: TlsParameters,
    limits: Limits,
}

struct Login {
    credentials: Credentials,
    /// The password, and the login as AUTH PLAIN writes it: some servers repeat a command they do not understand.
    secrets: Vec<String>,
}

impl Login {
    fn new(username: String, password: &Secret) -> Self {
        let credentials = Credentials::new(username, password.reveal().to_owned());
        let auth = Auth::new(Mechanism::Plain, credentials.clone(), None).map(|auth| auth.to_string());
        let encoded = auth.ok().and_then(|auth| auth.split_whitespace().nth(2).map(str::to_owned));
        let secrets = encoded.into_iter().chain([password.reveal().to_owned()]).collect();
        Self { credentials, secrets }
    }
}

impl Smtp {
    pub(super) fn from_env(env: &mut Env<'_>, to: &[Mailbox], roots: &[Certificate<'static>]) -> Setup {
        let host = env.string("SMTP_HOST").map(|host| host.trim().trim_matches(['[', ']']).to_owned());
        let port = env.number("SMTP_PORT", 1..=65_535u16);
        let (username, password) = (env.string("SMTP_USERNAME"), env.secret("SMTP_PASSWORD"));
        let from = env.string("SMTP_FROM").unwrap_or_default();
        let Some(from) = mailbox(env, "SMTP_FROM", &from) else { return Setup::Off };
        if host.is_none() && username.is_none() && password.is_none() {
            return Setup::Off;
        }
        let needs = [
            ("SMTP_HOST", host.is_some()),
            ("SMTP_USERNAME", username.is_some() || password.is_none()),
            ("SMTP_PASSWORD", password.is_some() || username.is_none()),
            ("ALERT_EMAILS", !to.is_empty()),
        ];
        let host = match (host, Gap::of("smtp", &needs)) {
            (Some(host), None) => host,
            (_, gap) => return gap.map_or(Setup::Off, Setup::Incomplete),
        };
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')) {
            env.error("SMTP_HOST", "must be a host name or an IP address");
            return Setup::Off;
        }
        let Ok(tls) = trusting(&host, roots) else {
            env.error("ALERT_CA_FILE", "holds a certificate that cannot be a root");
            return Setup::Off;
        };
        let login = username.zip(password).map(|(username, password)| Login::new(username, &password));
        let relay = Relay { host, port, from, to: to.to_vec(), login, tls, limits: LIMITS };
        Setup::Ready(Box::new(Self(Arc::new(relay))))
    }
}

/// TLS to `host`, trusting Mozilla's roots and `roots`.
fn trusting(host: &str, roots: &[Certificate<'static>]) -> Result<TlsParameters, Error> {
    let mut builder = TlsParameters::builder(host.to_owned());
    for root in roots {
        builder = builder.add_root_certificate(Root::from_der(root.der().to_vec())?);
    }
    builder.build()
}

impl Channel for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }

    /// The exchange runs on a thread of its own, since neither looking up a name nor a server that answers a byte at a
    /// time can be stopped from within.
    fn attempt(&self, letter: &Letter) -> Result<(), Failure> {
        if Arc::strong_count(&self.0) > EXCHANGES_MAX {
            return Err(Failure::temporary("the mail server still keeps earlier exchanges waiting"));
        }
        let (relay, mail) = (Arc::clone(&self.0), mail::mime(letter, &self.0.from, &self.0.to));
        let (report, reported) = bounded(1);
        let exchange = move || {
            // Whoever waits for the outcome may have gone.
            let _ = match relay.open() {
                Err(failure) => report.send(Err(failure)),
                Ok(mut connection) => {
                    let sent = report.send(relay.hand_over(&mut connection, &mail));
                    let _ = connection.set_timeout(Some(GOODBYE_MAX)).map(|()| connection.quit());
                    sent
                }
            };
        };
        let thread = thread::Builder::new().name("smtp".to_owned()).spawn(exchange);
        thread.map_err(|why| Failure::temporary(format!("no thread: {why}")))?;
        match reported.recv_timeout(self.0.limits.exchange) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(Failure::temporary(format!("{}: took too long", self.0.host))),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::permanent("the exchange broke off")),
        }
    }
}

impl Relay {
    /// A connection over which mail may be sent.
    fn open(&self) -> Result<SmtpConnection, Failure> {
        let failure = |error| self.describe(&error);
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let tls_at_once = (self.port == PORT_IMPLICIT_TLS).then_some(&self.tls);
        let address = (self.host.as_str(), self.port);
        // Until a server has greeted, this timeout is for each step; the whole is bounded by whoever waits.
        let mut connection =
            SmtpConnection::connect(address, Some(self.limits.connect), &hello, tls_at_once, None).map_err(failure)?;
        connection.set_timeout(Some(self.limits.exchange)).map_err(|why| Failure::temporary(why.to_string()))?;
        if connection.can_starttls() {
            connection.starttls(&self.tls, &hello).map_err(failure)?;
        }
        if let Some(login) = &self.login {
            self.log_in(&mut connection, &login.credentials)?;
        }
        Ok(connection)
    }

    /// One refused address keeps the mail from nobody else, but is a failure to be seen.
    fn hand_over(&self, connection: &mut SmtpConnection, mail: &[u8]) -> Result<(), Failure> {
        let failure = |error| self.describe(&error);
        connection.command(Mail::new(Some(self.from.email.clone()), Vec::new())).map_err(failure)?;
        let mut refusals = Vec::new();
        for to in &self.to {
            let Err(error) = connection.command(Rcpt::new(to.email.clone(), Vec::new())) else { continue };
            let refusal = self.describe(&error);
            let is_last_hope = refusals.len() + 1 == self.to.len();
            // Without a status it was the connection that failed, not the address.
            if error.status().is_none() || is_last_hope {
                return Err(refusal);
            }
            refusals.push(format!("{}: {}", to.email, refusal.reason));
        }
        connection.command(Data).map_err(failure)?;
        connection.message(mail).map_err(failure)?;
        // A second attempt would reach those again who have the mail now.
        if refusals.is_empty() {
            Ok(())
        } else {
            Err(Failure::permanent(format!("sent, but not to {}", refusals.join(", "))))
        }
    }

    fn log_in(&self, connection: &mut SmtpConnection, credentials: &Credentials) -> Result<(), Failure> {
        if !connection.is_encrypted() {
            return Err(Failure::permanent(format!("{} offers no TLS, and a password never goes without", self.host)));
        }
        if connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            let none = "offers no login by AUTH PLAIN or LOGIN, but SMTP_USERNAME is set";
            return Err(Failure::permanent(format!("{} {none}", self.host)));
        }
        connection.auth(DEFAULT_MECHANISMS, credentials).map(drop).map_err(|error| self.describe(&error))
    }

    fn describe(&self, error: &Error) -> Failure {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        if error.status().is_some() || error.is_response() {
            let said = self.login.as_ref().map_or(why.clone(), |login| text::without(&why, &login.secrets));
            let code = error.status().map(|code| format!(" {code}")).unwrap_or_default();
            let reason = format!("{} answered{code}: {said}", self.host);
            return Failure { reason, temporary: !error.is_permanent() };
        }
        let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
        match kind {
            // rustls hands its errors on as this kind.
            Some(ErrorKind::InvalidData) => Failure::of_tls(&self.host, &why),
            Some(ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Failure::temporary(format!("{}: took too long", self.host))
            }
            _ => Failure { reason: format!("{}: {why}", self.host), temporary: !error.is_client() && !error.is_tls() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::time::Instant;

    use crossbeam_channel::{Receiver, unbounded};

    use super::super::listener::{dripping, serve};
    use super::super::tests::{message, notifier, send};
    use super::super::{Delivery, Notifier};
    use super::*;

    /// A mail server without TLS that answers 250, or what `answer` says to a command. The commands come out.
    fn server(answer: fn(connection: usize, command: &str) -> Option<&'static str>) -> (u16, Receiver<String>) {
        let (sender, commands) = unbounded();
        let address = serve(move |index, mut stream| {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            stream.write_all(b"220 test\r\n").unwrap();
            while let Some(command) = lines.next() {
                let reply = answer(index, &command).unwrap_or("250 ok");
                if command == "DATA" {
                    stream.write_all(b"354 go\r\n").unwrap();
                    lines.by_ref().find(|line| line == ".");
                }
                let _ = sender.send(command);
                let _ = stream.write_all(format!("{reply}\r\n").as_bytes());
            }
        });
        (address.port(), commands)
    }

    fn to_two(port: u16, more: &[(&str, &str)]) -> Notifier {
        let port = port.to_string();
        let given =
            [("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", &port), ("ALERT_EMAILS", "a@example.com,B <b@example.com>")];
        notifier(&[&given, more].concat()).unwrap()
    }

    fn relay(port: u16, limits: Limits) -> Smtp {
        let (from, to) = ("errors@example.com".parse().unwrap(), vec!["a@example.com".parse().unwrap()]);
        let (host, tls) = ("127.0.0.1".to_owned(), trusting("127.0.0.1", &[]).unwrap());
        Smtp(Arc::new(Relay { host, port, from, to, login: None, tls, limits }))
    }

    #[test]
    fn replies_decide_about_another_attempt() {
        type Answer = fn(usize, &str) -> Option<&'static str>;
        let cases: [(Answer, u32, Result<(), &str>); 6] = [
            (|_, _| None, 1, Ok(())),
            (|index, command| (index == 0 && command.starts_with("MAIL")).then_some("451 later"), 2, Ok(())),
            (|_, command| command.starts_with("MAIL").then_some("421 busy"), 3, Err("127.0.0.1 answered 421: busy")),
            (|_, command| command.starts_with("RCPT").then_some("550 who?"), 1, Err("127.0.0.1 answered 550: who?")),
            (
                |_, command| command.contains("<a@").then_some("550 gone"),
                1,
                Err("sent, but not to a@example.com: 127.0.0.1 answered 550: gone"),
            ),
            (|_, command| (command == "DATA").then_some("554 spam"), 1, Err("127.0.0.1 answered 554: spam")),
        ];
        for (answer, attempts, outcome) in cases {
            let (delivery, _) = send(&to_two(server(answer).0, &[]), &message("m"));
            let expected = Delivery { channel: "smtp", attempts, outcome: outcome.map_err(str::to_owned) };
            assert_eq!(delivery, expected);
        }
    }

    #[test]
    fn a_password_never_goes_in_the_clear() {
        let (port, commands) =
            server(|_, command| command.starts_with("EHLO").then_some("250-test\r\n250 AUTH PLAIN LOGIN"));
        let login = [("SMTP_USERNAME", "u"), ("SMTP_PASSWORD", "p")];
        let (delivery, _) = send(&to_two(port, &login), &message("m"));
        assert_eq!(delivery.outcome.unwrap_err(), "127.0.0.1 offers no TLS, and a password never goes without");
        assert_eq!(delivery.attempts, 1);
        assert_eq!(commands.try_iter().collect::<Vec<_>>(), ["EHLO example.com"]);
    }

    #[test]
    fn a_dripping_server_ends_in_time_and_holds_few_threads() {
        let limits = Limits { connect: Duration::from_secs(5), exchange: Duration::from_millis(100) };
        let smtp = relay(dripping("2").port(), limits);
        let began = Instant::now();
        let letter = Letter::new(&message("m"));
        let reasons: Vec<_> = (0..8).map(|_| smtp.attempt(&letter).unwrap_err().reason).collect();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        assert_eq!(reasons[0], "127.0.0.1: took too long");
        assert_eq!(reasons[7], "the mail server still keeps earlier exchanges waiting");
        assert_eq!(Arc::strong_count(&smtp.0), EXCHANGES_MAX + 1);
    }

    #[test]
    fn the_secrets_include_the_encoded_login() {
        let login = Login::new("username".to_owned(), &Secret::new("password"));
        assert_eq!(login.secrets, ["AHVzZXJuYW1lAHBhc3N3b3Jk", "password"]);
    }
}
