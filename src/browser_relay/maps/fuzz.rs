//! What must hold of maps, of sources and of stacks whatever their bytes are.

use std::collections::BTreeMap;

use sourcemap::DecodedMap;

use super::content::{self, Piece};
use super::convert::{Summary, convert};
use super::lookup::{Answer, Function, Line, Original, look_up};
use super::{BLOCK_BYTES, Kind, frames, stack, upload, urls};
use crate::error::Result;

const MAP_BYTES_MAX: usize = 1 << 20;

/// Blocks by kind and key, as a database would keep them.
#[derive(Default, PartialEq, Eq, Debug)]
struct Blocks(BTreeMap<(i64, i64), Vec<u8>>);

impl Blocks {
    fn put(&mut self, kind: Kind, key: i64, bytes: &[u8]) {
        assert!(bytes.len() <= BLOCK_BYTES || kind == Kind::Content, "{kind:?} of {} bytes", bytes.len());
        assert!(self.0.insert((kind.number(), key), bytes.to_vec()).is_none(), "{kind:?} {key} twice");
    }

    fn look_up(&self, line: u32, column: u32) -> Answer {
        let block = |kind: Kind, key| {
            let found = self.0.range((kind.number(), i64::MIN)..=(kind.number(), key)).next_back();
            Ok(found.map(|((_, key), bytes)| (*key, bytes.clone())))
        };
        look_up(line, column, block).expect("no block is out of reach")
    }
}

fn converted(map: &[u8]) -> Result<(Summary, Blocks)> {
    let mut blocks = Blocks::default();
    let summary = convert(
        || Ok(map),
        |kind, key, bytes| {
            blocks.put(kind, key, bytes);
            Ok(())
        },
    )?;
    Ok((summary, blocks))
}

/// Maps, alone or in the body of an upload: blocks are bounded, say the same each time, and what `sourcemap` says.
pub(crate) fn maps(data: &[u8]) {
    if upload::fields(data).is_ok() {
        let mut map = Vec::new();
        let read = upload::map_content(data, MAP_BYTES_MAX)
            .map(|mut content| std::io::Read::read_to_end(&mut content, &mut map));
        // The map's own string may still be malformed; then there is no map.
        if !matches!(read, Ok(Ok(_))) {
            return;
        }
        assert!(map.len() <= MAP_BYTES_MAX.min(3 * data.len()));
        return alone(&map);
    }
    alone(data);
}

fn alone(map: &[u8]) {
    let Ok((summary, blocks)) = converted(map) else { return };
    let bytes: usize = blocks.0.values().map(Vec::len).sum();
    assert!(bytes <= 16 * map.len() + 1_024, "{bytes} bytes of {}", map.len());
    assert_eq!(converted(map), Ok((summary, Blocks(blocks.0.clone()))));
    for (line, column) in [(1, 1), (1, 80), (2, 1), (7, 7), (u32::MAX, u32::MAX), (0, 0)] {
        if let Answer::Mapped(original) = blocks.look_up(line, column) {
            assert!(!original.source.is_empty() && original.context.len() <= 3);
        }
    }
    let Ok(DecodedMap::Regular(oracle)) = sourcemap::decode_slice(map) else { return };
    let tokens: Vec<_> = oracle.tokens().take(300).collect();
    for (at, token) in tokens.iter().enumerate() {
        let place = (token.get_dst_line(), token.get_dst_col());
        // Of two for one place either may be told.
        let alone = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|near| tokens.get(near));
        if alone.map(|near| (near.get_dst_line(), near.get_dst_col())).any(|near| near == place) {
            continue;
        }
        let (Some(line), Some(column)) = (place.0.checked_add(1), place.1.checked_add(1)) else { continue };
        let told = match blocks.look_up(line, column) {
            Answer::Mapped(original) => Some((original.line - 1, original.column - 1)),
            _ => None,
        };
        let has_source = token.has_source() && token.get_source().is_some_and(|source| !source.is_empty());
        let expected = has_source.then(|| token.get_src());
        assert!(
            told == expected || expected.is_some() && told.is_none() && is_nameless(token.get_source()),
            "{place:?}: {told:?}, {expected:?}"
        );
    }
}

/// Whether nothing is left of a source's name once it is written as people read it.
fn is_nameless(source: Option<&str>) -> bool {
    source.is_some_and(|source| super::sources::resolved("", source).is_empty())
}

/// The content of a source: its lines and functions do not depend on how it arrives.
pub(crate) fn sources(data: &[u8]) {
    let whole = written(data, data.len().max(1));
    for step in [1, 1 + data.len() / 3] {
        assert_eq!(written(data, step), whole, "in steps of {step}");
    }
    let text = String::from_utf8_lossy(data);
    let mut lines = 0_usize;
    for ((_, key), bytes) in &whole.0 {
        let piece = Piece::read(*key, bytes).expect("a piece that was written is read");
        let first = u32::try_from(*key).expect("these are of the first source");
        for (line, column) in [(first, 0), (first, 9), (first + 1, 0), (u32::MAX, u32::MAX)] {
            let _ = piece.around(line, column);
        }
        lines += usize::from(piece.line(first).is_some());
    }
    assert!(lines == whole.0.len() || text.trim().is_empty(), "each piece has its first line");
}

fn written(data: &[u8], step: usize) -> Blocks {
    let mut blocks = Blocks::default();
    let mut put = |kind: Kind, key: i64, bytes: &[u8]| {
        blocks.put(kind, key, bytes);
        Ok(())
    };
    let mut writer = content::Writer::new(0);
    for piece in data.chunks(step) {
        writer.feed(piece, &mut put).expect("nothing refuses a block");
    }
    writer.finish(&mut put).expect("nothing refuses a block");
    blocks
}

/// A message on the first line and a stack behind it: what is no mapped frame stays as it is, and all is bounded.
pub(crate) fn stacks(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (message, stack) = text.split_once('\n').unwrap_or(("", &text));
    let untouched = stack::rewrite(stack, message, |_, _, _| None);
    assert_eq!(untouched.stack, stack);
    assert!(untouched.frames.is_empty());

    let mut asked = 0;
    let rewritten = stack::rewrite(stack, message, |url, line, column| {
        asked += 1;
        let found = urls::best(["/assets/app.js", "https://shop.example/b.js.map", "~/c.js"], url)?;
        let context =
            vec![Line { number: line, text: stack.chars().take(300).filter(|letter| !letter.is_control()).collect() }];
        let function = if column % 2 == 0 { Function::Named("pay".into()) } else { Function::Unknown };
        Some(Original {
            source: format!("src/{found}.ts"),
            line,
            column,
            name: Some("total".into()),
            function,
            context,
        })
    });
    assert!(asked <= 50 && rewritten.frames.len() <= asked);
    assert_eq!(rewritten.stack.matches('\n').count(), stack.matches('\n').count(), "a frame is a line");
    // A frame's names are ours then, and as long as these.
    assert!(rewritten.stack.len() <= stack.len() + 64 * rewritten.frames.len());
    let (before, after): (Vec<&str>, Vec<&str>) = (stack.split('\n').collect(), rewritten.stack.split('\n').collect());
    for (number, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(before == after || rewritten.frames.iter().any(|frame| frame.line == number), "line {number}");
    }
    let described = serde_json::to_vec(&frames::described(&rewritten.frames)).expect("frames are JSON");
    assert!(described.len() <= 20 * 3_072, "{}", described.len());
}
