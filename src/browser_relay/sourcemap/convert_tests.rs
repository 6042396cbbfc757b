//! Tests for conversion and lookup, compared with the `sourcemap` crate as an oracle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;
use sourcemap::{DecodedMap, SourceMapBuilder};

use super::convert::{MapStats, convert};
use super::layout::{BLOCK_BYTES, BlockKind};
use super::lookup::{FunctionName, LookupResult, OriginalPosition, look_up};
use crate::error::{Error, Result};

/// The blocks of a converted map by kind and key.
pub(super) struct StoredMap {
    blocks: [BTreeMap<i64, Vec<u8>>; 4],
    stats: MapStats,
}

impl StoredMap {
    pub(super) fn convert(map: &[u8]) -> Result<Self> {
        let mut blocks: [BTreeMap<i64, Vec<u8>>; 4] = Default::default();
        let sink = |kind: BlockKind, key, bytes: &[u8]| {
            assert!(bytes.len() <= BLOCK_BYTES || kind == BlockKind::SourceChunks, "{kind:?} of {} bytes", bytes.len());
            assert!(blocks[kind as usize].insert(key, bytes.to_vec()).is_none(), "{kind:?} {key} twice");
            Ok(())
        };
        let stats = convert(|| Ok(map), sink)?;
        Ok(Self { blocks, stats })
    }

    pub(super) fn look_up(&self, line: u32, column: u32) -> LookupResult {
        let find_block = |kind: BlockKind, key| {
            let block = self.blocks[kind as usize].range(..=key).next_back();
            Ok(block.map(|(key, bytes)| (*key, bytes.clone())))
        };
        look_up(line, column, find_block).unwrap()
    }

    fn original(&self, line: u32, column: u32) -> Option<OriginalPosition> {
        match self.look_up(line, column) {
            LookupResult::Resolved(original) => Some(original),
            _ => None,
        }
    }
}

/// Converts an invalid map and returns the error message.
fn conversion_error(map: &str) -> String {
    match StoredMap::convert(map.as_bytes()) {
        Err(Error::Invalid(sentence)) => sentence,
        Err(other) => panic!("{map:.80}: {other:?}"),
        Ok(_) => panic!("{map:.80} is valid"),
    }
}

/// Source, line and column (from 1) and name.
type ResolvedPosition = (String, u32, u32, Option<String>);

/// Returns the oracle's result for a generated position, line and column from 0.
fn oracle_lookup(map: &DecodedMap, line: u32, column: u32) -> Option<ResolvedPosition> {
    let token = map.lookup_token(line, column).filter(|token| token.get_dst_line() == line)?;
    let source = token.get_source().filter(|source| !source.is_empty())?;
    let name = token.get_name().filter(|name| !name.is_empty());
    Some((source.to_owned(), token.get_src_line() + 1, token.get_src_col() + 1, name.map(str::to_owned)))
}

fn resolved_position(original: OriginalPosition) -> ResolvedPosition {
    (original.source, original.line, original.column, original.name)
}

/// Generated line and column, source, original line and column, and name. Source and name start at 1; 0 is none.
type MappingRow = (u32, u32, u32, u32, u32, u32);

fn build_map(rows: &[MappingRow]) -> Vec<u8> {
    let mut builder = SourceMapBuilder::new(None);
    for n in 1..=5 {
        builder.add_source(&format!("src/{n}.ts"));
        builder.add_name(&format!("name{n}"));
    }
    for (line, column, source, original_line, original_column, name) in rows {
        let source = source.checked_sub(1);
        let name = name.checked_sub(1).filter(|_| source.is_some());
        builder.add_raw(*line, *column, *original_line, *original_column, source, name, false);
    }
    let mut bytes = Vec::new();
    builder.into_sourcemap().to_writer(&mut bytes).unwrap();
    bytes
}

fn rows(count: usize, columns: u32) -> impl Strategy<Value = Vec<MappingRow>> {
    let position = (0..4u32, 0..columns);
    let row = (position, 0..=5u32, 0..2_000u32, 0..200u32, 0..=5u32).prop_map(
        |((line, column), source, original_line, original_column, name)| {
            (line, column, source, original_line, original_column, name)
        },
    );
    prop::collection::vec(row, 0..count)
}

