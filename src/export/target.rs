//! One request to a server that takes what is sent, and when to try again what was not taken.

use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::{HeaderName, HeaderValue, Uri};

use crate::env::Env;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 16 * 1024;
/// What is read of an answer; more is of no use for one line of reason.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;
const REASON_CHARS_MAX: usize = 300;
/// Between two attempts, doubled each time.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A server that takes what is sent.
#[derive(Debug)]
pub struct Target {
    agent: Agent,
    url: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has it.
    Taken,
    /// Not now: it was not reached, took too long, or said so, perhaps with how long to wait.
    Later(String, Option<Duration>),
    /// Not ever: the same again would be refused again.
    Refused(String),
}

impl Target {
    /// Reads where to send, and what to send with each request: `Name: value`, one a line or with semicolons between
    /// them. `None` where no URL is set; what is wrong is noted in `env`.
    pub fn read(env: &mut Env<'_>, url: &'static str, headers: &'static str) -> Option<Self> {
        let given = env.secret(headers);
        let text = env.string(url)?;
        let parsed = text.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        });
        if parsed.is_none() {
            env.error(url, "must be an URL such as http://localhost:8428/api/v1/write");
            return None;
        }
        let Some(headers) = given.as_ref().map_or(Some(Vec::new()), |given| header_pairs(given.reveal())) else {
            env.error(headers, "must be 'Name: value', one a line or with semicolons between them");
            return None;
        };
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN))
            .http_status_as_error(false)
            .max_redirects(0)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .user_agent(concat!("monlight/", env!("CARGO_PKG_VERSION")))
            .build();
        Some(Self { agent: Agent::new_with_config(config), url: text, headers })
    }

    /// The same, with the query that has ClickHouse put lines into a table, where the URL has none of its own.
    #[must_use]
    pub fn inserting(mut self, table: &str) -> Self {
        if !self.url.contains("query=") {
            let and = if self.url.contains('?') { '&' } else { '?' };
            let query = format!("query=INSERT%20INTO%20{table}%20FORMAT%20JSONEachRow");
            self.url = format!("{}{and}{query}&input_format_skip_unknown_fields=1", self.url);
        }
        self
    }

    /// Sends a body, with headers of its own.
    #[must_use]
    pub fn post(&self, own: &[(&str, &str)], body: &[u8]) -> Outcome {
        let request =
            own.iter().fold(self.agent.post(&self.url), |request, (name, value)| request.header(*name, *value));
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(why) => return Outcome::Later(why.to_string(), None),
        };
        let status = response.status().as_u16();
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // The status has decided already; a body that breaks off is a shorter reason.
        let said = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string();
        let said: String = said.unwrap_or_default().trim().chars().take(REASON_CHARS_MAX).collect();
        let reason = format!("it answered {status}{}{said}", if said.is_empty() { "" } else { ": " });
        match status {
            200..300 => Outcome::Taken,
            // A key that is not taken is the operator's affair, and what waits is still good when that is mended.
            401 | 403 | 404 | 408 | 429 | 500.. => Outcome::Later(reason, wait.map(Duration::from_secs)),
            _ => Outcome::Refused(reason),
        }
    }
}

/// Pairs; `None` where there is something else.
fn header_pairs(text: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let mut value: HeaderValue = value.trim().parse().ok()?;
        value.set_sensitive(true);
        Some((name.trim().parse().ok()?, value))
    };
    text.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty()).map(pair).collect()
}

/// When to try again what was not taken.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Whether it is time.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// It was not taken. Answers how long to wait: twice as long each time, or as long as the server wants within a
    /// minute.
    pub fn failed(&mut self, now: Instant, wanted: Option<Duration>) -> Duration {
        let wait = WAIT_MIN.saturating_mul(1 << self.failures.min(16)).max(wanted.unwrap_or_default()).min(WAIT_MAX);
        self.failures += 1;
        self.until = Some(now + wait);
        wait
    }

    /// It was taken.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_lines_or_stand_between_semicolons() {
        let names = |text| -> Option<Vec<String>> {
            Some(header_pairs(text)?.iter().map(|(name, _)| name.to_string()).collect())
        };
        let expected = ["authorization", "x-scope-orgid"].map(str::to_owned);
        assert_eq!(names("Authorization: Bearer a:b; X-Scope-OrgID: 7"), Some(expected.into()));
        assert_eq!(names("\nA: 1\nB:2\n"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(names(""), Some(Vec::new()));
        for wrong in ["Authorization", "a b: c", ": d", "A: \u{7}"] {
            assert_eq!(names(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_failure_waits_longer_up_to_a_minute() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.failed(now, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!backoff.is_over(now + Duration::from_secs(59)) && backoff.is_over(now + Duration::from_secs(60)));
        backoff.succeeded();
        assert!(backoff.is_over(now));
        assert_eq!(backoff.failed(now, Some(Duration::from_secs(9))).as_secs(), 9);
        assert_eq!(backoff.failed(now, Some(Duration::from_secs(900))).as_secs(), 60);
    }
}
