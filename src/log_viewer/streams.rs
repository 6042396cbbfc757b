//! Streaming responses: the live tail, and exports of all matching entries.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry_bodies::{EntryFormat, ExportBody, LISTED_MESSAGE_BYTES_MAX};
use super::entry_reader::EntryReader;
use super::log_entry::LogEntry;
use super::query::{BoundFilter, Filter};
use super::state::LogViewer;
use super::stream_slots::{StreamClient, StreamPermit};
use super::tail_broadcast::{TailBroadcast, TailUpdate};
use super::{api, store};
use crate::background;
use crate::clock::Timestamp;
use crate::db::ReaderPool;
use crate::error::{Error, Result};
use crate::http::{Digest, PART_BYTES, Request, Responder, Response, ResponseStream, Sessions};

/// Maximum duration of a live tail. After that, the client has to reconnect.
const TAIL_DURATION_MAX: Duration = Duration::from_secs(30 * 60);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Maximum delay until a live tail notices that the program stops or the client disconnected.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of entries in one database read. The reader is released between two reads, so that a long stream does
/// not prevent checkpoints of the WAL.
const BATCH_ENTRIES_MAX: usize = 500;
/// Maximum time for reading and matching entries in one database read.
const READ_TIME_MAX: Duration = Duration::from_millis(50);
/// Field that sets the delay before a browser reconnects, in milliseconds.
const RETRY_FIELD: &str = "retry: 2000\n\n";

/// End of a stream, which decides whether the response is completed with a last chunk.
enum StreamEnd {
    Complete,
    /// The client disconnected, or the data is incomplete.
    Aborted,
}