/// Compares the lookups of all given positions with the oracle's.
fn assert_equals_oracle(bytes: &[u8], lines: u32, columns: &[u32]) {
    let oracle = sourcemap::decode_slice(bytes).unwrap();
    let stored = StoredMap::convert(bytes).unwrap();
    for line in 0..lines {
        for column in columns.iter().copied() {
            let position = stored.original(line + 1, column + 1).map(resolved_position);
            assert_eq!(position, oracle_lookup(&oracle, line, column), "line {line}, column {column}");
        }
    }
}

proptest! {
    #[test]
    fn lookups_in_small_maps_equal_those_of_the_oracle(rows in rows(60, 50)) {
        assert_equals_oracle(&build_map(&rows), 5, &(0..55).collect::<Vec<_>>());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn lookups_in_maps_of_many_blocks_equal_those_of_the_oracle(rows in rows(8_000, 1_000_000)) {
        let columns: Vec<u32> = rows.iter().flat_map(|row| [row.1, row.1 + 1]).take(400).collect();
        assert_equals_oracle(&build_map(&rows), 4, &columns);
    }

}

proptest! {
    #[test]
    fn sections_are_concatenated(parts in prop::collection::vec((rows(20, 30), 0..4u32, 0..30u32), 1..5)) {
        let (mut line, mut column) = (0, 0);
        let sections: Vec<serde_json::Value> = parts.iter().map(|(rows, down, right)| {
            (line, column) = if *down == 0 { (line, column + right) } else { (line + down, *right) };
            let map: serde_json::Value = serde_json::from_slice(&build_map(rows)).unwrap();
            json!({"offset": {"line": line, "column": column}, "map": map})
        }).collect();
        let bytes = json!({"version": 3, "sections": sections}).to_string().into_bytes();
        let stored = StoredMap::convert(&bytes).unwrap();
        let DecodedMap::Index(index) = sourcemap::decode_slice(&bytes).unwrap() else { unreachable!() };
        // The oracle does not end a section where the next one starts. It searches only the section that contains the
        // position.
        for line in 0..line + 5 {
            for column in 0..70 {
                let mut section = None;
                for candidate in index.sections() {
                    if candidate.get_offset() <= (line, column) {
                        section = Some(candidate);
                    }
                }
                let expected = section.and_then(|section| {
                    let (down, right) = section.get_offset();
                    let right = if line == down { right } else { 0 };
                    oracle_lookup(section.get_sourcemap()?, line - down, column - right)
                });
                let position = stored.original(line + 1, column + 1).map(resolved_position);
                // If the section has no mapping on this line yet, the last mapping of the previous section applies.
                if expected.is_some() {
                    prop_assert_eq!(position, expected, "line {}, column {}", line, column);
                }
            }
        }
    }

    #[test]
    fn mappings_of_a_line_may_have_any_order(columns in prop::collection::vec(0..500u32, 1..200)) {
        let mut at = 0;
        let segments: Vec<String> = columns.iter().map(|column| {
            let delta = i64::from(*column) - at;
            at = i64::from(*column);
            encode_vlq(delta) + "AAA"
        }).collect();
        let map = json!({"version": 3, "sources": ["a"], "mappings": segments.join(",")}).to_string();
        let stored = StoredMap::convert(map.as_bytes()).unwrap();
        for column in 0..500 {
            let is_mapped = columns.iter().any(|mapped| *mapped <= column);
            prop_assert_eq!(stored.original(1, column + 1).is_some(), is_mapped);
        }
    }

    #[test]
    fn invalid_source_map_never_panics(text in "[\\[\\]{}:,\"\\\\a-z0-9;]{0,60}", inside in any::<bool>()) {
        let map = if inside { format!("{{\"version\":3,\"sources\":[],\"mappings\":{text}") } else { text };
        let _ = StoredMap::convert(map.as_bytes());
    }
}

/// Encodes a number as Base64 VLQ.
fn encode_vlq(number: i64) -> String {
    let mut bytes = Vec::new();
    let mut rest = number.unsigned_abs() << 1 | u64::from(number < 0);
    loop {
        let digit = (rest & 31) as usize | if rest > 31 { 32 } else { 0 };
        bytes.push(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[digit]);
        rest >>= 5;
        if rest == 0 {
            return String::from_utf8(bytes).unwrap();
        }
    }
}

const CONTENT: &str = "export const add = (a, b) => {\n  throw new Error(a + b);\n};\n";

#[test]
fn additions_of_bundlers_are_accepted() {
    let plain = json!({"version": 3, "sources": ["a.js"], "names": ["add"], "mappings": "AAAA,IACEA",
        "sourcesContent": [CONTENT]})
    .to_string();
    let original = |map: &str| StoredMap::convert(map.as_bytes()).unwrap().original(1, 6).unwrap();
    let expected = original(&plain);
    assert_eq!((expected.source.as_str(), expected.line, expected.column), ("a.js", 2, 3));
    assert_eq!(expected.name.as_deref(), Some("add"));
    assert_eq!(expected.function, FunctionName::Named("add".into()));
    assert_eq!(expected.context.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3]);
    for map in [
        format!("\u{feff}{plain}"),
        format!(")]}}'\n{plain}"),
        format!(")]}}',\n{plain}\n"),
        format!("  {plain}  "),
        plain.replacen('{', "{\"file\":\"x.js\",\"debugId\":[{\"x\":{}}],\"x_google_ignoreList\":[0],", 1),
        plain.replacen('{', "{\"sourceRoot\":null,", 1),
        plain.replacen('{', "{\"sourceRoot\":\"\",", 1),
        plain.replacen("3", "3.0", 1),
    ] {
        assert_eq!(original(&map), expected, "{map}");
    }
    let rooted = original(&plain.replacen('{', "{\"sourceRoot\":\"/app/\",", 1));
    assert_eq!(rooted.source, "/app/a.js");
    let bare = original("{\"mappings\":\"AAAA,IACE\",\"sources\":[\"a.js\"],\"version\":3}");
    assert_eq!((bare.name, bare.function, bare.context), (None, FunctionName::Unknown, vec![]));
    let without_source = StoredMap::convert(b"{\"mappings\":\"AAAA,IACE\",\"sources\":[null],\"version\":3}").unwrap();
    assert_eq!(without_source.look_up(1, 1), LookupResult::Generated);
}

