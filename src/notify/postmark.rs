//! Email through the API of Postmark: <https://postmarkapp.com/developer/api/email-api>.

use lettre::message::Mailbox;
use serde::Deserialize;
use serde_json::json;

use super::channel::{CLIENT_SETTINGS, Channel, ChannelConfig, MissingSettings};
use super::mail;
use super::message::OutgoingMessage;
use super::settings::parse_mailbox;
use crate::client::{Delivery, Endpoint, HttpClient, OutboundSettings, URL_RULE};
use crate::env::Env;

/// Postmark's API with the sender and the recipients.
pub(super) struct Postmark {
    from: Mailbox,
    to: Vec<Mailbox>,
    client: HttpClient,
}

impl Postmark {
    pub(super) fn from_env(env: &mut Env<'_>, to: &[Mailbox], outbound: &OutboundSettings) -> ChannelConfig {
        let token = env.secret("POSTMARK_API_TOKEN");
        let from = env.string("POSTMARK_FROM_EMAIL");
        let from = from.and_then(|address| parse_mailbox(env, "POSTMARK_FROM_EMAIL", &address));
        let base = env.string("POSTMARK_API_BASE").unwrap_or_default();
        let endpoint = Endpoint::parse(&format!("{}/email", base.trim().trim_end_matches('/')));
        let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.has_userinfo()) else {
            env.error("POSTMARK_API_BASE", format_args!("{URL_RULE} https://api.postmarkapp.com"));
            return ChannelConfig::Disabled;
        };
        if token.is_none() && from.is_none() {
            return ChannelConfig::Disabled;
        }
        let needed = [
            ("POSTMARK_API_TOKEN", token.is_some()),
            ("POSTMARK_FROM_EMAIL", from.is_some()),
            ("ALERT_EMAILS", !to.is_empty()),
        ];
        match (token, from, MissingSettings::new("postmark", &needed)) {
            (Some(token), Some(from), None) => {
                let Some(endpoint) = endpoint.with_secret_header("x-postmark-server-token", token.reveal()) else {
                    env.error("POSTMARK_API_TOKEN", "must not contain control characters");
                    return ChannelConfig::Disabled;
                };
                let client = outbound.client(env, endpoint, CLIENT_SETTINGS);
                ChannelConfig::Ready(Box::new(Self { from, to: to.to_vec(), client }))
            }
            (_, _, missing) => missing.map_or(ChannelConfig::Disabled, ChannelConfig::Incomplete),
        }
    }
}

/// The members of Postmark's response that state the result.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ApiResponse {
    error_code: i64,
    #[serde(default)]
    message: String,
}

impl Channel for Postmark {
    fn name(&self) -> &'static str {
        "postmark"
    }

    fn attempt(&self, message: &OutgoingMessage) -> Delivery {
        let to: Vec<String> = self.to.iter().map(ToString::to_string).collect();
        let body = json!({
            "From": self.from.to_string(),
            "To": to.join(", "),
            "Subject": message.defanged.title,
            "TextBody": mail::plain_text(&message.defanged),
            "HtmlBody": mail::html(&message.defanged),
            "MessageStream": "outbound",
            "Headers": [{ "Name": "Auto-Submitted", "Value": "auto-generated" }],
        });
        let headers = [("Content-Type", "application/json"), ("Accept", "application/json")];
        let response = match self.client.post(&headers, body.to_string().as_bytes()) {
            Ok(response) => response,
            Err(error) => return error.into(),
        };
        match serde_json::from_str::<ApiResponse>(&String::from_utf8_lossy(&response.body)) {
            Ok(api) if response.is_success() && api.error_code == 0 => Delivery::Accepted,
            Ok(api) => {
                let detail = response.redact(&format!("{} (Postmark error code {})", api.message, api.error_code));
                let is_final = response.is_success() || response.is_final();
                let (after, reason) = (response.retry_after, response.failure(&detail));
                if is_final { Delivery::rejected(reason) } else { Delivery::Retry { after, reason } }
            }
            // A proxy or a login page responded instead of Postmark, even if the status is 200.
            Err(_) => Delivery::retry(response.failure("the response is not from the Postmark API")),
        }
    }
}
