//! One message out, by every channel that is configured: Postmark, SMTP, a webhook.
//!
//! What the message is about is the caller's business. Sending blocks, within limits: the caller brings a thread of its
//! own. Every connection is opened for one attempt and kept by nobody. HTTP goes through the proxy that `HTTPS_PROXY`
//! or `HTTP_PROXY` names, save to the hosts in `NO_PROXY`, as is the custom.

mod mail;
mod post;
mod postmark;
mod smtp;
mod text;
mod webhook;

#[cfg(test)]
mod listener;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use lettre::message::Mailbox;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use ureq::tls::{Certificate, PemItem};

use crate::clock::Timestamp;
use crate::env::{Env, Variable};

/// The variables that configure the channels, in the help's order.
pub const VARIABLES: &[Variable] = &[
    Variable::secret("POSTMARK_API_TOKEN", "Server token of Postmark, which then sends the mail"),
    Variable::plain("POSTMARK_FROM_EMAIL", "", "Sender of Postmark's mail: a confirmed signature there"),
    Variable::plain("POSTMARK_API_BASE", "https://api.postmarkapp.com", "Where Postmark's API answers"),
    Variable::plain("ALERT_EMAILS", "", "Addresses that get alerts by mail, separated by commas, at most 50"),
    Variable::plain("SMTP_HOST", "", "Mail server that sends the mail"),
    Variable::plain("SMTP_PORT", "25", "Its port: 465 speaks TLS at once, any other STARTTLS when offered"),
    Variable::plain("SMTP_USERNAME", "", "User to log in as; only ever sent over TLS"),
    Variable::secret("SMTP_PASSWORD", "Password of that user"),
    Variable::plain("SMTP_FROM", "errors@example.com", "Sender of the mail"),
    Variable::secret("ALERT_WEBHOOK_URL", "URL that alerts are posted to"),
    Variable::plain("ALERT_WEBHOOK_FORMAT", "auto", "Shape of the post: auto (by host), json, slack, discord or ntfy"),
    Variable::plain("ALERT_CA_FILE", "", "PEM file of roots to trust besides Mozilla's, for private servers"),
];

/// How long to wait before each attempt; as many attempts as there are waits.
const WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
const LIMITS: Limits = Limits { connect: Duration::from_secs(5), exchange: Duration::from_secs(10) };
const REASON_MAX_UNITS: usize = 300;
const TITLE_MAX_UNITS: usize = 200;
const FACTS_MAX: usize = 20;
const VALUE_MAX_UNITS: usize = 2_000;
const LINK_MAX_UNITS: usize = 2_000;
const EXCERPT_MAX_UNITS: usize = 8_000;
/// What Postmark takes in one mail.
const RECIPIENTS_MAX: usize = 50;

/// What is to be said. Longer texts than a channel takes are cut, with a visible "…"; nothing in them is trusted.
#[derive(Debug, Clone)]
pub struct Message {
    /// What happened, as a word for programs: `new_error`.
    pub event: &'static str,
    /// One line, the subject of a mail; at most 200 characters are sent.
    pub title: String,
    /// What is known, in the order to show it; at most 20 are sent.
    pub facts: Vec<Fact>,
    /// Preformatted text such as a traceback, or empty; at most 8,000 characters are sent, the middle goes first.
    pub excerpt: String,
    /// Where to read on: an `http` or `https` URL.
    pub link: Option<String>,
}

/// One thing that is known.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Its name for programs.
    pub key: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// Shown as one line of at most 2,000 characters.
    pub value: String,
}

/// What became of one message on one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `postmark`, `smtp` or `webhook`.
    pub channel: &'static str,
    /// How often it was tried: 0 to 3.
    pub attempts: u32,
    /// Or why it failed, in one line of at most 300 characters without any secret.
    pub outcome: Result<(), String>,
}

/// The channels that are configured.
pub struct Notifier {
    channels: Vec<Box<dyn Channel>>,
    gaps: Vec<Gap>,
}

