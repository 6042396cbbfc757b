//! The face of the module, and every channel against a server that misbehaves.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};

use super::listener::{dripping, http};
use super::*;

/// A message with two facts, a link and an excerpt.
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

/// The notifier that these variables configure, or its faults.
pub(super) fn notifier(pairs: &[(&str, &str)]) -> Result<Notifier, Vec<String>> {
    let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let mut env = Env::new(VARIABLES, lookup);
    let notifier = Notifier::from_env(&mut env);
    env.finish().map(|()| notifier)
}

/// Sends without sleeping; also answers the waits that were asked for, in seconds.
pub(super) fn send(notifier: &Notifier, message: &Message) -> (Delivery, Vec<u64>) {
    let waits = RefCell::new(Vec::new());
    let mut deliveries = notifier.send(message, &|wait| {
        waits.borrow_mut().push(wait.as_secs());
        true
    });
    assert_eq!(deliveries.len(), 1);
    (deliveries.remove(0), waits.into_inner())
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
fn what_is_incomplete_names_the_missing_variable() {
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
    assert_eq!(one.incomplete(), ["Alerts by postmark are off: set POSTMARK_FROM_EMAIL"]);
}

#[test]
fn what_is_malformed_is_a_fault() {
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
    ] {
        let mut given = vec![(name, value)];
        if name == "SMTP_HOST" {
            given.push(("ALERT_EMAILS", "a@example.com"));
        }
        let faults = notifier(&given).err().unwrap_or_default();
        assert_eq!(faults.len(), 1, "{name} {value}: {faults:?}");
        assert!(faults[0].starts_with(name) && !faults[0].contains("s3cret"), "{faults:?}");
    }
}

#[test]
fn the_limits_hold() {
    let mut long = message(&"ä".repeat(500));
    long.facts = vec![Fact { key: "k", label: "K", value: "x\n".repeat(5_000) }; 50];
    long.excerpt = "y\n".repeat(9_000);
    long.link = Some("javascript:alert(1)".to_owned());
    let cut = within_limits(&long);
    assert_eq!(cut.title.chars().count(), TITLE_MAX_UNITS);
    assert_eq!(cut.facts.len(), FACTS_MAX);
    assert!(cut.facts.iter().all(|fact| fact.value.chars().count() == VALUE_MAX_UNITS && fact.value.ends_with('…')));
    assert!(cut.excerpt.contains("\n…\n") && cut.excerpt.chars().count() <= EXCERPT_MAX_UNITS);
    assert_eq!(cut.link, None);
    assert_eq!(within_limits(&message("\r\n")).title, "(untitled)");
}

#[test]
fn postmark_gets_one_mail_with_both_bodies() {
    let (address, requests) = http(&["200 OK\r\n\r\n{\"ErrorCode\":0,\"Message\":\"OK\"}"]);
    let (delivery, _) = send(&postmark(address), &message("Größe\r\nBcc: x@example.com"));
    let sent = json!({ "channel": "postmark", "attempts": 1, "outcome": "sent", "reason": null });
    assert_eq!(json!(delivery), sent);
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
fn attempts_follow_the_answer() {
    const OK: &str = "200 OK\r\n\r\n{\"ErrorCode\":0}";
    let refused = "the server answered 422: Invalid 'From' of *** (Postmark's code 300)";
    type Case = (&'static [&'static str], &'static [u64], Result<(), &'static str>);
    let cases: [Case; 8] = [
        (&[OK], &[0], Ok(())),
        (&["500 Oops\r\n\r\n", OK], &[0, 1], Ok(())),
        (&["429 Slow\r\n\r\n", "503 Busy\r\n\r\n", OK], &[0, 1, 3], Ok(())),
        (&["502 Bad\r\n\r\n<h1>x"], &[0, 1, 3], Err("the server answered 502: not as Postmark does")),
        (&["422 No\r\n\r\n{\"ErrorCode\":300,\"Message\":\"Invalid 'From' of t0ken\"}"], &[0], Err(refused)),
        (
            &["200 OK\r\n\r\n{\"ErrorCode\":406,\"Message\":\"inactive\"}"],
            &[0],
            Err("the server answered 200: inactive (Postmark's code 406)"),
        ),
        (&["200 OK\r\n\r\n<h1>Please log in"], &[0], Err("the server answered 200: not as Postmark does")),
        (&["302 Found\r\nLocation: /\r\n\r\n"], &[0], Err("the server answered 302: redirects are not followed")),
    ];
    for (answers, waits, outcome) in cases {
        let (address, requests) = http(answers);
        let (delivery, waited) = send(&postmark(address), &message("m"));
        assert_eq!((delivery.outcome, waited.as_slice()), (outcome.map_err(str::to_owned), waits), "{answers:?}");
        assert_eq!((delivery.attempts as usize, requests.len()), (waits.len(), waits.len()));
    }
}

#[test]
fn stopping_gives_up_at_once() {
    let (address, requests) = http(&["500 Oops\r\n\r\n"]);
    let stopped = postmark(address).send(&message("m"), &|wait| wait.is_zero());
    assert_eq!((stopped[0].attempts, requests.len()), (1, 1));
    assert!(stopped[0].outcome.as_ref().unwrap_err().contains("500"));
    let stopped = postmark(address).send(&message("m"), &|_| false);
    let expected =
        json!([{ "channel": "postmark", "attempts": 0, "outcome": "failed", "reason": "not tried: stopping" }]);
    assert_eq!((json!(stopped), requests.len()), (expected, 1));
}

#[test]
fn a_refused_connection_is_tried_again_and_named() {
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let (delivery, waits) = send(&webhook(closed, "/", "json"), &message("m"));
    assert_eq!(waits, [0, 1, 3]);
    assert!(delivery.outcome.unwrap_err().starts_with("127.0.0.1: Connection refused"));
}

#[test]
fn a_webhook_never_repeats_its_url() {
    let (address, _) = http(&["404 No\r\n\r\nCannot POST /hooks/T0KEN?key=S3CRET (S3CRET)"]);
    let (delivery, _) = send(&webhook(address, "/hooks/T0KEN?key=S3CRET", "json"), &message("m"));
    assert_eq!(delivery.outcome.unwrap_err(), "the server answered 404: Cannot POST /*** (***)");
}

#[test]
fn a_dripping_answer_ends_in_time() {
    let limits = Limits { connect: Duration::from_millis(500), exchange: Duration::from_millis(300) };
    let address = dripping("HTTP/1.1 200 OK\r\nX: ");
    let url = format!("http://{address}/").parse().unwrap();
    let began = Instant::now();
    let outcome = post::Poster { roots: Vec::new(), limits, secrets: Vec::new() }
        .post(&url, &[], b"{}")
        .map(|answer| answer.status);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let failure = outcome.unwrap_err();
    assert!(failure.temporary && failure.reason.starts_with("127.0.0.1: took too long"), "{failure:?}");
}

#[test]
fn the_generic_webhook_gets_everything() {
    let (address, requests) = http(&["204 No Content\r\n\r\n"]);
    let (delivery, _) = send(&webhook(address, "/in?k=v", "auto"), &message("m"));
    assert_eq!(delivery.outcome, Ok(()));
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
fn ntfy_gets_json_at_its_root() {
    let (address, requests) = http(&["200 OK\r\n\r\n"]);
    let (delivery, _) = send(&webhook(address, "/alerts/?auth=QQ", "ntfy"), &message("Grüße\r\nX: y"));
    assert_eq!(delivery.outcome, Ok(()));
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
