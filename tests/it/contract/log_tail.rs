//! Contract of `GET /api/logs/tail`: events, their order, resumption and the end of the stream. `log_tail.rs` tests
//! bursts and interrupted clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::harness::{Service, Setup, TempDir, send_signal, wait_until};
use crate::support::logs::{Container, Event, TailClient, wait_for_entry_count};

/// Maximum delay between writing a line and receiving it. Generous, because this is not a benchmark.
const LIVE_TIMEOUT: Duration = Duration::from_secs(2);

struct Fixture {
    viewer: Service,
    web: Container,
    db: Container,
}

fn fixture() -> Fixture {
    let data_dir = Arc::new(TempDir::new());
    let (web, db) = (Container::new(&data_dir, "web"), Container::new(&data_dir, "db"));
    web.write_lines([("2026-01-31T12:00:00Z", "stdout", "before\n")]);
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    wait_for_entry_count(&viewer, "web", 1);
    Fixture { viewer, web, db }
}

fn write_line(container: &Container, text: &str) {
    container.write_lines([("2026-01-31T12:00:01Z", "stdout", format!("{text}\n").as_str())]);
}

#[test]
fn new_entries_arrive_as_the_list_returns_them() {
    let Fixture { viewer, web, db } = fixture();
    let mut tail = TailClient::open(&viewer, "", None);
    let written = Instant::now();
    web.write_lines([
        ("2026-01-31T12:00:03.5Z", "stderr", "Traceback (most recent call last):\n"),
        ("2026-01-31T12:00:03.500001Z", "stderr", "  File \"a.py\", line 1, in a\n"),
        ("2026-01-31T12:00:03.500002Z", "stderr", "ValueError: \u{2028}no\n"),
    ]);
    let first = tail.next_entry();
    assert!(written.elapsed() < LIVE_TIMEOUT, "{:?}", written.elapsed());
    assert_eq!(
        first.message,
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in a\nValueError: \u{2028}no"
    );
    assert_eq!((first.level.as_str(), first.timestamp.as_str()), ("ERROR", "2026-01-31T12:00:03.500000000Z"));
    // The order is that of arrival, not of the timestamps.
    write_line(&db, "late");
    assert_eq!(tail.next_entry().message, "late");
    let listed = viewer.get("/api/logs?level=ERROR").expect(200).json();
    assert_eq!(serde_json::from_value::<crate::support::logs::Entry>(listed["logs"][0].clone()).unwrap(), first);
}

#[test]
fn unknown_last_event_id_starts_with_new_entries() {
    let Fixture { viewer, web, .. } = fixture();
    for id in ["0", "-1", "99999999999999999999", "x", "", "7353600816355084"] {
        let mut tail = wait_until(|| TailClient::try_open(&viewer, "", Some(id)).ok()).unwrap();
        write_line(&web, id);
        assert_eq!(tail.next_entry().message, id, "{id:?}");
    }
}

#[test]
fn idle_stream_sends_heartbeats_and_shutdown_sends_close() {
    let Fixture { viewer, .. } = fixture();
    let mut tail = TailClient::open(&viewer, "search=nothing", None);
    let opened = Instant::now();
    let heartbeat = tail.next_event().expect("the tail sends a heartbeat");
    assert_eq!(
        (heartbeat.name.as_str(), heartbeat.id.as_str()),
        ("heartbeat", ""),
        "a heartbeat has no ID, so it does not change Last-Event-ID"
    );
    let data: Value = serde_json::from_str(&heartbeat.data).unwrap();
    assert!(data["time"].as_str().and_then(monlight::clock::Timestamp::parse).is_some(), "{data}");
    assert!((14..18).contains(&opened.elapsed().as_secs()), "{:?}", opened.elapsed());
    let stopped = Instant::now();
    send_signal(viewer.pid(), "TERM");
    let close = tail.next_event().expect("the tail sends a last event");
    assert_eq!(close, Event { name: "close".to_owned(), id: String::new(), data: "{}".to_owned() });
    assert_eq!(tail.next_event(), None);
    let (status, _) = viewer.stop();
    assert!(status.success() && stopped.elapsed() < Duration::from_secs(5), "{status} after {:?}", stopped.elapsed());
}
