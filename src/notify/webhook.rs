//! Webhook in a JSON format of our own or in the format of Slack, Discord or ntfy.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::channel::{CLIENT_SETTINGS, Channel, ChannelConfig};
use super::mail;
use super::message::{Fact, Message, OutgoingMessage};
use crate::client::{Delivery, Endpoint, HttpClient, OutboundSettings, URL_RULE, Uri};
use crate::env::Env;
use crate::text;

/// Limits of one fact and of the excerpt in a chat message.
const CHAT_VALUE_MAX_UNITS: usize = 300;
const CHAT_EXCERPT_MAX_UNITS: usize = 1_800;
/// Discord accepts 2,000 characters of content, and an embed of 25 fields with 1,024 characters each and 6,000 characters
/// in total.
const DISCORD_CONTENT_MAX_UNITS: usize = 500;
const DISCORD_FIELDS_MAX: usize = 8;
const DISCORD_VALUE_MAX_UNITS: usize = 400;
/// ntfy accepts 4,096 bytes; a UTF-16 code unit takes at most three.
const NTFY_TEXT_MAX_UNITS: usize = 1_300;

/// The format of a webhook's body.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    Json,
    Slack,
    Discord,
    Ntfy { topic: String },
}

/// A webhook URL and the format that it expects.
pub(super) struct Webhook {
    format: Format,
    client: HttpClient,
}

impl Webhook {
    pub(super) fn from_env(env: &mut Env<'_>, outbound: &OutboundSettings) -> ChannelConfig {
        let format = env.one_of("ALERT_WEBHOOK_FORMAT", &["auto", "json", "slack", "discord", "ntfy"]);
        let Some(url) = env.secret("ALERT_WEBHOOK_URL") else { return ChannelConfig::Disabled };
        let Some(endpoint) = Endpoint::parse(url.reveal()).filter(|endpoint| !endpoint.has_userinfo()) else {
            let problem = format_args!("{URL_RULE} https://example.com/hook, without a user name");
            env.error("ALERT_WEBHOOK_URL", problem);
            return ChannelConfig::Disabled;
        };
        let Some((url, format)) = resolve_format(endpoint.url(), format) else {
            env.error("ALERT_WEBHOOK_URL", "must end with the topic, for example https://ntfy.sh/topic");
            return ChannelConfig::Disabled;
        };
        let endpoint = endpoint.with_secret_url().with_url(url);
        ChannelConfig::Ready(Box::new(Self { format, client: outbound.client(env, endpoint, CLIENT_SETTINGS) }))
    }
}

/// Returns the URL to post to and the format of the body; `None` for an ntfy URL without a topic.
fn resolve_format(url: &Uri, format: &str) -> Option<(Uri, Format)> {
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    let format = match format {
        "auto" if host == "hooks.slack.com" => "slack",
        "auto" if host == "discord.com" || host == "discordapp.com" || host.ends_with(".discord.com") => "discord",
        "auto" if host.starts_with("ntfy.") => "ntfy",
        format => format,
    };
    match format {
        "slack" => Some((url.clone(), Format::Slack)),
        "discord" => Some((url.clone(), Format::Discord)),
        "ntfy" => {
            // JSON goes to the server's root and contains the topic: <https://docs.ntfy.sh/publish/#publish-as-json>.
            let (root, topic) = url.path().trim_end_matches('/').rsplit_once('/')?;
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            let root_url = format!("{}://{}{root}/{query}", url.scheme_str()?, url.authority()?);
            Some((root_url.parse().ok()?, Format::Ntfy { topic: topic.to_owned() })).filter(|_| !topic.is_empty())
        }
        _ => Some((url.clone(), Format::Json)),
    }
}

impl Channel for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn attempt(&self, message: &OutgoingMessage) -> Delivery {
        let body = match &self.format {
            Format::Json => generic_json(message),
            Format::Slack => slack(&message.defanged),
            // Discord makes no links in code blocks, and the other texts are escaped.
            Format::Discord => discord(&message.message),
            Format::Ntfy { topic } => ntfy(&message.defanged, topic),
        };
        let headers = [("Content-Type", "application/json"), ("Accept", "application/json")];
        match self.client.post(&headers, body.to_string().as_bytes()) {
            Ok(response) => Delivery::from_response(&response),
            Err(error) => error.into(),
        }
    }
}

fn generic_json(prepared: &OutgoingMessage) -> Value {
    let message = &prepared.message;
    let facts: Map<String, Value> =
        message.facts.iter().map(|fact| (fact.key.to_owned(), fact.value.as_str().into())).collect();
    json!({
        "id": prepared.id,
        "event": message.event,
        "title": message.title,
        // Chat programs that accept this format show the text.
        "text": break_mentions(&mail::summary(&prepared.defanged)),
        "link": message.link,
        "facts": facts,
        "excerpt": message.excerpt,
        "sent_at": prepared.created_at,
    })
}

