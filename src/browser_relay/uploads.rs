//! Uploads of source maps.
//!
//! One thread converts one upload at a time, from the anonymous file that holds the request body. It stores the blocks in
//! batches while it converts; lookups see them once the last batch is stored.

use std::fs::File;
use std::io::{Read, Seek as _};

use crossbeam_channel::{Sender, TrySendError, bounded};
use serde::Serialize;

use super::commands::{DiscardUpload, FinishUpload, StartUpload, StoreBlocks};
use super::config::is_valid_project_name;
use super::sourcemap::convert::{MapStats, convert};
use super::sourcemap::upload_body::{UploadFields, open_map_content, read_fields};
use crate::background;
use crate::clock::Timestamp;
use crate::db::Writer;
use crate::error::{Error, Result};
use crate::http::{Request, Responder, Response};

/// Maximum uploads that wait for conversion. Each occupies a file.
const QUEUE_MAX: usize = 16;
/// Size of the blocks that are stored with one command.
const BATCH_BYTES: usize = 256 * 1024;
const RELEASE_CHARS_MAX: usize = 200;
const FILE_URL_CHARS_MAX: usize = 2_000;

/// Queue of uploads that wait for the conversion thread, which ends when the queue is dropped.
pub(super) struct UploadQueue {
    queue: Sender<(Request, Responder)>,
}

impl UploadQueue {
    /// Starts the thread that converts source maps of at most `map_bytes_max` bytes.
    ///
    /// # Errors
    /// Fails if the system refuses a thread.
    pub(super) fn start(writer: Writer, map_bytes_max: usize) -> Result<Self> {
        let (queue, uploads) = bounded::<(Request, Responder)>(QUEUE_MAX);
        let run = move || {
            for (request, responder) in uploads {
                let uploaded = store_upload(&writer, &request, map_bytes_max);
                responder.send(uploaded.map_or_else(Response::from, |uploaded| Response::json(201, &uploaded)));
            }
        };
        background::spawn_critical("source-maps", run)
            .map_err(|why| Error::Internal(format!("cannot start the thread for source maps: {why}")))?;
        Ok(Self { queue })
    }

    /// Queues an upload, or responds 503 if the queue is full. Never blocks.
    pub(super) fn enqueue(&self, request: Request, responder: Responder) {
        if let Err(TrySendError::Full((_, responder)) | TrySendError::Disconnected((_, responder))) =
            self.queue.try_send((request, responder))
        {
            responder.send(Error::Busy("Too many source maps are waiting for conversion").into());
        }
    }
}

/// Body of the response to an upload.
#[derive(Debug, Serialize)]
struct Uploaded {
    status: &'static str,
    id: i64,
    project: String,
    release: String,
    file_url: String,
}

fn store_upload(writer: &Writer, request: &Request, map_bytes_max: usize) -> Result<Uploaded> {
    let body = request.spooled().ok_or_else(|| Error::Internal("the body of an upload is not spooled".into()))?;
    let fields = read_fields(rewind(body)?)?;
    validate(&fields)?;
    let id = writer.run(StartUpload)?;
    let stored = store_blocks(writer, id, || open_map_content(rewind(body)?, map_bytes_max))
        .and_then(|stats| writer.run(FinishUpload { id, fields: fields.clone(), stats, now: Timestamp::now() }));
    if let Err(why) = stored {
        writer.run(DiscardUpload { id })?;
        return Err(why);
    }
    let UploadFields { project, release, file_url } = fields;
    Ok(Uploaded { status: "uploaded", id, project, release, file_url })
}

fn rewind(mut body: &File) -> Result<&File> {
    let rewound = body.rewind();
    rewound.map_err(|why| Error::Storage(format!("cannot rewind a spooled upload: {why}")))?;
    Ok(body)
}

fn validate(fields: &UploadFields) -> Result<()> {
    if !is_valid_project_name(&fields.project) {
        return Err(Error::field("project", "must be 1-100 characters without control characters"));
    }
    for (name, value, chars_max) in
        [("release", &fields.release, RELEASE_CHARS_MAX), ("file_url", &fields.file_url, FILE_URL_CHARS_MAX)]
    {
        if !(1..=chars_max).contains(&value.chars().count()) || value.chars().any(char::is_control) {
            return Err(Error::field(
                name,
                format_args!("must be 1-{chars_max} characters without control characters"),
            ));
        }
    }
    Ok(())
}

fn store_blocks<R: Read>(writer: &Writer, id: i64, open: impl FnMut() -> Result<R>) -> Result<MapStats> {
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    let stats = convert(open, |kind, key, block| {
        bytes += block.len();
        blocks.push((kind, key, block.to_vec()));
        if bytes < BATCH_BYTES {
            return Ok(());
        }
        bytes = 0;
        writer.run(StoreBlocks { id, blocks: std::mem::take(&mut blocks) })
    })?;
    writer.run(StoreBlocks { id, blocks })?;
    Ok(stats)
}
