//! Conversion of a source map to blocks.
//!
//! The map is read twice, because its members come in any order and the mappings depend on the others. The first pass
//! validates and counts, the second one stores.
//!
//! A map that both `source-map` and `@jridgewell/trace-mapping` read is read here too, except for sections within sections.
//!
//! Sections ("index maps", which Metro and Turbopack write) are concatenated into one map; each ends where the next one
//! starts. Sections must not contain sections (ECMA-426). Sections with a `url`, which the standard never had, are
//! rejected.

use std::io::Read;

use super::first_pass::FirstPass;
use super::json::JsonReader;
use super::layout::BlockSink;
use super::second_pass::SecondPass;
use super::validation::invalid;
use crate::error::Result;

/// Name of the document in error messages.
const DOCUMENT: &str = "source map";

/// Contents of a converted map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::browser_relay) struct MapStats {
    /// Number of stored mappings.
    pub(in crate::browser_relay) mappings: u64,
    pub(in crate::browser_relay) sources: u32,
    pub(in crate::browser_relay) names: u32,
    /// Number of sources with content.
    pub(in crate::browser_relay) contents: u32,
}

/// Converts a map. Calls `open` twice, which returns a reader at the start of the map, and `sink` for each finished block.
/// A block is at most a few times [`super::layout::BLOCK_BYTES`] long.
///
/// # Errors
/// [`crate::error::Error::Invalid`] with the problem of the map, [`crate::error::Error::Storage`] if the map cannot be
/// read, and the errors of `sink`. The blocks stored so far are then useless.
pub(in crate::browser_relay) fn convert<R: Read>(
    mut open: impl FnMut() -> Result<R>,
    mut sink: impl BlockSink,
) -> Result<MapStats> {
    let mut first_pass = FirstPass::default();
    read_document(&mut JsonReader::new(open()?, DOCUMENT), |json| first_pass.read(json))?;
    let mut second_pass = SecondPass::new(&first_pass);
    read_document(&mut JsonReader::new(open()?, DOCUMENT), |json| second_pass.read(json, &mut sink))?;
    let SecondPass { mut mappings, mut source_urls, mut names, contents, .. } = second_pass;
    source_urls.finish(&mut sink)?;
    names.finish(&mut sink)?;
    mappings.finish(&mut sink)?;
    Ok(MapStats { mappings: mappings.count, sources: source_urls.count(), names: names.count(), contents })
}

/// Reads a document. Skips a byte order mark, and a first line that starts with `)`, which servers add so that browsers
/// cannot run the map as a script.
fn read_document<R: Read>(json: &mut JsonReader<R>, read: impl FnOnce(&mut JsonReader<R>) -> Result<()>) -> Result<()> {
    for byte in *b"\xef\xbb\xbf" {
        if json.peek()? == Some(byte) {
            json.skip_byte();
        }
    }
    if json.next()? == b')' {
        while !matches!(json.peek()?, None | Some(b'\n' | b'\r' | b'{')) {
            json.skip_byte();
        }
    }
    if json.next()? != b'{' {
        return Err(invalid("The source map must be a JSON object"));
    }
    read(json)?;
    json.end()
}
