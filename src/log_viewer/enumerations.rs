//! Numbers that the database stores instead of names. Its tables `levels`, `streams` and `source_kinds` list the names.

use crate::records::log_level::Level;
use crate::records::log_record::StdStream;

/// Kind of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceKind {
    DockerContainer,
    TextFile,
}

/// Returns the number of a level, 1 to 5.
pub(super) fn level_number(level: Level) -> i64 {
    match level {
        Level::Debug => 1,
        Level::Info => 2,
        Level::Warning => 3,
        Level::Error => 4,
        Level::Critical => 5,
    }
}

/// Returns the level with a number; `None` if the number is unknown.
pub(super) fn level_from_number(number: i64) -> Option<Level> {
    Level::ALL.into_iter().find(|level| level_number(*level) == number)
}

/// Returns the number of a stream.
pub(super) fn stream_number(stream: StdStream) -> i64 {
    match stream {
        StdStream::Stdout => 1,
        StdStream::Stderr => 2,
    }
}

/// Returns the stream with a number; `None` if the number is unknown.
pub(super) fn stream_from_number(number: i64) -> Option<StdStream> {
    [StdStream::Stdout, StdStream::Stderr].into_iter().find(|stream| stream_number(*stream) == number)
}

/// Returns the number of a kind of source.
pub(super) fn source_kind_number(kind: SourceKind) -> i64 {
    match kind {
        SourceKind::DockerContainer => 1,
        SourceKind::TextFile => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::SCHEMA;
    use super::*;

    #[test]
    fn enumeration_tables_list_the_same_numbers_and_names() {
        let readers = crate::db::in_memory(SCHEMA, |_| Ok(()));
        let reader = readers.acquire().unwrap();
        let rows = |table: &str| -> Vec<(i64, String)> {
            let mut read = reader.prepare(&format!("SELECT id, name FROM {table} ORDER BY id")).unwrap();
            read.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
        };
        let levels = Level::ALL.map(|level| (level_number(level), level.name().to_owned()));
        assert_eq!(rows("levels"), levels);
        let streams = [StdStream::Stdout, StdStream::Stderr];
        assert_eq!(rows("streams"), streams.map(|stream| (stream_number(stream), stream.name().to_owned())));
        let kinds = [(SourceKind::DockerContainer, "Docker container"), (SourceKind::TextFile, "text file")];
        assert_eq!(rows("source_kinds"), kinds.map(|(kind, name)| (source_kind_number(kind), name.to_owned())));
        for (number, level) in (0..=7).map(|number| (number, level_from_number(number))) {
            assert_eq!(level.map(level_number), (1..=5).contains(&number).then_some(number));
        }
        for (number, stream) in (0..=3).map(|number| (number, stream_from_number(number))) {
            assert_eq!(stream.map(stream_number), (1..=2).contains(&number).then_some(number));
        }
    }
}
