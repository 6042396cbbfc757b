//! Widths of the time buckets in the rollup tables.

pub(super) const MS_PER_MINUTE: i64 = 60_000;
pub(super) const MS_PER_HOUR: i64 = 3_600_000;

/// Width of a bucket. Buckets are numbered from 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    Minute,
    Hour,
}

impl Resolution {
    /// Returns the name that the API uses.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// Returns the width of a bucket in milliseconds.
    pub(super) fn ms(self) -> i64 {
        match self {
            Self::Minute => MS_PER_MINUTE,
            Self::Hour => MS_PER_HOUR,
        }
    }

    /// Returns the number of the bucket that contains a time in ms since 1970.
    pub(super) fn bucket(self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.ms())
    }
}
