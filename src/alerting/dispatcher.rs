//! Background job that decides about waiting alerts: sends them to the channels, suppresses them, or holds them for a digest.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::alert::{AlertSubject, Suppression};
use super::commands::{Admit, ExpireAdmissions, QueueDigest, Suppress};
use super::results::ResumeDeliveries;
use super::settings::AlertSettings;
use super::source::AlertSource;
use super::store::{self, PendingAlert};
use crate::background::{Job, StopToken};
use crate::clock::Timestamp;
use crate::error::Result;

const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A channel, as the dispatcher sees it.
pub(super) struct ChannelQueue {
    /// Id of the channel.
    pub(super) id: i64,
    /// Wakes the channel's job.
    pub(super) wake: Sender<()>,
}

struct Dispatcher<S> {
    source: Arc<S>,
    settings: Arc<AlertSettings>,
    channels: Vec<ChannelQueue>,
    has_resumed: bool,
}

/// Returns the job that moves the alerts of `source` into the queues of the channels.
pub(super) fn job<S: AlertSource>(source: Arc<S>, settings: Arc<AlertSettings>, channels: Vec<ChannelQueue>) -> Job {
    let mut dispatcher = Dispatcher { source, settings, channels, has_resumed: false };
    let run = Box::new(move |stop: &StopToken| {
        if let Err(error) = dispatcher.dispatch(stop) {
            log::warn!("alerts: reading the queue failed, will retry: {error}");
        }
    });
    Job { name: "alerts", interval: POLL_INTERVAL, run }
}

impl<S: AlertSource> Dispatcher<S> {
    /// Processes the queue until it is empty, then queues the digest if one is due.
    fn dispatch(&mut self, stop: &StopToken) -> Result<()> {
        if !self.has_resumed {
            let (now, keep_sent) = (Timestamp::now(), self.settings.keep_sent());
            self.source.writer().run(ResumeDeliveries { channels: self.channel_ids(), now, keep_sent })?;
            self.has_resumed = true;
            self.wake_channels();
        }
        while let Some(alert) = self.next_waiting()? {
            if stop.stopping() {
                return Ok(());
            }
            self.process(alert)?;
        }
        let (has_expired, is_digest_due) = {
            let (reader, now) = (self.source.readers().acquire()?, Timestamp::now());
            (store::has_expired_admissions(&reader, now)?, store::is_digest_due(&reader, now, &self.settings)?)
        };
        if has_expired {
            self.source.writer().run(ExpireAdmissions { now: Timestamp::now() })?;
        }
        if is_digest_due {
            self.source.writer().run(QueueDigest { channels: self.channel_ids(), now: Timestamp::now() })?;
            self.wake_channels();
        }
        Ok(())
    }

    fn next_waiting(&self) -> Result<Option<PendingAlert>> {
        store::next_waiting(&*self.source.readers().acquire()?)
    }

    fn process(&self, alert: PendingAlert) -> Result<()> {
        let (now, keep_sent) = (Timestamp::now(), self.settings.keep_sent());
        if let Some(subject) = alert.subject
            && let Some(reason) = self.suppression(subject, now)?
        {
            log::info!("alert {} suppressed: {}", alert.id, reason.describe(subject));
            return self.source.writer().run(Suppress { alert, subject, reason, now, keep_sent });
        }
        let (id, subject) = (alert.id, alert.subject);
        let (channels, per_hour_max) = (self.channel_ids(), self.settings.per_hour_max);
        let suppression = self.source.writer().run(Admit { alert, channels, per_hour_max, now, keep_sent })?;
        match suppression.zip(subject) {
            Some((reason, subject)) => log::info!("alert {id} suppressed: {}", reason.describe(subject)),
            None => self.wake_channels(),
        }
        Ok(())
    }

    /// Returns the reason to suppress an alert about `subject`, apart from the hourly limit.
    fn suppression(&self, subject: AlertSubject, now: Timestamp) -> Result<Option<Suppression>> {
        let reader = self.source.readers().acquire()?;
        if !self.source.exists(&reader, subject)? {
            return Ok(Some(Suppression::SubjectDeleted));
        }
        Ok(store::is_cooling_down(&reader, subject, now, &self.settings)?.then_some(Suppression::CoolDown))
    }

    fn channel_ids(&self) -> Vec<i64> {
        self.channels.iter().map(|channel| channel.id).collect()
    }

    fn wake_channels(&self) {
        for channel in &self.channels {
            // The queue of wake-ups is full if the channel is to look at its alerts anyway.
            let _ = channel.wake.try_send(());
        }
    }
}
