//! Shutdown: exit code 0 within five seconds regardless of open connections, and no request or stored data is lost.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{group_detail, post_report, unique_report, with_field};
use crate::support::harness::{Request, Setup, TempDir, send_signal, wait_until};

/// Maximum duration of a shutdown. Supervisors kill a process after a grace period.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn shutdown_is_not_delayed_by_open_connections() {
    let request = post_report(&unique_report()).bytes();
    for (name, sent) in [
        ("no other connection", None),
        ("a connection without data", Some(&[][..])),
        ("an incomplete head", Some(&b"GET /health HTTP/1.1\r\nHost: x\r\n"[..])),
        ("an incomplete body", Some(&request[..request.len() - 1])),
    ] {
        let service = Setup::error_tracker().start();
        let mut idle = service.connect();
        idle.send(&Request::get("/health")).expect(200);
        let _open = sent.map(|sent| {
            let mut client = service.connect();
            client.write(sent);
            client
        });
        let (status, took) = service.stop();
        assert!(status.code() == Some(0) && took < STOP_TIMEOUT, "{name}: {status} after {took:?}");
        assert!(idle.closes_without_data(), "{name}");
    }
}

#[test]
fn shutdown_finishes_requests_in_flight_and_accepts_no_connections() {
    for name in ["TERM", "INT"] {
        let data_dir = Arc::new(TempDir::new());
        let service = Setup::error_tracker().data_dir(&data_dir).start();
        let bytes = post_report(&unique_report()).header("Expect", "100-continue").bytes();
        let body_start = bytes.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
        let mut client = service.connect();
        client.write(&bytes[..body_start]);
        client.read_response().expect(100);
        send_signal(service.pid(), name);
        service.wait_for_log("stopping on signal").unwrap();
        assert!(wait_until(|| TcpStream::connect(service.address).err()).is_some(), "the port must be closed");
        client.write(&bytes[body_start..]);
        let response = client.read_response().expect(201);
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(service.stop().0.code(), Some(0), "{name}");
        let restarted = Setup::error_tracker().data_dir(&data_dir).start();
        restarted.get(&format!("/api/errors/{}", response.id())).expect(200).has(json!({ "count": 1 }));
    }
}

#[test]
fn restart_preserves_groups_and_their_state() {
    let data_dir = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&data_dir).start();
    let service = start();
    let report = with_field(unique_report(), "extra", json!({ "n": 1 }));
    let id = service.post("/api/errors", &report).expect(201).id();
    service.post(&format!("/api/errors/{id}/resolve"), &json!({})).expect(200);
    let before = group_detail(&service, id);
    let listed = service.get("/api/errors?resolved=all").text();
    service.stop();
    let service = start();
    assert_eq!(group_detail(&service, id), before);
    assert_eq!(service.get("/api/errors?resolved=all").text(), listed);
    service.get("/health").has(json!({ "errors_resolved": 1, "errors_unresolved": 0 }));
    let reopened = service.post("/api/errors", &report);
    reopened.expect(200).has(json!({ "status": "reopened", "id": id, "count": 2 }));
    assert!(service.post("/api/errors", &unique_report()).expect(201).id() > id, "IDs are not reused");
}
