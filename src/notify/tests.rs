//! The notifier, and every channel against servers that misbehave.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::message::OutgoingMessage;
use super::*;
use crate::client::test_server::http;
use crate::client::{Delivery, OutboundSettings, ProxyPolicy};
use crate::clock::Timestamp;
use crate::env::Env;

/// Creates a message with two facts, a link and an excerpt.
pub(super) fn message(title: &str) -> Message {
    let fact = |key, label, value: &str| Fact { key, label, value: value.to_owned() };
    Message {
        event: "new_error",
        title: title.to_owned(),
        facts: vec![fact("project", "Project", "shop"), fact("location", "Location", "a.py:7")],
        excerpt: "Trace\n  boom".to_owned(),
        link: Some("https://e.example/?a=1&b=2".to_owned()),
    }
}

/// Returns the notifier that these variables configure, or the errors in them.
pub(super) fn notifier(pairs: &[(&str, &str)]) -> Result<Notifier, Vec<String>> {
    let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let variables = [VARIABLES, &OutboundSettings::variables(ProxyPolicy::Environment)].concat();
    let mut env = Env::new(&variables, lookup);
    let outbound = OutboundSettings::from_env(&mut env, ProxyPolicy::Environment, Some(OLDER_CA_FILE));
    let notifier = Notifier::from_env(&mut env, &outbound);
    env.finish().map(|()| notifier)
}

/// Returns a message as channels receive it.
pub(super) fn prepared(message: &Message) -> OutgoingMessage {
    OutgoingMessage::new(message, &id())
}

fn id() -> MessageId {
    MessageId { id: "7.example".to_owned(), created_at: Timestamp::from_seconds(1_769_860_800) }
}

/// Sends once by the only channel.
pub(super) fn send(notifier: Notifier, message: &Message) -> Delivery {
    let channels = notifier.into_channels();
    assert_eq!(channels.len(), 1);
    channels[0].send(message, &id())
}

fn postmark(address: SocketAddr) -> Notifier {
    let base = format!("http://{address}/");
    let given = [
        ("POSTMARK_API_TOKEN", "t0ken"),
        ("POSTMARK_FROM_EMAIL", "Alerts <a@example.com>"),
        ("ALERT_EMAILS", "b@example.com, c@example.com"),
        ("POSTMARK_API_BASE", &base),
    ];
    notifier(&given).unwrap()
}

