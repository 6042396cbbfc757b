//! Source maps as they come in: one at a time is converted, on a thread of its own, out of the unlinked file that its
//! body lies in. Its blocks are stored as they are made and belong to nobody until the last one is there.

use std::fs::File;
use std::io::Seek as _;

use crossbeam_channel::{Sender, TrySendError, bounded};
use rusqlite::{Connection, OptionalExtension as _};
use serde::Serialize;

use super::config::is_project;
use super::maps::convert::{Summary, convert};
use super::maps::upload::{self, Upload};
use super::maps::{Kind, urls};
use crate::background;
use crate::clock::Timestamp;
use crate::db::{Command, Writer};
use crate::error::{Error, Result};
use crate::http::{Request, Responder, Response};

/// Uploads that may wait for the one that is converted. Each is a file.
const WAITING_MAX: usize = 16;
/// Bytes of blocks that are stored in one go.
const BATCH_BYTES: usize = 256 * 1024;
const RELEASE_CHARS_MAX: usize = 200;
const FILE_URL_CHARS_MAX: usize = 2_000;

/// Where uploads go.
pub(super) struct Uploads {
    queue: Sender<(Request, Responder)>,
}

impl Uploads {
    /// Starts the thread that converts maps of at most so many bytes. It ends with the last sender.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start(writer: Writer, map_bytes_max: usize) -> Result<Self> {
        let (queue, uploads) = bounded::<(Request, Responder)>(WAITING_MAX);
        let run = move || {
            for (request, responder) in uploads {
                let answer = store(&writer, &request, map_bytes_max);
                responder.send(answer.map_or_else(Response::from, |uploaded| Response::json(201, &uploaded)));
            }
        };
        background::spawn_critical("source-maps", run)
            .map_err(|why| Error::Internal(format!("no thread for maps: {why}")))?;
        Ok(Self { queue })
    }

    /// Queues an upload. Never waits.
    pub(super) fn take(&self, request: Request, responder: Responder) {
        if let Err(TrySendError::Full((_, responder)) | TrySendError::Disconnected((_, responder))) =
            self.queue.try_send((request, responder))
        {
            responder.send(Error::Busy("Too many source maps are being uploaded").into());
        }
    }
}

/// What is answered to an upload.
#[derive(Debug, Serialize)]
struct Uploaded {
    status: &'static str,
    id: i64,
    project: String,
    release: String,
    file_url: String,
}

fn store(writer: &Writer, request: &Request, map_bytes_max: usize) -> Result<Uploaded> {
    let body = request.spooled().ok_or_else(|| Error::Internal("an upload was not spooled".into()))?;
    let upload = upload::fields(rewound(body)?)?;
    check(&upload)?;
    let id = writer.run(Begin)?;
    let stored = convert_into(writer, id, || upload::map_content(rewound(body)?, map_bytes_max));
    match stored.and_then(|summary| writer.run(Finish { id, upload: upload.clone(), summary, now: Timestamp::now() })) {
        Ok(()) => {
            let Upload { project, release, file_url } = upload;
            Ok(Uploaded { status: "uploaded", id, project, release, file_url })
        }
        Err(why) => {
            writer.run(Abandon { id })?;
            Err(why)
        }
    }
}

/// The body from its beginning.
fn rewound(mut body: &File) -> Result<&File> {
    let rewound = body.rewind();
    rewound.map_err(|why| Error::Storage(format!("an upload cannot be read back: {why}")))?;
    Ok(body)
}

fn check(upload: &Upload) -> Result<()> {
    let rule = |name, text: &str, chars_max| {
        let fits = (1..=chars_max).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let rule = || Error::field(name, format_args!("must be 1-{chars_max} characters, none a control character"));
        if fits { Ok(()) } else { Err(rule()) }
    };
    if !is_project(&upload.project) {
        return Err(Error::field("project", "must be 1-100 characters, none a control character"));
    }
    rule("release", &upload.release, RELEASE_CHARS_MAX)?;
    rule("file_url", &upload.file_url, FILE_URL_CHARS_MAX)
}

fn convert_into<R: std::io::Read>(writer: &Writer, id: i64, open: impl FnMut() -> Result<R>) -> Result<Summary> {
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    let summary = convert(open, |kind, key, block| {
        bytes += block.len();
        blocks.push((kind, key, block.to_vec()));
        if bytes < BATCH_BYTES {
            return Ok(());
        }
        bytes = 0;
        writer.run(PutBlocks { id, blocks: std::mem::take(&mut blocks) })
    })?;
    writer.run(PutBlocks { id, blocks })?;
    Ok(summary)
}

