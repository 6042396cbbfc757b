//! From a source map as bundlers write it to blocks.
//!
//! The map is read twice from its beginning, since its members come in any order: first for what the mappings need to
//! be understood (how many sources and names there are, where sections begin, `sourceRoot`), when names and contents
//! leave at once; then for the sources and the mappings. Sections ("index maps", as Metro and Turbopack write them) are
//! put one behind the other as one map, cut off where the next begins; within a section there is no other section, as
//! in ECMA-426. `sections` by `url`, which was never in it, are refused.

use std::io::Read;

use super::json::Json;
use super::mappings;
use super::strings::Strings;
use super::vlq::{Mapping, NONE, NUMBER_MAX, Segments};
use super::{Kind, content, sources};
use crate::error::{Error, Result};

/// Sections of one map.
const SECTIONS_MAX: usize = 20_000;
/// Sources of one map: a bundle of 5 MB has a few thousand.
const SOURCES_MAX: u32 = 100_000;
/// Bytes of a source's name or of `sourceRoot`.
const SOURCE_BYTES_MAX: usize = 2_000;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 1_000;

/// What there was in a map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::browser_relay) struct Summary {
    /// Mappings that are kept.
    pub(in crate::browser_relay) mappings: u64,
    pub(in crate::browser_relay) sources: u32,
    pub(in crate::browser_relay) names: u32,
    /// Sources that came with their content.
    pub(in crate::browser_relay) contents: u32,
}

/// One map, or one section of one.
#[derive(Default)]
struct Part {
    /// Where it begins in the generated code.
    line: u32,
    column: u32,
    /// How many there are in this part, and before it.
    sources: u32,
    names: u32,
    /// Contents, those that are null included.
    contents: u32,
    sources_before: u32,
    names_before: u32,
    root: String,
}

/// Converts a map. `open` answers a reader at the map's beginning and is called twice; `put` is given each block as it
/// is ready, with its kind and key, at most a few times [`super::BLOCK_BYTES`] long.
///
/// # Errors
/// [`Error::Invalid`] with what is wrong with the map, [`Error::Storage`] where it cannot be read, and what `put`
/// answers. What was put so far is then of no use.
pub(in crate::browser_relay) fn convert<R: Read>(
    mut open: impl FnMut() -> Result<R>,
    mut put: impl FnMut(Kind, i64, &[u8]) -> Result<()>,
) -> Result<Summary> {
    let mut outline = Outline::default();
    let mut names = Strings::new(Kind::Names);
    read_map(&mut Json::new(open()?, "source map"), |json| outline.read(json, &mut names, &mut put))?;
    names.finish(&mut put)?;
    let mut reading = Reading {
        parts: &outline.parts,
        sectioned: outline.sectioned,
        at: 0,
        mappings: mappings::Writer::new(),
        sources: Strings::new(Kind::Sources),
    };
    read_map(&mut Json::new(open()?, "source map"), |json| reading.read(json, &mut put))?;
    let Reading { mut mappings, mut sources, .. } = reading;
    sources.finish(&mut put)?;
    mappings.finish(&mut put)?;
    Ok(Summary { mappings: mappings.count, sources: sources.count(), names: names.count(), contents: outline.contents })
}

/// Reads a document without what may stand before it: a byte order mark, and a line that begins with `)`, which keeps
/// browsers from running it as a script.
fn read_map<R: Read>(json: &mut Json<R>, read: impl FnOnce(&mut Json<R>) -> Result<()>) -> Result<()> {
    for byte in *b"\xef\xbb\xbf" {
        if json.peek()? == Some(byte) {
            json.pass();
        }
    }
    if json.next()? == b')' {
        while !matches!(json.peek()?, None | Some(b'\n' | b'\r' | b'{')) {
            json.pass();
        }
    }
    if json.next()? != b'{' {
        return Err(invalid("The source map must be a JSON object"));
    }
    read(json)?;
    json.end()
}

fn invalid(sentence: impl Into<String>) -> Error {
    Error::Invalid(sentence.into())
}

fn too_many() -> Error {
    invalid(format!("The source map may have at most {SOURCES_MAX} sources and {SECTIONS_MAX} sections"))
}

fn wrong_type(member: &str, what: &str) -> Error {
    invalid(format!("The source map's '{member}' must be {what}"))
}

/// Makes sure of a value's type by its first byte, so that the refusal names the member.
fn require<R: Read>(json: &mut Json<R>, first: u8, member: &str, what: &str) -> Result<()> {
    if json.next()? == first { Ok(()) } else { Err(wrong_type(member, what)) }
}