fn webhook(address: SocketAddr, path: &str, format: &str) -> Notifier {
    let url = format!("http://{address}{path}");
    notifier(&[("ALERT_WEBHOOK_URL", &url), ("ALERT_WEBHOOK_FORMAT", format)]).unwrap()
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn incomplete_settings_name_the_missing_variables() {
    let nothing = "Alerts need ALERT_WEBHOOK_URL, or ALERT_EMAILS with SMTP_HOST or with POSTMARK_API_TOKEN and POSTMARK_FROM_EMAIL";
    let token = ("POSTMARK_API_TOKEN", "t");
    let emails = ("ALERT_EMAILS", "a@example.com");
    let host = ("SMTP_HOST", "localhost");
    for (given, missing) in [
        (vec![], nothing),
        (vec![token], "Alerts need POSTMARK_FROM_EMAIL and ALERT_EMAILS"),
        (vec![token, emails], "Alerts need POSTMARK_FROM_EMAIL"),
        (vec![emails], "Alerts need SMTP_HOST, or POSTMARK_API_TOKEN and POSTMARK_FROM_EMAIL"),
        (vec![host], "Alerts need ALERT_EMAILS"),
        (vec![host, emails, ("SMTP_USERNAME", "u")], "Alerts need SMTP_PASSWORD"),
        (
            vec![token, emails, ("SMTP_PASSWORD", "p")],
            "Alerts need POSTMARK_FROM_EMAIL, or SMTP_HOST and SMTP_USERNAME",
        ),
    ] {
        let notifier = notifier(&given).unwrap();
        assert_eq!(notifier.missing().as_deref(), Some(missing));
        assert!(notifier.channels().is_empty());
        assert_eq!(notifier.incomplete().is_empty(), given.is_empty());
    }
    let one = notifier(&[token, host, emails]).unwrap();
    assert_eq!((one.channels(), one.missing()), (vec!["smtp"], None));
    assert_eq!(one.incomplete(), ["Alerts by postmark are disabled; set POSTMARK_FROM_EMAIL to enable them"]);
}

#[test]
fn malformed_settings_are_errors() {
    for (name, value) in [
        ("ALERT_EMAILS", "a@example.com,nobody"),
        ("ALERT_EMAILS", "ü@example.com"),
        ("ALERT_EMAILS", "a@example.com\r\nBcc: b@example.com"),
        ("POSTMARK_FROM_EMAIL", "Alerts"),
        ("POSTMARK_API_BASE", "api.postmarkapp.com"),
        ("SMTP_FROM", "errors"),
        ("SMTP_PORT", "0"),
        ("SMTP_HOST", "mail host"),
        ("ALERT_WEBHOOK_URL", "ftp://example.com/"),
        ("ALERT_WEBHOOK_URL", "https://user:s3cret@example.com/"),
        ("ALERT_WEBHOOK_URL", "https://ntfy.sh/"),
        ("ALERT_WEBHOOK_FORMAT", "teams"),
        ("ALERT_CA_FILE", "/nonexistent"),
        ("ALERT_CA_FILE", "/dev/null"),
        ("CA_FILE", "/nonexistent"),
    ] {
        let mut given = vec![(name, value)];
        if name == "SMTP_HOST" {
            given.push(("ALERT_EMAILS", "a@example.com"));
        }
        let errors = notifier(&given).err().unwrap_or_default();
        assert_eq!(errors.len(), 1, "{name} {value}: {errors:?}");
        assert!(errors[0].starts_with(name) && !errors[0].contains("s3cret"), "{errors:?}");
    }
}

#[test]
fn postmark_receives_one_email_with_both_bodies() {
    let (address, requests) = http(&["200 OK\r\n\r\n{\"ErrorCode\":0,\"Message\":\"OK\"}"]);
    assert_eq!(send(postmark(address), &message("Größe\r\nBcc: x@example.com")), Delivery::Accepted);
    let request = requests.recv().unwrap();
    assert!(request.starts_with("POST /email HTTP/1.1\r\n"), "{request}");
    assert!(request.to_ascii_lowercase().contains("\r\nx-postmark-server-token: t0ken\r\n"), "{request}");
    let body = body(&request);
    assert_eq!(body["From"], "Alerts <a@example.com>");
    assert_eq!(body["To"], "b@example.com, c@example.com");
    assert_eq!(body["Subject"], "Größe Bcc: x@example.com");
    assert_eq!(body["MessageStream"], "outbound");
    assert_eq!(body["Headers"], json!([{ "Name": "Auto-Submitted", "Value": "auto-generated" }]));
    assert!(body["TextBody"].as_str().unwrap().contains("Project:   shop"), "{body}");
    assert!(body["HtmlBody"].as_str().unwrap().starts_with("<!doctype html>"), "{body}");
}

#[test]
fn answers_of_postmark_decide_whether_to_retry() {
    let not_postmark = |status| Delivery::retry(format!("HTTP {status}: the response is not from the Postmark API"));
    let cases: [(&'static [&'static str], Delivery); 7] = [
        (&["200 OK\r\n\r\n{\"ErrorCode\":0}"], Delivery::Accepted),
        (&["502 Bad\r\n\r\n<h1>x"], not_postmark(502)),
        (&["200 OK\r\n\r\n<h1>Please log in"], not_postmark(200)),
        (
            &["422 No\r\n\r\n{\"ErrorCode\":300,\"Message\":\"Invalid 'From' of t0ken\"}"],
            Delivery::rejected("HTTP 422: Invalid 'From' of *** (Postmark error code 300)"),
        ),
        (
            &["401 No\r\n\r\n{\"ErrorCode\":10,\"Message\":\"Bad token\"}"],
            Delivery::retry("HTTP 401: Bad token (Postmark error code 10)"),
        ),
        (
            &["200 OK\r\n\r\n{\"ErrorCode\":406,\"Message\":\"inactive\"}"],
            Delivery::rejected("HTTP 200: inactive (Postmark error code 406)"),
        ),
        (&["302 Found\r\nLocation: /\r\n\r\n"], Delivery::retry("HTTP 302: redirects are not followed")),
    ];
    for (responses, expected) in cases {
        let (address, requests) = http(responses);
        assert_eq!((send(postmark(address), &message("m")), requests.len()), (expected, 1), "{responses:?}");
    }
}

