//! Email through an SMTP server (RFC 5321), over TLS if the server offers it.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS, Mechanism};
use lettre::transport::smtp::client::{Certificate, SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Auth, Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use super::channel::{CONNECT_TIMEOUT, Channel, ChannelConfig, EXCHANGE_TIMEOUT, MissingSettings};
use super::mail;
use super::message::OutgoingMessage;
use super::settings::{parse_address, parse_mailbox};
use crate::client::{Delivery, OutboundSettings, Redactor, TrustedRoots};
use crate::env::{Env, Secret};

const PORT_IMPLICIT_TLS: u16 = 465;
/// Maximum number of sessions that an unresponsive server may keep open when the next one starts.
const SESSIONS_MAX: usize = 4;
/// Maximum time for QUIT. The server has accepted the message by then; QUIT only spares it a broken connection.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The channel. Each session's thread holds a reference to the server, which counts the open sessions.
pub(super) struct Smtp {
    server: Arc<SmtpServer>,
    /// Whether the sender is the default of `SMTP_FROM`, an address of nobody.
    is_default_sender: bool,
}

/// An SMTP server with the sender and the recipients.
struct SmtpServer {
    host: String,
    port: u16,
    from: Mailbox,
    to: Vec<Mailbox>,
    login: Option<Login>,
    tls: TlsParameters,
    /// Maximum time of a session; [`EXCHANGE_TIMEOUT`] outside of tests.
    session_timeout: Duration,
}

/// The account for the server.
struct Login {
    credentials: Credentials,
    redactor: Redactor,
}

impl Login {
    /// Hides the password and its encoding in AUTH PLAIN, because some servers repeat a command that they do not know.
    fn new(username: String, password: &Secret) -> Self {
        let credentials = Credentials::new(username, password.reveal().to_owned());
        let auth = Auth::new(Mechanism::Plain, credentials.clone(), None).map(|auth| auth.to_string());
        let encoded = auth.ok().and_then(|auth| auth.split_whitespace().nth(2).map(str::to_owned));
        let redactor = Redactor::new(encoded.into_iter().chain([password.reveal().to_owned()]));
        Self { credentials, redactor }
    }
}

impl Smtp {
    pub(super) fn from_env(env: &mut Env<'_>, to: &[Mailbox], outbound: &OutboundSettings) -> ChannelConfig {
        let host = env.string("SMTP_HOST").map(|host| host.trim().trim_matches(['[', ']']).to_owned());
        let port = env.number("SMTP_PORT", 1..=65_535u16);
        let (username, password) = (env.string("SMTP_USERNAME"), env.secret("SMTP_PASSWORD"));
        let account = username.as_deref().filter(|_| !env.is_set("SMTP_FROM")).and_then(parse_address);
        let is_default_sender = account.is_none() && !env.is_set("SMTP_FROM");
        let from = account.or_else(|| {
            let from = env.string("SMTP_FROM").unwrap_or_default();
            parse_mailbox(env, "SMTP_FROM", &from)
        });
        let Some(from) = from else { return ChannelConfig::Disabled };
        if host.is_none() && username.is_none() && password.is_none() {
            return ChannelConfig::Disabled;
        }
        let needed = [
            ("SMTP_HOST", host.is_some()),
            ("SMTP_USERNAME", username.is_some() || password.is_none()),
            ("SMTP_PASSWORD", password.is_some() || username.is_none()),
            ("ALERT_EMAILS", !to.is_empty()),
        ];
        let host = match (host, MissingSettings::new("smtp", &needed)) {
            (Some(host), None) => host,
            (_, missing) => return missing.map_or(ChannelConfig::Disabled, ChannelConfig::Incomplete),
        };
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':')) {
            env.error("SMTP_HOST", "must be a host name or an IP address");
            return ChannelConfig::Disabled;
        }
        let Ok(tls) = tls_config(&host, outbound.roots()) else {
            env.error("SMTP_HOST", "cannot be used with TLS; check the host name and the certificates in CA_FILE");
            return ChannelConfig::Disabled;
        };
        let login = username.zip(password).map(|(username, password)| Login::new(username, &password));
        let to = to.to_vec();
        let server = SmtpServer { host, port, from, to, login, tls, session_timeout: EXCHANGE_TIMEOUT };
        ChannelConfig::Ready(Box::new(Self { server: Arc::new(server), is_default_sender }))
    }
}

