//! The body of an upload: an object with a few short fields and, as a string, a map of up to 5 MB. It is read from
//! where it was spooled to, and the map is read out of its string without ever being whole.

use std::io::{self, Read};

use super::json::{Json, StringReader};
use crate::error::{Error, Result};

/// Bytes of a field that are read; what is allowed is less.
const FIELD_BYTES_MAX: usize = 4_096;

/// What an upload is about; whether it is allowed is for the caller to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::browser_relay) struct Upload {
    pub(in crate::browser_relay) project: String,
    pub(in crate::browser_relay) release: String,
    pub(in crate::browser_relay) file_url: String,
}

/// Reads the fields of a body and makes sure that it has a map; [`map_content`] reads that.
///
/// # Errors
/// [`Error::Invalid`], naming the field, and [`Error::Storage`] where the body cannot be read.
pub(in crate::browser_relay) fn fields(body: impl Read) -> Result<Upload> {
    let (mut project, mut release, mut file_url, mut map) = (None, None, None, false);
    let mut json = Json::new(body, "body");
    if json.next()? != b'{' {
        return Err(Error::Invalid("The body must be a JSON object".into()));
    }
    json.object(|json, member| {
        let field = match member {
            "project" => &mut project,
            "release" => &mut release,
            "file_url" => &mut file_url,
            "map_content" => {
                // The first one is read.
                if !std::mem::replace(&mut map, true) && json.next()? != b'"' {
                    return Err(Error::field(member, "must be a string"));
                }
                return json.skip();
            }
            _ => return json.skip(),
        };
        if json.next()? != b'"' {
            return Err(Error::field(member, "must be a string"));
        }
        *field = Some(json.text(FIELD_BYTES_MAX)?);
        Ok(())
    })?;
    json.end()?;
    let required = |name, field: Option<String>| field.ok_or_else(|| Error::field(name, "is required"));
    let upload = Upload {
        project: required("project", project)?,
        release: required("release", release)?,
        file_url: required("file_url", file_url)?,
    };
    if map { Ok(upload) } else { Err(Error::field("map_content", "is required")) }
}

/// The map in a body, as a document of its own of at most so many bytes. For [`super::convert::convert`].
///
/// # Errors
/// [`Error::Invalid`] where there is none. Reading it on answers [`Error::TooLarge`], wrapped, where it is longer.
pub(in crate::browser_relay) fn map_content(body: impl Read, bytes_max: usize) -> Result<impl Read> {
    let mut json = Json::new(body, "body");
    if !json.find("map_content")? {
        return Err(Error::field("map_content", "is required"));
    }
    Ok(Limited { map: StringReader::new(json)?, left: bytes_max, bytes_max })
}

struct Limited<R> {
    map: R,
    left: usize,
    bytes_max: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.map.read(into)?;
        let left = self.left.checked_sub(length);
        self.left = left.ok_or_else(|| io::Error::other(Error::TooLarge { limit_bytes: self.bytes_max }))?;
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

    fn converted(body: &str, bytes_max: usize) -> Result<u64> {
        let open = || map_content(body.as_bytes(), bytes_max);
        convert(open, |_, _, _| Ok(())).map(|summary| summary.mappings)
    }

    #[test]
    fn the_map_is_read_out_of_the_body() {
        let upload = Upload { project: "shop".into(), release: "1.0".into(), file_url: "app.js".into() };
        assert_eq!(fields(body().as_bytes()), Ok(upload));
        assert_eq!(converted(&body(), MAP.len()), Ok(1));
        let limit_bytes = MAP.len() - 1;
        assert_eq!(converted(&body(), limit_bytes), Err(Error::TooLarge { limit_bytes }));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (body, why) in [
            ("[]", "must be a JSON object"),
            ("", "ends too early"),
            ("{}", "'project' is required"),
            ("{\"project\":1}", "'project' must be a string"),
            ("{\"project\":\"a\",\"release\":\"b\",\"file_url\":\"c\"}", "'map_content' is required"),
            ("{\"map_content\":{}}", "'map_content' must be a string"),
            ("{\"project\":\"a\"", "The body is not JSON"),
        ] {
            let Err(Error::Invalid(sentence)) = fields(body.as_bytes()) else { panic!("{body}") };
            assert!(sentence.contains(why), "{body}: {sentence}");
        }
        assert!(converted("{\"a\":1}", 9).is_err_and(|why| why.to_string().contains("is required")));
        assert!(converted("{\"map_content\":\"{}", 9).is_err_and(|why| why.to_string().contains("body is not JSON")));
    }
}