/// Renders mrkdwn: <https://docs.slack.dev/messaging/formatting-message-text>. In Slack, a mention starts with `<`; Mattermost,
/// which accepts the format, also notifies a channel for `@all`.
fn slack(message: &Message) -> Value {
    let escape_entities = |value: &str| value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let escape = |value: &str| escape_entities(&break_mentions(&escape_code_fence(value)));
    let mut mrkdwn = format!("*{}*", escape(&message.title));
    for fact in &message.facts {
        let value = text::truncate_utf16(&fact.value, CHAT_VALUE_MAX_UNITS);
        let _ = write!(mrkdwn, "\n{}: {}", escape(fact.label), escape(&value));
    }
    if let Some(link) = &message.link {
        let _ = write!(mrkdwn, "\n{}", escape_entities(link));
    }
    if !message.excerpt.is_empty() {
        let excerpt = text::truncate_middle(&message.excerpt, CHAT_EXCERPT_MAX_UNITS);
        let _ = write!(mrkdwn, "\n```\n{}\n```", escape(&excerpt));
    }
    json!({ "text": mrkdwn })
}

/// Renders a webhook message: <https://docs.discord.com/developers/resources/webhook#execute-webhook>. The link is part
/// of the content, because Discord rejects the whole message if it does not accept the `url` of an embed, for example
/// one on localhost.
fn discord(message: &Message) -> Value {
    let escape = |value: &str, max_units| text::truncate_utf16(&escape_discord_markdown(value), max_units);
    let field = |fact: &Fact| {
        let value = if fact.value.is_empty() { "–" } else { &fact.value };
        json!({ "name": fact.label, "value": escape(value, DISCORD_VALUE_MAX_UNITS), "inline": value.len() < 40 })
    };
    let mut content = format!("**{}**", escape(&message.title, DISCORD_CONTENT_MAX_UNITS));
    if let Some(link) = message.link.as_ref().filter(|link| link.len() < DISCORD_CONTENT_MAX_UNITS) {
        let _ = write!(content, "\n{link}");
    }
    let mut embed = json!({ "fields": message.facts.iter().take(DISCORD_FIELDS_MAX).map(field).collect::<Vec<_>>() });
    if !message.excerpt.is_empty() {
        let excerpt = text::truncate_middle(&escape_code_fence(&message.excerpt), CHAT_EXCERPT_MAX_UNITS);
        embed["description"] = format!("```\n{excerpt}\n```").into();
    }
    let is_empty = message.facts.is_empty() && message.excerpt.is_empty();
    let embeds = if is_empty { Vec::new() } else { vec![embed] };
    json!({ "content": content, "embeds": embeds, "allowed_mentions": { "parse": [] } })
}

/// Renders a notification: <https://docs.ntfy.sh/publish/#publish-as-json>.
fn ntfy(message: &Message, topic: &str) -> Value {
    let facts: Vec<String> = message.facts.iter().map(|fact| format!("{}: {}", fact.label, fact.value)).collect();
    let details = format!("{}\n\n{}", facts.join("\n"), message.excerpt);
    let mut body = json!({
        "topic": topic,
        "title": message.title,
        "message": text::truncate_middle(details.trim(), NTFY_TEXT_MAX_UNITS),
    });
    if let Some(link) = &message.link {
        body["click"] = link.as_str().into();
    }
    body
}

/// Returns `value` with a zero-width space after every backtick, so that it neither opens nor closes a code fence.
fn escape_code_fence(value: &str) -> String {
    value.replace('`', "`\u{200b}")
}

/// Returns `value` with a zero-width space after every `@`, so that it mentions nobody:
/// <https://docs.mattermost.com/integrations-guide/incoming-webhooks.html>.
fn break_mentions(value: &str) -> String {
    value.replace('@', "@\u{200b}")
}

