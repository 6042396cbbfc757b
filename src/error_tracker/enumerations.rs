//! Ids of enumeration values in the database's tables of names. An id never changes its meaning.

use crate::records::report::{ReportLevel, ReportSource};

/// Algorithm that computed a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FingerprintAlgorithm {
    /// Equal to the original's.
    Original,
    /// Uses a location that the original does not find.
    Extended,
}

impl FingerprintAlgorithm {
    /// Returns the id in `fingerprint_algorithms`.
    pub(super) fn id(self) -> i64 {
        match self {
            Self::Original => 1,
            Self::Extended => 2,
        }
    }
}

/// Returns the id of a level in `error_levels`.
pub(super) fn level_id(level: ReportLevel) -> i64 {
    match level {
        ReportLevel::Debug => 1,
        ReportLevel::Info => 2,
        ReportLevel::Warning => 3,
        ReportLevel::Error => 4,
        ReportLevel::Critical => 5,
    }
}

/// Returns the id of a source in `error_sources`.
pub(super) fn source_id(source: ReportSource) -> i64 {
    match source {
        ReportSource::Server => 1,
        ReportSource::Browser => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::SCHEMA;
    use super::*;
    use crate::db::{in_memory, table_of_names};

    #[test]
    fn ids_agree_with_the_tables_of_names() {
        in_memory(SCHEMA, |connection| {
            let expected = ReportLevel::ALL.map(|level| (level_id(level), level.name().to_owned()));
            assert_eq!(table_of_names(connection, "error_levels")?, expected);
            let expected = ReportSource::ALL.map(|source| (source_id(source), source.name().to_owned()));
            assert_eq!(table_of_names(connection, "error_sources")?, expected);
            let expected = [(FingerprintAlgorithm::Original, "original"), (FingerprintAlgorithm::Extended, "extended")]
                .map(|(algorithm, name)| (algorithm.id(), name.to_owned()));
            assert_eq!(table_of_names(connection, "fingerprint_algorithms")?, expected);
            Ok(())
        });
    }
}
