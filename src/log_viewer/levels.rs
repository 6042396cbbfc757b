//! Numbers of entries by level, as responses show them.

use serde::Serialize;

/// Number of entries by level.
#[derive(Debug, Default, Clone, Copy, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) struct ByLevel {
    debug: i64,
    info: i64,
    warning: i64,
    error: i64,
    critical: i64,
}

impl From<[i64; 5]> for ByLevel {
    fn from([debug, info, warning, error, critical]: [i64; 5]) -> Self {
        Self { debug, info, warning, error, critical }
    }
}

impl ByLevel {
    pub(super) fn add(&mut self, [debug, info, warning, error, critical]: [i64; 5]) {
        self.debug += debug;
        self.info += info;
        self.warning += warning;
        self.error += error;
        self.critical += critical;
    }
}
