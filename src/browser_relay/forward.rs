//! The way on: threads that pass reports on while the page waits, and the outbox for what cannot be passed on now.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::commands::{Delivered, Enqueue};
use super::store;
use super::upstream::{Kind, Outcome, Parcel, Upstream};
use crate::background::{self, Job, StopToken};
use crate::clock::Timestamp;
use crate::db::{ReaderPool, Writer, vacuum};
use crate::error::{Error, Result};
use crate::http::{Responder, Response};

/// Threads that wait for upstreams, so that no worker has to. The more of them, the more reports an upstream flushes to
/// its disk at once.
pub(super) const FORWARDERS: usize = 8;
/// Reports that may wait for one of them; what comes then goes to the outbox.
const WAITING_MAX: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two tries of an upstream that does not answer, the longer the longer it does not.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Where reports go.
pub(super) struct Forward {
    parcels: Sender<(Parcel, Responder)>,
    desk: Arc<Desk>,
}

/// What those who forward share.
struct Desk {
    upstreams: [Upstream; 2],
    writer: Writer,
    readers: ReaderPool,
    outbox_bytes_max: i64,
    /// Whether an upstream did not answer when it was last asked: then what comes goes to the outbox without asking.
    /// As soon as it answers, new reports pass what still waits, or the outbox would not empty while many come.
    down: [AtomicBool; 2],
    /// Tells the job of an outbox that something may wait in it. One piece of news is as good as many.
    news: [(Sender<()>, Receiver<()>); 2],
}

impl Forward {
    /// Starts the threads. They end with the last sender.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(
        upstreams: [Upstream; 2],
        writer: Writer,
        readers: ReaderPool,
        outbox_bytes_max: i64,
    ) -> Result<Self> {
        let (down, news) = (Default::default(), [bounded(1), bounded(1)]);
        let desk = Arc::new(Desk { upstreams, writer, readers, outbox_bytes_max, down, news });
        let (parcels, queue) = bounded(WAITING_MAX);
        for index in 0..FORWARDERS {
            let (desk, queue): (Arc<Desk>, Receiver<(Parcel, Responder)>) = (Arc::clone(&desk), queue.clone());
            let run = move || queue.iter().for_each(|(parcel, responder)| desk.pass_on(parcel, responder));
            let started = background::spawn_critical(&format!("forward-{index}"), run);
            started.map_err(|why| Error::Internal(format!("no thread to forward with: {why}")))?;
        }
        Ok(Self { parcels, desk })
    }

    /// Passes a report on, or keeps it. Never waits.
    pub(super) fn send(&self, parcel: Parcel, responder: Responder) {
        if self.desk.is_down(parcel.kind) {
            return self.desk.keep(parcel, responder);
        }
        if let Err(TrySendError::Full((parcel, responder)) | TrySendError::Disconnected((parcel, responder))) =
            self.parcels.try_send((parcel, responder))
        {
            self.desk.keep(parcel, responder);
        }
    }

    /// The jobs that empty the outbox, one for each upstream, so that none waits for the other.
    pub(super) fn jobs(&self) -> Vec<Job> {
        let job = |kind: Kind| {
            let desk = Arc::clone(&self.desk);
            let mut tries = Tries { wait: BACKOFF_MIN, next: Instant::now() };
            let run = Box::new(move |pause: &StopToken| {
                match desk.deliver(kind, &mut tries, pause) {
                    Ok(Left::Nothing) => {
                        // The pause between two looks comes after the news, so that a storm of them changes nothing;
                        // it ends at once when the program stops.
                        let _ = pause.wait_for(&desk.news[kind as usize].1);
                    }
                    Ok(Left::Something) => {}
                    Err(why) => log::warn!("the outbox waits: {why}"),
                }
            });
            let name = match kind {
                Kind::Errors => "outbox-errors",
                Kind::Metrics => "outbox-metrics",
            };
            Job { name, interval: LOOK_EVERY, run }
        };
        Kind::ALL.map(job).into()
    }
}

/// What may be in the outbox after a look.
enum Left {
    Nothing,
    Something,
}

/// When an upstream is tried again.
struct Tries {
    wait: Duration,
    next: Instant,
}

