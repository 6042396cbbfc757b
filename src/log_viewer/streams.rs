//! Streaming responses: the live tail, and exports of all matching entries.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::config::RetentionLimits;
use super::log_entry::LogEntry;
use super::query::{BoundFilter, Filter};
use super::state::LogViewer;
use super::tail_broadcast::{TailBroadcast, TailUpdate};
use super::{api, store};
use crate::background;
use crate::clock::Timestamp;
use crate::db::ReaderPool;
use crate::error::{Error, Result};
use crate::http::{Digest, Request, Responder, Response, ResponseStream, Sessions};

const TAILS_MAX: usize = 5;
const EXPORTS_MAX: usize = 2;
/// Maximum duration of a live tail. After that, the client has to reconnect.
const TAIL_DURATION_MAX: Duration = Duration::from_secs(30 * 60);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Maximum delay until a live tail notices that the program stops or the client disconnected.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of entries in one database read. The reader is released between two reads, so that a long stream does
/// not prevent checkpoints of the WAL.
const BATCH_ENTRIES_MAX: usize = 500;
/// Field that sets the delay before a browser reconnects, in milliseconds.
const RETRY_FIELD: &str = "retry: 2000\n\n";

/// Permit for one of a limited number of streams. Dropping it releases the permit.
struct StreamPermit(Arc<AtomicUsize>);

