//! Members of a map that the second pass stores, and how often a map has each.
//!
//! Maps that were joined by string operations repeat members. The last one counts, as in `JSON.parse`. Because the reader
//! cannot look ahead, the first pass counts the members, and the second pass skips all but the last.

/// A member that the second pass stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Mappings,
    Sources,
    Names,
    SourcesContent,
}

impl Member {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "mappings" => Some(Self::Mappings),
            "sources" => Some(Self::Sources),
            "names" => Some(Self::Names),
            "sourcesContent" => Some(Self::SourcesContent),
            _ => None,
        }
    }
}

/// Number of occurrences of each member.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Occurrences([u32; 4]);

impl Occurrences {
    /// Counts an occurrence and returns its number, from 1.
    pub(super) fn count(&mut self, member: Member) -> u32 {
        let count = &mut self.0[member as usize];
        *count += 1;
        *count
    }

    pub(super) fn get(&self, member: Member) -> u32 {
        self.0[member as usize]
    }
}