impl Desk {
    fn upstream(&self, kind: Kind) -> &Upstream {
        &self.upstreams[kind as usize]
    }

    fn is_down(&self, kind: Kind) -> bool {
        self.down[kind as usize].load(Ordering::Relaxed)
    }

    fn set_down(&self, kind: Kind, down: bool) {
        self.down[kind as usize].store(down, Ordering::Relaxed);
    }

    fn pass_on(&self, parcel: Parcel, responder: Responder) {
        let kind = parcel.kind;
        // It may have failed for another one meanwhile.
        if self.is_down(kind) {
            return self.keep(parcel, responder);
        }
        match self.upstream(kind).post(&parcel) {
            Outcome::Answered { status, body } => responder.send(Response::new(status, "application/json", body)),
            Outcome::Later(why) => {
                log::debug!("the {} cannot take a report now: {why}", kind.service());
                self.set_down(kind, true);
                self.keep(parcel, responder);
            }
            // The others need not queue behind this client.
            Outcome::TooMany => self.keep(parcel, responder),
            Outcome::Refused(status) => {
                log::error!("the {} answers {status} to this relay's key", kind.service());
                let sentence = format!("The {} does not take the relay's key", kind.service());
                responder.send(Error::Upstream(sentence).into());
            }
        }
    }

    /// Puts a report into the outbox and says so once it is there.
    fn keep(&self, parcel: Parcel, responder: Responder) {
        let news = self.news[parcel.kind as usize].0.clone();
        let enqueue = Enqueue { parcel, bytes_max: self.outbox_bytes_max, now: Timestamp::now() };
        self.writer.submit(enqueue, move |outcome| {
            // Also where it could not be kept: it came here because its upstream may be down, which a look finds out.
            // What is there already says the same.
            let _ = news.try_send(());
            responder.send(match outcome {
                Ok(()) => Response::new(202, "application/json", br#"{"status":"queued"}"#.to_vec()),
                Err(why) => why.into(),
            });
        });
    }

    /// Delivers what waits for an upstream, the oldest first, until there is no more or it does not take more. What a
    /// client has to wait with is passed over. What is delivered is removed a little later: if this process ends before,
    /// it is delivered once more with the same key and changes nothing.
    fn deliver(&self, kind: Kind, tries: &mut Tries, pause: &StopToken) -> Result<Left> {
        if Instant::now() < tries.next {
            return Ok(Left::Something);
        }
        let (mut last, mut too_many) = (0, HashSet::new());
        while !pause.stopping() {
            let Some(item) = store::next(&*self.readers.acquire()?, kind, last)? else { break };
            last = item.id;
            if too_many.contains(&item.parcel.client) {
                continue;
            }
            let taken = match self.upstream(kind).post(&item.parcel) {
                Outcome::Answered { status, .. } => (200..300).contains(&status),
                Outcome::TooMany => {
                    too_many.insert(item.parcel.client);
                    continue;
                }
                Outcome::Later(why) => {
                    self.set_down(kind, true);
                    tries.fail(kind, &why);
                    return Ok(Left::Something);
                }
                Outcome::Refused(status) => {
                    tries.fail(kind, &format!("it answers {status} to this relay's key"));
                    return Ok(Left::Something);
                }
            };
            self.set_down(kind, false);
            if !taken {
                log::warn!("the {} refused a report that had waited", kind.service());
            }
            self.writer.submit(Delivered { id: item.id, taken }, |outcome| {
                if let Err(why) = outcome {
                    log::warn!("a report stays in the outbox and is delivered again: {why}");
                }
            });
        }
        self.set_down(kind, false);
        *tries = Tries { wait: BACKOFF_MIN, next: Instant::now() };
        if !too_many.is_empty() {
            tries.next += BACKOFF_MIN;
        }
        if last == 0 {
            return Ok(Left::Nothing);
        }
        // What could not be removed is there once more, and only a further look finds it.
        vacuum(&self.writer, || !pause.stopping())?;
        Ok(Left::Something)
    }
}

impl Tries {
    fn fail(&mut self, kind: Kind, why: &str) {
        if self.wait == BACKOFF_MIN {
            log::warn!("the {} does not take what waits: {why}", kind.service());
        }
        self.next = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(BACKOFF_MAX);
    }
}