impl Notifier {
    /// Reads [`VARIABLES`]. What is malformed is a fault of `env`; what is incomplete is in [`Notifier::incomplete`].
    pub fn from_env(env: &mut Env<'_>) -> Self {
        let roots = roots(env);
        let to = recipients(env);
        let setups = [
            postmark::Postmark::from_env(env, &to, &roots),
            smtp::Smtp::from_env(env, &to, &roots),
            webhook::Webhook::from_env(env, &roots),
        ];
        let mut notifier = Self { channels: Vec::new(), gaps: Vec::new() };
        for setup in setups {
            match setup {
                Setup::Off => {}
                Setup::Incomplete(gap) => notifier.gaps.push(gap),
                Setup::Ready(channel) => notifier.channels.push(channel),
            }
        }
        if notifier.channels.is_empty() && notifier.gaps.is_empty() && !to.is_empty() {
            let needs = "SMTP_HOST, or POSTMARK_API_TOKEN and POSTMARK_FROM_EMAIL";
            notifier.gaps.push(Gap { channel: "mail", needs: needs.to_owned() });
        }
        notifier
    }

    /// The channels that are completely configured: `postmark`, `smtp`, `webhook`.
    #[must_use]
    pub fn channels(&self) -> Vec<&'static str> {
        self.channels.iter().map(|channel| channel.name()).collect()
    }

    /// One sentence for each channel that somebody began to configure: what it waits for.
    #[must_use]
    pub fn incomplete(&self) -> Vec<String> {
        self.gaps.iter().map(|gap| format!("Alerts by {} are off: set {}", gap.channel, gap.needs)).collect()
    }

    /// `None` when at least one channel is complete, else a sentence that names what to set.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        if !self.channels.is_empty() {
            return None;
        }
        let needs: Vec<&str> = self.gaps.iter().map(|gap| gap.needs.as_str()).collect();
        if needs.is_empty() {
            let mail = "ALERT_EMAILS with SMTP_HOST or with POSTMARK_API_TOKEN and POSTMARK_FROM_EMAIL";
            return Some(format!("Alerts need ALERT_WEBHOOK_URL, or {mail}"));
        }
        Some(format!("Alerts need {}", needs.join(", or ")))
    }

    /// Sends `message` by every channel, each with up to three attempts of at most 10 s.
    ///
    /// Before every attempt `pause` sleeps for the time it is given, zero for the first, and answers whether to go on;
    /// after a `false` nothing more is tried.
    pub fn send(&self, message: &Message, pause: &dyn Fn(Duration) -> bool) -> Vec<Delivery> {
        let letter = Letter::new(message);
        self.channels.iter().map(|channel| deliver(channel.as_ref(), &letter, pause)).collect()
    }
}

fn deliver(channel: &dyn Channel, letter: &Letter, pause: &dyn Fn(Duration) -> bool) -> Delivery {
    let mut delivery =
        Delivery { channel: channel.name(), attempts: 0, outcome: Err("not tried: stopping".to_owned()) };
    for wait in WAITS {
        if !pause(wait) {
            break;
        }
        delivery.attempts += 1;
        let Err(failure) = channel.attempt(letter) else {
            delivery.outcome = Ok(());
            break;
        };
        delivery.outcome = Err(text::one_line(&failure.reason, REASON_MAX_UNITS));
        if !failure.temporary {
            break;
        }
    }
    delivery
}

/// `{"channel","attempts","outcome":"sent"|"failed","reason":null|"…"}`.
impl Serialize for Delivery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Delivery", 4)?;
        fields.serialize_field("channel", self.channel)?;
        fields.serialize_field("attempts", &self.attempts)?;
        fields.serialize_field("outcome", if self.outcome.is_ok() { "sent" } else { "failed" })?;
        fields.serialize_field("reason", &self.outcome.as_ref().err())?;
        fields.end()
    }
}

/// A way out.
trait Channel: Send + Sync {
    fn name(&self) -> &'static str;
    /// Tries once.
    fn attempt(&self, letter: &Letter) -> Result<(), Failure>;
}

/// Why an attempt failed. What a server said stands in it without the channel's secrets, which some servers repeat.
#[derive(Debug)]
struct Failure {
    reason: String,
    /// Whether the same attempt may succeed later.
    temporary: bool,
}

