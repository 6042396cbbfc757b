//! Alerts of the error tracker, received by test servers in place of an SMTP server, Postmark and a webhook.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::databases::update_file;
use crate::support::harness::{Request, Service, Setup, free_address, report, report_at, skip, wait_until};
use crate::support::python::Listener;
use crate::support::receiver::{HttpReceiver, receive_request};

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
    // All but the reserve of the default, because no other project alerts.
    const ALERTS_MAX: usize = 18;
    let webhook = HttpReceiver::start(&[]);
    // The delay must exceed the time that all reports need on a busy machine, so that one digest covers them.
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", webhook.url()).env("ALERT_DIGEST_DELAY", 10).start();
    let mut client = tracker.connect();
    for line in 1..=GROUPS {
        client.send(&Request::post("/api/errors", &report_at("boom", line))).expect(201);
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
    assert_eq!((&detail["channel"], &detail["attempts"]), (&json!("webhook"), &json!(3)), "a test alert gives up soon");
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

/// Returns a report of another group for each `number`.
fn report_of(project: &str, level: &str, number: u32) -> Value {
    let mut report = report_at("boom", number);
    (report["project"], report["level"]) = (json!(project), json!(level));
    report
}

/// Sends a report as the relay passes it on for a browser key.
fn post_from_browser(tracker: &Service, report: &Value) {
    let request = Request::post("/api/errors", report).header("X-Monlight-Key-Kind", "browser");
    tracker.send(&request).expect(201);
}

/// Returns the warnings in `/health` with this code, as a reader with a key sees them.
fn warnings(tracker: &Service, code: &str) -> Vec<Value> {
    let health = tracker.get("/health").expect(200).json();
    let warnings = health["warnings"].as_array().cloned().unwrap_or_default();
    warnings.into_iter().filter(|warning| warning["code"] == code).collect()
}

/// Starts a server that accepts connections and sends one byte of a response head per second, or nothing at all.
fn start_hanging_server(drips: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut socket in listener.incoming().map_while(Result::ok) {
            if drips {
                std::thread::spawn(move || {
                    for byte in b"HTTP/1.1 204 No Content\r\n" {
                        std::thread::sleep(Duration::from_secs(1));
                        if socket.write_all(&[*byte]).is_err() {
                            return;
                        }
                    }
                });
            } else {
                held.push(socket);
            }
        }
    });
    address
}

#[test]
fn flood_through_a_browser_key_does_not_mute_a_critical_alert_of_another_project() {
    let webhook = HttpReceiver::start(&[]);
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", webhook.url()).env("ALERT_DIGEST_DELAY", 1).start();
    for number in 1..=20 {
        post_from_browser(&tracker, &report_of("shop", "critical", number));
    }
    for _ in 0..5 {
        assert_eq!(webhook.next_request().1["facts"]["project"], "shop");
    }
    // The list of the digest is by id, so the time of the reports does not matter.
    let (_, digest) = webhook.next_request();
    assert_eq!(
        (&digest["event"], &digest["facts"]["held"], &digest["facts"]["groups"]),
        (&json!("digest"), &json!("15"), &json!("15"))
    );
    for id in 6..=20 {
        assert!(
            digest["excerpt"].as_str().unwrap().contains(&format!("#{id} critical ValueError: boom")),
            "{id}: {digest}"
        );
    }
    let start = Instant::now();
    tracker.post("/api/errors", &report_of("payments", "critical", 1)).expect(201);
    let (_, alert) = webhook.next_request();
    assert_eq!(alert["title"], "[payments] New: ValueError: boom");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let held = warnings(&tracker, "alerts_held");
    assert_eq!((held.len(), &held[0]["count"], &held[0]["project"]), (1, &json!(15), &json!("shop")), "{held:?}");
    let quota = tracker.get("/api/quota").expect(200).json();
    let store = quota["stores"].as_array().unwrap().iter().find(|store| store["name"] == "alerts_per_hour").unwrap();
    assert_eq!((&store["rows"], &store["rows_max"]), (&json!(6), &json!(20)), "{store}");
}

#[test]
fn floods_through_browser_keys_of_several_projects_leave_half_of_the_hour_to_servers() {
    let webhook = HttpReceiver::start(&[]);
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", webhook.url()).start();
    for page in 1..=5 {
        for number in 1..=6 {
            post_from_browser(&tracker, &report_of(&format!("page-{page}"), "critical", number));
        }
    }
    let is_decided = |history: &[Value]| {
        let count = |state| history.iter().filter(|alert| alert["state"] == state).count();
        count("sent") + count("held") == history.len()
    };
    let history = wait_for_history(&tracker, |history| history.len() == 30 && is_decided(history));
    assert_eq!(history.iter().filter(|alert| alert["state"] == "sent").count(), 10, "{history:?}");
    for number in 1..=2 {
        tracker.post("/api/errors", &report_of("app", "error", number)).expect(201);
    }
    tracker.post("/api/errors", &report_of("payments", "critical", 1)).expect(201);
    let history = wait_for_history(&tracker, |history| history.len() == 33 && is_decided(history));
    assert!(history[..3].iter().all(|alert| alert["state"] == "sent"), "{:?}", &history[..3]);
}