/// What the first reading finds.
#[derive(Default)]
struct Outline {
    parts: Vec<Part>,
    sectioned: bool,
    sources: u32,
    names: u32,
    contents: u32,
}

/// Which members of a map there were.
#[derive(Default)]
struct Seen {
    version: bool,
    mappings: bool,
    sources: bool,
    names: bool,
    contents: bool,
    sections: bool,
}

/// Notes that a member is there, and refuses it a second time.
fn once(seen: &mut bool, member: &str) -> Result<()> {
    if std::mem::replace(seen, true) {
        return Err(invalid(format!("The source map has '{member}' twice")));
    }
    Ok(())
}

impl Outline {
    fn read<R: Read>(
        &mut self,
        json: &mut Json<R>,
        names: &mut Strings,
        put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut seen = Seen::default();
        let mut part = Part::default();
        json.object(|json, member| match member {
            "sections" => {
                once(&mut seen.sections, member)?;
                require(json, b'[', member, "an array")?;
                json.array(|json| self.section(json, names, put))
            }
            _ => self.member(json, member, &mut part, &mut seen, names, put),
        })?;
        seen.check_version()?;
        if !seen.sections {
            seen.check_map()?;
            self.push(part)?;
        } else if seen.mappings || part.sources + part.names > 0 {
            // Turbopack writes empty 'sources' beside its sections.
            return Err(invalid("The source map has both 'sections' and a map of its own"));
        }
        self.sectioned = seen.sections;
        Ok(())
    }

    fn push(&mut self, mut part: Part) -> Result<()> {
        part.sources_before = self.sources;
        part.names_before = self.names;
        self.sources += part.sources;
        self.names += part.names;
        let sorted = self.parts.last().is_none_or(|last| (last.line, last.column) <= (part.line, part.column));
        if !sorted {
            return Err(invalid("The source map's sections must be sorted by their offset"));
        }
        if self.sources > SOURCES_MAX || self.parts.len() == SECTIONS_MAX {
            return Err(too_many());
        }
        self.parts.push(part);
        Ok(())
    }

    fn section<R: Read>(
        &mut self,
        json: &mut Json<R>,
        names: &mut Strings,
        put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        require(json, b'{', "sections", "an array of objects")?;
        let mut part = Part::default();
        let (mut offset, mut map) = (false, false);
        json.object(|json, member| match member {
            "offset" => {
                once(&mut offset, member)?;
                (part.line, part.column) = section_offset(json)?;
                Ok(())
            }
            "map" => {
                once(&mut map, member)?;
                require(json, b'{', member, "an object")?;
                let mut seen = Seen::default();
                json.object(|json, member| match member {
                    "sections" => Err(invalid("The source map has sections within sections")),
                    _ => self.member(json, member, &mut part, &mut seen, names, put),
                })?;
                seen.check_version()?;
                seen.check_map()
            }
            _ => json.skip(),
        })?;
        if !offset || !map {
            return Err(invalid("Each section of the source map must have an 'offset' and a 'map'"));
        }
        if part.contents > part.sources {
            // What is too much would be taken for that of the next section's sources.
            return Err(invalid("A section of the source map has more 'sourcesContent' than 'sources'"));
        }
        self.push(part)
    }

    fn member<R: Read>(
        &mut self,
        json: &mut Json<R>,
        member: &str,
        part: &mut Part,
        seen: &mut Seen,
        names: &mut Strings,
        put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        match member {
            "version" => {
                let number = json.next()?.is_ascii_digit();
                if !number || json.whole()? != Some(3) {
                    return Err(wrong_type(member, "3"));
                }
                seen.version = true;
            }
            "mappings" => {
                once(&mut seen.mappings, member)?;
                require(json, b'"', member, "a string")?;
                json.skip()?;
            }
            "sourceRoot" if !json.null()? => {
                require(json, b'"', member, "a string")?;
                part.root = json.text(SOURCE_BYTES_MAX)?;
            }
            "sources" => {
                once(&mut seen.sources, member)?;
                require(json, b'[', member, "an array")?;
                json.array(|json| {
                    part.sources += 1;
                    json.skip()
                })?;
            }
            "names" if !json.null()? => {
                once(&mut seen.names, member)?;
                require(json, b'[', member, "an array")?;
                json.array(|json| {
                    require(json, b'"', "names", "an array of strings")?;
                    part.names += 1;
                    names.push(&json.text(NAME_BYTES_MAX)?, put)
                })?;
            }
            "sourcesContent" if !json.null()? => {
                once(&mut seen.contents, member)?;
                require(json, b'[', member, "an array")?;
                json.array(|json| {
                    let source = self.sources + part.contents;
                    part.contents += 1;
                    if json.null()? {
                        return Ok(());
                    }
                    require(json, b'"', "sourcesContent", "an array of strings")?;
                    let mut content = content::Writer::new(source);
                    json.string(|chunk| content.feed(chunk, put))?;
                    self.contents += 1;
                    if self.contents > SOURCES_MAX {
                        return Err(too_many());
                    }
                    content.finish(put)
                })?;
            }
            // `null` has been passed.
            "sourceRoot" | "names" | "sourcesContent" => {}
            _ => json.skip()?,
        }
        Ok(())
    }
}

