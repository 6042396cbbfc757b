//! First pass over a source map: validates the members, counts sources and names, and finds where sections start.

use std::io::Read;

use super::json::JsonReader;
use super::members::{Member, Occurrences};
use super::validation::{
    SECTIONS_MAX, SOURCE_URL_BYTES_MAX, SOURCES_MAX, invalid, read_text, require, too_many, wrong_type,
};
use super::vlq::NUMBER_MAX;
use crate::error::Result;

const OFFSET_RULE: &str = "a line and a column that are integers of at least 0";
/// Bytes of a version that are read.
const VERSION_BYTES_MAX: usize = 16;

/// A section of an index map, or a complete map without sections.
#[derive(Default)]
pub(super) struct Section {
    /// Generated position at which the section starts, from 0.
    pub(super) line: u32,
    pub(super) column: u32,
    /// Number of sources and names of this section.
    pub(super) sources: u32,
    pub(super) names: u32,
    /// Number of sources and names of all sections before this one.
    pub(super) sources_before: u32,
    pub(super) names_before: u32,
    pub(super) source_root: String,
    is_version_3: bool,
    pub(super) members: Occurrences,
    /// Number of members `map`, of which the last one is this section's.
    pub(super) maps: u32,
}

/// The result of the first pass.
#[derive(Default)]
pub(super) struct FirstPass {
    pub(super) sections: Vec<Section>,
    /// Whether the map has `sections`. They take precedence over a map next to them.
    pub(super) is_index_map: bool,
    /// Number of members `sections`, of which the last one counts.
    pub(super) section_lists: u32,
    sources: u32,
    names: u32,
}

impl FirstPass {
    /// Reads a map.
    pub(super) fn read<R: Read>(&mut self, json: &mut JsonReader<R>) -> Result<()> {
        let mut section = Section::default();
        json.object(|json, member| match member {
            "sections" => self.read_sections(json),
            _ => section.read_member(json, member),
        })?;
        section.check_version()?;
        if self.is_index_map {
            return Ok(());
        }
        section.check_required()?;
        self.push(section)
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

    fn read_sections<R: Read>(&mut self, json: &mut JsonReader<R>) -> Result<()> {
        let section_lists = self.section_lists + 1;
        *self = Self { section_lists, is_index_map: !json.skip_null()?, ..Self::default() };
        if !self.is_index_map {
            return Ok(());
        }
        require(json, b'[', "sections", "an array")?;
        json.array(|json| self.read_section(json))
    }

    fn read_section<R: Read>(&mut self, json: &mut JsonReader<R>) -> Result<()> {
        require(json, b'{', "sections", "an array of objects")?;
        let (mut section, mut offset, mut maps) = (Section::default(), None, 0);
        json.object(|json, member| {
            match member {
                "offset" => offset = Some(read_offset(json)?),
                "map" => {
                    section = Section::read(json)?;
                    maps += 1;
                }
                _ => json.skip()?,
            }
            Ok(())
        })?;
        let Some((line, column)) = offset.filter(|_| maps > 0) else {
            return Err(invalid("Each section of the source map must have an 'offset' and a 'map'"));
        };
        section.check_version()?;
        section.check_required()?;
        self.push(Section { line, column, maps, ..section })
    }
}

impl Section {
    /// Reads the map of a section.
    fn read<R: Read>(json: &mut JsonReader<R>) -> Result<Self> {
        require(json, b'{', "map", "an object")?;
        let mut section = Self::default();
        json.object(|json, member| match member {
            "sections" if !json.skip_null()? => Err(invalid("The source map has sections within sections")),
            "sections" => Ok(()),
            _ => section.read_member(json, member),
        })?;
        Ok(section)
    }

    fn read_member<R: Read>(&mut self, json: &mut JsonReader<R>, name: &str) -> Result<()> {
        match name {
            "version" => {
                self.is_version_3 = read_text(json, VERSION_BYTES_MAX)?.trim().parse() == Ok(3.0);
            }
            "sourceRoot" if json.skip_null()? => self.source_root.clear(),
            "sourceRoot" => {
                require(json, b'"', name, "a string")?;
                self.source_root = json.string_prefix(SOURCE_URL_BYTES_MAX)?;
            }
            _ => match Member::from_name(name) {
                Some(member) => self.count_member(json, name, member)?,
                None => json.skip()?,
            },
        }
        Ok(())
    }

    /// Counts a member and its items, and skips it.
    fn count_member<R: Read>(&mut self, json: &mut JsonReader<R>, name: &str, member: Member) -> Result<()> {
        self.members.count(member);
        match member {
            Member::Mappings => {
                require(json, b'"', name, "a string")?;
                json.skip()?;
            }
            Member::Sources => self.sources = count_items(json, name)?,
            Member::Names if json.skip_null()? => self.names = 0,
            Member::Names => self.names = count_items(json, name)?,
            Member::SourcesContent => json.skip()?,
        }
        Ok(())
    }

    fn check_version(&self) -> Result<()> {
        if self.is_version_3 { Ok(()) } else { Err(wrong_type("version", "3")) }
    }

    fn check_required(&self) -> Result<()> {
        match (self.members.get(Member::Mappings), self.members.get(Member::Sources)) {
            (0, _) => Err(wrong_type("mappings", "a string")),
            (_, 0) => Err(wrong_type("sources", "an array")),
            _ => Ok(()),
        }
    }
}

/// Skips an array and returns the number of its items.
fn count_items<R: Read>(json: &mut JsonReader<R>, name: &str) -> Result<u32> {
    require(json, b'[', name, "an array")?;
    let mut items = 0;
    json.array(|json| {
        items += 1;
        json.skip()
    })?;
    Ok(items)
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
