//! The configured channels.

use super::channel::{Channel, ChannelConfig, MissingSettings};
use super::message::{Message, MessageId, OutgoingMessage};
use super::{postmark, settings, smtp, webhook};
use crate::client::{Delivery, OutboundSettings};
use crate::env::Env;
use crate::text;

/// Maximum length of the reason of a failure, in UTF-16 code units.
pub const REASON_MAX_UNITS: usize = 300;

/// One configured channel.
pub struct NotificationChannel(Box<dyn Channel>);

impl NotificationChannel {
    /// Returns `postmark`, `smtp` or `webhook`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Sends `message` once, in at most 10 s. The reason of a failure is one line of at most 300 characters without secrets.
    #[must_use]
    pub fn send(&self, message: &Message, id: &MessageId) -> Delivery {
        match self.0.attempt(&OutgoingMessage::new(message, id)) {
            Delivery::Accepted => Delivery::Accepted,
            Delivery::Retry { after, reason } => {
                Delivery::Retry { after, reason: text::one_line(&reason, REASON_MAX_UNITS) }
            }
            Delivery::Rejected { reason } => Delivery::rejected(text::one_line(&reason, REASON_MAX_UNITS)),
        }
    }
}

/// The configured channels.
pub struct Notifier {
    channels: Vec<NotificationChannel>,
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
                ChannelConfig::Ready(channel) => notifier.channels.push(NotificationChannel(channel)),
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
        self.channels.iter().map(NotificationChannel::name).collect()
    }

    /// Returns one sentence for each partly configured channel, with the variables that it lacks.
    #[must_use]
    pub fn incomplete(&self) -> Vec<String> {
        let sentence = |missing: &MissingSettings| {
            format!("Alerts by {} are disabled; set {} to enable them", missing.channel, missing.variables)
        };
        self.incomplete.iter().map(sentence).collect()
    }

    /// Returns one sentence for each channel whose messages probably do not arrive.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.channels.iter().filter_map(|channel| channel.0.warning()).collect()
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

    /// Returns the channels, which can send at the same time.
    #[must_use]
    pub fn into_channels(self) -> Vec<NotificationChannel> {
        self.channels
    }
}