#[test]
fn digest_lists_300_held_alerts_by_id() {
    let webhook = HttpReceiver::start(&[]);
    let tracker = Setup::error_tracker()
        .env("ALERT_WEBHOOK_URL", webhook.url())
        .env("ALERT_MAX_PER_HOUR", 1)
        .env("ALERT_DIGEST_DELAY", 2)
        .start();
    let mut client = tracker.connect();
    for line in 1..=301 {
        client.send(&Request::post("/api/errors", &report_at("boom", line))).expect(201);
    }
    assert_eq!(webhook.next_request().1["event"], "error.new");
    let (_, digest) = webhook.next_request();
    assert_eq!((&digest["event"], &digest["facts"]["held"]), (&json!("digest"), &json!("300")), "{digest}");
    let excerpt = digest["excerpt"].as_str().unwrap();
    let listed: Vec<i64> =
        excerpt.lines().filter_map(|line| line.strip_prefix("  #")?.split(' ').next()?.parse().ok()).collect();
    assert_eq!(listed.len(), 45, "{excerpt}");
    assert!(excerpt.contains("shop: 300 alerts\n") && excerpt.contains("  and 255 more: #"), "{excerpt}");
    let ranges = excerpt.split_once("more: ").unwrap().1.trim().split(", ").map(|range| {
        let ids: Vec<i64> = range.split('-').map(|id| id.trim_start_matches('#').parse().unwrap()).collect();
        ids[0]..=ids[ids.len() - 1]
    });
    let mut all: Vec<i64> = listed.into_iter().chain(ranges.flatten()).collect();
    all.sort_unstable();
    assert_eq!(all, (2..=301).collect::<Vec<_>>());
}

