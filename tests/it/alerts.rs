//! Alerts of the error tracker, received by test servers in place of an SMTP server, Postmark and a webhook.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::harness::{Service, Setup, free_address, report, report_at, skip, wait_until};
use crate::support::python::Listener;
use crate::support::receiver::HttpReceiver;

/// Polls the alert history until it satisfies `condition` and returns it, newest alert first.
fn wait_for_history(tracker: &Service, condition: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let history = wait_until(|| {
        let history = tracker.get("/api/alerts").expect(200).json()["alerts"].as_array().unwrap().clone();
        condition(&history).then_some(history)
    });
    history.expect("the alert history reaches the expected state")
}

#[test]
fn new_and_reopened_groups_alert_and_repeats_do_not() {
    let webhook = HttpReceiver::start(&[]);
    let tracker = Setup::error_tracker()
        .env("ALERT_WEBHOOK_URL", format!("{}/hook", webhook.url()))
        .env("BASE_URL", "https://errors.example/")
        .env("ALERT_COOLDOWN", 0)
        .start();
    tracker.post("/api/errors", &report("bad\r\nBcc: all@example.com")).expect(201);
    let (head, alert) = webhook.next_request();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    assert_eq!(alert["event"], "error.new");
    assert_eq!(alert["link"], "https://errors.example/?id=1");
    assert_eq!(alert["title"], "[shop] New: ValueError: bad Bcc: all@example.com");
    for (name, value) in [
        ("project", "shop"),
        ("exception_type", "ValueError"),
        ("location", "/app/pay.py:42"),
        ("count", "1"),
        ("environment", "prod"),
    ] {
        assert_eq!(alert["facts"][name], value, "{name} in {alert}");
    }
    assert!(alert["excerpt"].as_str().unwrap().contains("in charge"), "{alert}");

    for _ in 0..3 {
        tracker.post("/api/errors", &report("again")).expect(200);
    }
    tracker.post("/api/errors/1/resolve", &json!({})).expect(200);
    tracker.post("/api/errors", &report("again")).expect(200);
    let (_, alert) = webhook.next_request();
    assert_eq!((&alert["event"], &alert["facts"]["count"]), (&json!("error.reopened"), &json!("5")));

    tracker.post("/api/test-alert", &json!({})).expect(202);
    assert_eq!(webhook.next_request().1["event"], "test");
    let history =
        wait_for_history(&tracker, |history| history.iter().filter(|alert| alert["state"] == "sent").count() == 3);
    let kinds: Vec<&Value> = history.iter().map(|alert| &alert["kind"]).collect();
    assert_eq!(kinds, ["test", "reopened", "new"]);
    assert_eq!(history[2]["detail"][0]["channel"], "webhook");
    assert!(tracker.log().iter().any(|line| line.contains("alert sent by webhook")));
    assert!(webhook.is_drained(), "more than three alerts were sent");
}

#[test]
fn reopened_group_within_its_cooldown_is_suppressed() {
    let webhook = HttpReceiver::start(&[]);
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", webhook.url()).start();
    tracker.post("/api/errors", &report("boom")).expect(201);
    assert_eq!(webhook.next_request().1["event"], "error.new");
    tracker.post("/api/errors/1/resolve", &json!({})).expect(200);
    tracker.post("/api/errors", &report("boom")).expect(200).has(json!({ "status": "reopened" }));
    let history = wait_for_history(&tracker, |history| history.len() == 2 && history[0]["state"] != "waiting");
    assert_eq!(history[0]["state"], "held");
    assert_eq!(history[0]["detail"], json!(["error group 1 alerted less than ALERT_COOLDOWN seconds ago"]));
    assert!(webhook.is_drained());
}

#[test]
fn error_storm_sends_capped_alerts_and_one_digest_and_stores_every_report() {
    const GROUPS: u32 = 1_000;
    const ALERTS_MAX: usize = 20;
    let webhook = HttpReceiver::start(&[]);
    // The delay must exceed the time that all reports need on a busy machine, so that one digest covers them.
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", webhook.url()).env("ALERT_DIGEST_DELAY", 10).start();
    let mut client = tracker.connect();
    for line in 1..=GROUPS {
        client.send(&crate::support::harness::Request::post("/api/errors", &report_at("boom", line))).expect(201);
    }
    for _ in 0..ALERTS_MAX {
        assert_eq!(webhook.next_request().1["event"], "error.new");
    }
    let (_, digest) = webhook.next_request();
    assert_eq!(digest["event"], "digest");
    let suppressed = GROUPS as usize - ALERTS_MAX;
    assert_eq!(digest["facts"]["held"], suppressed.to_string(), "{digest}");
    wait_for_history(&tracker, |history| history[0]["kind"] == "digest" && history[0]["state"] == "sent");
    tracker.get("/health").expect(200).has(json!({ "errors_unresolved": GROUPS, "alerts_held": 0 }));
    tracker.get("/api/errors").expect(200).has(json!({ "total": GROUPS }));
    assert!(webhook.is_drained(), "more than the capped alerts and one digest were sent");
}