impl Failure {
    fn temporary(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), temporary: true }
    }

    fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), temporary: false }
    }

    /// A server that cannot prove who it is will not be able to in three seconds.
    fn of_tls(host: &str, why: &str) -> Self {
        let hint = if why.contains("UnknownIssuer") { " (ALERT_CA_FILE can name the root it needs)" } else { "" };
        Self::permanent(format!("{host}: TLS failed: {why}{hint}"))
    }
}

/// How long one attempt may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Until there is a connection to one address.
    connect: Duration,
    /// From the first packet to the last answer.
    exchange: Duration,
}

enum Setup {
    Off,
    Incomplete(Gap),
    Ready(Box<dyn Channel>),
}

/// A channel that somebody began to configure.
struct Gap {
    channel: &'static str,
    /// The variables it waits for, in words.
    needs: String,
}

impl Gap {
    /// The gap that those of `variables` leave which are not set, if any.
    fn of(channel: &'static str, variables: &[(&'static str, bool)]) -> Option<Self> {
        let unset: Vec<&str> = variables.iter().filter(|(_, set)| !set).map(|(name, _)| *name).collect();
        (!unset.is_empty()).then(|| Self { channel, needs: unset.join(" and ") })
    }
}

/// A message within its limits, with what its attempts share: a server that got it twice can tell.
struct Letter {
    message: Message,
    id: String,
    at: Timestamp,
}

impl Letter {
    fn new(message: &Message) -> Self {
        let at = Timestamp::now();
        // A RandomState is seeded by the operating system, so its hash of anything is a random number.
        let id = format!("{:x}.{:016x}", at.ms(), RandomState::new().hash_one(at.ms()));
        Self { message: within_limits(message), id, at }
    }
}

fn within_limits(message: &Message) -> Message {
    let title = text::one_line(&message.title, TITLE_MAX_UNITS);
    let fact = |fact: &Fact| Fact { value: text::one_line(&fact.value, VALUE_MAX_UNITS), ..*fact };
    Message {
        event: message.event,
        title: if title.is_empty() { "(untitled)".to_owned() } else { title },
        facts: message.facts.iter().take(FACTS_MAX).map(fact).collect(),
        excerpt: text::lines(&message.excerpt, EXCERPT_MAX_UNITS),
        // Anything but the web would be a script or a surprise under a button.
        link: (message.link.as_deref().map(|link| text::one_line(link, LINK_MAX_UNITS)))
            .filter(|link| link.starts_with("http://") || link.starts_with("https://")),
    }
}

fn recipients(env: &mut Env<'_>) -> Vec<Mailbox> {
    let listed = env.list("ALERT_EMAILS");
    if listed.len() > RECIPIENTS_MAX {
        env.error("ALERT_EMAILS", format_args!("may hold at most {RECIPIENTS_MAX} addresses"));
    }
    listed.iter().filter_map(|item| mailbox(env, "ALERT_EMAILS", item)).collect()
}

/// An address with or without a name. Beyond ASCII an address would need SMTPUTF8 from every server on its way.
fn mailbox(env: &mut Env<'_>, name: &str, text: &str) -> Option<Mailbox> {
    let parsed = text.trim().parse::<Mailbox>().ok().filter(|mailbox| mailbox.email.to_string().is_ascii());
    if parsed.is_none() {
        env.error(name, format_args!("holds '{text}', which is not a mail address in ASCII"));
    }
    parsed
}

fn roots(env: &mut Env<'_>) -> Vec<Certificate<'static>> {
    let Some(path) = env.string("ALERT_CA_FILE") else { return Vec::new() };
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(why) => {
            env.error("ALERT_CA_FILE", format_args!("names {path}, which cannot be read: {why}"));
            return Vec::new();
        }
    };
    let certificate = |item| if let Ok(PemItem::Certificate(root)) = item { Some(root) } else { None };
    let roots: Vec<_> = ureq::tls::parse_pem(&pem).filter_map(certificate).collect();
    if roots.is_empty() {
        env.error("ALERT_CA_FILE", format_args!("names {path}, which holds no certificate in PEM"));
    }
    roots
}
