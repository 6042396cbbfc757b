//! Reader for the HTTP status in a line of an access log.

use crate::records::log_level::Level;

/// Recognizes a line of an access log by its status, which determines the level.
pub(super) fn request_level(line: &str) -> Option<Option<Level>> {
    status(line).map(|status| Some(Level::from_http_status(status)))
}

/// Returns the status, 100 to 599, if the line is in one of these formats:
///
/// - the common or combined format (Apache's `mod_log_config`) and its relatives: the status follows the quoted request,
///   or precedes it at the end of the line, as in HAProxy's `httplog`;
/// - `GET /cart 500 12 ms`: morgan's `dev` and `tiny`;
/// - `Completed 500 Internal Server Error`: Rails.
fn status(line: &str) -> Option<u16> {
    quoted_request_status(line).or_else(|| unquoted_request_status(line))
}

fn quoted_request_status(line: &str) -> Option<u16> {
    // Most lines have no quote. A loop body without branches is vectorized, unlike a search.
    if !line.bytes().fold(false, |found, byte| found | (byte == b'"')) {
        return None;
    }
    let open = line.find('"')?;
    let inside = &line[open + 1..];
    let close = closing_quote(inside)?;
    let (request, after) = (&inside[..close], &inside[close + 1..]);
    let is_request = request.contains(" HTTP/") || after_method(request).is_some() || line[..open].ends_with("] ");
    if !is_request {
        return None;
    }
    // http-server of Node.js writes `Error (404)`.
    if let Some(error) = after.strip_prefix(" Error (") {
        return status_code(error.split(')').next().unwrap_or_default());
    }
    match after.strip_prefix(' ') {
        Some(after) => status_code(after),
        None => haproxy_status(&line[..open]),
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Reads `… backend/server 0/0/1/2/3 200 1234 - - ---- 1/1/0/0/0 0/0 `: the status follows the five timers.
fn haproxy_status(before_request: &str) -> Option<u16> {
    let mut words = before_request.split(' ');
    words.find(|word| word.bytes().filter(|byte| *byte == b'/').count() == 4)?;
    status_code(words.next()?)
}

fn unquoted_request_status(line: &str) -> Option<u16> {
    if let Some(rest) = line.strip_prefix("Completed ") {
        return status_code(rest);
    }
    let target = after_method(line)?;
    let (_, rest) = target.split_once(' ')?;
    status_code(rest)
}

/// Returns the text after the method of a request for a path or a URL.
fn after_method(text: &str) -> Option<&str> {
    let (method, target) = text.split_at(text.bytes().take(8).take_while(u8::is_ascii_uppercase).count());
    let target = target.strip_prefix(' ').filter(|_| method.len() >= 3)?;
    (target.starts_with('/') || target.starts_with("http")).then_some(target)
}

/// Parses a status of three digits at the start of a text. A separator or the end must follow.
pub(super) fn status_code(text: &str) -> Option<u16> {
    let (digits, rest) = text.split_at_checked(3)?;
    let ends = rest.is_empty() || rest.starts_with([' ', ',', ';', '\t']);
    let status = digits.parse().ok().filter(|_| ends && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    (100..600).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_from_common_access_log_formats() {
        for (line, expected) in [
            (r#"172.17.0.1 - - [31/Jan/2026:12:00:00 +0000] "GET /error HTTP/1.1" 200 12 "-" "curl/8.5.0""#, Some(200)),
            (r#"172.17.0.1 - - [31/Jan/2026:12:00:00 +0000] "\x16\x03\x01" 400 157 "-" "-""#, Some(400)),
            (r#"172.17.0.1 - bob [31/Jan/2026:12:00:00 +0000] "GET /a\"b HTTP/1.1" 404 12"#, Some(404)),
            (r#"127.0.0.1 -  31/Jan/2026:12:00:00 +0000 "GET /index.php" 500"#, Some(500)),
            (
                r#"10.0.0.1:5 [31/Jan/2026:12:00:00.000] web app/s1 0/0/0/1/1 503 2 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1""#,
                Some(503),
            ),
            ("GET /cart 500 3.127 ms - 148", Some(500)),
            ("POST /cart 201 - - 3.127 ms", Some(201)),
            ("Completed 422 Unprocessable Entity in 5ms", Some(422)),
            ("GET /cart took 500 ms", None),
            ("GET /cart 5000 ms", None),
            (r#"opened "GET /cart""#, None),
            (r#"said "404" 500 times"#, None),
            (r#"open quote "GET / HTTP/1.1 200"#, None),
            ("GOT /cart", None),
            ("", None),
        ] {
            assert_eq!(status(line), expected, "{line}");
        }
    }
}
