//! Contract of `POST /api/test-alert` (missing settings) and `GET /api/alerts` (delivery history).

use std::net::TcpListener;

use serde_json::{Value, json};

use super::{member_names, unique_report};
use crate::support::harness::{Request, Setup, wait_until};
use crate::support::receiver::receive_request;

#[test]
fn test_alert_names_missing_settings() {
    let any = "Alerts need ALERT_WEBHOOK_URL, or ALERT_EMAILS with SMTP_HOST or with POSTMARK_API_TOKEN and POSTMARK_FROM_EMAIL";
    for (settings, detail) in [
        (&[][..], any),
        (&[("ALERT_EMAILS", "a@example.com")], "Alerts need SMTP_HOST, or POSTMARK_API_TOKEN and POSTMARK_FROM_EMAIL"),
        (&[("POSTMARK_API_TOKEN", "t"), ("ALERT_EMAILS", "a@example.com")], "Alerts need POSTMARK_FROM_EMAIL"),
        (&[("POSTMARK_API_TOKEN", "t"), ("POSTMARK_FROM_EMAIL", "a@example.com")], "Alerts need ALERT_EMAILS"),
        (&[("SMTP_HOST", "mail.example.com")], "Alerts need ALERT_EMAILS"),
    ] {
        let service =
            settings.iter().fold(Setup::error_tracker(), |setup, (name, value)| setup.env(name, value)).start();
        let response = service.send(&Request::new("POST", "/api/test-alert")).expect(503);
        assert_eq!(response.json()["detail"], detail, "{settings:?}");
        service.post("/api/errors", &unique_report()).expect(201);
        service.get("/api/alerts").expect(200).has(json!({ "alerts": [], "channels": [] }));
    }
}

#[test]
fn alert_history_shows_state_and_deliveries() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let service = Setup::error_tracker().env("ALERT_WEBHOOK_URL", &url).start();
    service.send(&Request::new("POST", "/api/test-alert")).expect(202).has(json!({ "status": "queued" }));
    let id = service.post("/api/errors", &unique_report()).expect(201).id();
    // The webhook accepts the first alert and rejects the second permanently.
    let posted = ["204 No Content", "400 Bad Request"].map(|status| {
        let (_, body) = receive_request(listener.accept().unwrap().0, status);
        String::from_utf8(body).unwrap()
    });
    assert!(posted[0].contains("Test alert") && posted[1].contains("New: ValueError"), "{posted:#?}");
    let finished_history = || {
        let history = service.get("/api/alerts").expect(200).json();
        let waiting = history["alerts"].as_array().unwrap().iter().any(|alert| alert["state"] == "waiting");
        (!waiting).then_some(history)
    };
    let history = wait_until(finished_history).expect("no alert is waiting");
    assert_eq!(history["channels"], json!(["webhook"]));
    let alerts = history["alerts"].as_array().unwrap();
    for (alert, (kind, error_id, state)) in
        alerts.iter().zip([("new", json!(id), "failed"), ("test", Value::Null, "sent")])
    {
        let expected = [
            "created_at",
            "deliveries",
            "detail",
            "error_id",
            "exception_type",
            "finished_at",
            "id",
            "kind",
            "project",
            "state",
        ];
        assert_eq!(member_names(alert), expected.into_iter().collect());
        let exception_type = if kind == "new" { json!("ValueError") } else { Value::Null };
        assert_eq!(alert["exception_type"], exception_type);
        assert_eq!((&alert["kind"], &alert["error_id"], &alert["state"]), (&json!(kind), &error_id, &json!(state)));
        assert!(alert["created_at"].is_string() && alert["finished_at"].is_string(), "{alert}");
        let delivery = &alert["detail"][0];
        assert_eq!((&delivery["channel"], &delivery["outcome"]), (&json!("webhook"), &json!(state)));
        assert_eq!(delivery["reason"].is_null(), state == "sent", "{delivery}");
        let delivery = &alert["deliveries"][0];
        assert_eq!((&delivery["channel"], &delivery["state"]), (&json!("webhook"), &json!(state)));
        let expected = ["attempts", "channel", "next_attempt_at", "reason", "state"];
        assert_eq!(member_names(delivery), expected.into_iter().collect());
    }
    assert_eq!(alerts.len(), 2);
}
