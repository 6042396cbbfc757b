//! First pass over a source map: validates the members, stores names and source contents, and collects the sections.

use std::io::Read;

use super::json::JsonReader;
use super::layout::BlockSink;
use super::source_chunks::SourceChunkWriter;
use super::string_table::StringTableWriter;
use super::validation::{
    NAME_BYTES_MAX, SECTIONS_MAX, SOURCE_URL_BYTES_MAX, SOURCES_MAX, invalid, mark_seen, require, too_many, wrong_type,
};
use super::vlq::NUMBER_MAX;
use crate::error::Result;

const OFFSET_RULE: &str = "a line and a column that are integers of at least 0";

/// A section of an index map, or a complete map without sections.
#[derive(Default)]
pub(super) struct Section {
    /// Generated position at which the section starts, from 0.
    pub(super) line: u32,
    pub(super) column: u32,
    /// Number of sources and names of this section.
    pub(super) sources: u32,
    pub(super) names: u32,
    /// Number of items in `sourcesContent`, including nulls.
    contents: u32,
    /// Number of sources and names of all sections before this one.
    pub(super) sources_before: u32,
    pub(super) names_before: u32,
    pub(super) source_root: String,
}

/// The result of the first pass.
#[derive(Default)]
pub(super) struct FirstPass {
    pub(super) sections: Vec<Section>,
    /// Whether the map has `sections`.
    pub(super) is_index_map: bool,
    sources: u32,
    names: u32,
    /// Number of sources with content.
    pub(super) contents: u32,
}

/// The members of a map that have been read.
#[derive(Default)]
struct SeenMembers {
    version: bool,
    mappings: bool,
    sources: bool,
    names: bool,
    contents: bool,
    sections: bool,
}

impl SeenMembers {
    fn check_version(&self) -> Result<()> {
        if self.version { Ok(()) } else { Err(wrong_type("version", "3")) }
    }

    fn check_required(&self) -> Result<()> {
        match (self.mappings, self.sources) {
            (false, _) => Err(wrong_type("mappings", "a string")),
            (_, false) => Err(wrong_type("sources", "an array")),
            _ => Ok(()),
        }
    }
}

