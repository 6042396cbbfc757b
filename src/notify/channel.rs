//! The interface of a notification channel.

use std::time::Duration;

use super::message::OutgoingMessage;
use crate::client::{ClientSettings, Delivery};

/// Maximum time to connect to one address.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time of one attempt, from name resolution to the last response.
pub(super) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Limits of channels that use HTTP. A response is only read for one line of reason.
pub(super) const CLIENT_SETTINGS: ClientSettings = ClientSettings {
    connect_timeout: CONNECT_TIMEOUT,
    exchange_timeout: EXCHANGE_TIMEOUT,
    idle_connections_max: 0,
    response_bytes_max: 4 * 1024,
};

/// A way to send messages.
pub(super) trait Channel: Send + Sync {
    /// Returns `postmark`, `smtp` or `webhook`.
    fn name(&self) -> &'static str;
    /// Sends the message once. Reasons contain no secret of the channel.
    fn attempt(&self, message: &OutgoingMessage) -> Delivery;
    /// Returns one sentence about a setting with which messages probably do not arrive.
    fn warning(&self) -> Option<String> {
        None
    }
}

/// The settings of one channel.
pub(super) enum ChannelConfig {
    /// None of the channel's variables is set.
    Disabled,
    /// Some of the variables that the channel needs are not set.
    Incomplete(MissingSettings),
    /// The channel can send.
    Ready(Box<dyn Channel>),
}

/// The variables that a channel lacks.
pub(super) struct MissingSettings {
    pub(super) channel: &'static str,
    /// Their names, joined with "and".
    pub(super) variables: String,
}

impl MissingSettings {
    /// Lists those of `variables` that are not set; returns `None` if all of them are.
    pub(super) fn new(channel: &'static str, variables: &[(&'static str, bool)]) -> Option<Self> {
        let unset: Vec<&str> = variables.iter().filter(|(_, is_set)| !is_set).map(|(name, _)| *name).collect();
        (!unset.is_empty()).then(|| Self { channel, variables: unset.join(" and ") })
    }
}
