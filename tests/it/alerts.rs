//! Alerts of the running tracker, received by servers that stand for the mail server, Postmark and a webhook.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::harness::{Service, Setup, TEST_TIMEOUT, report, report_at, skip, wait_until};
use crate::python::Listener;

/// A web server that takes every request and keeps its body.
struct Hook {
    url: String,
    requests: Receiver<(String, Value)>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = BufReader::new(socket.unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let start = head.len();
                    socket.read_line(&mut head).unwrap();
                    let line = head[start..].to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line == "\r\n" {
                        break;
                    }
                }
                let mut body = vec![0; length];
                socket.read_exact(&mut body).unwrap();
                socket
                    .get_mut()
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                    .unwrap();
                // The test may have seen enough.
                let _ = sender.send((head, serde_json::from_slice(&body).unwrap()));
            }
        });
        Self { url, requests }
    }

    fn next(&self) -> (String, Value) {
        self.requests.recv_timeout(TEST_TIMEOUT).expect("an alert arrives")
    }
}

/// The history, once it satisfies the test.
fn history_when(tracker: &Service, satisfied: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let found = wait_until(|| {
        let history = tracker.get("/api/alerts").expect(200).json()["alerts"].as_array().unwrap().clone();
        satisfied(&history).then_some(history)
    });
    found.expect("the history says what became of the alerts")
}

#[test]
fn a_new_group_and_a_reopened_one_are_told_of_and_repeats_are_not() {
    let hook = Hook::start();
    let tracker = Setup::error_tracker()
        .env("ALERT_WEBHOOK_URL", format!("{}/hook", hook.url))
        .env("BASE_URL", "https://errors.example/")
        .env("ALERT_COOLDOWN", 0)
        .start();
    tracker.post("/api/errors", &report("bad\r\nBcc: all@example.com")).expect(201);
    let (head, alert) = hook.next();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    assert_eq!(alert["event"], "error.new");
    assert_eq!(alert["link"], "https://errors.example/?id=1");
    assert_eq!(alert["title"], "[shop] New: ValueError: bad Bcc: all@example.com");
    for (fact, value) in [
        ("project", "shop"),
        ("exception_type", "ValueError"),
        ("location", "/app/pay.py:42"),
        ("count", "1"),
        ("environment", "prod"),
    ] {
        assert_eq!(alert["facts"][fact], value, "{fact} in {alert}");
    }
    assert!(alert["excerpt"].as_str().unwrap().contains("in charge"), "{alert}");

    for _ in 0..3 {
        tracker.post("/api/errors", &report("again")).expect(200);
    }
    tracker.post("/api/errors/1/resolve", &json!({})).expect(200);
    tracker.post("/api/errors", &report("again")).expect(200);
    let (_, alert) = hook.next();
    assert_eq!((&alert["event"], &alert["facts"]["count"]), (&json!("error.reopened"), &json!("5")));

    tracker.post("/api/test-alert", &json!({})).expect(202);
    assert_eq!(hook.next().1["event"], "test");
    let history =
        history_when(&tracker, |history| history.iter().filter(|alert| alert["state"] == "sent").count() == 3);
    let kinds: Vec<&Value> = history.iter().map(|alert| &alert["kind"]).collect();
    assert_eq!(kinds, ["test", "reopened", "new"]);
    assert_eq!(history[2]["detail"][0]["channel"], "webhook");
    assert!(tracker.log().iter().any(|line| line.contains("alert sent by webhook")));
    assert!(hook.requests.try_recv().is_err(), "three alerts and no more");
}

#[test]
fn a_group_that_comes_and_goes_alerts_once_in_its_cool_down() {
    let hook = Hook::start();
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", &hook.url).start();
    tracker.post("/api/errors", &report("boom")).expect(201);
    assert_eq!(hook.next().1["event"], "error.new");
    tracker.post("/api/errors/1/resolve", &json!({})).expect(200);
    tracker.post("/api/errors", &report("boom")).expect(200).has(json!({ "status": "reopened" }));
    let history = history_when(&tracker, |history| history.len() == 2 && history[0]["state"] != "waiting");
    assert_eq!(history[0]["state"], "held");
    assert_eq!(history[0]["detail"], json!(["the group alerted a short while ago"]));
    assert!(hook.requests.try_recv().is_err());
}

