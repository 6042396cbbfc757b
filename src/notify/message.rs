//! The message that channels send.

use super::defang::defang_urls;
use crate::clock::Timestamp;
use crate::text;

pub(super) const TITLE_MAX_UNITS: usize = 200;
pub(super) const FACTS_MAX: usize = 20;
pub(super) const VALUE_MAX_UNITS: usize = 2_000;
pub(super) const EXCERPT_MAX_UNITS: usize = 8_000;
const LINK_MAX_UNITS: usize = 2_000;

/// A notification. Its strings may come from clients: channels escape and truncate them, and mark a cut with "…".
#[derive(Debug, Clone)]
pub struct Message {
    /// The event for programs, for example `new_error`.
    pub event: &'static str,
    /// The subject in one line; at most 200 characters are sent.
    pub title: String,
    /// Details in the order in which they are shown; at most 20 are sent.
    pub facts: Vec<Fact>,
    /// Preformatted text such as a stack trace, or empty. At most 8,000 characters are sent; a longer text loses its
    /// middle.
    pub excerpt: String,
    /// An `http` or `https` URL with more details.
    pub link: Option<String>,
}

/// One detail of a message.
#[derive(Debug, Clone)]
pub struct Fact {
    /// The name for programs.
    pub key: &'static str,
    /// The name for people.
    pub label: &'static str,
    /// The value, sent as one line of at most 2,000 characters.
    pub value: String,
}

/// Identity of a message. All attempts share it, so that a server can recognize a duplicate.
#[derive(Debug, Clone)]
pub struct MessageId {
    /// A unique id of ASCII letters, digits, dots and hyphens.
    pub id: String,
    /// Time of the event.
    pub created_at: Timestamp,
}

/// A message within its limits.
pub(super) struct OutgoingMessage {
    pub(super) message: Message,
    /// The same message without URLs of strangers, for channels whose programs turn URLs into links.
    pub(super) defanged: Message,
    pub(super) id: String,
    pub(super) created_at: Timestamp,
}

impl OutgoingMessage {
    pub(super) fn new(message: &Message, MessageId { id, created_at }: &MessageId) -> Self {
        let message = truncate_fields(message);
        // Truncated again, because a defanged URL is longer.
        let defanged = truncate_fields(&defang(&message));
        Self { message, defanged, id: id.clone(), created_at: *created_at }
    }
}

/// Defangs the URLs in everything but the link, which is our own.
fn defang(message: &Message) -> Message {
    let fact = |fact: &Fact| Fact { value: defang_urls(&fact.value), ..*fact };
    Message {
        event: message.event,
        title: defang_urls(&message.title),
        facts: message.facts.iter().map(fact).collect(),
        excerpt: defang_urls(&message.excerpt),
        link: message.link.clone(),
    }
}

fn truncate_fields(message: &Message) -> Message {
    let title = text::one_line(&message.title, TITLE_MAX_UNITS);
    let fact = |fact: &Fact| Fact { value: text::one_line(&fact.value, VALUE_MAX_UNITS), ..*fact };
    let link = message.link.as_deref().map(|link| text::one_line(link, LINK_MAX_UNITS));
    Message {
        event: message.event,
        title: if title.is_empty() { "(untitled)".to_owned() } else { title },
        facts: message.facts.iter().take(FACTS_MAX).map(fact).collect(),
        excerpt: text::multi_line(&message.excerpt, EXCERPT_MAX_UNITS),
        // A link with another scheme, such as `javascript:`, would run when someone clicks it.
        link: link.filter(|link| link.starts_with("http://") || link.starts_with("https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    #[test]
    fn fields_are_truncated() {
        let mut long = message(&"ä".repeat(500));
        long.facts = vec![Fact { key: "k", label: "K", value: "x\n".repeat(5_000) }; 50];
        long.excerpt = "y\n".repeat(9_000);
        long.link = Some("javascript:alert(1)".to_owned());
        let short = truncate_fields(&long);
        assert_eq!(short.title.chars().count(), TITLE_MAX_UNITS);
        assert_eq!(short.facts.len(), FACTS_MAX);
        let is_cut = |fact: &Fact| fact.value.chars().count() == VALUE_MAX_UNITS && fact.value.ends_with('…');
        assert!(short.facts.iter().all(is_cut));
        assert!(short.excerpt.contains("\n…\n") && short.excerpt.chars().count() <= EXCERPT_MAX_UNITS);
        assert_eq!(short.link, None);
        assert_eq!(truncate_fields(&message("\r\n")).title, "(untitled)");
    }
}
