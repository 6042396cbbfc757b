//! Rendering of a message as plain text, as HTML and as an email with both.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};

use super::message::{Message, OutgoingMessage};

/// Renders the title, the facts and the link as plain text.
pub(super) fn summary(message: &Message) -> String {
    let width = message.facts.iter().map(|fact| fact.label.chars().count()).max().unwrap_or(0);
    let mut summary = format!("{}\n", message.title);
    for (index, fact) in message.facts.iter().enumerate() {
        let blank_line = if index == 0 { "\n" } else { "" };
        let _ = writeln!(summary, "{blank_line}{:<1$}  {2}", format!("{}:", fact.label), width + 1, fact.value);
    }
    if let Some(link) = &message.link {
        let _ = writeln!(summary, "\n{link}");
    }
    summary
}

/// Renders the whole message as plain text.
pub(super) fn plain_text(message: &Message) -> String {
    let mut body = summary(message);
    if !message.excerpt.is_empty() {
        let _ = writeln!(body, "\n{}", message.excerpt);
    }
    body
}

/// Renders the whole message as HTML. Styles are inline, because mail programs drop style sheets. The colors of text and
/// background are those of the reader's mail program, so that dark mode works.
pub(super) fn html(message: &Message) -> String {
    let title = escape_html(&message.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title></head>\n\
         <body style=\"margin:0;padding:24px;font:15px/1.5 system-ui,sans-serif\">\n\
         <h1 style=\"margin:0 0 16px;font-size:20px\">{title}</h1>\n"
    );
    if !message.facts.is_empty() {
        html.push_str("<table style=\"border-collapse:collapse\">\n");
        for fact in &message.facts {
            let (label, value) = (escape_html(fact.label), escape_html(&fact.value));
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
            escape_html(link)
        );
    }
    if !message.excerpt.is_empty() {
        let _ = writeln!(
            html,
            "<pre style=\"padding:12px;border-radius:6px;background:rgba(127,127,127,.15);white-space:pre-wrap;\
             word-break:break-word;font:13px/1.45 ui-monospace,monospace\">{}</pre>",
            escape_html(&message.excerpt)
        );
    }
    html.push_str("</body></html>\n");
    html
}

/// Renders the email with its headers and both bodies.
pub(super) fn mime(prepared: &OutgoingMessage, from: &Mailbox, to: &[Mailbox]) -> Vec<u8> {
    let message = &prepared.defanged;
    let date = UNIX_EPOCH + Duration::from_millis(u64::try_from(prepared.created_at.ms()).unwrap_or(0));
    let builder = lettre::Message::builder()
        .from(from.clone())
        // "=?" would start an encoded word, which mail programs decode.
        .subject(message.title.replace("=?", "= ?"))
        .date(date)
        .message_id(Some(format!("<{}@{}>", prepared.id, from.email.domain())))
        .header(AutoSubmitted);
    let builder = to.iter().fold(builder, |builder, to| builder.to(to.clone()));
    let bodies = MultiPart::alternative_plain_html(plain_text(message), html(message));
    builder.multipart(bodies).expect("lettre needs a sender and a recipient, and both are set").formatted()
}

/// Header that keeps other programs from replying: RFC 3834, section 5.
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

fn escape_html(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut escaped, c| {
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

    use super::super::tests::{message, prepared};
    use super::*;

    #[test]
    fn plain_text_aligns_its_facts() {
        let expected =
            "New error\n\nProject:   shop\nLocation:  a.py:7\n\nhttps://e.example/?a=1&b=2\n\nTrace\n  boom\n";
        assert_eq!(plain_text(&message("New error")), expected);
        assert!(expected.starts_with(&summary(&message("New error"))));
    }

    #[test]
    fn html_escapes_markup() {
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
        fn any_title_becomes_one_valid_header(title in "(?s).{0,300}") {
            let from: Mailbox = "errors@example.com".parse().unwrap();
            let mail = String::from_utf8(mime(&prepared(&message(&title)), &from, from_ref(&from))).unwrap();
            let head = mail.split_once("\r\n\r\n").unwrap().0.replace("\r\n ", " ");
            let names: Vec<&str> = head.split("\r\n").map(|line| line.split_once(": ").unwrap().0).collect();
            let expected = ["From", "Subject", "Date", "Message-ID", "Auto-Submitted", "To", "MIME-Version", "Content-Type"];
            proptest::prop_assert_eq!(names, expected);
            proptest::prop_assert!(head.split("\r\n").all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
        }
    }
}
