//! One error report: an exception with its context, validated and within its limits.

use std::borrow::Cow;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json::{JsonObject, compact};
use crate::records::optional_fields::OptionalFields;
use crate::text::truncate_chars;

/// Maximum length of a project name, in characters.
pub const PROJECT_CHARS_MAX: usize = 100;
/// Maximum length of an exception type, in characters.
pub const TYPE_CHARS_MAX: usize = 200;
/// Length to which request URLs are truncated, in characters.
pub const URL_CHARS_MAX: usize = 2_000;
/// Length to which environments, releases, user ids and session ids are truncated, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Length to which request methods are truncated, in characters.
pub const METHOD_CHARS_MAX: usize = 16;
/// Value of `request_method` that marks a report from a web page.
pub const BROWSER_METHOD: &str = "BROWSER";
/// Environment of a report that names none, as in the SDKs.
const ENVIRONMENT_DEFAULT: &str = "prod";

/// Severity of an error report, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportLevel {
    /// For debugging only.
    Debug,
    /// Normal operation.
    Info,
    /// Unexpected, but handled.
    Warning,
    /// An operation failed; the level of a report that names none.
    Error,
    /// The program or an important part of it failed.
    Critical,
}

/// Program that sent an error report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportSource {
    /// A server, or any other program that is not a web page.
    Server,
    /// A web page.
    Browser,
}

/// An error report. The limits of the fields are those of the constants in this module; the lengths of `message`,
/// `traceback`, `request_headers` and `extra` are limited only by the size of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Name of the application, at least one character.
    pub project: String,
    /// Class of the exception, at least one character.
    pub exception_type: String,
    /// Message of the exception; may be empty.
    pub message: String,
    /// Stack trace as text; may be empty.
    pub traceback: String,
    /// Deployment environment; never empty.
    pub environment: String,
    /// Version of the application; never empty.
    pub release: Option<String>,
    /// Severity of the error.
    pub level: ReportLevel,
    /// URL of the request that failed.
    pub request_url: Option<String>,
    /// HTTP method of the request that failed, or [`BROWSER_METHOD`].
    pub request_method: Option<String>,
    /// Headers of the request that failed: a JSON object without whitespace between tokens.
    pub request_headers: Option<String>,
    /// User that the error happened to.
    pub user_id: Option<String>,
    /// `extra.session_id`, if it is a string.
    pub session_id: Option<String>,
    /// Additional data: a JSON object without whitespace between tokens.
    pub extra: Option<String>,
    /// Time of the error according to the client's clock.
    pub timestamp: Option<Timestamp>,
    /// Names of the optional fields whose value was repaired, truncated or dropped.
    pub adjusted: Vec<&'static str>,
}

impl Report {
    /// Parses the JSON body of `POST /api/errors`. Optional fields that are too long are truncated, and those with an
    /// unusable value are repaired or dropped.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`], which names the field, if the body is not a JSON object, if a required field is missing,
    /// has the wrong type or is too long, or if `timestamp` is not a time.
    pub fn from_json(body: &[u8]) -> Result<Self> {
        let object = JsonObject::parse(body)?;
        let required = |name| object.string(name)?.ok_or_else(|| Error::field(name, "is required"));
        let project = object.required_string("project", 1..=PROJECT_CHARS_MAX)?;
        let exception_type = object.required_string("exception_type", 1..=TYPE_CHARS_MAX)?;
        let (message, traceback) = (required("message")?, required("traceback")?);
        let timestamp = object.timestamp("timestamp")?;
        let mut fields = OptionalFields::new(&object, truncate_chars);
        let is_not_empty = |value: &Cow<'_, str>| !value.is_empty();
        let environment = fields.string("environment", NAME_CHARS_MAX).filter(is_not_empty);
        let release = fields.string_or_number("release", NAME_CHARS_MAX).filter(is_not_empty);
        let level_name = fields.string("level", NAME_CHARS_MAX).filter(is_not_empty);
        let level = level_name.as_deref().and_then(ReportLevel::from_name);
        fields.record_if("level", level_name.is_some() && level.is_none());
        let request_url = fields.string("request_url", URL_CHARS_MAX);
        let request_method = fields.string("request_method", METHOD_CHARS_MAX);
        let request_headers = fields.object("request_headers");
        let user_id = fields.user_id("user_id", NAME_CHARS_MAX);
        let extra = fields.object("extra");
        Ok(Self {
            project: project.into_owned(),
            exception_type: exception_type.into_owned(),
            message: message.into_owned(),
            traceback: traceback.into_owned(),
            environment: environment.map_or_else(|| ENVIRONMENT_DEFAULT.to_owned(), Cow::into_owned),
            release: release.map(Cow::into_owned),
            level: level.unwrap_or(ReportLevel::Error),
            request_url: request_url.map(Cow::into_owned),
            request_method: request_method.map(Cow::into_owned),
            request_headers: request_headers.map(compact),
            user_id: user_id.map(Cow::into_owned),
            session_id: extra.and_then(session_id),
            extra: extra.map(compact),
            timestamp,
            adjusted: fields.into_adjusted(),
        })
    }