/// Returns TLS parameters for `host` that trust Mozilla's roots and those of `CA_FILE`.
fn tls_config(host: &str, roots: &TrustedRoots) -> Result<TlsParameters, Error> {
    let mut builder = TlsParameters::builder(host.to_owned());
    for certificate in roots.extra_certificates() {
        builder = builder.add_root_certificate(Certificate::from_der(certificate.to_vec())?);
    }
    builder.build()
}

impl Channel for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }

    fn warning(&self) -> Option<String> {
        let from = &self.server.from;
        self.is_default_sender.then(|| {
            format!("Alerts by smtp are sent from {from}, which most servers refuse; set SMTP_FROM to your own address")
        })
    }

    /// Runs the session on its own thread, because neither name resolution nor a server that sends one byte at a time
    /// can be interrupted.
    fn attempt(&self, message: &OutgoingMessage) -> Delivery {
        if Arc::strong_count(&self.server) > SESSIONS_MAX {
            return Delivery::retry(format!("{}: earlier SMTP sessions are still open", self.server.host));
        }
        let (server, mail) = (Arc::clone(&self.server), mail::mime(message, &self.server.from, &self.server.to));
        let (sender, result) = bounded(1);
        let session = move || {
            // The receiver is gone if the session exceeded its time.
            let _ = match server.connect() {
                // Nobody has seen the message yet, so the settings, the server or the network failed, and all can recover.
                Err(failure) => sender.send(retry_later(failure)),
                Ok(mut connection) => {
                    let sent = sender.send(server.send_message(&mut connection, &mail));
                    let _ = connection.set_timeout(Some(QUIT_TIMEOUT)).map(|()| connection.quit());
                    sent
                }
            };
        };
        if let Err(why) = thread::Builder::new().name("smtp".to_owned()).spawn(session) {
            return Delivery::retry(format!("cannot start an SMTP thread: {why}"));
        }
        match result.recv_timeout(self.server.session_timeout) {
            Ok(delivery) => delivery,
            Err(RecvTimeoutError::Timeout) => Delivery::retry(format!("{}: timed out", self.server.host)),
            Err(RecvTimeoutError::Disconnected) => Delivery::rejected("the SMTP thread panicked"),
        }
    }
}

/// Makes a rejection temporary, for failures that do not concern the message.
fn retry_later(delivery: Delivery) -> Delivery {
    match delivery {
        Delivery::Rejected { reason } => Delivery::retry(reason),
        other => other,
    }
}

impl SmtpServer {
    /// Opens a session that is ready for a message: connected, encrypted if the server offers TLS, and logged in.
    ///
    /// # Errors
    /// Returns the failure as a [`Delivery`].
    fn connect(&self) -> Result<SmtpConnection, Delivery> {
        let failure = |error| self.failure(&error);
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let implicit_tls = (self.port == PORT_IMPLICIT_TLS).then_some(&self.tls);
        let address = (self.host.as_str(), self.port);
        // Up to the server's greeting, the timeout applies to each step; the caller bounds the whole session.
        let connect_timeout = CONNECT_TIMEOUT.min(self.session_timeout);
        let mut connection =
            SmtpConnection::connect(address, Some(connect_timeout), &hello, implicit_tls, None).map_err(failure)?;
        let timeout_set = connection.set_timeout(Some(self.session_timeout));
        timeout_set.map_err(|why| Delivery::retry(format!("{}: {why}", self.host)))?;
        if connection.can_starttls() {
            connection.starttls(&self.tls, &hello).map_err(failure)?;
        }
        if let Some(login) = &self.login {
            self.log_in(&mut connection, &login.credentials)?;
        }
        Ok(connection)
    }

    /// Sends the message to all recipients. The others still receive it if the server rejects a recipient, but the
    /// result is a failure that names the rejected ones.
    fn send_message(&self, connection: &mut SmtpConnection, mail: &[u8]) -> Delivery {
        match self.try_send_message(connection, mail) {
            Ok(()) => Delivery::Accepted,
            Err(failure) => failure,
        }
    }

