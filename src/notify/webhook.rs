//! A post to a webhook, in JSON of our own or in the shape that Slack, Discord or ntfy expect.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use ureq::http::Uri;
use ureq::tls::Certificate;

use super::post::{Poster, web_url};
use super::{Channel, Fact, Failure, LIMITS, Letter, Message, Setup, mail, text};
use crate::env::Env;

/// What a chat shows of one fact, and of the excerpt.
const CHAT_VALUE_MAX_UNITS: usize = 300;
const CHAT_EXCERPT_MAX_UNITS: usize = 1_800;
/// Discord takes 2,000 characters of content, and in an embed 25 fields of 1,024 and 6,000 characters in all.
const DISCORD_CONTENT_MAX_UNITS: usize = 500;
const DISCORD_FIELDS_MAX: usize = 8;
const DISCORD_VALUE_MAX_UNITS: usize = 400;
/// ntfy takes 4,096 bytes; a UTF-16 unit is at most three.
const NTFY_TEXT_MAX_UNITS: usize = 1_300;

/// Shorter parts of a URL are words such as "in" and hide nothing.
const SECRET_PART_MIN_BYTES: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    Json,
    Slack,
    Discord,
    Ntfy { topic: String },
}

pub(super) struct Webhook {
    url: Uri,
    format: Format,
    poster: Poster,
}

impl Webhook {
    pub(super) fn from_env(env: &mut Env<'_>, roots: &[Certificate<'static>]) -> Setup {
        let format = env.one_of("ALERT_WEBHOOK_FORMAT", &["auto", "json", "slack", "discord", "ntfy"]);
        let Some(given) = env.secret("ALERT_WEBHOOK_URL") else { return Setup::Off };
        let secrets = secrets(given.reveal().trim());
        let Some(url) = web_url(given.reveal()) else {
            env.error("ALERT_WEBHOOK_URL", "must be an http:// or https:// URL without a user in it");
            return Setup::Off;
        };
        let Some((url, format)) = target(url, format) else {
            env.error("ALERT_WEBHOOK_URL", "must end in the topic, as in https://ntfy.sh/topic");
            return Setup::Off;
        };
        let poster = Poster { roots: roots.to_vec(), limits: LIMITS, secrets };
        Setup::Ready(Box::new(Self { url, format, poster }))
    }
}

/// Where to post, and in which shape. `None` for a URL of ntfy without a topic.
fn target(url: Uri, format: &str) -> Option<(Uri, Format)> {
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    let format = match format {
        "auto" if host == "hooks.slack.com" => "slack",
        "auto" if host == "discord.com" || host == "discordapp.com" || host.ends_with(".discord.com") => "discord",
        "auto" if host.starts_with("ntfy.") => "ntfy",
        given => given,
    };
    match format {
        "slack" => Some((url, Format::Slack)),
        "discord" => Some((url, Format::Discord)),
        "ntfy" => {
            // JSON goes to the server's root and names the topic: <https://docs.ntfy.sh/publish/#publish-as-json>.
            let (root, topic) = url.path().trim_end_matches('/').rsplit_once('/')?;
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            let root_url = format!("{}://{}{root}/{query}", url.scheme_str()?, url.authority()?);
            Some((root_url.parse().ok()?, Format::Ntfy { topic: topic.to_owned() })).filter(|_| !topic.is_empty())
        }
        _ => Some((url, Format::Json)),
    }
}

impl Channel for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn attempt(&self, letter: &Letter) -> Result<(), Failure> {
        let message = &letter.message;
        let body = match &self.format {
            Format::Json => plain(letter),
            Format::Slack => slack(message),
            Format::Discord => discord(message),
            Format::Ntfy { topic } => ntfy(message, topic),
        };
        let answer = self.poster.post(&self.url, &[], body.to_string().as_bytes())?;
        if answer.is_success() { Ok(()) } else { Err(answer.failure(answer.body.trim())) }
    }
}

/// The URL and what stands between its slashes and signs: some servers repeat the path they do not know.
fn secrets(url: &str) -> Vec<String> {
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    let parts = path.split(['/', '?', '&', '=']).chain([path, url]);
    parts.filter(|part| part.len() >= SECRET_PART_MIN_BYTES).map(str::to_owned).collect()
}

fn plain(letter: &Letter) -> Value {
    let message = &letter.message;
    let facts: Map<String, Value> =
        message.facts.iter().map(|fact| (fact.key.to_owned(), fact.value.as_str().into())).collect();
    json!({
        "event": message.event,
        "title": message.title,
        "text": mail::summary(message),
        "link": message.link,
        "facts": facts,
        "excerpt": message.excerpt,
        "sent_at": letter.at,
    })
}

