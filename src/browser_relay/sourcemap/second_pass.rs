//! Second pass over a source map: stores sources, names and mappings.

use std::io::Read;

use super::first_pass::{FirstPass, Section};
use super::json::JsonReader;
use super::layout::{BlockKind, BlockSink};
use super::mappings::MappingsWriter;
use super::members::{Member, Occurrences};
use super::source_chunks::SourceChunkWriter;
use super::source_urls::normalize_source_url;
use super::string_table::StringTableWriter;
use super::validation::{NAME_BYTES_MAX, SOURCE_URL_BYTES_MAX, invalid, read_text};
use super::vlq::{Mapping, MappingsDecoder, NO_INDEX, NUMBER_MAX};
use crate::error::Result;

/// State of the second pass.
pub(super) struct SecondPass<'a> {
    first_pass: &'a FirstPass,
    /// Index of the section that is read next.
    section: usize,
    pub(super) mappings: MappingsWriter,
    pub(super) source_urls: StringTableWriter,
    pub(super) names: StringTableWriter,
    /// Number of sources with content.
    pub(super) contents: u32,
}

impl<'a> SecondPass<'a> {
    pub(super) fn new(first_pass: &'a FirstPass) -> Self {
        Self {
            first_pass,
            section: 0,
            mappings: MappingsWriter::new(),
            source_urls: StringTableWriter::new(BlockKind::SourceUrls),
            names: StringTableWriter::new(BlockKind::Names),
            contents: 0,
        }
    }

    /// Reads a map that the first pass has validated.
    pub(super) fn read<R: Read>(&mut self, json: &mut JsonReader<R>, sink: &mut impl BlockSink) -> Result<()> {
        if !self.first_pass.is_index_map {
            return self.read_map(json, sink);
        }
        let mut lists = 0;
        json.object(|json, name| {
            lists += u32::from(name == "sections");
            if name != "sections" || lists < self.first_pass.section_lists {
                return json.skip();
            }
            json.array(|json| self.read_section(json, sink))
        })
    }

    fn read_section<R: Read>(&mut self, json: &mut JsonReader<R>, sink: &mut impl BlockSink) -> Result<()> {
        let section = self.current_section()?;
        let mut maps = 0;
        json.object(|json, name| {
            maps += u32::from(name == "map");
            if name != "map" || maps < section.maps {
                return json.skip();
            }
            self.read_map(json, sink)
        })?;
        self.section += 1;
        Ok(())
    }

    fn read_map<R: Read>(&mut self, json: &mut JsonReader<R>, sink: &mut impl BlockSink) -> Result<()> {
        let section = self.current_section()?;
        let mut members = Occurrences::default();
        json.object(|json, name| {
            let Some(member) = Member::from_name(name) else { return json.skip() };
            if members.count(member) < section.members.get(member) {
                return json.skip();
            }
            let is_array = json.next()? == b'[';
            match member {
                Member::Mappings => self.read_mappings(json, section, sink),
                Member::Sources => self.read_sources(json, section, sink),
                Member::Names if is_array => self.read_names(json, sink),
                Member::SourcesContent if is_array => self.read_contents(json, section, sink),
                Member::Names | Member::SourcesContent => json.skip(),
            }
        })
    }

    fn current_section(&self) -> Result<&'a Section> {
        let section = self.first_pass.sections.get(self.section);
        section.ok_or_else(|| invalid("The source map changed between two reads"))
    }

    /// Reads the sources. A source that is no text has no URL.
    fn read_sources<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        section: &Section,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
        json.array(|json| {
            let is_text = matches!(json.next()?, b'"' | b'-' | b'0'..=b'9');
            let source = read_text(json, SOURCE_URL_BYTES_MAX)?;
            let url = if is_text { normalize_source_url(&section.source_root, &source) } else { String::new() };
            self.source_urls.push(&url, sink)
        })
    }

    /// Reads the names. A name that is no text is empty, which is no name.
    fn read_names<R: Read>(&mut self, json: &mut JsonReader<R>, sink: &mut impl BlockSink) -> Result<()> {
        json.array(|json| {
            let name = read_text(json, NAME_BYTES_MAX)?;
            self.names.push(&name, sink)
        })
    }

    /// Reads the contents of the sources. A content that is no string is skipped, and so are those beyond the last source.
    fn read_contents<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        section: &Section,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
        let mut sources = section.sources_before..section.sources_before + section.sources;
        json.array(|json| {
            let is_string = json.next()? == b'"';
            let Some(source) = sources.next().filter(|_| is_string) else { return json.skip() };
            let mut writer = SourceChunkWriter::new(source);
            json.string(|bytes| writer.feed(bytes, sink))?;
            self.contents += 1;
            writer.finish(sink)
        })
    }

    /// Reads the mappings of a section up to the generated position at which the next section starts.
    fn read_mappings<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        section: &Section,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
        let end = self.first_pass.sections.get(self.section + 1).map(|next| (next.line, next.column));
        let mut decoder = MappingsDecoder::new(section.sources, section.names);
        let writer = &mut self.mappings;
        let mut store = |mut mapping: Mapping| {
            if mapping.line == 0 {
                mapping.column += section.column;
            }
            mapping.line += section.line;
            if i64::from(mapping.line.max(mapping.column)) > NUMBER_MAX {
                return Err(invalid("The source map's sections are out of range"));
            }
            if end.is_some_and(|end| (mapping.line, mapping.column) >= end) {
                return Ok(());
            }
            if mapping.source != NO_INDEX {
                mapping.source += section.sources_before;
            }
            if mapping.name != NO_INDEX {
                mapping.name += section.names_before;
            }
            writer.push(mapping, sink)
        };
        json.string(|bytes| decoder.feed(bytes, &mut store))?;
        decoder.finish(&mut store)
    }
}
