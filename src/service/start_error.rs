//! The error of a service that cannot start.

use crate::db::OpenError;

/// The reason why a service did not start.
#[derive(Debug)]
pub enum StartError {
    /// Invalid settings, one sentence each.
    Settings(Vec<String>),
    /// The database is of a development version before schema 1.0: one sentence that says what to do.
    DevelopmentDatabase(String),
    /// Any other reason, in one sentence.
    Start(String),
}

impl From<OpenError> for StartError {
    fn from(why: OpenError) -> Self {
        match why {
            OpenError::DevelopmentVersion(sentence) => Self::DevelopmentDatabase(sentence),
            OpenError::Other(sentence) => Self::Start(sentence),
        }
    }
}
