//! `GET /api/logs/tail`: what is told, in which order, and how it ends. `log_tail.rs` has the bursts and those who are cut
//! off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Service, Setup, TempDir, send_signal, wait_until};
use crate::logs::{Container, Event, TailClient, wait_for_entry_count};

/// A line appended has to reach a reader by then, even here where nothing is measured.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

struct Scene {
    viewer: Service,
    web: Container,
    db: Container,
}

fn scene() -> Scene {
    let folder = Arc::new(TempDir::new());
    let (web, db) = (Container::new(&folder, "web"), Container::new(&folder, "db"));
    web.write_lines([("2026-01-31T12:00:00Z", "stdout", "before\n")]);
    let viewer = Setup::log_viewer().data_dir(&folder).start();
    wait_for_entry_count(&viewer, "web", 1);
    Scene { viewer, web, db }
}

fn say(container: &Container, text: &str) {
    container.write_lines([("2026-01-31T12:00:01Z", "stdout", format!("{text}\n").as_str())]);
}

#[test]
fn what_comes_is_told_as_it_is_listed() {
    let Scene { viewer, web, db } = scene();
    let mut tail = TailClient::open(&viewer, "", None);
    let said = Instant::now();
    web.write_lines([
        ("2026-01-31T12:00:03.5Z", "stderr", "Traceback (most recent call last):\n"),
        ("2026-01-31T12:00:03.500001Z", "stderr", "  File \"a.py\", line 1, in a\n"),
        ("2026-01-31T12:00:03.500002Z", "stderr", "ValueError: \u{2028}no\n"),
    ]);
    let first = tail.next_entry();
    assert!(said.elapsed() < LIVE_WITHIN, "{:?}", said.elapsed());
    assert_eq!(
        first.message,
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in a\nValueError: \u{2028}no"
    );
    assert_eq!((first.level.as_str(), first.timestamp.as_str()), ("ERROR", "2026-01-31T12:00:03.500000000Z"));
    // What is older, but comes later, is told later.
    say(&db, "late");
    assert_eq!(tail.next_entry().message, "late");
    let listed = viewer.get("/api/logs?level=ERROR").expect(200).json();
    assert_eq!(serde_json::from_value::<crate::logs::Entry>(listed["logs"][0].clone()).unwrap(), first);
}

#[test]
fn an_id_that_is_not_known_begins_now() {
    let Scene { viewer, web, .. } = scene();
    for id in ["0", "-1", "99999999999999999999", "x", "", "7353600816355084"] {
        let mut tail = wait_until(|| TailClient::try_open(&viewer, "", Some(id)).ok()).unwrap();
        say(&web, id);
        assert_eq!(tail.next_entry().message, id, "{id:?}");
    }
}

#[test]
fn nothing_to_tell_is_told_and_so_is_the_end() {
    let Scene { viewer, .. } = scene();
    let mut tail = TailClient::open(&viewer, "search=nothing", None);
    let begun = Instant::now();
    let heartbeat = tail.next_event().expect("a heartbeat");
    assert_eq!((heartbeat.name.as_str(), heartbeat.id.as_str()), ("heartbeat", ""), "it does not move Last-Event-ID");
    let data: Value = serde_json::from_str(&heartbeat.data).unwrap();
    assert!(data["time"].as_str().and_then(monlight::clock::Timestamp::parse).is_some(), "{data}");
    assert!((14..18).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let begun = Instant::now();
    send_signal(viewer.pid(), "TERM");
    let close = tail.next_event().expect("a last event");
    assert_eq!(close, Event { name: "close".to_owned(), id: String::new(), data: "{}".to_owned() });
    assert_eq!(tail.next_event(), None);
    let (status, _) = viewer.stop();
    assert!(status.success() && begun.elapsed() < Duration::from_secs(5), "{status} after {:?}", begun.elapsed());
}
