//! Notification channels: sends one message by Postmark, SMTP and webhook.
//!
//! The caller decides what a message says and when it is sent. Sending blocks for a bounded time, so the caller needs a
//! thread of its own. Every attempt opens a new connection.

mod channel;
mod mail;
mod message;
mod notifier;
mod postmark;
mod settings;
mod smtp;
mod webhook;

#[cfg(test)]
mod tests;

pub use message::{Fact, Message};
pub use notifier::{ChannelResult, Notifier};
pub use settings::{OLDER_CA_FILE, VARIABLES};
