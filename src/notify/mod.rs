//! Notification channels: sends one message by Postmark, SMTP or webhook.
//!
//! The caller decides what a message says, when it is sent and when it is sent again. Sending blocks for a bounded time, so
//! the caller needs a thread of its own for each channel. Every attempt opens a new connection.

mod channel;
mod defang;
mod mail;
mod message;
mod notifier;
mod postmark;
mod settings;
mod smtp;
mod webhook;

#[cfg(test)]
mod tests;

pub use message::{Fact, Message, MessageId};
pub use notifier::{NotificationChannel, Notifier, REASON_MAX_UNITS};
pub use settings::{OLDER_CA_FILE, VARIABLES};
