//! A message as people read it, in plain text and in HTML, and the mail that holds both.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};

use super::{Letter, Message};

/// Title, facts and link, without the excerpt.
pub(super) fn summary(message: &Message) -> String {
    let width = message.facts.iter().map(|fact| fact.label.chars().count()).max().unwrap_or(0);
    let mut text = format!("{}\n", message.title);
    for (index, fact) in message.facts.iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}{:<1$}  {2}", format!("{}:", fact.label), width + 1, fact.value);
    }
    if let Some(link) = &message.link {
        let _ = writeln!(text, "\n{link}");
    }
    text
}

/// The whole message as text.
pub(super) fn text(message: &Message) -> String {
    let mut text = summary(message);
    if !message.excerpt.is_empty() {
        let _ = writeln!(text, "\n{}", message.excerpt);
    }
    text
}

/// The whole message as HTML. Styles stand inline since mail programs drop the rest; text and ground keep the reader's
/// own colours, so that it reads in the dark.
pub(super) fn html(message: &Message) -> String {
    let title = escape(&message.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title></head>\n\
         <body style=\"margin:0;padding:24px;font:15px/1.5 system-ui,sans-serif\">\n\
         <h1 style=\"margin:0 0 16px;font-size:20px\">{title}</h1>\n"
    );
    if !message.facts.is_empty() {
        html.push_str("<table style=\"border-collapse:collapse\">\n");
        for fact in &message.facts {
            let (label, value) = (escape(fact.label), escape(&fact.value));
            let _ = writeln!(
                html,
                "<tr><th style=\"padding:2px 16px 2px 0;text-align:left;vertical-align:top;opacity:.7\">{label}</th>\
                 <td style=\"padding:2px 0;word-break:break-word\">{value}</td></tr>"
            );
        }
        html.push_str("</table>\n");
    }
    if let Some(link) = &message.link {
        let _ = writeln!(
            html,
            "<p><a href=\"{}\" style=\"display:inline-block;padding:10px 16px;border-radius:6px;background:#2458c5;\
             color:#fff;text-decoration:none\">Open</a></p>",
            escape(link)
        );
    }
    if !message.excerpt.is_empty() {
        let _ = writeln!(
            html,
            "<pre style=\"padding:12px;border-radius:6px;background:rgba(127,127,127,.15);white-space:pre-wrap;\
             word-break:break-word;font:13px/1.45 ui-monospace,monospace\">{}</pre>",
            escape(&message.excerpt)
        );
    }
    html.push_str("</body></html>\n");
    html
}

/// The whole mail, headers and both bodies, as it goes over the wire.
pub(super) fn mime(letter: &Letter, from: &Mailbox, to: &[Mailbox]) -> Vec<u8> {
    let message = &letter.message;
    let sent_at = UNIX_EPOCH + Duration::from_millis(u64::try_from(letter.at.ms()).unwrap_or(0));
    let builder = lettre::Message::builder()
        .from(from.clone())
        // "=?" begins an encoded word, which the reader's program would decode.
        .subject(message.title.replace("=?", "= ?"))
        .date(sent_at)
        .message_id(Some(format!("<{}@{}>", letter.id, from.email.domain())))
        .header(AutoSubmitted);
    let builder = to.iter().fold(builder, |builder, to| builder.to(to.clone()));
    let bodies = MultiPart::alternative_plain_html(text(message), html(message));
    builder.multipart(bodies).expect("a sender and a recipient are there, which is all it asks for").formatted()
}

/// Tells other programs not to answer: RFC 3834, section 5.
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::super::tests::message;
    use super::*;

    #[test]
    fn text_aligns_its_facts() {
        let expected =
            "New error\n\nProject:   shop\nLocation:  a.py:7\n\nhttps://e.example/?a=1&b=2\n\nTrace\n  boom\n";
        assert_eq!(text(&message("New error")), expected);
        assert!(expected.starts_with(&summary(&message("New error"))));
    }

    #[test]
    fn html_shows_markup_as_text() {
        let hostile = "</pre></title><script>alert('x')</script>\"&";
        let mut message = message(hostile);
        message.excerpt = hostile.to_owned();
        message.facts[0].value = hostile.to_owned();
        message.link = Some("https://e.example/\"><script>".to_owned());
        let html = html(&message);
        assert!(!html.contains("<script") && !html.contains("alert('"), "{html}");
        assert_eq!(html.matches("</pre>").count(), 1);
        assert!(html.contains("href=\"https://e.example/&quot;&gt;&lt;script&gt;\""), "{html}");
    }

    proptest::proptest! {
        #[test]
        fn any_title_yields_one_clean_header(title in "(?s).{0,300}") {
            let from: Mailbox = "errors@example.com".parse().unwrap();
            let mail = String::from_utf8(mime(&Letter::new(&message(&title)), &from, from_ref(&from))).unwrap();
            let head = mail.split_once("\r\n\r\n").unwrap().0.replace("\r\n ", " ");
            let names: Vec<&str> = head.split("\r\n").map(|line| line.split_once(": ").unwrap().0).collect();
            let expected = ["From", "Subject", "Date", "Message-ID", "Auto-Submitted", "To", "MIME-Version", "Content-Type"];
            proptest::prop_assert_eq!(names, expected);
            proptest::prop_assert!(head.split("\r\n").all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
        }
    }
}
