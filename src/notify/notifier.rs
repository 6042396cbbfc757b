//! Delivery of a message by every configured channel, with retries.

use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::channel::{Channel, ChannelConfig, MissingSettings};
use super::message::{Message, OutgoingMessage};
use super::{postmark, settings, smtp, webhook};
use crate::client::{Delivery, OutboundSettings};
use crate::env::Env;
use crate::text;

/// The delay before each attempt.
const ATTEMPT_DELAYS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
const REASON_MAX_UNITS: usize = 300;

/// The result of sending one message by one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelResult {
    /// `postmark`, `smtp` or `webhook`.
    pub channel: &'static str,
    /// The number of attempts, 0 to 3.
    pub attempts: u32,
    /// The error is the reason of the last failure, in one line of at most 300 characters without secrets.
    pub outcome: Result<(), String>,
}

/// The configured channels.
pub struct Notifier {
    channels: Vec<Box<dyn Channel>>,
    incomplete: Vec<MissingSettings>,
}

impl Notifier {
    /// Reads [`VARIABLES`](super::VARIABLES). Reports malformed values to `env`; missing ones are in
    /// [`Notifier::incomplete`].
    pub fn from_env(env: &mut Env<'_>, outbound: &OutboundSettings) -> Self {
        let recipients = settings::recipients(env);
        let configs = [
            postmark::Postmark::from_env(env, &recipients, outbound),
            smtp::Smtp::from_env(env, &recipients, outbound),
            webhook::Webhook::from_env(env, outbound),
        ];
        let mut notifier = Self { channels: Vec::new(), incomplete: Vec::new() };
        for config in configs {
            match config {
                ChannelConfig::Disabled => {}
                ChannelConfig::Incomplete(missing) => notifier.incomplete.push(missing),
                ChannelConfig::Ready(channel) => notifier.channels.push(channel),
            }
        }
        if notifier.channels.is_empty() && notifier.incomplete.is_empty() && !recipients.is_empty() {
            let variables = "SMTP_HOST, or POSTMARK_API_TOKEN and POSTMARK_FROM_EMAIL".to_owned();
            notifier.incomplete.push(MissingSettings { channel: "email", variables });
        }
        notifier
    }

    /// Returns the names of the completely configured channels: `postmark`, `smtp`, `webhook`.
    #[must_use]
    pub fn channels(&self) -> Vec<&'static str> {
        self.channels.iter().map(|channel| channel.name()).collect()
    }

    /// Returns one sentence for each partly configured channel, with the variables that it lacks.
    #[must_use]
    pub fn incomplete(&self) -> Vec<String> {
        let sentence = |missing: &MissingSettings| {
            format!("Alerts by {} are disabled; set {} to enable them", missing.channel, missing.variables)
        };
        self.incomplete.iter().map(sentence).collect()
    }

    /// Returns a sentence that names the variables to set if no channel is completely configured, else `None`.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        if !self.channels.is_empty() {
            return None;
        }
        let variables: Vec<&str> = self.incomplete.iter().map(|missing| missing.variables.as_str()).collect();
        if variables.is_empty() {
            let email = "ALERT_EMAILS with SMTP_HOST or with POSTMARK_API_TOKEN and POSTMARK_FROM_EMAIL";
            return Some(format!("Alerts need ALERT_WEBHOOK_URL, or {email}"));
        }
        Some(format!("Alerts need {}", variables.join(", or ")))
    }

    /// Sends `message` by every channel, each with up to three attempts of at most 10 s.
    ///
    /// Calls `wait` before every attempt with the delay, which is zero for the first attempt. `wait` sleeps and returns
    /// whether to continue; after `false` no further attempt is made.
    pub fn send(&self, message: &Message, wait: &dyn Fn(Duration) -> bool) -> Vec<ChannelResult> {
        let message = OutgoingMessage::new(message);
        self.channels.iter().map(|channel| deliver(channel.as_ref(), &message, wait)).collect()
    }
}

fn deliver(channel: &dyn Channel, message: &OutgoingMessage, wait: &dyn Fn(Duration) -> bool) -> ChannelResult {
    let stopping = Err("not attempted: the service is stopping".to_owned());
    let mut result = ChannelResult { channel: channel.name(), attempts: 0, outcome: stopping };
    for delay in ATTEMPT_DELAYS {
        if !wait(delay) {
            break;
        }
        result.attempts += 1;
        let (reason, is_final) = match channel.attempt(message) {
            Delivery::Accepted => {
                result.outcome = Ok(());
                break;
            }
            Delivery::Retry { reason, .. } => (reason, false),
            Delivery::Rejected { reason } => (reason, true),
        };
        result.outcome = Err(text::one_line(&reason, REASON_MAX_UNITS));
        if is_final {
            break;
        }
    }
    result
}

/// Serializes as `{"channel","attempts","outcome":"sent"|"failed","reason":null|"…"}`.
impl Serialize for ChannelResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ChannelResult", 4)?;
        fields.serialize_field("channel", self.channel)?;
        fields.serialize_field("attempts", &self.attempts)?;
        fields.serialize_field("outcome", if self.outcome.is_ok() { "sent" } else { "failed" })?;
        fields.serialize_field("reason", &self.outcome.as_ref().err())?;
        fields.end()
    }
}