/// Gives an upload its number, which becomes that of the map.
struct Begin;

impl Command for Begin {
    type Output = i64;

    fn apply(self, transaction: &Connection) -> Result<i64> {
        transaction.execute("INSERT INTO map_uploads DEFAULT VALUES", [])?;
        Ok(transaction.last_insert_rowid())
    }
}

/// Stores some of a map's blocks.
struct PutBlocks {
    id: i64,
    blocks: Vec<(Kind, i64, Vec<u8>)>,
}

impl Command for PutBlocks {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        for (kind, key, bytes) in &self.blocks {
            put_block(transaction, self.id, *kind, *key, bytes)?;
        }
        Ok(())
    }
}

/// Stores one block of a map.
pub(super) fn put_block(transaction: &Connection, map: i64, kind: Kind, key: i64, bytes: &[u8]) -> Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO map_blocks (map_id, kind, key, bytes) VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute((map, kind.number(), key, bytes))?;
    Ok(())
}

/// Makes a map of an upload's blocks, in the place of an earlier one of the same project, release and file.
struct Finish {
    id: i64,
    upload: Upload,
    summary: Summary,
    now: Timestamp,
}

impl Command for Finish {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        let Upload { project, release, file_url } = &self.upload;
        let before: Option<i64> = transaction
            .prepare_cached("SELECT id FROM source_maps WHERE project = ?1 AND release = ?2 AND file_url = ?3")?
            .query_row((project, release, file_url), |row| row.get(0))
            .optional()?;
        if let Some(before) = before {
            remove(transaction, before)?;
        }
        put_map(transaction, self.id, &self.upload, &self.summary, self.now, self.now)?;
        transaction.execute("DELETE FROM map_uploads WHERE id = ?1", [self.id])?;
        Ok(())
    }
}

/// Stores what there is to say about a map whose blocks are there.
pub(super) fn put_map(
    transaction: &Connection,
    id: i64,
    upload: &Upload,
    summary: &Summary,
    uploaded_at: Timestamp,
    used_at: Timestamp,
) -> Result<()> {
    let Upload { project, release, file_url } = upload;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO source_maps (id, project, release, file_url, file_name, uploaded_at, used_at, mappings)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let name = urls::uploaded_name(file_url);
    let mappings = i64::try_from(summary.mappings).unwrap_or(i64::MAX);
    insert.execute((id, project, release, file_url, name, uploaded_at.ms(), used_at.ms(), mappings))?;
    Ok(())
}

/// Takes back what an upload has stored before it failed.
struct Abandon {
    id: i64,
}

impl Command for Abandon {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        remove_blocks(transaction, self.id)?;
        transaction.execute("DELETE FROM map_uploads WHERE id = ?1", [self.id])?;
        Ok(())
    }
}

/// Takes back what uploads have stored that an earlier process did not finish.
pub(super) struct AbandonAll;

impl Command for AbandonAll {
    type Output = ();

    fn apply(self, transaction: &Connection) -> Result<()> {
        transaction.execute("DELETE FROM map_blocks WHERE map_id IN (SELECT id FROM map_uploads)", [])?;
        transaction.execute("DELETE FROM map_uploads", [])?;
        Ok(())
    }
}

/// Removes a map.
pub(super) struct RemoveMap {
    pub(super) id: i64,
}

impl Command for RemoveMap {
    /// Whether there was one.
    type Output = bool;

    fn apply(self, transaction: &Connection) -> Result<bool> {
        remove(transaction, self.id)
    }
}

/// Removes a map and its blocks. Answers whether there was one.
pub(super) fn remove(transaction: &Connection, id: i64) -> Result<bool> {
    let removed = transaction.prepare_cached("DELETE FROM source_maps WHERE id = ?1")?.execute([id])?;
    remove_blocks(transaction, id)?;
    Ok(removed > 0)
}

pub(super) fn remove_blocks(transaction: &Connection, map: i64) -> Result<()> {
    transaction.prepare_cached("DELETE FROM map_blocks WHERE map_id = ?1")?.execute([map])?;
    Ok(())
}
