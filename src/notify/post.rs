//! One POST over HTTP or HTTPS.

use std::io::Read as _;
use std::time::Instant;

use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Error};

use super::{Failure, Limits, text};

/// What is read of an answer; more is of no use for one line of reason.
const ANSWER_MAX_BYTES: u64 = 4 * 1024;
const BUFFER_BYTES: usize = 16 * 1024;

/// Opens a connection for each POST, follows no redirect.
#[derive(Debug)]
pub(super) struct Poster {
    pub(super) roots: Vec<Certificate<'static>>,
    pub(super) limits: Limits,
    /// What nobody may read in an answer.
    pub(super) secrets: Vec<String>,
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Its first 4 KB, or what came of them in time, without secrets.
    pub(super) body: String,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The failure that this answer is, in the words of `said`.
    pub(super) fn failure(&self, said: &str) -> Failure {
        let reason = match (self.status, said) {
            (300..400, _) => format!("the server answered {}: redirects are not followed", self.status),
            (status, "") => format!("the server answered {status}"),
            (status, said) => format!("the server answered {status}: {said}"),
        };
        Failure { reason, temporary: matches!(self.status, 408 | 429 | 500..) }
    }
}

impl Poster {
    /// Sends `body`, which is JSON, to `url`.
    pub(super) fn post(&self, url: &Uri, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.limits.exchange;
        let mut outcome = self.post_trusting(RootCerts::WebPki, deadline, url, headers, body);
        // ureq trusts either Mozilla's roots or given ones. Nothing but a handshake has been sent when it trusts nobody,
        // so that asking twice is the same as trusting both.
        if !self.roots.is_empty() && outcome.as_ref().is_err_and(is_tls) {
            let ours = RootCerts::new_with_certs(&self.roots);
            outcome = self.post_trusting(ours, deadline, url, headers, body);
        }
        outcome.map_err(|error| self.describe(url.host().unwrap_or_default(), &error))
    }

    fn post_trusting(
        &self,
        roots: RootCerts,
        deadline: Instant,
        url: &Uri,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, Error> {
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_connect(Some(self.limits.connect))
            .timeout_global(Some(deadline.saturating_duration_since(Instant::now())))
            .http_status_as_error(false)
            // A followed POST becomes a GET without its body, which some servers answer with 200.
            .max_redirects(0)
            .max_idle_connections(0)
            .max_response_header_size(BUFFER_BYTES)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .user_agent(concat!("monlight/", env!("CARGO_PKG_VERSION")))
            .build();
        let request = Agent::new_with_config(config).post(url).header("Content-Type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.header("Accept", "application/json").send(body)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        // The status has decided already; a body that breaks off is a shorter reason.
        let _ = response.into_body().into_reader().take(ANSWER_MAX_BYTES).read_to_end(&mut body);
        Ok(Answer { status, body: text::without(&String::from_utf8_lossy(&body), &self.secrets) })
    }

    fn describe(&self, host: &str, error: &Error) -> Failure {
        match error {
            error if is_tls(error) => Failure::of_tls(host, &error.to_string()),
            Error::Timeout(what) => Failure::temporary(format!("{host}: took too long ({what})")),
            Error::Io(why) => Failure::temporary(format!("{host}: {why}")),
            Error::HostNotFound | Error::ConnectionFailed | Error::Protocol(_) => {
                Failure::temporary(format!("{host}: {error}"))
            }
            error => Failure::permanent(text::without(&error.to_string(), &self.secrets)),
        }
    }
}

/// rustls hands its errors on as `InvalidData`.
fn is_tls(error: &Error) -> bool {
    match error {
        Error::Io(why) => why.kind() == std::io::ErrorKind::InvalidData,
        Error::Tls(_) | Error::Rustls(_) => true,
        _ => false,
    }
}

/// An absolute URL of the web without a user in it, which ureq would leave out silently.
pub(super) fn web_url(text: &str) -> Option<Uri> {
    let url: Uri = text.trim().parse().ok()?;
    let is_web = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty());
    (is_web && !url.authority()?.as_str().contains('@')).then_some(url)
}