impl FirstPass {
    /// Reads a map. Stores names in `names` and source contents in `sink`.
    pub(super) fn read<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        names: &mut StringTableWriter,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
        let mut seen = SeenMembers::default();
        let mut section = Section::default();
        json.object(|json, member| match member {
            "sections" => {
                mark_seen(&mut seen.sections, member)?;
                require(json, b'[', member, "an array")?;
                json.array(|json| self.read_section(json, names, sink))
            }
            _ => self.read_member(json, member, &mut section, &mut seen, names, sink),
        })?;
        seen.check_version()?;
        if !seen.sections {
            seen.check_required()?;
            self.push(section)?;
        } else if seen.mappings || section.sources + section.names > 0 {
            // Turbopack writes an empty `sources` next to its sections.
            return Err(invalid("The source map has both 'sections' and a map of its own"));
        }
        self.is_index_map = seen.sections;
        Ok(())
    }

    fn push(&mut self, mut section: Section) -> Result<()> {
        section.sources_before = self.sources;
        section.names_before = self.names;
        self.sources += section.sources;
        self.names += section.names;
        let is_sorted =
            self.sections.last().is_none_or(|last| (last.line, last.column) <= (section.line, section.column));
        if !is_sorted {
            return Err(invalid("The source map's sections must be sorted by their offset"));
        }
        if self.sources > SOURCES_MAX || self.sections.len() == SECTIONS_MAX {
            return Err(too_many());
        }
        self.sections.push(section);
        Ok(())
    }

    fn read_section<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        names: &mut StringTableWriter,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
        require(json, b'{', "sections", "an array of objects")?;
        let mut section = Section::default();
        let (mut has_offset, mut has_map) = (false, false);
        json.object(|json, member| match member {
            "offset" => {
                mark_seen(&mut has_offset, member)?;
                (section.line, section.column) = read_offset(json)?;
                Ok(())
            }
            "map" => {
                mark_seen(&mut has_map, member)?;
                require(json, b'{', member, "an object")?;
                let mut seen = SeenMembers::default();
                json.object(|json, member| match member {
                    "sections" => Err(invalid("The source map has sections within sections")),
                    _ => self.read_member(json, member, &mut section, &mut seen, names, sink),
                })?;
                seen.check_version()?;
                seen.check_required()
            }
            _ => json.skip(),
        })?;
        if !has_offset || !has_map {
            return Err(invalid("Each section of the source map must have an 'offset' and a 'map'"));
        }
        if section.contents > section.sources {
            // The surplus would be attributed to the sources of the next section.
            return Err(invalid("A section of the source map has more 'sourcesContent' than 'sources'"));
        }
        self.push(section)
    }

    fn read_member<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        member: &str,
        section: &mut Section,
        seen: &mut SeenMembers,
        names: &mut StringTableWriter,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
        match member {
            "version" => {
                let is_number = json.next()?.is_ascii_digit();
                if !is_number || json.unsigned()? != Some(3) {
                    return Err(wrong_type(member, "3"));
                }
                seen.version = true;
            }
            "mappings" => {
                mark_seen(&mut seen.mappings, member)?;
                require(json, b'"', member, "a string")?;
                json.skip()?;
            }
            "sourceRoot" if !json.skip_null()? => {
                require(json, b'"', member, "a string")?;
                section.source_root = json.string_prefix(SOURCE_URL_BYTES_MAX)?;
            }
            "sources" => {
                mark_seen(&mut seen.sources, member)?;
                require(json, b'[', member, "an array")?;
                json.array(|json| {
                    section.sources += 1;
                    json.skip()
                })?;
            }
            "names" if !json.skip_null()? => {
                mark_seen(&mut seen.names, member)?;
                require(json, b'[', member, "an array")?;
                json.array(|json| {
                    require(json, b'"', "names", "an array of strings")?;
                    section.names += 1;
                    names.push(&json.string_prefix(NAME_BYTES_MAX)?, sink)
                })?;
            }
            "sourcesContent" if !json.skip_null()? => {
                mark_seen(&mut seen.contents, member)?;
                require(json, b'[', member, "an array")?;
                json.array(|json| self.read_content(json, section, sink))?;
            }
            // The value was `null` and has been skipped.
            "sourceRoot" | "names" | "sourcesContent" => {}
            _ => json.skip()?,
        }
        Ok(())
    }

    fn read_content<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        section: &mut Section,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
        let source = self.sources + section.contents;
        section.contents += 1;
        if json.skip_null()? {
            return Ok(());
        }
        require(json, b'"', "sourcesContent", "an array of strings")?;
        let mut writer = SourceChunkWriter::new(source);
        json.string(|bytes| writer.feed(bytes, sink))?;
        self.contents += 1;
        if self.contents > SOURCES_MAX {
            return Err(too_many());
        }
        writer.finish(sink)
    }
}

/// Reads the offset of a section: line and column from 0.
fn read_offset<R: Read>(json: &mut JsonReader<R>) -> Result<(u32, u32)> {
    require(json, b'{', "offset", "an object")?;
    let (mut line, mut column) = (None, None);
    let number = |json: &mut JsonReader<R>| {
        let number = json.unsigned()?.filter(|number| *number <= NUMBER_MAX as u64);
        number.map(|number| Some(number as u32)).ok_or_else(|| wrong_type("offset", OFFSET_RULE))
    };
    json.object(|json, member| {
        match member {
            "line" => line = number(json)?,
            "column" => column = number(json)?,
            _ => json.skip()?,
        }
        Ok(())
    })?;
    line.zip(column).ok_or_else(|| wrong_type("offset", OFFSET_RULE))
}