#[test]
fn maps_that_other_readers_read_are_converted() {
    const PLAIN: &str =
        r#""version":3,"sources":["a.js"],"names":["add"],"mappings":"AAAA,IACEA","sourcesContent":["\n  add()"]"#;
    const OTHER: &str = r#""mappings":"AACAD,CCAA","sources":["x","y"],"names":["x"],"sourcesContent":["x","y"]"#;
    let with = |members: &str| format!("{{{members},{PLAIN}}}");
    let replaced = |from: &str, to: &str| format!("{{{PLAIN}}}").replacen(from, to, 1);
    let sections = |map: &str| format!(r#"[{{"offset":{{"line":0,"column":0}},"map":{map}}}]"#);
    let index_map = |sections: &str| format!(r#"{{"version":3,"sections":{sections}}}"#);
    let plain_sections = sections(&format!("{{{PLAIN}}}"));
    let more_contents = replaced(r#"add()"]"#, r#"add()","b",{}]"#);
    // Mozilla's `source-map` 0.7.6 and `@jridgewell/trace-mapping` 0.3.31 find this position in all of these maps.
    let expected = ("a.js".to_owned(), 2, 3, Some("add".to_owned()));
    for map in [
        replaced(":3", ":\"3\""),
        with(r#""sections":null"#),
        replaced("AAAA,", "AAAA,CCAA,").replace("IACEA", "GDCEA"),
        replaced("IACEA", "IACEAC"),
        replaced("AAAA,IACEA", "AAAAC,IACED"),
        with(&format!(r#""version":2,"sourceRoot":"x","sourceRoot":"",{OTHER}"#)),
        with(&format!(r#""names":null,{OTHER}"#)),
        with(&format!(r#""sections":{plain_sections},{OTHER}"#)),
        index_map(&format!(r#"[],"sections":{plain_sections}"#)),
        index_map(&sections(&format!(r#"{{"version":3,{OTHER}}},"map":{{{PLAIN}}}"#))),
        index_map(&sections(&more_contents)),
        more_contents,
    ] {
        let stored = StoredMap::convert(map.as_bytes()).unwrap_or_else(|error| panic!("{map}: {error:?}"));
        let original = stored.original(1, 5).unwrap_or_else(|| panic!("{map}"));
        assert_eq!(original.context.iter().map(|line| &*line.text).collect::<Vec<_>>(), ["", "  add()"], "{map}");
        assert_eq!(resolved_position(original), expected, "{map}");
        assert_eq!((stored.stats.sources, stored.stats.names, stored.stats.contents), (1, 1, 1), "{map}");
    }
    // Numbers are read as text. Of anything else, only the affected name, source or content is missing.
    let numbers = replaced("\"a.js\"", "7,true,{}").replace("\"add\"", "5,null,{}");
    let position = StoredMap::convert(numbers.as_bytes()).unwrap().original(1, 5).map(resolved_position);
    assert_eq!(position, Some(("7".to_owned(), 2, 3, Some("5".to_owned()))));
}

#[test]
fn segments_with_an_index_out_of_range_have_no_source() {
    let map = json!({"version": 3, "sources": ["a.js"], "mappings": "AAAA,CCAA,CDAA"}).to_string();
    let stored = StoredMap::convert(map.as_bytes()).unwrap();
    assert!(matches!(stored.look_up(1, 1), LookupResult::Resolved(_)));
    assert_eq!(stored.look_up(1, 2), LookupResult::Generated);
    assert!(matches!(stored.look_up(1, 3), LookupResult::Resolved(_)));
}

#[test]
fn generated_code_and_missing_mappings_are_distinguished() {
    let map = "{\"version\":3,\"sources\":[\"a.js\"],\"mappings\":\"CAAA,E;;A\"}";
    let stored = StoredMap::convert(map.as_bytes()).unwrap();
    assert_eq!(stored.look_up(1, 1), LookupResult::NoMapping, "before the first mapping");
    assert!(matches!(stored.look_up(1, 2), LookupResult::Resolved(_)));
    assert!(matches!(stored.look_up(1, 3), LookupResult::Resolved(_)));
    assert_eq!(stored.look_up(1, 4), LookupResult::Generated, "segment of one number");
    assert_eq!(stored.look_up(2, 1), LookupResult::NoMapping, "mappings of the previous line do not apply");
    assert_eq!(stored.look_up(3, u32::MAX), LookupResult::Generated);
    assert_eq!(stored.look_up(0, 0), LookupResult::NoMapping);
    assert_eq!(stored.look_up(u32::MAX, u32::MAX), LookupResult::NoMapping);
}

#[test]
fn invalid_source_maps_are_rejected_with_a_reason() {
    for (map, message) in [
        ("", "ends too early"),
        ("[]", "must be a JSON object"),
        ("\"map\"", "must be a JSON object"),
        ("{}", "'version' must be 3"),
        ("{\"version\":2,\"sources\":[],\"mappings\":\"\"}", "'version' must be 3"),
        ("{\"version\":\"3a\",\"sources\":[],\"mappings\":\"\"}", "'version' must be 3"),
        ("{\"version\":3,\"sources\":[],\"mappings\":\"\",\"version\":4}", "'version' must be 3"),
        ("{\"version\":3,\"sources\":[],\"names\":{},\"mappings\":\"\"}", "'names' must be an array"),
        ("{\"version\":3,\"sources\":[]}", "'mappings' must be a string"),
        ("{\"version\":3,\"sources\":[],\"mappings\":[]}", "'mappings' must be a string"),
        ("{\"version\":3,\"mappings\":\"\"}", "'sources' must be an array"),
        ("{\"version\":3,\"sources\":{},\"mappings\":\"\"}", "'sources' must be an array"),
        ("{\"version\":3,\"sources\":[],\"sourceRoot\":1,\"mappings\":\"\"}", "'sourceRoot' must be a string"),
        ("{\"version\":3,\"sources\":[\"a\"],\"mappings\":\"AAgggggggE\"}", "more than 32 bits"),
        ("{\"version\":3,\"sources\":[],\"mappings\":\"\"", "ends too early"),
        ("{\"version\":3,\"sources\":[],\"mappings\":\"\"}x", "unexpected data follows its end"),
        ("{\"version\":3,\"sections\":[{}]}", "must have an 'offset' and a 'map'"),
        ("{\"version\":3,\"sections\":[1]}", "an array of objects"),
        (
            "{\"version\":3,\"sections\":[{\"url\":\"x\",\"offset\":{\"line\":0,\"column\":0}}]}",
            "an 'offset' and a 'map'",
        ),
        ("{\"version\":3,\"sections\":[{\"offset\":{\"line\":-1,\"column\":0}}]}", "'offset' must be"),
    ] {
        let sentence = conversion_error(map);
        assert!(sentence.contains(message), "{map}: {sentence}");
    }
    let section = |line| {
        json!({"offset": {"line": line, "column": 0},
        "map": {"version": 3, "sources": [], "mappings": ""}})
    };
    let unsorted = json!({"version": 3, "sections": [section(1), section(0)]}).to_string();
    assert!(conversion_error(&unsorted).contains("sorted by their offset"));
    let open = "{\"version\":3,\"sections\":[{\"offset\":{\"line\":0,\"column\":0},\"map\":";
    let nested = open.repeat(1_000) + "{}" + &"}]}".repeat(1_000);
    assert!(conversion_error(&nested).contains("sections within sections"));
}

#[test]
fn malicious_maps_take_bounded_time_and_memory() {
    const MAP_BYTES: usize = 5 * 1024 * 1024;
    let map = |sources: &str, mappings: &str| {
        format!("{{\"version\":3,\"sources\":[{sources}],\"names\":[],\"mappings\":\"{mappings}\"}}")
    };
    let content =
        |text: &str| format!("{{\"version\":3,\"sources\":[\"a\"],\"mappings\":\"\",\"sourcesContent\":[\"{text}\"]}}");
    let full = |part: &str| part.repeat(MAP_BYTES / part.len());
    for (name, map) in [
        ("lines", map("", &full(";"))),
        ("empty segments", map("", &full(","))),
        ("segments", map("", &full("A,"))),
        ("mappings of one position", map("\"a\"", &full("AAAA,"))),
        ("out of order", map("", &full("g4/C,h4/C,"))),
        ("far out of order", map("", &(full("C,")[..3_000_000].to_owned() + &encode_vlq(-1_400_000)))),
        ("sources", map(&(full("\"\",") + "\"\""), "")),
        ("brackets", format!("{{\"x\":{}", full("["))),
        ("braces in a source", content(&full("{"))),
        ("parentheses in a source", content(&full("(])"))),
        ("quotes in a source", content(&full("\\\\'"))),
        ("functions in a source", content(&full("()=>{"))),
        ("arrows in a source", content(&full("a=>"))),
        ("slashes in a source", content(&full("=/[/"))),
        ("names in a source", content(&full("a=b<c:"))),
        ("lines of a source", content(&full("\\n"))),
        ("backticks in a source", content(&full("`${"))),
        ("unpaired surrogates", content(&full("\\ud800"))),
    ] {
        let start = Instant::now();
        let bytes: usize = match StoredMap::convert(map.as_bytes()) {
            Ok(stored) => stored.blocks.iter().flat_map(BTreeMap::values).map(Vec::len).sum(),
            Err(Error::Invalid(_)) => 0,
            Err(other) => panic!("{name}: {other:?}"),
        };
        assert!(bytes < 3 * MAP_BYTES, "{name}: {bytes} bytes");
        assert!(start.elapsed() < Duration::from_secs(20), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn long_sources_are_stored_in_chunks_with_their_functions() {
    let content: String = (0..3_000)
        .map(|n| {
            format!(
                "function number{n}(value) {{\r\n  // é😀 {n}\r\n  return [1, 2].map((each) => each / value);\r\n}}\r\n"
            )
        })
        .collect();
    let map = json!({"version": 3, "sources": ["none.js", "long.js"], "mappings": "A",
        "sourcesContent": [null, content]});
    let mut mappings = String::from("AC");
    for n in 0..12_000 {
        mappings += if n == 0 { "AA" } else { ",CACA" };
    }
    let map = map.to_string().replacen("\"A\"", &format!("\"{mappings}\""), 1);
    let stored = StoredMap::convert(map.as_bytes()).unwrap();
    assert_eq!((stored.stats.sources, stored.stats.contents, stored.stats.mappings), (2, 1, 12_000));
    let lines: Vec<&str> = content.lines().collect();
    for n in 0..12_000u32 {
        let original = stored.original(1, n + 1).unwrap();
        assert_eq!((original.source.as_str(), original.line), ("long.js", n + 1));
        let expected = n.saturating_sub(1)..(n + 2).min(12_000);
        let context: Vec<_> = original.context.iter().map(|line| (line.number, line.text.as_str())).collect();
        assert_eq!(context, expected.map(|n| (n + 1, lines[n as usize])).collect::<Vec<_>>());
        let function = FunctionName::Named(format!("number{}", n / 4));
        assert_eq!(original.function, function, "line {}", n + 1);
    }
}