#[test]
fn pending_alert_survives_sigkill() {
    let webhook = HttpReceiver::start(&[]);
    let closed_port = free_address();
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", format!("http://{closed_port}/")).start();
    tracker.post("/api/errors", &report("boom")).expect(201);
    // The tracker is killed between two attempts to reach a webhook on a closed port.
    let data_dir = tracker.kill();
    let tracker = Setup::error_tracker().data_dir(&data_dir).env("ALERT_WEBHOOK_URL", webhook.url()).start();
    assert_eq!(webhook.next_request().1["event"], "error.new");
    wait_for_history(&tracker, |history| history[0]["state"] == "sent");
}

#[test]
fn failed_delivery_is_recorded_with_its_reason_and_without_the_url() {
    let closed_port = free_address();
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", format!("http://{closed_port}/secret-path")).start();
    tracker.post("/api/test-alert", &json!({})).expect(202);
    let history = wait_for_history(&tracker, |history| history[0]["state"] == "failed");
    let detail = &history[0]["detail"][0];
    assert_eq!((&detail["channel"], &detail["attempts"]), (&json!("webhook"), &json!(3)));
    assert!(!detail["reason"].as_str().unwrap().is_empty(), "{detail}");
    let output = format!("{history:?}{:?}", tracker.log());
    assert!(!output.contains("secret-path"), "the path of a webhook URL is a secret: {output}");
}

#[test]
fn postmark_delivers_mail() {
    let webhook = HttpReceiver::start(&[]);
    let tracker = Setup::error_tracker()
        .env("POSTMARK_API_TOKEN", "pm-token")
        .env("POSTMARK_FROM_EMAIL", "alerts@example.com")
        .env("ALERT_EMAILS", "a@example.com,b@example.com")
        .env("POSTMARK_API_BASE", webhook.url())
        .start();
    tracker.post("/api/errors", &report("boom")).expect(201);
    let (head, mail) = webhook.next_request();
    assert!(head.starts_with("POST /email HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("x-postmark-server-token: pm-token\r\n"), "{head}");
    assert_eq!(mail["Subject"], "[shop] New: ValueError: boom");
    for (part, text) in [("TextBody", "/app/pay.py:42"), ("HtmlBody", "/?id=1"), ("To", "b@example.com")] {
        assert!(mail[part].as_str().unwrap().contains(text), "{part} of {mail}");
    }
}

#[test]
fn smtp_delivers_mail_with_starttls_and_with_tls() {
    for (mode, port) in [("starttls", None), ("tls", Some("465"))] {
        let arguments: &[&str] = match port {
            Some(_) => &["--mode", mode, "--host", "127.0.0.3", "--port", "465"],
            None => &["--mode", mode],
        };
        if port.is_some() && TcpListener::bind("127.0.0.3:465").is_err() {
            return skip("port 465 cannot be bound; mail over implicit TLS is not tested");
        }
        let Some(listener) = Listener::start("smtp_listener.py", arguments) else { return };
        let tracker = Setup::error_tracker()
            .env("SMTP_HOST", if port.is_some() { "127.0.0.3" } else { "127.0.0.1" })
            .env("SMTP_PORT", &listener.port)
            .env("ALERT_EMAILS", "a@example.com")
            .env("ALERT_CA_FILE", &listener.ca_file)
            .start();
        tracker.post("/api/errors", &report("boom")).expect(201);
        let mail = listener.next_event();
        assert_eq!((&mail["tls"], &mail["from"]), (&json!(true), &json!("errors@example.com")), "{mode}");
        let text = mail["parts"][0]["text"].as_str().unwrap();
        for part in ["ValueError", "boom", "shop", "/app/pay.py:42", "http://localhost:5010/?id=1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

#[test]
fn incomplete_settings_are_reported_at_start_and_by_the_test_alert() {
    let tracker = Setup::error_tracker().env("SMTP_HOST", "127.0.0.1").start();
    tracker.post("/api/test-alert", &json!({})).expect(503).has_detail("ALERT_EMAILS");
    assert!(tracker.log().iter().any(|line| line.contains("WARN") && line.contains("ALERT_EMAILS")));
}
