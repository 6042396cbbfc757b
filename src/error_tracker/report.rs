//! What a client says about one exception, read from its JSON and brought within bounds.

use std::borrow::Cow;

use super::fingerprint::{Fingerprint, fingerprints};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::json::{Object, compact};

const PROJECT_CHARS_MAX: usize = 100;
const TYPE_CHARS_MAX: usize = 200;
/// Where a text is only context, a longer one is cut rather than the report refused.
const URL_CHARS_MAX: usize = 2_000;
const METHOD_CHARS_MAX: usize = 16;
const NAME_CHARS_MAX: usize = 200;
/// The level of a report that names none.
const LEVEL_DEFAULT: &str = "error";
/// The environment of a report that names none, as in the SDKs.
const ENVIRONMENT_DEFAULT: &str = "prod";
/// `request_method` of what the browser relay forwards.
const BROWSER_METHOD: &str = "BROWSER";

/// One exception, as reported.
#[derive(Debug)]
pub(super) struct ErrorReport {
    pub(super) project: String,
    pub(super) exception_type: String,
    pub(super) message: String,
    pub(super) traceback: String,
    pub(super) environment: String,
    pub(super) release: Option<String>,
    pub(super) level: &'static str,
    pub(super) request_url: Option<String>,
    pub(super) request_method: Option<String>,
    /// A JSON object, as it was written but for blanks.
    pub(super) request_headers: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) session_id: Option<String>,
    /// A JSON object, as it was written but for blanks.
    pub(super) extra: Option<String>,
    /// When it happened, as far as the client says.
    pub(super) timestamp: Option<Timestamp>,
    /// What it is grouped by.
    pub(super) fingerprint: Fingerprint,
    /// What the original would have grouped it by, where that differs.
    pub(super) original_fingerprint: Option<Fingerprint>,
    /// Where it was raised, as `file:line`.
    pub(super) location: Option<String>,
}

impl ErrorReport {
    /// Reads a report.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the field.
    pub(super) fn parse(body: &[u8]) -> Result<Self> {
        let object = Object::parse(body)?;
        let required = |name| object.string(name)?.ok_or_else(|| Error::field(name, "is required"));
        let project = object.required_string("project", 1..=PROJECT_CHARS_MAX)?;
        let exception_type = object.required_string("exception_type", 1..=TYPE_CHARS_MAX)?;
        let (message, traceback) = (required("message")?, required("traceback")?);
        let extra = object.object("extra")?;
        let found = fingerprints(&project, &exception_type, &traceback);
        Ok(Self {
            environment: cut(object.string("environment")?, NAME_CHARS_MAX)
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| ENVIRONMENT_DEFAULT.to_owned()),
            release: cut(object.string_or_number("release")?, NAME_CHARS_MAX).filter(|name| !name.is_empty()),
            level: level(object.string("level")?.as_deref())?,
            request_url: cut(object.string("request_url")?, URL_CHARS_MAX),
            request_method: cut(object.string("request_method")?, METHOD_CHARS_MAX),
            request_headers: object.object("request_headers")?.map(compact),
            user_id: cut(object.string_or_number("user_id")?, NAME_CHARS_MAX),
            session_id: extra.and_then(session_id),
            extra: extra.map(compact),
            timestamp: object.timestamp("timestamp")?,
            fingerprint: found.primary,
            original_fingerprint: found.original,
            location: found.location.map(|location| clip(&location.to_string(), URL_CHARS_MAX).into_owned()),
            project: project.into_owned(),
            exception_type: exception_type.into_owned(),
            message: message.into_owned(),
            traceback: traceback.into_owned(),
        })
    }

    /// Whether it comes from a browser or from a server.
    pub(super) fn source(&self) -> &'static str {
        if self.request_method.as_deref() == Some(BROWSER_METHOD) { "browser" } else { "server" }
    }
}

fn level(given: Option<&str>) -> Result<&'static str> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(LEVEL_DEFAULT) };
    level_named(given).ok_or_else(|| Error::field("level", "must be debug, info, warning, error or critical"))
}

/// The level people mean by a name, `None` when it is none.
pub(super) fn level_named(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "debug" => Some("debug"),
        "info" => Some("info"),
        "warning" | "warn" => Some("warning"),
        "error" => Some("error"),
        "critical" | "fatal" => Some("critical"),
        _ => None,
    }
}

/// `extra.session_id`, where it is a text.
fn session_id(extra: &str) -> Option<String> {
    // Parsing costs more than looking, and most reports have none.
    if !extra.contains("session_id") {
        return None;
    }
    let object = Object::parse(extra.as_bytes()).ok()?;
    cut(object.string("session_id").ok()?, NAME_CHARS_MAX)
}

fn cut(text: Option<Cow<'_, str>>, chars_max: usize) -> Option<String> {
    text.map(|text| clip(&text, chars_max).into_owned())
}

/// `text`, or its beginning with a mark that something is missing.
pub(super) fn clip(text: &str, chars_max: usize) -> Cow<'_, str> {
    if text.len() <= chars_max {
        return Cow::Borrowed(text);
    }
    match text.char_indices().nth(chars_max) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let end = text.char_indices().nth(chars_max - 1).map_or(0, |(end, _)| end);
            Cow::Owned(format!("{}…", &text[..end]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<ErrorReport> {
        ErrorReport::parse(body.as_bytes())
    }

    #[test]
    fn the_least_a_report_needs() {
        let report = parse(r#"{"project":"p","exception_type":"E","message":"","traceback":""}"#).unwrap();
        assert_eq!((report.environment.as_str(), report.level, report.source()), ("prod", "error", "server"));
        assert!(report.release.is_none() && report.extra.is_none() && report.timestamp.is_none());
    }

    #[test]
    fn context_that_is_too_long_is_cut_and_never_costs_the_report() {
        let url = "u".repeat(5_000);
        let body =
            serde_json::json!({"project":"p","exception_type":"E","message":"m","traceback":"t","request_url":url});
        let report = parse(&body.to_string()).unwrap();
        let kept = report.request_url.unwrap();
        assert_eq!((kept.chars().count(), kept.ends_with('…')), (URL_CHARS_MAX, true));
    }

    #[test]
    fn the_session_is_found_in_extra() {
        let with = |extra: &str| {
            let body =
                format!(r#"{{"project":"p","exception_type":"E","message":"m","traceback":"t","extra":{extra}}}"#);
            parse(&body).unwrap().session_id
        };
        assert_eq!(with(r#"{"session_id":"s1"}"#).as_deref(), Some("s1"));
        assert_eq!(with(r#"{"deep":{"session_id":"s1"}}"#), None);
        assert_eq!(with(r#"{"session_id":7}"#), None);
    }

    #[test]
    fn clipping_counts_characters() {
        assert_eq!(clip("äöü", 3), "äöü");
        assert_eq!(clip("äöüß", 3), "äö…");
    }
}
