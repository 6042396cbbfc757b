//! Stopping: exit code 0 within five seconds whatever clients do, and nothing that was begun or stored is lost.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{group_detail, post_report, unique_report, with_field};
use crate::harness::{Request, Setup, TempDir, send_signal, wait_until};

/// After which supervisors kill.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn it_stops_in_time_whatever_clients_do() {
    let whole = post_report(&unique_report()).bytes();
    for (what, sent) in [
        ("nobody is connected", None),
        ("a connection without a byte", Some(&[][..])),
        ("half a head", Some(&b"GET /health HTTP/1.1\r\nHost: x\r\n"[..])),
        ("half a body", Some(&whole[..whole.len() - 1])),
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
        assert!(status.code() == Some(0) && took < STOPS_WITHIN, "{what}: {status} after {took:?}");
        assert!(idle.closes_without_data(), "{what}");
    }
}

#[test]
fn a_request_in_flight_is_still_answered_and_nobody_new_is_let_in() {
    for name in ["TERM", "INT"] {
        let folder = Arc::new(TempDir::new());
        let service = Setup::error_tracker().data_dir(&folder).start();
        let bytes = post_report(&unique_report()).header("Expect", "100-continue").bytes();
        let body = bytes.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
        let mut client = service.connect();
        client.write(&bytes[..body]);
        client.read_response().expect(100);
        send_signal(service.pid(), name);
        service.wait_for_log("stopping on signal").unwrap();
        assert!(wait_until(|| TcpStream::connect(service.address).err()).is_some(), "the port is given back");
        client.write(&bytes[body..]);
        let response = client.read_response().expect(201);
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(service.stop().0.code(), Some(0), "{name}");
        let again = Setup::error_tracker().data_dir(&folder).start();
        again.get(&format!("/api/errors/{}", response.id())).expect(200).has(json!({ "count": 1 }));
    }
}

#[test]
fn a_restart_goes_on_where_it_stopped() {
    let folder = Arc::new(TempDir::new());
    let start = || Setup::error_tracker().data_dir(&folder).start();
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
    assert!(service.post("/api/errors", &unique_report()).expect(201).id() > id, "ids are not given twice");
}
