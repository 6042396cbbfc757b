//! Background job of one channel: sends what is in the channel's queue, and retries with growing pauses.
//!
//! Each channel has its own job, so a server that hangs delays no other channel. A failed alert waits for its own pause while
//! others are sent. If two different alerts fail without a success in between, the channel is down: then one alert is tried
//! at growing pauses, and an alert that has not been tried yet at most every 30 seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::alert::AlertKind;
use super::limits::{FRESH_PAUSE, TEST_ATTEMPTS_MAX, pause_after};
use super::messages::{message_id, render};
use super::results::{Outcome, RecordOutcome};
use super::settings::AlertSettings;
use super::source::AlertSource;
use super::store::{self, DueDelivery};
use crate::background::{self, Job, StopToken};
use crate::client::Delivery;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::notify::{Message, MessageId, NotificationChannel};
use crate::text::replace_control_chars;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which a stopping service waits for the result of a started attempt.
const STOP_GRACE: Duration = Duration::from_millis(100);
/// Failures in a row after which an answer ends an outage.
const OUTAGE_FAILURES_MIN: u32 = 2;

/// The channel with its settings and the state of its server.
pub(super) struct ChannelWorker<S> {
    pub(super) source: Arc<S>,
    pub(super) settings: Arc<AlertSettings>,
    pub(super) channel: Arc<NotificationChannel>,
    pub(super) channel_id: i64,
    /// Receives a message when an alert was queued.
    pub(super) wake: Receiver<()>,
    pub(super) failures: Failures,
    /// Whether the last attempt ended an outage.
    pub(super) has_recovered: bool,
    /// A result that could not be stored. Nothing is sent before it is, because the same alert would be sent again.
    pub(super) unrecorded: Option<RecordOutcome>,
}

/// Failed attempts without a success in between.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    /// The only alert that failed; `None` if several did.
    only_alert: Option<i64>,
    last_at: Option<Instant>,
}

impl Failures {
    fn add(&mut self, alert_id: i64, now: Instant) {
        self.only_alert =
            if self.count == 0 { Some(alert_id) } else { self.only_alert.filter(|only| *only == alert_id) };
        self.count += 1;
        self.last_at = Some(now);
    }

    /// Returns the maximum number of attempts that an alert may have had to be sent now; -1 for tests alone.
    fn attempts_max(&self, now: Instant) -> i64 {
        let (Some(last_at), None) = (self.last_at, self.only_alert) else { return i64::MAX };
        match now.saturating_duration_since(last_at) {
            passed if passed >= pause_after(self.count, None) => i64::MAX,
            passed if passed >= FRESH_PAUSE => 0,
            _ => -1,
        }
    }
}

impl<S: AlertSource> ChannelWorker<S> {
    /// Returns the job.
    pub(super) fn job(mut self, name: &'static str) -> Job {
        let run = Box::new(move |stop: &StopToken| {
            if let Err(error) = self.send_due(stop) {
                log::warn!("alerts: reading or storing deliveries failed, will retry: {error}");
            }
            let _ = stop.wait_up_to(POLL_INTERVAL, &self.wake);
        });
        Job { name, interval: Duration::ZERO, run }
    }

    /// Sends alerts until none is due.
    fn send_due(&mut self, stop: &StopToken) -> Result<()> {
        self.store_unrecorded()?;
        while !stop.stopping() {
            let attempts_max = self.failures.attempts_max(Instant::now());
            let (delivery, message) = {
                let reader = self.source.readers().acquire()?;
                let due = store::next_delivery(&reader, self.channel_id, attempts_max, Timestamp::now())?;
                let Some(delivery) = due else { return Ok(()) };
                let message = render(&*self.source, &reader, &delivery, &self.settings)?;
                (delivery, message)
            };
            let has_message = message.is_some();
            let Some(outcome) = self.send(&delivery, message, stop) else { return Ok(()) };
            if has_message {
                self.count(&delivery, &outcome);
            }
            self.record(&delivery, outcome)?;
        }
        Ok(())
    }

