//! Command that computes what an older version did not store with names.

use rusqlite::Connection;

use super::super::prometheus_characters::metric_name;
use crate::db::{Command, Writer};
use crate::error::Result;

/// Number of metrics in one transaction, which keeps its pages in memory.
const METRICS_PER_BATCH: usize = 500;

/// Computes the missing names for Prometheus, of metrics that an older version has created.
pub(in super::super) fn compute_prometheus_names(writer: &Writer) -> Result<()> {
    let mut after_id = 0;
    while let Some(last_id) = writer.run(ComputePrometheusNames { after_id })? {
        after_id = last_id;
    }
    Ok(())
}

/// Computes the names of one batch of metrics.
struct ComputePrometheusNames {
    after_id: i64,
}

impl Command for ComputePrometheusNames {
    /// The last metric of the batch; `None` if none was left.
    type Output = Option<i64>;

    fn apply(self, transaction: &Connection) -> Result<Option<i64>> {
        let mut next = transaction
            .prepare("SELECT id, name FROM metrics WHERE prometheus_name IS NULL AND id > ?1 ORDER BY id LIMIT ?2")?;
        let metric = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        let metrics = next.query_map((self.after_id, METRICS_PER_BATCH as i64), metric)?;
        let metrics: Vec<(i64, String)> = metrics.collect::<rusqlite::Result<_>>()?;
        let mut update = transaction.prepare("UPDATE metrics SET prometheus_name = ?2 WHERE id = ?1")?;
        for (id, name) in &metrics {
            update.execute((id, metric_name(name)))?;
        }
        Ok(metrics.last().map(|(id, _)| *id))
    }
}