    fn try_send_message(&self, connection: &mut SmtpConnection, mail: &[u8]) -> Result<(), Delivery> {
        let failure = |error| self.failure(&error);
        let mail_from = Mail::new(Some(self.from.email.clone()), Vec::new());
        connection.command(mail_from).map_err(|error| retry_later(failure(error)))?;
        let mut rejected = Vec::new();
        for to in &self.to {
            let Err(error) = connection.command(Rcpt::new(to.email.clone(), Vec::new())) else { continue };
            let is_last_recipient = rejected.len() + 1 == self.to.len();
            // An error without a status is a failure of the connection, not of the recipient.
            if error.status().is_none() || is_last_recipient {
                return Err(failure(error));
            }
            rejected.push(format!("{} ({})", to.email, self.reason(&error)));
        }
        connection.command(Data).map_err(failure)?;
        connection.message(mail).map_err(failure)?;
        // A second attempt would send the message again to the accepted recipients.
        if rejected.is_empty() {
            Ok(())
        } else {
            Err(Delivery::rejected(format!("sent, but rejected for {}", rejected.join(", "))))
        }
    }

    fn log_in(&self, connection: &mut SmtpConnection, credentials: &Credentials) -> Result<(), Delivery> {
        if !connection.is_encrypted() {
            let reason = "the server does not offer TLS, and the password is only sent over TLS";
            return Err(Delivery::rejected(format!("{}: {reason}", self.host)));
        }
        if connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            let reason = "the server offers neither AUTH PLAIN nor AUTH LOGIN, but SMTP_USERNAME is set";
            return Err(Delivery::rejected(format!("{}: {reason}", self.host)));
        }
        connection.auth(DEFAULT_MECHANISMS, credentials).map(drop).map_err(|error| self.failure(&error))
    }

    /// Classifies an error: a reply by its code, TLS failures as permanent, other failures of the connection as
    /// temporary.
    fn failure(&self, error: &Error) -> Delivery {
        let is_temporary = if is_reply(error) {
            !error.is_permanent()
        } else {
            io_error_kind(error) != Some(ErrorKind::InvalidData) && !error.is_client() && !error.is_tls()
        };
        let reason = self.reason(error);
        if is_temporary { Delivery::retry(reason) } else { Delivery::rejected(reason) }
    }

    /// Returns the host and the error, without the password.
    fn reason(&self, error: &Error) -> String {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        if is_reply(error) {
            let reply = self.login.as_ref().map_or(why.clone(), |login| login.redactor.redact(&why));
            let code = error.status().map(|code| format!(" {code}")).unwrap_or_default();
            return format!("{}: SMTP error{code}: {reply}", self.host);
        }
        match io_error_kind(error) {
            // rustls passes its errors on as this kind.
            Some(ErrorKind::InvalidData) => {
                let hint =
                    if why.contains("UnknownIssuer") { " (CA_FILE can name the root that it needs)" } else { "" };
                format!("{}: TLS failed: {why}{hint}", self.host)
            }
            Some(ErrorKind::WouldBlock | ErrorKind::TimedOut) => format!("{}: timed out", self.host),
            _ => format!("{}: {why}", self.host),
        }
    }
}

/// Whether the server replied, rather than the connection failed.
fn is_reply(error: &Error) -> bool {
    error.status().is_some() || error.is_response()
}

