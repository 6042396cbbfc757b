//! Answers without an end of their own: the live tail, and exports of everything that fits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::LogViewer;
use super::api;
use super::config::Limits;
use super::hub::{Hub, News};
use super::store::{self, Filter, Query, Shown};
use crate::background;
use crate::clock::Timestamp;
use crate::db::ReaderPool;
use crate::error::{Error, Result};
use crate::http::{Digest, Request, Responder, Response, Sessions, Stream};

const TAILS_MAX: usize = 5;
const EXPORTS_MAX: usize = 2;
/// A tail ends after this long, and whoever still wants it comes again.
const TAIL_WITHIN: Duration = Duration::from_secs(30 * 60);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// How long a stop or a client that is gone may stay unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Entries read at once. The connection is given back in between, so that no long stream keeps the log of the database
/// from being emptied.
const ENTRIES_AT_ONCE: usize = 500;
/// Milliseconds after which a browser comes again.
const RETRY: &str = "retry: 2000\n\n";

/// A place among the streams of a kind, free again when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, places: usize) -> Option<Self> {
        let before = taken.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(taken));
        (before < places).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a stream has come to its end, which its client is told.
type Ended = bool;

/// Begins a stream on a thread of its own. `run` ends when the client is gone.
fn begin(
    (taken, places, busy): (&Arc<AtomicUsize>, usize, &'static str),
    (name, content_type): (&str, &'static str),
    responder: Responder,
    run: impl FnOnce(&mut Stream) -> io::Result<Ended> + Send + 'static,
) {
    let Some(place) = Place::take(taken, places) else { return responder.send(Error::Busy(busy).into()) };
    if responder.wants_head_only() {
        return responder.send(Response::new(200, content_type, Vec::new()));
    }
    let body = move || {
        // Proxies such as nginx would gather what is to be seen at once.
        let head = Response::new(200, content_type, Vec::new()).header("X-Accel-Buffering", "no".into());
        let streamed = responder.stream(&head).and_then(|mut stream| {
            let ended = run(&mut stream)?;
            // Whoever has seen the end may come again at once.
            drop(place);
            if ended { stream.finish() } else { Ok(()) }
        });
        if let Err(why) = streamed {
            log::debug!("a stream ended early: {why}");
        }
    };
    if let Err(why) = background::spawn(name, body) {
        // The responder went with the thread that was not to be had, and has answered 500.
        log::error!("a stream has no thread: {why}");
    }
}

/// `GET /api/logs/tail`
pub(super) fn tail(viewer: &LogViewer, request: &Request, responder: Responder) {
    let mut tail = match tail_of(viewer, request) {
        Ok(tail) => tail,
        Err(why) => return responder.send(why.into()),
    };
    let limit = (&viewer.tails, TAILS_MAX, "Five readers follow the logs already");
    begin(limit, ("tail", "text/event-stream"), responder, move |stream| tail.run(stream));
}

fn tail_of(viewer: &LogViewer, request: &Request) -> Result<Tail> {
    let readers = viewer.core.readers.clone();
    let reader = readers.acquire()?;
    let filter = api::filter(&reader, request, viewer.limits)?;
    let last_id = request.header("last-event-id").and_then(|id| std::str::from_utf8(id).ok()?.trim().parse().ok());
    let seen = match last_id {
        Some(id) => store::arrival_of(&reader, id)?,
        None => None,
    };
    drop(reader);
    let (hub, sessions) = (Arc::clone(&viewer.hub), Arc::clone(&viewer.core.sessions));
    let session =
        request.session_token_digest(&sessions).filter(|token| sessions.is_open(*token)).map(|token| (sessions, token));
    Ok(Tail { seen: seen.unwrap_or_else(|| hub.latest()), hub, readers, filter, session, said: Instant::now() })
}

/// One reader of the live tail.
struct Tail {
    hub: Arc<Hub>,
    readers: ReaderPool,
    filter: Filter,
    /// The session it was begun with; where that ends it ends as well.
    session: Option<(Arc<Sessions>, Digest)>,
    /// The arrival of what it has seen last.
    seen: i64,
    /// When anything was sent last.
    said: Instant,
}

impl Tail {
    fn run(&mut self, stream: &mut Stream) -> io::Result<Ended> {
        let deadline = Instant::now() + TAIL_WITHIN;
        stream.send(RETRY.as_bytes())?;
        let is_let_in = |tail: &Self| tail.session.as_ref().is_none_or(|(sessions, token)| sessions.is_open(*token));
        while Instant::now() < deadline && !stream.is_stopping() && is_let_in(self) {
            match self.hub.after(self.seen, LOOK_EVERY) {
                News::Nothing if !stream.is_open() => return Ok(false),
                News::Nothing => {
                    if self.said.elapsed() >= HEARTBEAT_EVERY {
                        self.say(
                            stream,
                            &format!("event: heartbeat\ndata: {{\"time\":\"{}\"}}\n\n", Timestamp::now()),
                        )?;
                    }
                }
                news => self.tell(stream, &news).map_err(|why| io::Error::other(why.to_string()))??,
            }
        }
        self.say(stream, "event: close\ndata: {}\n\n")?;
        Ok(true)
    }

    fn say(&mut self, stream: &mut Stream, events: &str) -> io::Result<()> {
        self.said = Instant::now();
        stream.send(events.as_bytes())
    }

    /// Sends what has come, and notes how far that is.
    fn tell(&mut self, stream: &mut Stream, news: &News) -> Result<io::Result<()>> {
        let (entries, seen) = {
            let reader = self.readers.acquire()?;
            let snapshot = reader.unchecked_transaction()?;
            match news {
                News::Nothing => return Ok(Ok(())),
                News::Landed(landed) => {
                    let mut entries = Vec::new();
                    let mut seen = self.seen;
                    for batch in landed {
                        entries.extend(Query::new(&snapshot, &self.filter)?.landed(batch, self.seen)?);
                        seen = batch.last_arrival;
                        if entries.len() >= ENTRIES_AT_ONCE {
                            break;
                        }
                    }
                    (entries, seen)
                }
                News::Behind(latest) => {
                    let query = Query::new(&snapshot, &self.filter)?;
                    let (entries, further) = query.arrived_after(self.seen, ENTRIES_AT_ONCE)?;
                    // What was stored since it was heard how far behind this is may be among them.
                    let last = entries.last().map_or(0, |last| last.arrival);
                    (entries, further.unwrap_or(last.max(*latest)))
                }
            }
        };
        self.seen = seen;
        if entries.is_empty() {
            return Ok(Ok(()));
        }
        let mut events = String::new();
        for entry in &entries {
            match serde_json::to_string(entry) {
                Ok(json) => events.push_str(&format!("id: {}\nevent: log\ndata: {json}\n\n", entry.id)),
                Err(why) => return Err(Error::Internal(format!("an entry cannot be written as JSON: {why}"))),
            }
        }
        Ok(self.say(stream, &events))
    }
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ndjson,
    Text,
}

/// `GET /api/logs/export`
pub(super) fn export(viewer: &LogViewer, request: &Request, responder: Responder) {
    let export = match export_of(viewer, request, viewer.limits) {
        Ok(export) => export,
        Err(why) => return responder.send(why.into()),
    };
    let limit = (&viewer.exports, EXPORTS_MAX, "Two exports are running already");
    let content_type = match export.format {
        Format::Ndjson => "application/x-ndjson",
        Format::Text => "text/plain; charset=utf-8",
    };
    begin(limit, ("export", content_type), responder, move |stream| export.run(stream));
}

fn export_of(viewer: &LogViewer, request: &Request, limits: Limits) -> Result<Export> {
    let format = match request.query("format") {
        None | Some("ndjson") => Format::Ndjson,
        Some("text") => Format::Text,
        Some(_) => return Err(Error::field("format", "must be ndjson or text")),
    };
    let readers = viewer.core.readers.clone();
    let filter = api::filter(&readers.acquire()?, request, limits)?;
    Ok(Export { readers, filter, format })
}

struct Export {
    readers: ReaderPool,
    filter: Filter,
    format: Format,
}

impl Export {
    /// Sends everything, the oldest first. An export that cannot be finished has no last chunk.
    fn run(self, stream: &mut Stream) -> io::Result<Ended> {
        let mut next = Some(self.filter.first_id);
        while let Some(id) = next {
            if stream.is_stopping() {
                return Ok(false);
            }
            let read = || -> Result<(Vec<Shown>, Option<i64>)> {
                let reader = self.readers.acquire()?;
                let snapshot = reader.unchecked_transaction()?;
                Query::new(&snapshot, &self.filter)?.oldest_from(id, ENTRIES_AT_ONCE)
            };
            let (entries, further) = read().map_err(|why| io::Error::other(why.to_string()))?;
            let lines: String = entries.iter().map(|entry| self.line(entry)).collect();
            stream.send(lines.as_bytes())?;
            next = further;
        }
        Ok(true)
    }

    fn line(&self, entry: &Shown) -> String {
        match self.format {
            // Of texts and a number, so there is nothing JSON could not hold.
            Format::Ndjson => serde_json::to_string(entry).unwrap_or_default() + "\n",
            Format::Text => entry.to_line(),
        }
    }
}
