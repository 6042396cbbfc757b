//! Properties of maps, sources and stack traces that hold for arbitrary bytes.

use std::collections::BTreeMap;

use sourcemap::DecodedMap;

use super::convert::{MapStats, convert};
use super::layout::{BLOCK_BYTES, BlockKind};
use super::lookup::{FunctionName, LookupResult, OriginalPosition, SourceLine, look_up};
use super::source_chunks::{SourceChunk, SourceChunkWriter};
use super::source_urls::normalize_source_url;
use super::url_match::best_match;
use super::{frames, stack, upload_body};
use crate::error::Result;

const MAP_BYTES_MAX: usize = 1 << 20;

/// Blocks by kind and key.
#[derive(Default, PartialEq, Eq, Debug)]
struct Blocks(BTreeMap<(i64, i64), Vec<u8>>);

impl Blocks {
    fn insert(&mut self, kind: BlockKind, key: i64, bytes: &[u8]) {
        assert!(bytes.len() <= BLOCK_BYTES || kind == BlockKind::SourceChunks, "{kind:?} of {} bytes", bytes.len());
        assert!(self.0.insert((kind.id(), key), bytes.to_vec()).is_none(), "{kind:?} {key} twice");
    }

    fn look_up(&self, line: u32, column: u32) -> LookupResult {
        let find_block = |kind: BlockKind, key| {
            let block = self.0.range((kind.id(), i64::MIN)..=(kind.id(), key)).next_back();
            Ok(block.map(|((_, key), bytes)| (*key, bytes.clone())))
        };
        look_up(line, column, find_block).expect("finding a block in memory cannot fail")
    }
}

fn convert_to_blocks(map: &[u8]) -> Result<(MapStats, Blocks)> {
    let mut blocks = Blocks::default();
    let stats = convert(
        || Ok(map),
        |kind, key, bytes| {
            blocks.insert(kind, key, bytes);
            Ok(())
        },
    )?;
    Ok((stats, blocks))
}

/// Checks a map, or an upload that contains one: blocks are bounded and deterministic, and lookups equal those of the
/// `sourcemap` crate.
pub(crate) fn maps(data: &[u8]) {
    if upload_body::read_fields(data).is_ok() {
        let mut map = Vec::new();
        let read = upload_body::open_map_content(data, MAP_BYTES_MAX)
            .map(|mut content| std::io::Read::read_to_end(&mut content, &mut map));
        // The string that contains the map may be malformed.
        if !matches!(read, Ok(Ok(_))) {
            return;
        }
        assert!(map.len() <= MAP_BYTES_MAX.min(3 * data.len()));
        return check_map(&map);
    }
    check_map(data);
}

fn check_map(map: &[u8]) {
    let Ok((stats, blocks)) = convert_to_blocks(map) else { return };
    let bytes: usize = blocks.0.values().map(Vec::len).sum();
    assert!(bytes <= 16 * map.len() + 1_024, "{bytes} bytes of {}", map.len());
    assert_eq!(convert_to_blocks(map), Ok((stats, Blocks(blocks.0.clone()))));
    for (line, column) in [(1, 1), (1, 80), (2, 1), (7, 7), (u32::MAX, u32::MAX), (0, 0)] {
        if let LookupResult::Resolved(original) = blocks.look_up(line, column) {
            assert!(!original.source.is_empty() && original.context.len() <= 3);
        }
    }
    let Ok(DecodedMap::Regular(oracle)) = sourcemap::decode_slice(map) else { return };
    let tokens: Vec<_> = oracle.tokens().take(300).collect();
    for (at, token) in tokens.iter().enumerate() {
        let position = token.get_dst();
        // Of two mappings with the same position, either may be found.
        let mut neighbors = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|at| tokens.get(at));
        if neighbors.any(|neighbor| neighbor.get_dst() == position) {
            continue;
        }
        let (Some(line), Some(column)) = (position.0.checked_add(1), position.1.checked_add(1)) else { continue };
        let actual = match blocks.look_up(line, column) {
            LookupResult::Resolved(original) => Some((original.line - 1, original.column - 1)),
            _ => None,
        };
        let has_source = token.has_source() && token.get_source().is_some_and(|source| !source.is_empty());
        let expected = has_source.then(|| token.get_src());
        assert!(
            actual == expected || expected.is_some() && actual.is_none() && is_empty_url(token.get_source()),
            "{position:?}: {actual:?}, {expected:?}"
        );
    }
}