impl Seen {
    fn check_version(&self) -> Result<()> {
        if self.version { Ok(()) } else { Err(wrong_type("version", "3")) }
    }

    fn check_map(&self) -> Result<()> {
        match (self.mappings, self.sources) {
            (false, _) => Err(wrong_type("mappings", "a string")),
            (_, false) => Err(wrong_type("sources", "an array")),
            _ => Ok(()),
        }
    }
}

fn section_offset<R: Read>(json: &mut Json<R>) -> Result<(u32, u32)> {
    require(json, b'{', "offset", "an object")?;
    let (mut line, mut column) = (None, None);
    let number = |json: &mut Json<R>| {
        let number = json.whole()?.filter(|number| *number <= NUMBER_MAX as u64);
        number.map(|number| Some(number as u32)).ok_or_else(|| wrong_type("offset", "a line and a column from 0 on"))
    };
    json.object(|json, member| {
        match member {
            "line" => line = number(json)?,
            "column" => column = number(json)?,
            _ => json.skip()?,
        }
        Ok(())
    })?;
    line.zip(column).ok_or_else(|| wrong_type("offset", "a line and a column from 0 on"))
}

/// The second reading.
struct Reading<'a> {
    parts: &'a [Part],
    sectioned: bool,
    /// The part that is read next.
    at: usize,
    mappings: mappings::Writer,
    sources: Strings,
}

impl Reading<'_> {
    fn read<R: Read>(
        &mut self,
        json: &mut Json<R>,
        put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        json.object(|json, member| match member {
            "sections" => json.array(|json| {
                json.object(|json, member| match member {
                    "map" => json.object(|json, member| self.member(json, member, put)),
                    _ => json.skip(),
                })?;
                self.at += 1;
                Ok(())
            }),
            _ if self.sectioned => json.skip(),
            _ => self.member(json, member, put),
        })
    }

    fn member<R: Read>(
        &mut self,
        json: &mut Json<R>,
        member: &str,
        put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let changed = || invalid("The source map changed while it was read");
        let parts = self.parts;
        match member {
            "sources" => {
                let root = &parts.get(self.at).ok_or_else(changed)?.root;
                json.array(|json| {
                    if json.null()? {
                        return self.sources.push("", put);
                    }
                    require(json, b'"', "sources", "an array of strings")?;
                    self.sources.push(&sources::resolved(root, &json.text(SOURCE_BYTES_MAX)?), put)
                })
            }
            "mappings" => {
                let part = parts.get(self.at).ok_or_else(changed)?;
                let stop = parts.get(self.at + 1).map(|next| (next.line, next.column));
                self.read_mappings(json, part, stop, put)
            }
            _ => json.skip(),
        }
    }

    fn read_mappings<R: Read>(
        &mut self,
        json: &mut Json<R>,
        part: &Part,
        stop: Option<(u32, u32)>,
        put: &mut impl FnMut(Kind, i64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut segments = Segments::new(part.sources, part.names);
        let writer = &mut self.mappings;
        let mut take = |mut mapping: Mapping| {
            if mapping.line == 0 {
                mapping.column += part.column;
            }
            mapping.line += part.line;
            if i64::from(mapping.line.max(mapping.column)) > NUMBER_MAX {
                return Err(invalid("The source map's sections are out of range"));
            }
            if stop.is_some_and(|stop| (mapping.line, mapping.column) >= stop) {
                return Ok(());
            }
            // A mapping without source or name says so by the greatest number, which stays.
            if mapping.source != NONE {
                mapping.source += part.sources_before;
            }
            if mapping.name != NONE {
                mapping.name += part.names_before;
            }
            writer.push(mapping, put)
        };
        json.string(|chunk| segments.feed(chunk, &mut take))?;
        segments.finish(&mut take)
    }
}