fn io_error_kind(error: &Error) -> Option<ErrorKind> {
    error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::time::Instant;

    use crossbeam_channel::{Receiver, unbounded};

    use super::super::notifier::Notifier;
    use super::super::tests::{message, notifier, prepared, send};
    use super::*;
    use crate::client::test_server::{dripping, serve};

    /// Starts an SMTP server without TLS that replies 250, or what `reply` returns for a command. The channel receives
    /// the commands.
    fn server(reply: fn(connection: usize, command: &str) -> Option<&'static str>) -> (u16, Receiver<String>) {
        let (sender, commands) = unbounded();
        let address = serve(move |index, mut stream| {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            stream.write_all(b"220 test\r\n").unwrap();
            while let Some(command) = lines.next() {
                let line = reply(index, &command).unwrap_or("250 ok");
                if command == "DATA" {
                    stream.write_all(b"354 go\r\n").unwrap();
                    lines.by_ref().find(|line| line == ".");
                }
                let _ = sender.send(command);
                let _ = stream.write_all(format!("{line}\r\n").as_bytes());
            }
        });
        (address.port(), commands)
    }

    fn to_two_recipients(port: u16, more: &[(&str, &str)]) -> Notifier {
        let port = port.to_string();
        let pairs =
            [("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", &port), ("ALERT_EMAILS", "a@example.com,B <b@example.com>")];
        notifier(&[&pairs, more].concat()).unwrap()
    }

    fn smtp(port: u16, session_timeout: Duration) -> Smtp {
        let (from, to) = ("errors@example.com".parse().unwrap(), vec!["a@example.com".parse().unwrap()]);
        let (host, tls) = ("127.0.0.1".to_owned(), tls_config("127.0.0.1", &TrustedRoots::default()).unwrap());
        let server = SmtpServer { host, port, from, to, login: None, tls, session_timeout };
        Smtp { server: Arc::new(server), is_default_sender: false }
    }

    #[test]
    fn replies_decide_whether_to_retry() {
        type Reply = fn(usize, &str) -> Option<&'static str>;
        let cases: [(Reply, Delivery); 6] = [
            (|_, _| None, Delivery::Accepted),
            (
                |_, command| command.starts_with("MAIL").then_some("421 busy"),
                Delivery::retry("127.0.0.1: SMTP error 421: busy"),
            ),
            // The server rejects the sender, which is a setting, and not the message.
            (
                |_, command| command.starts_with("MAIL").then_some("530 log in"),
                Delivery::retry("127.0.0.1: SMTP error 530: log in"),
            ),
            (
                |_, command| command.starts_with("RCPT").then_some("550 who?"),
                Delivery::rejected("127.0.0.1: SMTP error 550: who?"),
            ),
            (
                |_, command| command.contains("<a@").then_some("550 gone"),
                Delivery::rejected("sent, but rejected for a@example.com (127.0.0.1: SMTP error 550: gone)"),
            ),
            (
                |_, command| (command == "DATA").then_some("554 spam"),
                Delivery::rejected("127.0.0.1: SMTP error 554: spam"),
            ),
        ];
        for (reply, expected) in cases {
            assert_eq!(send(to_two_recipients(server(reply).0, &[]), &message("m")), expected);
        }
    }

    #[test]
    fn passwords_are_only_sent_over_tls() {
        let (port, commands) =
            server(|_, command| command.starts_with("EHLO").then_some("250-test\r\n250 AUTH PLAIN LOGIN"));
        let login = [("SMTP_USERNAME", "u"), ("SMTP_PASSWORD", "p")];
        let result = send(to_two_recipients(port, &login), &message("m"));
        let reason = "127.0.0.1: the server does not offer TLS, and the password is only sent over TLS";
        assert_eq!(result, Delivery::retry(reason));
        assert_eq!(commands.try_iter().collect::<Vec<_>>(), ["EHLO example.com"]);
    }

    #[test]
    fn sender_is_the_setting_then_the_account_then_the_default_with_a_warning() {
        let login = |username| [("SMTP_USERNAME", username), ("SMTP_PASSWORD", "p")];
        let setting = ("SMTP_FROM", "Alerts <alerts@mail.example>");
        for (settings, domain, is_warned) in [
            (vec![], "example.com", true),
            (login("me").to_vec(), "example.com", true),
            (login("me@shop.example").to_vec(), "shop.example", false),
            ([&login("me@shop.example")[..], &[setting]].concat(), "mail.example", false),
            (vec![setting], "mail.example", false),
        ] {
            let (port, commands) = server(|_, _| None);
            let notifier = to_two_recipients(port, &settings);
            let warnings = notifier.warnings();
            assert_eq!(warnings.iter().any(|warning| warning.contains("set SMTP_FROM")), is_warned, "{warnings:?}");
            send(notifier, &message("m"));
            assert_eq!(commands.iter().next(), Some(format!("EHLO {domain}")), "{settings:?}");
        }
    }

    #[test]
    fn slow_servers_time_out_and_occupy_few_threads() {
        let smtp = smtp(dripping("2").port(), Duration::from_millis(100));
        let start = Instant::now();
        let prepared = prepared(&message("m"));
        let deliveries: Vec<_> = (0..8).map(|_| smtp.attempt(&prepared)).collect();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(deliveries[0], Delivery::retry("127.0.0.1: timed out"));
        assert_eq!(deliveries[7], Delivery::retry("127.0.0.1: earlier SMTP sessions are still open"));
        assert_eq!(Arc::strong_count(&smtp.server), SESSIONS_MAX + 1);
    }

    #[test]
    fn the_encoded_login_is_redacted() {
        let login = Login::new("username".to_owned(), &Secret::new("password"));
        assert_eq!(login.redactor.redact("AUTH PLAIN AHVzZXJuYW1lAHBhc3N3b3Jk, password"), "AUTH PLAIN ***, ***");
    }
}
