//! The notifier, and every channel against servers that misbehave.

use std::cell::RefCell;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::*;
use crate::client::test_server::http;
use crate::client::{OutboundSettings, ProxyPolicy};
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

/// Sends without sleeping by the only channel. Returns its result and the delays in seconds.
pub(super) fn send(notifier: &Notifier, message: &Message) -> (ChannelResult, Vec<u64>) {
    let delays = RefCell::new(Vec::new());
    let mut results = notifier.send(message, &|delay| {
        delays.borrow_mut().push(delay.as_secs());
        true
    });
    assert_eq!(results.len(), 1);
    (results.remove(0), delays.into_inner())
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
        assert!(notifier.channels().is_empty() && notifier.send(&message("m"), &|_| true).is_empty());
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
    let (result, _) = send(&postmark(address), &message("Größe\r\nBcc: x@example.com"));
    let sent = json!({ "channel": "postmark", "attempts": 1, "outcome": "sent", "reason": null });
    assert_eq!(json!(result), sent);
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
fn responses_decide_whether_to_retry() {
    const OK: &str = "200 OK\r\n\r\n{\"ErrorCode\":0}";
    let rejected = "HTTP 422: Invalid 'From' of *** (Postmark error code 300)";
    type Case = (&'static [&'static str], &'static [u64], Result<(), &'static str>);
    let cases: [Case; 8] = [
        (&[OK], &[0], Ok(())),
        (&["500 Oops\r\n\r\n", OK], &[0, 1], Ok(())),
        (&["429 Slow\r\n\r\n", "503 Busy\r\n\r\n", OK], &[0, 1, 3], Ok(())),
        (&["502 Bad\r\n\r\n<h1>x"], &[0, 1, 3], Err("HTTP 502: the response is not from the Postmark API")),
        (&["422 No\r\n\r\n{\"ErrorCode\":300,\"Message\":\"Invalid 'From' of t0ken\"}"], &[0], Err(rejected)),
        (
            &["200 OK\r\n\r\n{\"ErrorCode\":406,\"Message\":\"inactive\"}"],
            &[0],
            Err("HTTP 200: inactive (Postmark error code 406)"),
        ),
        (&["200 OK\r\n\r\n<h1>Please log in"], &[0], Err("HTTP 200: the response is not from the Postmark API")),
        (&["302 Found\r\nLocation: /\r\n\r\n"], &[0], Err("HTTP 302: redirects are not followed")),
    ];
    for (responses, delays, outcome) in cases {
        let (address, requests) = http(responses);
        let (result, waited) = send(&postmark(address), &message("m"));
        assert_eq!((result.outcome, waited.as_slice()), (outcome.map_err(str::to_owned), delays), "{responses:?}");
        assert_eq!((result.attempts as usize, requests.len()), (delays.len(), delays.len()));
    }
}

#[test]
fn stopping_ends_the_attempts() {
    let (address, requests) = http(&["500 Oops\r\n\r\n"]);
    let stopped = postmark(address).send(&message("m"), &|delay| delay.is_zero());
    assert_eq!((stopped[0].attempts, requests.len()), (1, 1));
    assert!(stopped[0].outcome.as_ref().unwrap_err().contains("500"));
    let stopped = postmark(address).send(&message("m"), &|_| false);
    let expected = json!([{ "channel": "postmark", "attempts": 0, "outcome": "failed", "reason": "not attempted: the service is stopping" }]);
    assert_eq!((json!(stopped), requests.len()), (expected, 1));
}

#[test]
fn refused_connections_are_retried_and_named() {
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let (result, delays) = send(&webhook(closed, "/", "json"), &message("m"));
    assert_eq!(delays, [0, 1, 3]);
    assert!(result.outcome.unwrap_err().starts_with("127.0.0.1: Connection refused"));
}

#[test]
fn reasons_do_not_contain_the_webhook_url() {
    let (address, _) = http(&["404 No\r\n\r\nCannot POST /hooks/T0KEN?key=S3CRET (S3CRET)"]);
    let (result, _) = send(&webhook(address, "/hooks/T0KEN?key=S3CRET", "json"), &message("m"));
    assert_eq!(result.outcome.unwrap_err(), "HTTP 404: Cannot POST /*** (***)");
}

#[test]
fn generic_webhooks_receive_the_whole_message() {
    let (address, requests) = http(&["204 No Content\r\n\r\n"]);
    let (result, _) = send(&webhook(address, "/in?k=v", "auto"), &message("m"));
    assert_eq!(result.outcome, Ok(()));
    let request = requests.recv().unwrap();
    assert!(request.starts_with("POST /in?k=v HTTP/1.1\r\n"), "{request}");
    let mut body = body(&request);
    assert!(Timestamp::parse(body["sent_at"].take().as_str().unwrap()).is_some());
    let expected = json!({
        "event": "new_error",
        "title": "m",
        "text": "m\n\nProject:   shop\nLocation:  a.py:7\n\nhttps://e.example/?a=1&b=2\n",
        "link": "https://e.example/?a=1&b=2",
        "facts": { "project": "shop", "location": "a.py:7" },
        "excerpt": "Trace\n  boom",
        "sent_at": null,
    });
    assert_eq!(body, expected);
}

#[test]
fn ntfy_receives_json_at_its_root() {
    let (address, requests) = http(&["200 OK\r\n\r\n"]);
    let (result, _) = send(&webhook(address, "/alerts/?auth=QQ", "ntfy"), &message("Grüße\r\nX: y"));
    assert_eq!(result.outcome, Ok(()));
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