    /// Sends one message. Returns `None` if the service stops before there is a result; the alert is sent after the next start.
    fn send(&self, delivery: &DueDelivery, message: Option<Message>, stop: &StopToken) -> Option<Outcome> {
        let Some(message) = message else {
            let subject = delivery.subject.map_or_else(|| "the digest".to_owned(), |subject| subject.to_string());
            return Some(Outcome::Failed { reason: format!("{subject} no longer exists") });
        };
        let attempt = delivery.attempts + 1;
        // A title contains text from reports, and a line break in it would forge a log line.
        let (channel, title) = (self.channel.name(), replace_control_chars(&message.title));
        let is_last = delivery.kind == AlertKind::Test && attempt >= TEST_ATTEMPTS_MAX;
        let outcome = match self.attempt(message, message_id(delivery, &self.settings), stop)? {
            Delivery::Accepted => Outcome::Sent,
            Delivery::Retry { reason, after } if !is_last => Outcome::Retry { reason, after },
            Delivery::Retry { reason, .. } | Delivery::Rejected { reason } => Outcome::Failed { reason },
        };
        match &outcome {
            Outcome::Sent => log::info!("alert sent by {channel} (attempt {attempt}): {title}"),
            Outcome::Retry { reason, after } => {
                let pause_s = pause_after(attempt, *after).as_secs();
                log::warn!(
                    "alerts: delivery by {channel} failed (attempt {attempt}): {reason}; will retry in {pause_s} s: {title}"
                );
            }
            Outcome::Failed { reason } => {
                log::warn!("alerts: delivery by {channel} failed (attempt {attempt}): {reason}; giving up on: {title}");
            }
        }
        Some(outcome)
    }

    /// Makes one attempt on a thread of its own, because a stopping service does not wait until a server that hangs times out.
    fn attempt(&self, message: Message, id: MessageId, stop: &StopToken) -> Option<Delivery> {
        let (sender, result) = bounded(1);
        let (finished, finish) = bounded(1);
        let channel = Arc::clone(&self.channel);
        let body = move || {
            // The receivers are gone if the service is stopping.
            let _ = sender.send(channel.send(&message, &id));
            let _ = finished.send(());
        };
        if let Err(why) = background::spawn("alert-attempt", body) {
            return Some(Delivery::retry(format!("cannot start a thread: {why}")));
        }
        if stop.wait_for(&finish) {
            return Some(result.try_recv().unwrap_or_else(|_| Delivery::retry("the thread of the attempt panicked")));
        }
        result.recv_timeout(STOP_GRACE).ok()
    }

    /// Counts a failure, or ends the outage of the channel.
    fn count(&mut self, delivery: &DueDelivery, outcome: &Outcome) {
        match outcome {
            Outcome::Retry { .. } => self.failures.add(delivery.alert_id, Instant::now()),
            // Nobody answered a test that is given up. Every other rejection is an answer.
            Outcome::Failed { .. } if delivery.kind == AlertKind::Test => {}
            Outcome::Sent | Outcome::Failed { .. } => {
                self.has_recovered = self.failures.count >= OUTAGE_FAILURES_MIN;
                self.failures = Failures::default();
            }
        }
    }

    fn record(&mut self, delivery: &DueDelivery, outcome: Outcome) -> Result<()> {
        let has_recovered = std::mem::take(&mut self.has_recovered);
        self.unrecorded = Some(RecordOutcome {
            alert_id: delivery.alert_id,
            channel_id: self.channel_id,
            attempt: delivery.attempts + 1,
            outcome,
            has_recovered,
            now: Timestamp::now(),
            keep_sent: self.settings.keep_sent(),
        });
        self.store_unrecorded()
    }

    fn store_unrecorded(&mut self) -> Result<()> {
        if let Some(result) = &self.unrecorded {
            self.source.writer().run(result.clone())?;
            self.unrecorded = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_alert_delays_no_other_and_two_mean_an_outage() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut failures = Failures::default();
        assert_eq!(failures.attempts_max(start), i64::MAX);
        for _ in 0..9 {
            failures.add(1, start);
        }
        assert_eq!(failures.attempts_max(start), i64::MAX);
        failures.add(2, start);
        let allowed = [0, 29, 30, 899, 900].map(|seconds| failures.attempts_max(at(seconds)));
        assert_eq!(allowed, [-1, -1, 0, 0, i64::MAX]);
    }
}