#[test]
fn only_answers_about_the_message_are_final() {
    let cases: [(&'static [&'static str], bool); 14] = [
        (&["301 Moved\r\nLocation: /\r\n\r\n"], false),
        (&["307 Moved\r\nLocation: /\r\n\r\n"], false),
        (&["400 Bad\r\n\r\n"], true),
        (&["401 No\r\n\r\n"], false),
        (&["403 No\r\n\r\n"], false),
        (&["404 No\r\n\r\n"], false),
        (&["405 No\r\n\r\n"], false),
        (&["410 Gone\r\n\r\n"], false),
        (&["411 Length\r\n\r\n"], false),
        (&["413 Large\r\n\r\n"], true),
        (&["415 Type\r\n\r\n"], false),
        (&["422 No\r\n\r\n"], true),
        (&["429 Slow\r\nRetry-After: 7\r\n\r\n"], false),
        (&["500 Oops\r\n\r\n"], false),
    ];
    for (responses, is_final) in cases {
        let result = send(webhook(http(responses).0, "/", "json"), &message("m"));
        let after = responses[0].contains("Retry-After").then_some(std::time::Duration::from_secs(7));
        match &result {
            Delivery::Rejected { .. } => assert!(is_final, "{responses:?}"),
            Delivery::Retry { after: asked, .. } => assert_eq!((is_final, *asked), (false, after), "{responses:?}"),
            Delivery::Accepted => panic!("{responses:?} is accepted"),
        }
    }
}

#[test]
fn refused_connections_are_retried_and_named() {
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let Delivery::Retry { reason, .. } = send(webhook(closed, "/", "json"), &message("m")) else { panic!("is final") };
    assert!(reason.starts_with("127.0.0.1: Connection refused"), "{reason}");
}

#[test]
fn reasons_do_not_contain_the_webhook_url() {
    let (address, _) = http(&["404 No\r\n\r\nCannot POST /hooks/T0KEN?key=S3CRET (S3CRET)"]);
    let result = send(webhook(address, "/hooks/T0KEN?key=S3CRET", "json"), &message("m"));
    assert_eq!(result, Delivery::retry("HTTP 404: Cannot POST /*** (***)"));
}

#[test]
fn urls_of_strangers_are_no_links_and_ours_stays() {
    let mut hostile = message("log in at http://evil.example/login");
    hostile.facts[0].value = "https://evil.example/login".to_owned();
    hostile.excerpt = "www.evil.example evil.example/login".to_owned();
    for format in ["slack", "ntfy", "json"] {
        let (address, requests) = http(&["200 OK\r\n\r\n"]);
        assert_eq!(send(webhook(address, "/topic", format), &hostile), Delivery::Accepted);
        let body = body(&requests.recv().unwrap());
        let shown =
            if format == "ntfy" { format!("{} {}", body["title"], body["message"]) } else { body["text"].to_string() };
        assert!(!shown.contains("evil.example") && shown.contains("hxxp://evil[.]example/login"), "{format}: {shown}");
        let link = if format == "ntfy" { body["click"].to_string() } else { shown };
        assert!(link.contains("https://e.example/?a=1"), "{format}: {link}");
    }
    let (address, requests) = http(&["200 OK\r\n\r\n{\"ErrorCode\":0}"]);
    assert_eq!(send(postmark(address), &hostile), Delivery::Accepted);
    let body = body(&requests.recv().unwrap());
    for part in ["Subject", "TextBody", "HtmlBody"] {
        assert!(!body[part].as_str().unwrap().contains("evil.example"), "{part}: {}", body[part]);
    }
    assert!(body["HtmlBody"].as_str().unwrap().contains("href=\"https://e.example/?a=1&amp;b=2\""), "{body}");
}

#[test]
fn generic_webhooks_receive_the_whole_message() {
    let (address, requests) = http(&["204 No Content\r\n\r\n"]);
    assert_eq!(send(webhook(address, "/in?k=v", "auto"), &message("m")), Delivery::Accepted);
    let request = requests.recv().unwrap();
    assert!(request.starts_with("POST /in?k=v HTTP/1.1\r\n"), "{request}");
    let expected = json!({
        "id": "7.example",
        "event": "new_error",
        "title": "m",
        "text": "m\n\nProject:   shop\nLocation:  a.py:7\n\nhttps://e.example/?a=1&b=2\n",
        "link": "https://e.example/?a=1&b=2",
        "facts": { "project": "shop", "location": "a.py:7" },
        "excerpt": "Trace\n  boom",
        "sent_at": "2026-01-31T12:00:00Z",
    });
    assert_eq!(body(&request), expected);
}

#[test]
fn ntfy_receives_json_at_its_root() {
    let (address, requests) = http(&["200 OK\r\n\r\n"]);
    let result = send(webhook(address, "/alerts/?auth=QQ", "ntfy"), &message("Grüße\r\nX: y"));
    assert_eq!(result, Delivery::Accepted);
    let request = requests.recv().unwrap();
    assert!(request.starts_with("POST /?auth=QQ HTTP/1.1\r\n"), "{request}");
    let expected = json!({
        "topic": "alerts",
        "title": "Grüße X: y",
        "message": "Project: shop\nLocation: a.py:7\n\nTrace\n  boom",
        "click": "https://e.example/?a=1&b=2",
    });
    assert_eq!(body(&request), expected);
}