/// Returns `value` with a backslash before each character that has a meaning in Discord's Markdown, and before the colon
/// of a URL.
fn escape_discord_markdown(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut escaped, c| {
        if "\\*_~`|[]()<>#@:-".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::{EXCERPT_MAX_UNITS, MessageId, VALUE_MAX_UNITS};
    use super::super::tests::message;
    use super::*;
    use crate::clock::Timestamp;

    fn hostile() -> Message {
        let markup = "<!channel> @everyone & ``` [x](http://evil) ```";
        let mut message = message(markup);
        message.facts[0].value = markup.to_owned();
        message.excerpt = format!("{markup}\n```");
        message
    }

    #[test]
    fn the_host_selects_the_format() {
        for (url, format, posted_to, expected) in [
            ("https://hooks.slack.com/services/T/B/X", "auto", "/services/T/B/X", Format::Slack),
            ("https://discord.com/api/webhooks/1/x", "auto", "/api/webhooks/1/x", Format::Discord),
            ("https://ptb.Discord.com/api/webhooks/1/x", "auto", "/api/webhooks/1/x", Format::Discord),
            ("https://ntfy.sh/topic", "auto", "/", Format::Ntfy { topic: "topic".to_owned() }),
            ("http://push:8080/n/topic/?auth=x", "ntfy", "/n/?auth=x", Format::Ntfy { topic: "topic".to_owned() }),
            ("https://chat.example.com/hooks/x", "slack", "/hooks/x", Format::Slack),
            ("https://hooks.slack.com.example.com/x", "auto", "/x", Format::Json),
            ("https://ntfy.sh/topic", "json", "/topic", Format::Json),
        ] {
            let (target, format) = resolve_format(&url.parse().unwrap(), format).unwrap();
            assert_eq!((target.path_and_query().unwrap().as_str(), format), (posted_to, expected), "{url}");
        }
    }

    #[test]
    fn slack_messages_contain_no_mention_and_one_code_block() {
        let mrkdwn = slack(&hostile())["text"].as_str().unwrap().to_owned();
        assert!(!mrkdwn.contains(['<', '>']), "{mrkdwn}");
        assert_eq!(mrkdwn.matches("&lt;!channel&gt; @\u{200b}everyone &amp; ").count(), 3, "{mrkdwn}");
        assert!(!mrkdwn.contains("@e"), "{mrkdwn}");
        assert_eq!(mrkdwn.matches("```").count(), 2, "{mrkdwn}");
        assert!(mrkdwn.ends_with("\n```"), "{mrkdwn}");
        assert_eq!(
            slack(&message("m"))["text"],
            "*m*\nProject: shop\nLocation: a.py:7\nhttps://e.example/?a=1&amp;b=2\n```\nTrace\n  boom\n```"
        );
    }

    #[test]
    fn text_of_the_generic_format_contains_no_mention() {
        let id = MessageId { id: "1".to_owned(), created_at: Timestamp::from_seconds(0) };
        let body = generic_json(&OutgoingMessage::new(&hostile(), &id));
        let text = body["text"].as_str().unwrap();
        assert!(text.contains("@\u{200b}everyone") && !text.contains("@everyone"), "{text}");
        // Programs get the values as they were reported.
        assert!(body["title"].as_str().unwrap().contains("@everyone"), "{body}");
    }

    #[test]
    fn discord_messages_contain_no_mention_and_no_markdown() {
        let body = discord(&hostile());
        assert_eq!(body["allowed_mentions"], json!({ "parse": [] }));
        let escaped = r"\<!channel\> \@everyone & \`\`\` \[x\]\(http\://evil\) \`\`\`";
        assert_eq!(body["content"], format!("**{escaped}**\nhttps://e.example/?a=1&b=2"));
        assert_eq!(body["embeds"][0]["fields"][0], json!({ "name": "Project", "value": escaped, "inline": false }));
        assert_eq!(body["embeds"][0]["description"].as_str().unwrap().matches("```").count(), 2);
        let bare = Message { facts: Vec::new(), excerpt: String::new(), link: None, ..message("m") };
        assert_eq!(discord(&bare), json!({ "content": "**m**", "embeds": [], "allowed_mentions": { "parse": [] } }));
    }

    #[test]
    fn the_largest_message_is_within_the_limits_of_every_service() {
        for c in ["x", "`", "@", "&", "😀", "é"] {
            let mut largest = message(&c.repeat(100));
            let value = c.repeat(VALUE_MAX_UNITS / 2);
            largest.facts = vec![Fact { key: "k", label: "Label of a fact", value }; 20];
            largest.excerpt = c.repeat(EXCERPT_MAX_UNITS / 2);
            let units = |value: &Value| value.as_str().unwrap().encode_utf16().count();
            assert!(units(&slack(&largest)["text"]) < 40_000);
            let discord = discord(&largest);
            let (embed, fields) = (&discord["embeds"][0], discord["embeds"][0]["fields"].as_array().unwrap());
            assert!(units(&discord["content"]) <= 2_000 && units(&embed["description"]) <= 4_096);
            assert!(fields.iter().all(|field| units(&field["value"]) <= 1_024));
            let sum: usize = fields.iter().map(|field| units(&field["name"]) + units(&field["value"])).sum();
            assert!(sum + units(&embed["description"]) <= 6_000);
            assert!(ntfy(&largest, "t")["message"].as_str().unwrap().len() <= 4_096);
        }
    }
}
