//! Second pass over a source map: stores source URLs and mappings.

use std::io::Read;

use super::first_pass::{FirstPass, Section};
use super::json::JsonReader;
use super::layout::{BlockKind, BlockSink};
use super::mappings::MappingsWriter;
use super::source_urls::normalize_source_url;
use super::string_table::StringTableWriter;
use super::validation::{SOURCE_URL_BYTES_MAX, invalid, require};
use super::vlq::{Mapping, MappingsDecoder, NO_INDEX, NUMBER_MAX};
use crate::error::Result;

/// State of the second pass.
pub(super) struct SecondPass<'a> {
    sections: &'a [Section],
    is_index_map: bool,
    /// Index of the section that is read next.
    section: usize,
    pub(super) mappings: MappingsWriter,
    pub(super) source_urls: StringTableWriter,
}

impl<'a> SecondPass<'a> {
    pub(super) fn new(first_pass: &'a FirstPass) -> Self {
        Self {
            sections: &first_pass.sections,
            is_index_map: first_pass.is_index_map,
            section: 0,
            mappings: MappingsWriter::new(),
            source_urls: StringTableWriter::new(BlockKind::SourceUrls),
        }
    }

    /// Reads a map that the first pass has validated.
    pub(super) fn read<R: Read>(&mut self, json: &mut JsonReader<R>, sink: &mut impl BlockSink) -> Result<()> {
        json.object(|json, member| match member {
            "sections" => json.array(|json| {
                json.object(|json, member| match member {
                    "map" => json.object(|json, member| self.read_member(json, member, sink)),
                    _ => json.skip(),
                })?;
                self.section += 1;
                Ok(())
            }),
            _ if self.is_index_map => json.skip(),
            _ => self.read_member(json, member, sink),
        })
    }

    fn read_member<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        member: &str,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
        let changed = || invalid("The source map changed between two reads");
        let sections = self.sections;
        match member {
            "sources" => {
                let source_root = &sections.get(self.section).ok_or_else(changed)?.source_root;
                json.array(|json| {
                    if json.skip_null()? {
                        return self.source_urls.push("", sink);
                    }
                    require(json, b'"', "sources", "an array of strings")?;
                    let source = json.string_prefix(SOURCE_URL_BYTES_MAX)?;
                    self.source_urls.push(&normalize_source_url(source_root, &source), sink)
                })
            }
            "mappings" => {
                let section = sections.get(self.section).ok_or_else(changed)?;
                let end = sections.get(self.section + 1).map(|next| (next.line, next.column));
                self.read_mappings(json, section, end, sink)
            }
            _ => json.skip(),
        }
    }

    /// Reads the mappings of a section up to `end`, the generated position at which the next section starts.
    fn read_mappings<R: Read>(
        &mut self,
        json: &mut JsonReader<R>,
        section: &Section,
        end: Option<(u32, u32)>,
        sink: &mut impl BlockSink,
    ) -> Result<()> {
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
