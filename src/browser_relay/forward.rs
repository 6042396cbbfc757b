//! The way on: threads that pass reports on while the page waits, and the outbox for what cannot be passed on now.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::commands::{Delivered, Enqueue};
use super::store;
use super::upstream::{Kind, Outcome, Upstream};
use crate::background::{self, Job, Pause};
use crate::clock::Timestamp;
use crate::db::{Readers, Writer, give_back};
use crate::error::{Error, Result};
use crate::http::{Responder, Response};

/// Threads that wait for upstreams, so that no worker has to.
const FORWARDERS: usize = 4;
/// Reports that may wait for one of them; what comes then goes to the outbox.
const WAITING_MAX: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two tries of an upstream that does not answer, the longer the longer it does not.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A report on its way.
pub(super) struct Parcel {
    pub(super) kind: Kind,
    pub(super) body: Vec<u8>,
    pub(super) idempotency_key: String,
    pub(super) client: IpAddr,
}

/// Where reports go.
pub(super) struct Forward {
    parcels: Sender<(Parcel, Responder)>,
    desk: Arc<Desk>,
}

/// What those who forward share.
struct Desk {
    upstreams: [Upstream; 2],
    writer: Writer,
    readers: Readers,
    outbox_bytes_max: i64,
    /// How many wait in the outbox, by upstream. While any do, others queue behind them.
    waiting: [AtomicU64; 2],
}

impl Forward {
    /// Starts the threads. They end with the last sender.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(
        upstreams: [Upstream; 2],
        writer: Writer,
        readers: Readers,
        outbox_bytes_max: i64,
    ) -> Result<Self> {
        let waiting = store::waiting(&*readers.lend()?)?.map(|count| AtomicU64::new(count.unsigned_abs()));
        let desk = Arc::new(Desk { upstreams, writer, readers, outbox_bytes_max, waiting });
        let (parcels, queue) = bounded(WAITING_MAX);
        for index in 0..FORWARDERS {
            let (desk, queue): (Arc<Desk>, Receiver<(Parcel, Responder)>) = (Arc::clone(&desk), queue.clone());
            let run = move || queue.iter().for_each(|(parcel, responder)| desk.pass_on(parcel, responder));
            let started = background::vital(&format!("forward-{index}"), run);
            started.map_err(|why| Error::Internal(format!("no thread to forward with: {why}")))?;
        }
        Ok(Self { parcels, desk })
    }

    /// Passes a report on, or keeps it. Never waits.
    pub(super) fn send(&self, parcel: Parcel, responder: Responder) {
        if self.desk.waiting(parcel.kind).load(Ordering::Relaxed) > 0 {
            return self.desk.keep(parcel, responder);
        }
        match self.parcels.try_send((parcel, responder)) {
            Ok(()) => {}
            Err(TrySendError::Full((parcel, responder)) | TrySendError::Disconnected((parcel, responder))) => {
                self.desk.keep(parcel, responder);
            }
        }
    }

    /// How many wait in the outbox.
    pub(super) fn waiting(&self) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.desk.waiting(kind).load(Ordering::Relaxed)).sum()
    }

    /// The job that empties the outbox.
    pub(super) fn job(&self) -> Job {
        let desk = Arc::clone(&self.desk);
        let mut tries = Kind::ALL.map(|kind| Tries { kind, wait: BACKOFF_MIN, next: Instant::now() });
        let run = Box::new(move |pause: &Pause| {
            for tries in &mut tries {
                if let Err(why) = desk.deliver(tries, pause) {
                    log::warn!("the outbox waits: {why}");
                }
            }
        });
        Job { name: "outbox", every: LOOK_EVERY, run }
    }
}

/// When an upstream is tried again.
struct Tries {
    kind: Kind,
    wait: Duration,
    next: Instant,
}

impl Desk {
    fn upstream(&self, kind: Kind) -> &Upstream {
        &self.upstreams[kind as usize]
    }

    fn waiting(&self, kind: Kind) -> &AtomicU64 {
        &self.waiting[kind as usize]
    }

    fn pass_on(&self, parcel: Parcel, responder: Responder) {
        let service = parcel.kind.service();
        match self.upstream(parcel.kind).post(&parcel.body, &parcel.idempotency_key, Some(parcel.client)) {
            Outcome::Answered { status, body } => responder.send(Response::new(status, "application/json", body)),
            Outcome::Later(why) => {
                log::debug!("the {service} cannot take a report now: {why}");
                self.keep(parcel, responder);
            }
            Outcome::Refused(status) => {
                log::error!("the {service} answers {status} to this relay's key");
                responder.send(Response::from(Error::Upstream(format!("The {service} does not take the relay's key"))));
            }
        }
    }

    /// Puts a report into the outbox and says so once it is there.
    fn keep(&self, parcel: Parcel, responder: Responder) {
        let Parcel { kind, body, idempotency_key, .. } = parcel;
        self.waiting(kind).fetch_add(1, Ordering::Relaxed);
        let enqueue = Enqueue { kind, idempotency_key, body, bytes_max: self.outbox_bytes_max, now: Timestamp::now() };
        self.writer.submit(enqueue, move |outcome| {
            responder.send(match outcome {
                Ok(()) => Response::new(202, "application/json", br#"{"status":"queued"}"#.to_vec()),
                Err(why) => why.into(),
            });
        });
    }

    /// Delivers what waits for an upstream, the oldest first, until there is no more or it does not take more.
    fn deliver(&self, tries: &mut Tries, pause: &Pause) -> Result<()> {
        let kind = tries.kind;
        if self.waiting(kind).load(Ordering::Relaxed) == 0 || Instant::now() < tries.next {
            return Ok(());
        }
        while !pause.stopping() {
            let Some(item) = store::oldest(&*self.readers.lend()?, kind)? else {
                self.recount()?;
                return give_back(&self.writer, || !pause.stopping());
            };
            let outcome = self.upstream(kind).post(item.body.as_bytes(), &item.idempotency_key, None);
            let taken = match outcome {
                Outcome::Answered { status, .. } => (200..300).contains(&status),
                Outcome::Later(why) => return Self::wait(tries, &why),
                Outcome::Refused(status) => {
                    return Self::wait(tries, &format!("it answers {status} to this relay's key"));
                }
            };
            if !taken {
                log::warn!("the {} refused a report that had waited", kind.service());
            }
            self.writer.run(Delivered { id: item.id, taken })?;
            tries.wait = BACKOFF_MIN;
        }
        Ok(())
    }

    fn wait(tries: &mut Tries, why: &str) -> Result<()> {
        if tries.wait == BACKOFF_MIN {
            log::warn!("the {} does not take what waits: {why}", tries.kind.service());
        }
        tries.next = Instant::now() + tries.wait;
        tries.wait = (tries.wait * 2).min(BACKOFF_MAX);
        Ok(())
    }

    /// Counts what waits anew: some may have been dropped, and some of what was counted could not be stored.
    fn recount(&self) -> Result<()> {
        let counted = store::waiting(&*self.readers.lend()?)?;
        for (waiting, count) in self.waiting.iter().zip(counted) {
            waiting.store(count.unsigned_abs(), Ordering::Relaxed);
        }
        Ok(())
    }
}
