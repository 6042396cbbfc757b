//! Mail by Postmark's API: <https://postmarkapp.com/developer/api/email-api>.

use lettre::message::Mailbox;
use serde::Deserialize;
use serde_json::json;
use ureq::http::Uri;
use ureq::tls::Certificate;

use super::post::{Poster, web_url};
use super::{Channel, Failure, Gap, LIMITS, Letter, Setup, mail, mailbox};
use crate::env::{Env, Secret};

pub(super) struct Postmark {
    endpoint: Uri,
    token: Secret,
    from: Mailbox,
    to: Vec<Mailbox>,
    poster: Poster,
}

impl Postmark {
    pub(super) fn from_env(env: &mut Env<'_>, to: &[Mailbox], roots: &[Certificate<'static>]) -> Setup {
        let token = env.secret("POSTMARK_API_TOKEN");
        let from = env.string("POSTMARK_FROM_EMAIL");
        let from = from.and_then(|text| mailbox(env, "POSTMARK_FROM_EMAIL", &text));
        let base = env.string("POSTMARK_API_BASE").unwrap_or_default();
        let Some(endpoint) = web_url(&format!("{}/email", base.trim().trim_end_matches('/'))) else {
            env.error("POSTMARK_API_BASE", "must be an http:// or https:// URL without a user in it");
            return Setup::Off;
        };
        if token.is_none() && from.is_none() {
            return Setup::Off;
        }
        let needs = [
            ("POSTMARK_API_TOKEN", token.is_some()),
            ("POSTMARK_FROM_EMAIL", from.is_some()),
            ("ALERT_EMAILS", !to.is_empty()),
        ];
        match (token, from, Gap::of("postmark", &needs)) {
            (Some(token), Some(from), None) => {
                let secrets = vec![token.reveal().to_owned()];
                let poster = Poster { roots: roots.to_vec(), limits: LIMITS, secrets };
                Setup::Ready(Box::new(Self { endpoint, token, from, to: to.to_vec(), poster }))
            }
            (_, _, gap) => gap.map_or(Setup::Off, Setup::Incomplete),
        }
    }
}

/// The part of Postmark's answer that says how it went.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Verdict {
    error_code: i64,
    #[serde(default)]
    message: String,
}

impl Channel for Postmark {
    fn name(&self) -> &'static str {
        "postmark"
    }

    fn attempt(&self, letter: &Letter) -> Result<(), Failure> {
        let to: Vec<String> = self.to.iter().map(ToString::to_string).collect();
        let body = json!({
            "From": self.from.to_string(),
            "To": to.join(", "),
            "Subject": letter.message.title,
            "TextBody": mail::text(&letter.message),
            "HtmlBody": mail::html(&letter.message),
            "MessageStream": "outbound",
            "Headers": [{ "Name": "Auto-Submitted", "Value": "auto-generated" }],
        });
        let headers = [("X-Postmark-Server-Token", self.token.reveal())];
        let answer = self.poster.post(&self.endpoint, &headers, body.to_string().as_bytes())?;
        let verdict = serde_json::from_str::<Verdict>(&answer.body);
        match verdict {
            Ok(verdict) if answer.is_success() && verdict.error_code == 0 => Ok(()),
            Ok(verdict) => {
                Err(answer.failure(&format!("{} (Postmark's code {})", verdict.message, verdict.error_code)))
            }
            // A 200 that is not Postmark's comes from something in between, and no mail will follow.
            Err(_) => Err(answer.failure("not as Postmark does")),
        }
    }
}