/// Handles `GET /api/logs/tail`.
pub(super) fn tail(viewer: &LogViewer, request: &Request, responder: Responder) {
    let mut tail = match LiveTail::new(viewer, request) {
        Ok(tail) => tail,
        Err(why) => return responder.send(why.into()),
    };
    let Some(permit) = viewer.tail_slots.acquire(StreamClient::new(request, &viewer.core.sessions)) else {
        return responder.send(Error::Busy("Too many live tails, at most 5 can be open").into());
    };
    const CONTENT_TYPE: &str = "text/event-stream";
    if responder.wants_head_only() {
        return responder.send(Response::new(200, CONTENT_TYPE, Vec::new()));
    }
    let body = move || {
        let head = unbuffered(Response::new(200, CONTENT_TYPE, Vec::new()));
        let streamed = responder.stream(&head).and_then(|mut stream| {
            let end = tail.run(&mut stream, &permit)?;
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
    if let Err(why) = background::spawn("tail", body) {
        // The closure was dropped with its responder, which responded with 500.
        log::error!("log-viewer: failed to start a thread for a stream: {why}; responded with 500");
    }
}

/// Adds the header without which proxies such as nginx buffer the response.
fn unbuffered(response: Response) -> Response {
    response.header("X-Accel-Buffering", "no".into())
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
    /// ID of the client's last entry, if it was deleted. Entries after it may have been deleted too.
    deleted_id: Option<i64>,
    last_sent_at: Instant,
}

impl LiveTail {
    /// Creates a tail that starts after the entry in `Last-Event-ID`, with the oldest entry if that one was deleted, or
    /// without the header with the next entry to be stored.
    fn new(viewer: &LogViewer, request: &Request) -> Result<Self> {
        let readers = viewer.core.readers.clone();
        let reader = readers.acquire()?;
        let filter = api::filter(&reader, request, viewer.limits)?;
        let last_id = request.header("last-event-id").and_then(|id| std::str::from_utf8(id).ok()?.trim().parse().ok());
        let last_seq = last_id.map(|id| store::ingest_seq_of(&reader, id)).transpose()?.flatten();
        let deleted_id = match last_id {
            Some(id) if last_seq.is_none() && store::is_deleted(&reader, id)? => Some(id),
            _ => None,
        };
        drop(reader);
        let (broadcast, sessions) = (Arc::clone(&viewer.broadcast), Arc::clone(&viewer.core.sessions));
        let session = request
            .session_token_digest(&sessions)
            .filter(|token| sessions.is_open(*token))
            .map(|token| (sessions, token));
        let seq = match deleted_id {
            Some(_) => 0,
            None => last_seq.unwrap_or_else(|| broadcast.last_seq()),
        };
        Ok(Self { broadcast, readers, filter, session, seq, deleted_id, last_sent_at: Instant::now() })
    }

    fn run(&mut self, stream: &mut ResponseStream, permit: &StreamPermit) -> io::Result<StreamEnd> {
        let deadline = Instant::now() + TAIL_DURATION_MAX;
        stream.send(RETRY_FIELD.as_bytes())?;
        if let Some(id) = self.deleted_id {
            let message = "Entries after this one may have been deleted; the oldest ones follow";
            let event = format!("event: gap\ndata: {{\"after\":{id},\"message\":\"{message}\"}}\n\n");
            self.send(stream, event.as_bytes())?;
        }
        let may_continue = |stream: &ResponseStream| !stream.is_stopping() && !permit.is_evicted();
        while Instant::now() < deadline && may_continue(stream) && self.is_authenticated() {
            match self.broadcast.wait_after(self.seq, POLL_INTERVAL) {
                TailUpdate::TimedOut if !stream.is_open() => return Ok(StreamEnd::Aborted),
                TailUpdate::TimedOut => {}
                update => {
                    let events = self.read_events(&update).map_err(|why| io::Error::other(why.to_string()))?;
                    if !events.is_empty() {
                        self.send(stream, &events)?;
                    }
                }
            }
            // Also sent while entries arrive that do not match.
            if self.last_sent_at.elapsed() >= HEARTBEAT_INTERVAL {
                let heartbeat = format!("event: heartbeat\ndata: {{\"time\":\"{}\"}}\n\n", Timestamp::now());
                self.send(stream, heartbeat.as_bytes())?;
            }
        }
        self.send(stream, b"event: close\ndata: {}\n\n")?;
        Ok(StreamEnd::Complete)
    }

    fn is_authenticated(&self) -> bool {
        self.session.as_ref().is_none_or(|(sessions, token)| sessions.is_open(*token))
    }

    fn send(&mut self, stream: &mut ResponseStream, events: &[u8]) -> io::Result<()> {
        self.last_sent_at = Instant::now();
        stream.send(events)
    }

    /// Returns the events for the next matching entries of an update, about [`PART_BYTES`], and advances the sequence number
    /// to the last of them. The database is released before they are sent.
    fn read_events(&mut self, update: &TailUpdate) -> Result<Vec<u8>> {
        let reader = self.readers.acquire()?;
        let snapshot = reader.unchecked_transaction()?;
        let query = BoundFilter::new(&snapshot, &self.filter)?;
        let (mut found, mut last_seq) = (Vec::new(), self.seq);
        match update {
            TailUpdate::TimedOut => {}
            TailUpdate::Batches(batches) => {
                for batch in batches {
                    found.extend(query.ids_in_batch(batch, self.seq)?);
                    last_seq = batch.last_seq;
                    if found.len() >= BATCH_ENTRIES_MAX {
                        break;
                    }
                }
            }
            TailUpdate::Behind(newest_seq) => {
                found = query.ids_since(self.seq, BATCH_ENTRIES_MAX)?;
                last_seq = found.last().map_or(0, |(seq, _)| *seq);
                if found.len() < BATCH_ENTRIES_MAX {
                    // The snapshot can be newer than the update.
                    last_seq = last_seq.max(*newest_seq);
                }
            }
        }
        let (mut entries, mut events) = (EntryReader::new(&snapshot)?, Vec::new());
        let deadline = Instant::now() + READ_TIME_MAX;
        let search = &self.filter.search;
        let bytes_max = if search.patterns.is_empty() { LISTED_MESSAGE_BYTES_MAX } else { usize::MAX };
        for (seq, id) in found {
            if events.len() >= PART_BYTES || Instant::now() >= deadline {
                return Ok(events);
            }
            self.seq = seq;
            let Some(mut entry) = entries.read(id, bytes_max)? else { continue };
            if search.matches_entry(&entry.message)? {
                entry.truncate(LISTED_MESSAGE_BYTES_MAX);
                write_event(&entry, &mut events)?;
            }
        }
        self.seq = last_seq;
        Ok(events)
    }
}

fn write_event(entry: &LogEntry, events: &mut Vec<u8>) -> Result<()> {
    events.extend_from_slice(format!("id: {}\nevent: log\ndata: ", entry.id).as_bytes());
    serde_json::to_writer(&mut *events, entry)
        .map_err(|why| Error::Internal(format!("failed to encode an entry as JSON: {why}")))?;
    events.extend_from_slice(b"\n\n");
    Ok(())
}

/// Handles `GET /api/logs/export`.
pub(super) fn export(viewer: &LogViewer, request: &Request, responder: Responder) {
    let wants_head_only = responder.wants_head_only();
    responder.send(export_response(viewer, request, wants_head_only).into());
}

fn export_response(viewer: &LogViewer, request: &Request, wants_head_only: bool) -> Result<Response> {
    let (format, content_type) = match request.query("format") {
        None | Some("ndjson") => (EntryFormat::Json, "application/x-ndjson"),
        Some("text") => (EntryFormat::Text, "text/plain; charset=utf-8"),
        Some(_) => return Err(Error::field("format", "must be ndjson or text")),
    };
    let readers = viewer.core.readers.clone();
    let filter = api::filter(&readers.acquire()?, request, viewer.limits)?;
    let permit = viewer.export_slots.acquire(StreamClient::new(request, &viewer.core.sessions));
    let permit = permit.ok_or(Error::Busy("Too many exports, at most 12 can run, and 6 for one client"))?;
    if wants_head_only {
        return Ok(Response::new(200, content_type, Vec::new()));
    }
    let body = ExportBody::new(readers, filter, format, permit);
    Ok(unbuffered(Response::streamed(200, content_type, body)))
}
