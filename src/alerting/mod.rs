//! Alerts of any service: queue, cool-down, hourly limit, digest, delivery and history.
//!
//! A service calls [`queue`] in the transaction of the change that the alert reports, so that both are stored or neither.
//! The dispatcher then suppresses the alert during the cool-down of its subject, holds it for the digest if its project has
//! used its share of the hourly limit, or puts it into the queue of every channel. Each channel has a job of its own, which
//! retries for a day. The next digest, at most one per hour, lists the alerts that were held or not delivered. Every alert
//! stays in the history with its result.
//!
//! A service creates the tables with [`create_tables`] and the migrations in `sql/alerting/`, and implements
//! [`AlertSource`], which renders the messages. This module knows neither the tables of a service nor how its subjects are
//! displayed.

mod alert;
mod channel_id;
mod channel_worker;
mod commands;
#[cfg(test)]
mod delivery_tests;
mod dispatcher;
mod held;
mod limits;
mod messages;
#[cfg(test)]
mod queue_tests;
mod results;
mod settings;
mod shares;
#[cfg(test)]
mod shares_tests;
mod source;
mod store;

pub use alert::{AlertKind, AlertState, AlertSubject, NewAlert, Origin};
pub use commands::{queue, queue_test};
pub use held::HeldAlert;
pub use settings::{AlertSettings, variables};
pub use source::{AlertSource, DigestContent};
pub use store::{ChannelDelivery, HistoryEntry, history, suppressed_count, warnings};

use std::sync::Arc;

use crossbeam_channel::bounded;
use rusqlite::Connection;

use crate::background::Job;
use crate::error::Result;
use crate::notify::Notifier;
use channel_id::channel_id;
use channel_worker::{ChannelWorker, Failures};
use dispatcher::ChannelQueue;

/// Creates the tables of the alert queue, as part of the schema of a service that raises alerts.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn create_tables(connection: &Connection) -> Result<()> {
    Ok(connection.execute_batch(include_str!("../../sql/alerting/0100_schema.sql"))?)
}

/// Returns the jobs that send the alerts of `source` through all channels of `notifier`: one that decides, and one for each
/// channel.
pub fn jobs<S: AlertSource>(source: &Arc<S>, notifier: Notifier, settings: AlertSettings) -> Vec<Job> {
    let settings = Arc::new(settings);
    let (mut jobs, mut queues) = (Vec::new(), Vec::new());
    for channel in notifier.into_channels() {
        let Some(channel_id) = channel_id(channel.name()) else { continue };
        let name = match channel.name() {
            "postmark" => "alerts-postmark",
            "smtp" => "alerts-smtp",
            _ => "alerts-webhook",
        };
        let (sender, wake) = bounded(1);
        queues.push(ChannelQueue { id: channel_id, wake: sender });
        let worker = ChannelWorker {
            source: Arc::clone(source),
            settings: Arc::clone(&settings),
            channel: Arc::new(channel),
            channel_id,
            wake,
            failures: Failures::default(),
            has_recovered: false,
            unrecorded: None,
        };
        jobs.push(worker.job(name));
    }
    jobs.push(dispatcher::job(Arc::clone(source), settings, queues));
    jobs
}
