//! The error of a service that cannot start.

/// The reason why a service did not start.
#[derive(Debug)]
pub enum StartError {
    /// Invalid settings, one sentence each.
    Settings(Vec<String>),
    /// Any other reason, in one sentence.
    Start(String),
}
