//! Parser for the body of an upload: a JSON object with a few short fields and, in a string, a map of several megabytes.
//!
//! The body is read from its anonymous file, and the map is read out of its string as a stream.

use std::io::{self, Read};

use super::json::{JsonReader, StringReader};
use crate::error::{Error, Result};

/// Bytes of a field that are read. The limits of all fields are smaller.
const FIELD_BYTES_MAX: usize = 4_096;
/// Name of the document in error messages.
const DOCUMENT: &str = "body";

/// The fields of an upload other than the map. The caller checks their lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) struct UploadFields {
    pub(in crate::browser_relay) project: String,
    pub(in crate::browser_relay) release: String,
    pub(in crate::browser_relay) file_url: String,
}

/// Reads the fields of a body and checks that it contains a map, which [`open_map_content`] reads.
///
/// # Errors
/// [`Error::Invalid`], naming the field, or [`Error::Storage`] if the body cannot be read.
pub(in crate::browser_relay) fn read_fields(body: impl Read) -> Result<UploadFields> {
    let (mut project, mut release, mut file_url, mut has_map) = (None, None, None, false);
    let mut json = JsonReader::new(body, DOCUMENT);
    if json.next()? != b'{' {
        return Err(Error::Invalid("The body must be a JSON object".into()));
    }
    json.object(|json, member| {
        let field = match member {
            "project" => &mut project,
            "release" => &mut release,
            "file_url" => &mut file_url,
            "map_content" => {
                // Only the first of several is checked, because only that one is read.
                if !std::mem::replace(&mut has_map, true) && json.next()? != b'"' {
                    return Err(Error::field(member, "must be a string"));
                }
                return json.skip();
            }
            _ => return json.skip(),
        };
        if json.next()? != b'"' {
            return Err(Error::field(member, "must be a string"));
        }
        *field = Some(json.string_prefix(FIELD_BYTES_MAX)?);
        Ok(())
    })?;
    json.end()?;
    let required = |name, field: Option<String>| field.ok_or_else(|| Error::field(name, "is required"));
    let fields = UploadFields {
        project: required("project", project)?,
        release: required("release", release)?,
        file_url: required("file_url", file_url)?,
    };
    if has_map { Ok(fields) } else { Err(Error::field("map_content", "is required")) }
}

/// Returns a reader of the map in a body, for [`super::convert::convert`].
///
/// # Errors
/// [`Error::Invalid`] if there is no map. If the map is longer than `bytes_max`, reading fails with a wrapped
/// [`Error::TooLarge`].
pub(in crate::browser_relay) fn open_map_content(body: impl Read, bytes_max: usize) -> Result<impl Read> {
    let mut json = JsonReader::new(body, DOCUMENT);
    if !json.find_member("map_content")? {
        return Err(Error::field("map_content", "is required"));
    }
    Ok(LimitedReader { inner: StringReader::new(json)?, remaining: bytes_max, bytes_max })
}

/// Reader that fails, instead of ending, after `bytes_max` bytes.
struct LimitedReader<R> {
    inner: R,
    remaining: usize,
    bytes_max: usize,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let remaining = self.remaining.checked_sub(length);
        self.remaining = remaining.ok_or_else(|| io::Error::other(Error::TooLarge { limit_bytes: self.bytes_max }))?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::convert::convert;
    use super::*;

    const MAP: &str = "{\"version\":3,\"sources\":[\"é\\n.js\"],\"mappings\":\"AAAA\"}";

    fn body() -> String {
        json!({"a": [1], "file_url": "app.js", "map_content": MAP, "project": "shop", "release": "1.0"}).to_string()
    }

    /// Converts the map in a body and returns the number of mappings.
    fn count_mappings(body: &str, bytes_max: usize) -> Result<u64> {
        let open = || open_map_content(body.as_bytes(), bytes_max);
        convert(open, |_, _, _| Ok(())).map(|stats| stats.mappings)
    }

    #[test]
    fn fields_and_map_are_read_from_the_body() {
        let fields = UploadFields { project: "shop".into(), release: "1.0".into(), file_url: "app.js".into() };
        assert_eq!(read_fields(body().as_bytes()), Ok(fields));
        assert_eq!(count_mappings(&body(), MAP.len()), Ok(1));
        let limit_bytes = MAP.len() - 1;
        assert_eq!(count_mappings(&body(), limit_bytes), Err(Error::TooLarge { limit_bytes }));
    }

    #[test]
    fn missing_and_invalid_fields_are_named() {
        for (body, message) in [
            ("[]", "must be a JSON object"),
            ("", "ends too early"),
            ("{}", "'project' is required"),
            ("{\"project\":1}", "'project' must be a string"),
            ("{\"project\":\"a\",\"release\":\"b\",\"file_url\":\"c\"}", "'map_content' is required"),
            ("{\"map_content\":{}}", "'map_content' must be a string"),
            ("{\"project\":\"a\"", "The body is not JSON"),
        ] {
            let Err(Error::Invalid(sentence)) = read_fields(body.as_bytes()) else { panic!("{body}") };
            assert!(sentence.contains(message), "{body}: {sentence}");
        }
        assert!(count_mappings("{\"a\":1}", 9).is_err_and(|why| why.to_string().contains("is required")));
        let unterminated = count_mappings("{\"map_content\":\"{}", 9);
        assert!(unterminated.is_err_and(|why| why.to_string().contains("body is not JSON")));
    }
}