#[test]
fn a_storm_sends_the_cap_and_one_digest_and_loses_no_report() {
    const STORM: u32 = 1_000;
    const CAP: usize = 20;
    let hook = Hook::start();
    // Long enough for the whole storm to come before the digest, on a machine that does much else.
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", &hook.url).env("ALERT_DIGEST_DELAY", 10).start();
    let mut client = tracker.connect();
    for line in 1..=STORM {
        client.send(&crate::harness::Request::post("/api/errors", &report_at("boom", line))).expect(201);
    }
    for _ in 0..CAP {
        assert_eq!(hook.next().1["event"], "error.new");
    }
    let (_, digest) = hook.next();
    assert_eq!(digest["event"], "digest");
    let held = STORM as usize - CAP;
    assert_eq!(digest["facts"]["held"], held.to_string(), "{digest}");
    history_when(&tracker, |history| history[0]["kind"] == "digest" && history[0]["state"] == "sent");
    tracker.get("/health").expect(200).has(json!({ "errors_unresolved": STORM, "alerts_held": 0 }));
    tracker.get("/api/errors").expect(200).has(json!({ "total": STORM }));
    assert!(hook.requests.try_recv().is_err(), "the cap, one digest, and no more");
}

#[test]
fn an_alert_that_waits_survives_a_kill() {
    let hook = Hook::start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", format!("http://{nobody}/")).start();
    tracker.post("/api/errors", &report("boom")).expect(201);
    // Killed between two attempts at a webhook that nobody answers.
    let folder = tracker.kill();
    let tracker = Setup::error_tracker().data_dir(&folder).env("ALERT_WEBHOOK_URL", &hook.url).start();
    assert_eq!(hook.next().1["event"], "error.new");
    history_when(&tracker, |history| history[0]["state"] == "sent");
}

#[test]
fn a_channel_that_fails_is_said_so_with_its_reason() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", format!("http://{nobody}/secret-path")).start();
    tracker.post("/api/test-alert", &json!({})).expect(202);
    let history = history_when(&tracker, |history| history[0]["state"] == "failed");
    let detail = &history[0]["detail"][0];
    assert_eq!((&detail["channel"], &detail["attempts"]), (&json!("webhook"), &json!(3)));
    assert!(!detail["reason"].as_str().unwrap().is_empty(), "{detail}");
    let told = format!("{history:?}{:?}", tracker.log());
    assert!(!told.contains("secret-path"), "a webhook's path is its password: {told}");
}

#[test]
fn mail_goes_out_by_postmark() {
    let hook = Hook::start();
    let tracker = Setup::error_tracker()
        .env("POSTMARK_API_TOKEN", "pm-token")
        .env("POSTMARK_FROM_EMAIL", "alerts@example.com")
        .env("ALERT_EMAILS", "a@example.com,b@example.com")
        .env("POSTMARK_API_BASE", &hook.url)
        .start();
    tracker.post("/api/errors", &report("boom")).expect(201);
    let (head, mail) = hook.next();
    assert!(head.starts_with("POST /email HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("x-postmark-server-token: pm-token\r\n"), "{head}");
    assert_eq!(mail["Subject"], "[shop] New: ValueError: boom");
    for (part, text) in [("TextBody", "/app/pay.py:42"), ("HtmlBody", "/?id=1"), ("To", "b@example.com")] {
        assert!(mail[part].as_str().unwrap().contains(text), "{part} of {mail}");
    }
}

#[test]
fn mail_goes_out_by_smtp_with_starttls_and_with_tls() {
    for (mode, port) in [("starttls", None), ("tls", Some("465"))] {
        let arguments: &[&str] = match port {
            Some(_) => &["--mode", mode, "--host", "127.0.0.3", "--port", "465"],
            None => &["--mode", mode],
        };
        if port.is_some() && TcpListener::bind("127.0.0.3:465").is_err() {
            return skip("port 465 is not for us");
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
fn incomplete_settings_are_said_so_at_start_and_when_asked() {
    let tracker = Setup::error_tracker().env("SMTP_HOST", "127.0.0.1").start();
    tracker.post("/api/test-alert", &json!({})).expect(503).has_detail("ALERT_EMAILS");
    assert!(tracker.log().iter().any(|line| line.contains("WARN") && line.contains("ALERT_EMAILS")));
}