    /// Returns whether a web page or another program sent the report.
    #[must_use]
    pub fn source(&self) -> ReportSource {
        let from_browser = self.request_method.as_deref() == Some(BROWSER_METHOD);
        if from_browser { ReportSource::Browser } else { ReportSource::Server }
    }
}

impl ReportLevel {
    /// All levels in ascending order.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// Returns the level with this name or alias, in upper, lower or mixed case: `warn`, `FATAL`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let is_named = |expected: &str| name.eq_ignore_ascii_case(expected);
        let alias = is_named("warn").then_some(Self::Warning).or_else(|| is_named("fatal").then_some(Self::Critical));
        alias.or_else(|| Self::ALL.into_iter().find(|level| is_named(level.name())))
    }
}

impl ReportSource {
    /// All sources.
    pub const ALL: [Self; 2] = [Self::Server, Self::Browser];

    /// Returns the name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Browser => "browser",
        }
    }
}

fn session_id(extra: &str) -> Option<String> {
    // A substring search is cheaper than parsing, and most reports have no session.
    if !extra.contains("session_id") {
        return None;
    }
    let object = JsonObject::parse(extra.as_bytes()).ok()?;
    let session_id = object.string("session_id").ok()??;
    Some(truncate_chars(&session_id, NAME_CHARS_MAX).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Report> {
        Report::from_json(body.as_bytes())
    }

    #[test]
    fn optional_fields_have_defaults() {
        let report = parse(r#"{"project":"p","exception_type":"E","message":"","traceback":""}"#).unwrap();
        assert_eq!((report.environment.as_str(), report.level), ("prod", ReportLevel::Error));
        assert_eq!(report.source(), ReportSource::Server);
        assert!(report.release.is_none() && report.extra.is_none() && report.timestamp.is_none());
    }

    #[test]
    fn long_context_is_truncated_instead_of_rejected() {
        let url = "u".repeat(5_000);
        let body =
            serde_json::json!({"project":"p","exception_type":"E","message":"m","traceback":"t","request_url":url});
        let report = parse(&body.to_string()).unwrap();
        let stored = report.request_url.unwrap();
        assert_eq!((stored.chars().count(), stored.ends_with('…')), (URL_CHARS_MAX, true));
    }

    #[test]
    fn session_id_is_read_from_extra() {
        let with = |extra: &str| {
            let body =
                format!(r#"{{"project":"p","exception_type":"E","message":"m","traceback":"t","extra":{extra}}}"#);
            parse(&body).unwrap().session_id
        };
        assert_eq!(with(r#"{"session_id":"s1"}"#).as_deref(), Some("s1"));
        assert_eq!(with(r#"{"deep":{"session_id":"s1"}}"#), None);
        assert_eq!(with(r#"{"session_id":7}"#), None);
    }
}