#[test]
fn webhook_that_returns_gets_every_alert_once_also_after_a_restart() {
    let address = free_address();
    let setup = || Setup::error_tracker().env("ALERT_WEBHOOK_URL", format!("http://{address}/"));
    let tracker = setup().start();
    tracker.post("/api/errors", &report_at("boom", 1)).expect(201);
    // Three attempts were all that an alert got once.
    let history = wait_for_history(&tracker, |history| history[0]["deliveries"][0]["attempts"].as_i64() >= Some(3));
    assert_eq!((&history[0]["state"], &history[0]["finished_at"]), (&json!("waiting"), &Value::Null), "{history:?}");
    assert!(history[0]["deliveries"][0]["next_attempt_at"].is_string(), "{history:?}");
    let failing = warnings(&tracker, "alerts_failing");
    assert_eq!((failing.len(), &failing[0]["count"]), (1, &json!(1)), "{failing:?}");
    tracker.post("/api/errors", &report_at("boom", 2)).expect(201);
    let data_dir = tracker.kill();
    let tracker = setup().data_dir(&data_dir).start();
    wait_for_history(&tracker, |history| history.iter().all(|alert| alert["deliveries"][0]["attempts"] != json!(0)));
    let listener = TcpListener::bind(address).unwrap();
    let titles: Vec<Value> = (0..2)
        .map(|_| {
            let (_, body) = receive_request(listener.accept().unwrap().0, "204 No Content");
            serde_json::from_slice::<Value>(&body).unwrap()["facts"]["location"].clone()
        })
        .collect();
    let history = wait_for_history(&tracker, |history| history.iter().all(|alert| alert["state"] == "sent"));
    assert_eq!(history.len(), 2);
    assert!(titles[0] != titles[1], "{titles:?}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "an alert was sent twice");
    assert_eq!((warnings(&tracker, "alerts_failing"), warnings(&tracker, "alerts_failed")), (vec![], vec![]));
}

#[test]
fn alert_that_one_channel_rejects_is_listed_in_the_digest() {
    let webhook = HttpReceiver::start(&["307 Temporary Redirect", "413 Content Too Large"]);
    let tracker = Setup::error_tracker().env("ALERT_WEBHOOK_URL", webhook.url()).env("ALERT_DIGEST_DELAY", 1).start();
    tracker.post("/api/errors", &report("boom")).expect(201);
    // The redirect is not followed, but retried.
    assert_eq!(
        (webhook.next_request().1["event"].clone(), webhook.next_request().1["event"].clone()),
        (json!("error.new"), json!("error.new"))
    );
    let (_, digest) = webhook.next_request();
    assert_eq!((&digest["event"], &digest["facts"]["held"]), (&json!("digest"), &json!("1")), "{digest}");
    assert_eq!(digest["excerpt"], "shop: 1 alert\n  #1 ValueError: boom (1 report)");
    let history = wait_for_history(&tracker, |history| history.len() == 2 && history[0]["state"] == "sent");
    assert_eq!(history[1]["state"], "failed");
    assert_eq!(warnings(&tracker, "alerts_failed")[0]["count"], 1);
    let public = tracker.send(&Request::get("/health").without_header("X-API-Key")).expect(200).json();
    let failed = public["warnings"].as_array().unwrap().iter().find(|warning| warning["code"] == "alerts_failed");
    assert_eq!(failed, Some(&json!({ "code": "alerts_failed", "count": 1 })));
}

#[test]
fn hanging_webhook_delays_neither_mail_nor_the_stop() {
    for drips in [false, true] {
        let Some(mail) = Listener::start("smtp_listener.py", &[]) else { return };
        let tracker = Setup::error_tracker()
            .env("ALERT_WEBHOOK_URL", format!("http://{}/", start_hanging_server(drips)))
            .env("SMTP_HOST", "127.0.0.1")
            .env("SMTP_PORT", &mail.port)
            .env("ALERT_EMAILS", "a@example.com")
            .start();
        let start = Instant::now();
        for number in 1..=3 {
            tracker.post("/api/errors", &report_at("boom", number)).expect(201);
        }
        for _ in 0..3 {
            mail.next_event();
        }
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
        let history =
            wait_for_history(&tracker, |history| history.iter().all(|alert| alert["deliveries"][0]["state"] == "sent"));
        assert!(history.iter().all(|alert| alert["state"] == "waiting"), "sent means by all channels: {history:?}");
        let (_, duration) = tracker.stop();
        assert!(duration < Duration::from_millis(1_000), "{duration:?}");
    }
}

#[test]
fn poison_alert_does_not_hold_up_others() {
    let webhook = TcpListener::bind("127.0.0.1:0").unwrap();
    let tracker =
        Setup::error_tracker().env("ALERT_WEBHOOK_URL", format!("http://{}/", webhook.local_addr().unwrap())).start();
    let (sender, accepted) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for socket in webhook.incoming().map_while(Result::ok) {
            let (mut peeked, mut text) = (vec![0; 64 * 1024], String::new());
            while !text.contains("sent_at") {
                let length = socket.peek(&mut peeked).unwrap();
                text = String::from_utf8_lossy(&peeked[..length]).into_owned();
            }
            let status = if text.contains("poison") { "500 Internal Server Error" } else { "204 No Content" };
            receive_request(socket, status);
            let _ = sender.send(status);
        }
    });
    tracker.post("/api/errors", &report_at("poison", 1)).expect(201);
    wait_for_history(&tracker, |history| history[0]["deliveries"][0]["attempts"].as_i64() >= Some(2));
    for number in 2..=5 {
        tracker.post("/api/errors", &report_at("boom", number)).expect(201);
    }
    let history =
        wait_for_history(&tracker, |history| history.iter().filter(|alert| alert["state"] == "sent").count() == 4);
    assert_eq!(history[4]["state"], "waiting");
    assert_eq!(accepted.try_iter().filter(|status| status.starts_with("204")).count(), 4);
}

#[test]
fn alerts_of_a_clock_that_was_ahead_mute_nothing() {
    let webhook = HttpReceiver::start(&[]);
    let setup = || Setup::error_tracker().env("ALERT_WEBHOOK_URL", webhook.url()).env("ALERT_DIGEST_DELAY", 1);
    let tracker = setup().env("ALERT_MAX_PER_HOUR", 1).start();
    for line in 1..=2 {
        tracker.post("/api/errors", &report_at("boom", line)).expect(201);
    }
    assert_eq!(webhook.next_request().1["event"], "error.new");
    assert_eq!(webhook.next_request().1["event"], "digest");
    wait_for_history(&tracker, |history| history.iter().all(|alert| alert["state"] != "waiting"));
    let data_dir = tracker.kill();
    update_file(
        &data_dir.path().join("errors.db"),
        "UPDATE alert_events SET created_at_s = created_at_s + 31536000, finished_at_s = finished_at_s + 31536000;
         UPDATE alert_admissions SET admitted_at_s = admitted_at_s + 31536000;
         UPDATE alert_digest SET since_s = since_s + 31536000;",
    );
    let tracker = setup().env("ALERT_MAX_PER_HOUR", 1).data_dir(&data_dir).start();
    tracker.post("/api/errors/1/resolve", &json!({})).expect(200);
    for line in [1, 3] {
        tracker.send(&Request::post("/api/errors", &report_at("boom", line)));
    }
    let events = [webhook.next_request().1["event"].clone(), webhook.next_request().1["event"].clone()];
    assert_eq!(events, [json!("error.reopened"), json!("digest")]);
}