/// Whether a source URL is empty after normalization.
fn is_empty_url(source: Option<&str>) -> bool {
    source.is_some_and(|source| normalize_source_url("", source).is_empty())
}

/// Checks the content of a source: its chunks do not depend on the sizes in which the content arrives.
pub(crate) fn sources(data: &[u8]) {
    let blocks = write_chunks(data, data.len().max(1));
    for step in [1, 1 + data.len() / 3] {
        assert_eq!(write_chunks(data, step), blocks, "in steps of {step}");
    }
    let text = String::from_utf8_lossy(data);
    let mut lines = 0_usize;
    for ((_, key), bytes) in &blocks.0 {
        let chunk = SourceChunk::read(*key, bytes).expect("a written chunk is valid");
        let first = u32::try_from(*key).expect("the source has index 0");
        for (line, column) in [(first, 0), (first, 9), (first + 1, 0), (u32::MAX, u32::MAX)] {
            let _ = chunk.enclosing_function(line, column);
        }
        lines += usize::from(chunk.line(first).is_some());
    }
    assert!(lines == blocks.0.len() || text.trim().is_empty(), "each chunk has its first line");
}

/// Writes the content of a source in parts of `step` bytes.
fn write_chunks(data: &[u8], step: usize) -> Blocks {
    let mut blocks = Blocks::default();
    let mut sink = |kind: BlockKind, key: i64, bytes: &[u8]| {
        blocks.insert(kind, key, bytes);
        Ok(())
    };
    let mut writer = SourceChunkWriter::new(0);
    for part in data.chunks(step) {
        writer.feed(part, &mut sink).expect("the sink never fails");
    }
    writer.finish(&mut sink).expect("the sink never fails");
    blocks
}

/// Checks a message, in the first line, and a stack trace: only resolved frames change, and everything is bounded.
pub(crate) fn stacks(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (message, stack) = text.split_once('\n').unwrap_or(("", &text));
    let untouched = stack::symbolicate_stack(stack, message, |_, _, _| None);
    assert_eq!(untouched.stack, stack);
    assert!(untouched.frames.is_empty());

    let mut lookups = 0;
    let symbolicated = stack::symbolicate_stack(stack, message, |url, line, column| {
        lookups += 1;
        let index = best_match(["/assets/app.js", "https://shop.example/b.js.map", "~/c.js"], url)?;
        let context = vec![SourceLine {
            number: line,
            text: stack.chars().take(300).filter(|character| !character.is_control()).collect(),
        }];
        let function = if column % 2 == 0 { FunctionName::Named("pay".into()) } else { FunctionName::Unknown };
        Some(OriginalPosition {
            source: format!("src/{index}.ts"),
            line,
            column,
            name: Some("total".into()),
            function,
            context,
        })
    });
    assert!(lookups <= 50 && symbolicated.frames.len() <= lookups);
    assert_eq!(symbolicated.stack.matches('\n').count(), stack.matches('\n').count(), "a frame is one line");
    // A resolved frame contains only the strings above, which are short.
    assert!(symbolicated.stack.len() <= stack.len() + 64 * symbolicated.frames.len());
    let (before, after): (Vec<&str>, Vec<&str>) =
        (stack.split('\n').collect(), symbolicated.stack.split('\n').collect());
    for (number, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(before == after || symbolicated.frames.iter().any(|frame| frame.line == number), "line {number}");
    }
    let described =
        serde_json::to_vec(&frames::describe_frames(&symbolicated.frames)).expect("frames serialize as JSON");
    assert!(described.len() <= 20 * 3_072, "{}", described.len());
}