/// mrkdwn: <https://docs.slack.dev/messaging/formatting-message-text>. `<` is what begins a mention there.
fn slack(message: &Message) -> Value {
    let escape = |text: &str| unfenced(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut text = format!("*{}*", escape(&message.title));
    for fact in &message.facts {
        let value = text::cut(&fact.value, CHAT_VALUE_MAX_UNITS);
        let _ = write!(text, "\n{}: {}", escape(fact.label), escape(&value));
    }
    if let Some(link) = &message.link {
        let _ = write!(text, "\n{}", escape(link));
    }
    if !message.excerpt.is_empty() {
        let _ = write!(text, "\n```\n{}\n```", escape(&text::cut_middle(&message.excerpt, CHAT_EXCERPT_MAX_UNITS)));
    }
    json!({ "text": text })
}

/// <https://docs.discord.com/developers/resources/webhook#execute-webhook>. The link stands in the text: were it
/// refused as the embed's own `url`, as localhost may be, the whole alert would be.
fn discord(message: &Message) -> Value {
    let escape = |text: &str, max_units| text::cut(&discord_text(text), max_units);
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
        let excerpt = text::cut_middle(&unfenced(&message.excerpt), CHAT_EXCERPT_MAX_UNITS);
        embed["description"] = format!("```\n{excerpt}\n```").into();
    }
    let is_empty = message.facts.is_empty() && message.excerpt.is_empty();
    let embeds = if is_empty { Vec::new() } else { vec![embed] };
    json!({ "content": content, "embeds": embeds, "allowed_mentions": { "parse": [] } })
}

/// <https://docs.ntfy.sh/publish/#publish-as-json>.
fn ntfy(message: &Message, topic: &str) -> Value {
    let facts: Vec<String> = message.facts.iter().map(|fact| format!("{}: {}", fact.label, fact.value)).collect();
    let text = format!("{}\n\n{}", facts.join("\n"), message.excerpt);
    let mut body = json!({
        "topic": topic,
        "title": message.title,
        "message": text::cut_middle(text.trim(), NTFY_TEXT_MAX_UNITS),
    });
    if let Some(link) = &message.link {
        body["click"] = link.as_str().into();
    }
    body
}

/// Text that opens or closes no code fence: an invisible space follows every backtick.
fn unfenced(text: &str) -> String {
    text.replace('`', "`\u{200b}")
}

/// Text without effect in Discord's Markdown: a backslash before each of its signs, and before the colon of a URL.
fn discord_text(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        if "\\*_~`|[]()<>#@:-".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::super::{EXCERPT_MAX_UNITS, VALUE_MAX_UNITS};
    use super::*;

    fn hostile() -> Message {
        let text = "<!channel> @everyone & ``` [x](http://evil) ```";
        let mut message = message(text);
        message.facts[0].value = text.to_owned();
        message.excerpt = format!("{text}\n```");
        message
    }

    #[test]
    fn the_host_tells_the_format() {
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
            let (target, format) = target(url.parse().unwrap(), format).unwrap();
            assert_eq!((target.path_and_query().unwrap().as_str(), format), (posted_to, expected), "{url}");
        }
    }

    #[test]
    fn slack_gets_no_mention_and_one_fence() {
        let text = slack(&hostile())["text"].as_str().unwrap().to_owned();
        assert!(!text.contains(['<', '>']) && text.contains("&lt;!channel&gt; @everyone &amp; "), "{text}");
        assert_eq!(text.matches("```").count(), 2, "{text}");
        assert!(text.ends_with("\n```"), "{text}");
        assert_eq!(
            slack(&message("m"))["text"],
            "*m*\nProject: shop\nLocation: a.py:7\nhttps://e.example/?a=1&amp;b=2\n```\nTrace\n  boom\n```"
        );
    }

    #[test]
    fn discord_pings_nobody_and_formats_nothing() {
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
    fn the_largest_message_fits_every_service() {
        for sign in ["x", "`", "&", "😀", "é"] {
            let mut largest = message(&sign.repeat(100));
            let value = sign.repeat(VALUE_MAX_UNITS / 2);
            largest.facts = vec![Fact { key: "k", label: "Label of a fact", value }; 20];
            largest.excerpt = sign.repeat(EXCERPT_MAX_UNITS / 2);
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