impl StreamPermit {
    /// Acquires a permit; `None` if `max` streams are open.
    fn acquire(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let before = open.fetch_add(1, Ordering::Relaxed);
        let permit = Self(Arc::clone(open));
        (before < max).then_some(permit)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// End of a stream, which decides whether the response is completed with a last chunk.
enum StreamEnd {
    Complete,
    /// The client disconnected, or the data is incomplete.
    Aborted,
}

/// Limit for one kind of stream.
struct StreamLimit<'a> {
    open: &'a Arc<AtomicUsize>,
    max: usize,
    /// Response if the limit is reached.
    busy: &'static str,
}

/// Starts a stream in a new thread, which runs `run` to its end.
fn spawn_stream(
    limit: &StreamLimit<'_>,
    (thread_name, content_type): (&str, &'static str),
    responder: Responder,
    run: impl FnOnce(&mut ResponseStream) -> io::Result<StreamEnd> + Send + 'static,
) {
    let Some(permit) = StreamPermit::acquire(limit.open, limit.max) else {
        return responder.send(Error::Busy(limit.busy).into());
    };
    if responder.wants_head_only() {
        return responder.send(Response::new(200, content_type, Vec::new()));
    }
    let body = move || {
        // Without this header, proxies such as nginx buffer the events.
        let head = Response::new(200, content_type, Vec::new()).header("X-Accel-Buffering", "no".into());
        let streamed = responder.stream(&head).and_then(|mut stream| {
            let end = run(&mut stream)?;
            // A client that receives the end can reconnect at once, so the permit is released first.
            drop(permit);
            match end {
                StreamEnd::Complete => stream.finish(),
                StreamEnd::Aborted => Ok(()),
            }
        });
        if let Err(why) = streamed {
            log::debug!("log-viewer: stream failed: {why}; connection closed");
        }
    };
    if let Err(why) = background::spawn(thread_name, body) {
        // The closure was dropped with its responder, which responded with 500.
        log::error!("log-viewer: failed to start a thread for a stream: {why}; responded with 500");
    }
}

/// Handles `GET /api/logs/tail`.
pub(super) fn tail(viewer: &LogViewer, request: &Request, responder: Responder) {
    let mut tail = match LiveTail::new(viewer, request) {
        Ok(tail) => tail,
        Err(why) => return responder.send(why.into()),
    };
    let busy = "Too many live tails, at most 5 can be open";
    let limit = StreamLimit { open: &viewer.open_tails, max: TAILS_MAX, busy };
    spawn_stream(&limit, ("tail", "text/event-stream"), responder, move |stream| tail.run(stream));
}

/// One client of the live tail.
struct LiveTail {
    broadcast: Arc<TailBroadcast>,
    readers: ReaderPool,
    filter: Filter,
    /// Session of the request, if it has one. The tail ends with it.
    session: Option<(Arc<Sessions>, Digest)>,
    /// Ingest sequence number up to which entries were sent or did not match.
    seq: i64,
    last_sent_at: Instant,
}

impl LiveTail {
    /// Creates a tail that starts after the entry in `Last-Event-ID`, or with the next entry to be stored.
    fn new(viewer: &LogViewer, request: &Request) -> Result<Self> {
        let readers = viewer.core.readers.clone();
        let reader = readers.acquire()?;
        let filter = api::filter(&reader, request, viewer.limits)?;
        let last_id = request.header("last-event-id").and_then(|id| std::str::from_utf8(id).ok()?.trim().parse().ok());
        let last_seq = match last_id {
            Some(id) => store::ingest_seq_of(&reader, id)?,
            None => None,
        };
        drop(reader);
        let (broadcast, sessions) = (Arc::clone(&viewer.broadcast), Arc::clone(&viewer.core.sessions));
        let session = request
            .session_token_digest(&sessions)
            .filter(|token| sessions.is_open(*token))
            .map(|token| (sessions, token));
        let seq = last_seq.unwrap_or_else(|| broadcast.last_seq());
        Ok(Self { broadcast, readers, filter, session, seq, last_sent_at: Instant::now() })
    }

    fn run(&mut self, stream: &mut ResponseStream) -> io::Result<StreamEnd> {
        let deadline = Instant::now() + TAIL_DURATION_MAX;
        stream.send(RETRY_FIELD.as_bytes())?;
        while Instant::now() < deadline && !stream.is_stopping() && self.is_authenticated() {
            match self.broadcast.wait_after(self.seq, POLL_INTERVAL) {
                TailUpdate::TimedOut if !stream.is_open() => return Ok(StreamEnd::Aborted),
                TailUpdate::TimedOut => {
                    if self.last_sent_at.elapsed() >= HEARTBEAT_INTERVAL {
                        let now = Timestamp::now();
                        self.send(stream, &format!("event: heartbeat\ndata: {{\"time\":\"{now}\"}}\n\n"))?;
                    }
                }
                update => self.send_new(stream, &update).map_err(|why| io::Error::other(why.to_string()))??,
            }
        }
        self.send(stream, "event: close\ndata: {}\n\n")?;
        Ok(StreamEnd::Complete)
    }

    fn is_authenticated(&self) -> bool {
        self.session.as_ref().is_none_or(|(sessions, token)| sessions.is_open(*token))
    }

    fn send(&mut self, stream: &mut ResponseStream, events: &str) -> io::Result<()> {
        self.last_sent_at = Instant::now();
        stream.send(events.as_bytes())
    }

    /// Sends the matching entries of an update. The outer error is the database's, the inner one the connection's.
    fn send_new(&mut self, stream: &mut ResponseStream, update: &TailUpdate) -> Result<io::Result<()>> {
        let (entries, seq) = {
            let reader = self.readers.acquire()?;
            let snapshot = reader.unchecked_transaction()?;
            match update {
                TailUpdate::TimedOut => return Ok(Ok(())),
                TailUpdate::Batches(batches) => {
                    let mut entries = Vec::new();
                    let mut seq = self.seq;
                    for batch in batches {
                        entries.extend(BoundFilter::new(&snapshot, &self.filter)?.entries_in_batch(batch, self.seq)?);
                        seq = batch.last_seq;
                        if entries.len() >= BATCH_ENTRIES_MAX {
                            break;
                        }
                    }
                    (entries, seq)
                }
                TailUpdate::Behind(last_seq) => {
                    let query = BoundFilter::new(&snapshot, &self.filter)?;
                    let (entries, read_up_to) = query.entries_since(self.seq, BATCH_ENTRIES_MAX)?;
                    // The snapshot can be newer than the update.
                    let last = entries.last().map_or(0, |last| last.ingest_seq);
                    (entries, read_up_to.unwrap_or(last.max(*last_seq)))
                }
            }
        };
        self.seq = seq;
        if entries.is_empty() {
            return Ok(Ok(()));
        }
        let mut events = String::new();
        for entry in &entries {
            match serde_json::to_string(entry) {
                Ok(json) => events.push_str(&format!("id: {}\nevent: log\ndata: {json}\n\n", entry.id)),
                Err(why) => return Err(Error::Internal(format!("failed to encode an entry as JSON: {why}"))),
            }
        }
        Ok(self.send(stream, &events))
    }
}

/// Format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExportFormat {
    Ndjson,
    Text,
}

/// Handles `GET /api/logs/export`.
pub(super) fn export(viewer: &LogViewer, request: &Request, responder: Responder) {
    let export = match ExportStream::new(viewer, request, viewer.limits) {
        Ok(export) => export,
        Err(why) => return responder.send(why.into()),
    };
    let busy = "Too many exports, at most 2 can run";
    let limit = StreamLimit { open: &viewer.open_exports, max: EXPORTS_MAX, busy };
    let content_type = match export.format {
        ExportFormat::Ndjson => "application/x-ndjson",
        ExportFormat::Text => "text/plain; charset=utf-8",
    };
    spawn_stream(&limit, ("export", content_type), responder, move |stream| export.run(stream));
}

/// One export.
struct ExportStream {
    readers: ReaderPool,
    filter: Filter,
    format: ExportFormat,
}

impl ExportStream {
    fn new(viewer: &LogViewer, request: &Request, limits: RetentionLimits) -> Result<Self> {
        let format = match request.query("format") {
            None | Some("ndjson") => ExportFormat::Ndjson,
            Some("text") => ExportFormat::Text,
            Some(_) => return Err(Error::field("format", "must be ndjson or text")),
        };
        let readers = viewer.core.readers.clone();
        let filter = api::filter(&readers.acquire()?, request, limits)?;
        Ok(Self { readers, filter, format })
    }

    /// Sends all matching entries, the oldest first. If the program stops, the response has no last chunk, so that the
    /// client can see that it is incomplete.
    fn run(self, stream: &mut ResponseStream) -> io::Result<StreamEnd> {
        let mut next = Some(0);
        while let Some(id) = next {
            if stream.is_stopping() {
                return Ok(StreamEnd::Aborted);
            }
            let read = || -> Result<(Vec<LogEntry>, Option<i64>)> {
                let reader = self.readers.acquire()?;
                let snapshot = reader.unchecked_transaction()?;
                BoundFilter::new(&snapshot, &self.filter)?.page_from(id, BATCH_ENTRIES_MAX)
            };
            let (entries, further) = read().map_err(|why| io::Error::other(why.to_string()))?;
            let lines: String = entries.iter().map(|entry| self.format_line(entry)).collect();
            stream.send(lines.as_bytes())?;
            next = further;
        }
        Ok(StreamEnd::Complete)
    }

    fn format_line(&self, entry: &LogEntry) -> String {
        match self.format {
            // Cannot fail: an entry consists of strings and numbers.
            ExportFormat::Ndjson => serde_json::to_string(entry).unwrap_or_default() + "\n",
            ExportFormat::Text => entry.to_line(),
        }
    }
}
