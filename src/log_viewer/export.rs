//! Entries as they are sent on, in the order in which they came.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::Connection;

use super::LogViewer;
use super::store::{Filter, Query, Shown, total};
use crate::error::Result;
use crate::export::{Format, Record};
use crate::service::{Export, Outgoing, RecordSource};

/// Entries sent together; one may have a megabyte.
const ENTRIES_AT_ONCE: usize = 200;

impl RecordSource for LogViewer {
    type Record = Shown;

    fn export(&self) -> &Export {
        &self.export
    }

    fn after(&self, reader: &Connection, mark: i64, _: Format) -> Result<Outgoing<Shown>> {
        let snapshot = reader.unchecked_transaction()?;
        let (records, _) = Query::new(&snapshot, &Filter::all())?.arrived_after(mark, ENTRIES_AT_ONCE)?;
        // Where nothing is left, what was missed ends with the newest.
        let last = records.last().map_or_else(|| self.newest(&snapshot), |last| Ok(last.arrival))?;
        Ok(Outgoing { records, last })
    }

    fn newest(&self, reader: &Connection) -> Result<i64> {
        total(reader, "arrivals")
    }
}

impl Record for Shown {
    fn at_ns(&self) -> i64 {
        self.at_ns
    }

    fn labels(&self) -> BTreeMap<&'static str, Cow<'_, str>> {
        [("container", self.container.as_str()), ("stream", self.stream), ("level", self.level)]
            .map(|(name, value)| (name, Cow::Borrowed(value)))
            .into()
    }

    fn line(&self) -> Result<Cow<'_, str>> {
        Ok(Cow::Borrowed(&self.message))
    }
}
