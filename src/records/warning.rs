//! Warnings in `/health`: data are lost, rejected, stuck or late, although the service works.

use serde::Serialize;

use crate::text::escape_controls;

/// One problem that an operator should know about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The problem's name, in `snake_case`. Scripts may depend on it, so it never changes.
    pub code: &'static str,
    /// The number of affected items, in the unit that the documentation of the code names.
    pub count: u64,
    /// One sentence with the cause and the remedy. Only readers with a key see it.
    pub message: String,
    /// The affected project, if it is only one. Only readers with a key see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

impl Warning {
    /// Creates a warning about no project in particular. Control characters in the message are escaped, because it can repeat
    /// what other servers answered.
    #[must_use]
    pub fn new(code: &'static str, count: u64, message: &str) -> Self {
        Self { code, count, message: escape_controls(message).into_owned(), project: None }
    }

    /// Sets the affected project.
    #[must_use]
    pub fn with_project(self, project: &str) -> Self {
        Self { project: Some(project.to_owned()), ..self }
    }
}
