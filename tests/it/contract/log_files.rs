//! Text files of `LOG_FILES`: the times of their lines, the formats of container runtimes, patterns, and settings that cannot
//! be applied.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use monlight::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::harness::{Service, Setup, TempDir, wait_until};
use crate::support::logs::{
    Container, assert_eventually_eq, container_status, export_entries, message_lines, wait_for_entry_count,
};

/// Zone of the times without one: Berlin's, which needs no time zone database in this form.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

fn append(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_ref()).unwrap();
}

fn viewer(data_dir: &Arc<TempDir>, files: &str) -> Setup {
    std::fs::create_dir_all(data_dir.path().join("containers")).unwrap();
    Setup::log_viewer().data_dir(data_dir).env("LOG_FILES", files)
}

/// Returns the timestamp in whole seconds, and the message, of all entries in their order.
fn timed_messages(viewer: &Service, query: &str) -> Vec<(String, String)> {
    let entries = export_entries(viewer, query).into_iter();
    entries.map(|entry| (entry.timestamp[..19].to_owned(), entry.message)).collect()
}

/// Returns the messages of the warnings of `/health` by code.
fn warnings(viewer: &Service) -> BTreeMap<String, Vec<String>> {
    let health = viewer.get("/health").expect(200).json();
    let mut by_code: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for warning in health["warnings"].as_array().into_iter().flatten() {
        let text = |member: &str| warning[member].as_str().unwrap().to_owned();
        by_code.entry(text("code")).or_default().push(text("message"));
    }
    by_code
}

#[test]
fn entries_of_text_files_have_the_times_that_their_lines_state() {
    let data_dir = Arc::new(TempDir::new());
    let log = data_dir.path().join("app.log");
    let started = Timestamp::now();
    let ahead = (started + Duration::from_secs(3_600)).to_string();
    let in_nine_minutes = (started + Duration::from_secs(540)).to_string();
    let lines = [
        "=== a heading without a time ===".to_owned(),
        "2026-01-31T12:00:00.123Z INFO first".to_owned(),
        "2026-01-31 12:00:05,500 - root - ERROR - an hour back, because it is in the zone".to_owned(),
        "Traceback (most recent call last):".to_owned(),
        "ValueError: no".to_owned(),
        "127.0.0.1 - - [31/Jan/2026:12:00:06 +0000] \"GET / HTTP/1.1\" 200 612".to_owned(),
        "without a time".to_owned(),
        format!("{ahead} ahead"),
        "{\"level\":\"info\",\"ts\":1769860807.5,\"msg\":\"json\"}".to_owned(),
        format!("{in_nine_minutes} within ten minutes"),
    ];
    append(&log, lines.join("\n") + "\n");
    let viewer = viewer(&data_dir, "app=app.log").env("LOG_FILES_TZ", BERLIN).start();
    wait_for_entry_count(&viewer, "app", 8);
    let entries = timed_messages(&viewer, "");
    let read_at = |index: usize| {
        let at = Timestamp::parse(&format!("{}Z", entries[index].0)).unwrap();
        assert!(started.seconds() <= at.seconds() && at <= Timestamp::now(), "{entries:?}");
        entries[index].0.clone()
    };
    let trace = lines[2..5].join("\n");
    let expected = [
        (read_at(0), &lines[0]),
        ("2026-01-31T12:00:00".to_owned(), &lines[1]),
        ("2026-01-31T11:00:05".to_owned(), &trace),
        ("2026-01-31T12:00:06".to_owned(), &lines[5]),
        ("2026-01-31T12:00:06".to_owned(), &lines[6]),
        (read_at(5), &lines[7]),
        ("2026-01-31T12:00:07".to_owned(), &lines[8]),
        (in_nine_minutes.trim_end_matches('Z').to_owned(), &lines[9]),
    ];
    assert_eq!(entries, expected.map(|(time, message)| (time, message.clone())), "in the order of the file");
    viewer.get("/health").expect(200).has(json!({ "times_corrected": 1 }));
    // Periods go by the times that are shown.
    for (query, count) in [
        ("until=2026-01-31T11:30:00Z".to_owned(), 1),
        ("since=2026-01-31T12:00:00Z&until=2026-01-31T12:00:06Z".to_owned(), 3),
        ("since=2026-01-31T12:00:07Z&until=2026-02-01T00:00:00Z".to_owned(), 1),
        (format!("since={started}"), 3),
    ] {
        assert_eq!(export_entries(&viewer, &query).len(), count, "{query}");
        assert_eq!(viewer.get(&format!("/api/logs?{query}")).expect(200).json()["total"], count, "{query}");
    }
    // Old lines are not listed as if they were new, although there are such lines around them.
    let context = Container::new(&data_dir, "web");
    context.write_lines([("2026-02-01T00:00:00Z", "stdout", "a day later\n")]);
    wait_for_entry_count(&viewer, "web", 1);
    let listed: Vec<String> = timed_messages(&viewer, "").into_iter().map(|(_, message)| message).collect();
    assert_eq!(listed[7..], ["a day later".to_owned(), lines[9].clone()]);
    // A line that is read alone and states no time has the time of reading.
    let seen = wait_until(|| {
        append(&log, "alone\n");
        let entries = export_entries(&viewer, &format!("since={started}&until={}", Timestamp::now()));
        entries.iter().any(|entry| entry.message.starts_with("alone")).then_some(())
    });
    assert!(seen.is_some(), "{:?}", timed_messages(&viewer, ""));
}

#[test]
fn times_without_a_zone_are_read_in_the_zone_of_the_machine() {
    for (name, zone, expected) in [
        ("TZ", BERLIN, Some("2026-07-31T10:00:00")),
        ("TZ", "Nowhere/Land", Some("2026-07-31T12:00:00")),
        ("LOG_FILES_TZ", "EST5", Some("2026-07-31T17:00:00")),
        ("LOG_FILES_TZ", "Nowhere/Land", None),
    ] {
        let data_dir = Arc::new(TempDir::new());
        append(&data_dir.path().join("app.log"), "2026-07-31 12:00:00 INFO a\n");
        let setup = viewer(&data_dir, "app=app.log").env("TZ", BERLIN).env(name, zone);
        let Some(expected) = expected else {
            let (code, output) = setup.run_to_exit();
            assert!(code == Some(2) && output.contains("LOG_FILES_TZ: unknown time zone"), "{output}");
            continue;
        };
        let viewer = setup.start();
        let expected = vec![(expected.to_owned(), "2026-07-31 12:00:00 INFO a".to_owned())];
        assert_eventually_eq(&expected, || timed_messages(&viewer, ""));
        let codes: Vec<String> = warnings(&viewer).into_keys().collect();
        assert_eq!(codes, if zone == "Nowhere/Land" { vec!["time_zone_unknown"] } else { vec![] }, "{zone}");
    }
}

#[test]
fn lines_of_container_runtimes_have_their_stream_and_time() {
    let data_dir = Arc::new(TempDir::new());
    let path = |name: &str| data_dir.path().join(name);
    append(
        &path("cri.log"),
        "2026-01-31T12:00:00.1Z stdout F INFO started\n\
         2026-01-31T12:00:01.1Z stderr P ERROR a line \n\
         2026-01-31T12:00:01.2Z stdout F between\n\
         2026-01-31T12:00:01.3Z stderr F in parts\n\
         2026-01-31T12:00:02.1Z stderr F panic: boom\n\
         2026-01-31T12:00:02.1Z stderr F goroutine 1 [running]:\n",
    );
    append(
        &path("docker.log"),
        "{\"log\":\"WARNING of docker\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-31T12:00:03Z\"}\n",
    );
    append(&path("bom.log"), b"\xef\xbb\xbf[ERROR] 2026-01-31T12:00:04Z first line\r\nsecond \xff line\r\n");
    let viewer = viewer(&data_dir, "cri=cri.log,docker=docker.log,bom=bom.log").start();
    let mut expected: Vec<[String; 4]> = [
        ["2026-01-31T12:00:00", "stdout", "INFO", "INFO started"],
        ["2026-01-31T12:00:01", "stderr", "ERROR", "ERROR a line in parts"],
        ["2026-01-31T12:00:01", "stdout", "INFO", "between"],
        ["2026-01-31T12:00:02", "stderr", "CRITICAL", "panic: boom\ngoroutine 1 [running]:"],
        ["2026-01-31T12:00:03", "stderr", "WARNING", "WARNING of docker"],
        ["2026-01-31T12:00:04", "stdout", "ERROR", "[ERROR] 2026-01-31T12:00:04Z first line"],
        ["2026-01-31T12:00:04", "stdout", "INFO", "second \u{fffd} line"],
    ]
    .map(|entry| entry.map(str::to_owned))
    .into();
    expected.sort();
    assert_eventually_eq(&expected, || {
        let entries = export_entries(&viewer, "").into_iter();
        let mut entries: Vec<[String; 4]> =
            entries.map(|entry| [entry.timestamp[..19].to_owned(), entry.stream, entry.level, entry.message]).collect();
        entries.sort();
        entries
    });
}

#[test]
fn files_that_match_a_pattern_and_files_of_one_name_are_followed() {
    let data_dir = Arc::new(TempDir::new());
    let path = |name: &str| data_dir.path().join(name);
    std::fs::create_dir(path("logs")).unwrap();
    for name in ["logs/auth.log", "logs/mail.log", "logs/mail.log.1", "access.log", "error.log"] {
        append(&path(name), format!("{name} one\n"));
    }
    let files = format!("{}/logs/*.log*,web=access.log,web=error.log", data_dir.path().display());
    let mut running = viewer(&data_dir, &files).start();
    let counts = |viewer: &Service| viewer.get("/api/logs/stats").expect(200).json()["by_container"].clone();
    // The rotated file is read as a part of its log.
    assert_eventually_eq(&json!({ "auth.log": 1, "mail.log": 2, "web": 2 }), || counts(&running));
    append(&path("logs/new.log"), "logs/new.log one\n");
    append(&path("error.log"), "error.log two\n");
    assert_eventually_eq(&json!({ "auth.log": 1, "mail.log": 2, "new.log": 1, "web": 3 }), || counts(&running));
    std::fs::rename(path("logs/auth.log"), path("logs/auth-20260131.log")).unwrap();
    append(&path("logs/auth.log"), "logs/auth.log two\n");
    let expected = json!({ "auth.log": 2, "mail.log": 2, "new.log": 1, "web": 3 });
    assert_eventually_eq(&expected, || counts(&running));
    running.stop();
    append(&path("access.log"), "access.log two\n");
    // Created while the viewer is stopped, and longer than TAIL_BUFFER.
    append(&path("logs/late.log"), format!("{}\n", "late".repeat(250)).repeat(100));
    // A file system that does not know the time of creation leaves the lines within TAIL_BUFFER.
    let late = if path("logs/late.log").metadata().unwrap().created().is_ok() { 100 } else { 65 };
    running = viewer(&data_dir, &files).start();
    let expected = json!({ "auth.log": 2, "late.log": late, "mail.log": 2, "new.log": 1, "web": 4 });
    assert_eventually_eq(&expected, || counts(&running));
    let web = export_entries(&running, "container=web");
    let mut lines = message_lines(&web);
    lines.sort_unstable();
    assert_eq!(lines, ["access.log one", "access.log two", "error.log one", "error.log two"]);
    assert_eq!(warnings(&running), BTreeMap::new());
}

#[test]
fn settings_that_name_nothing_are_reported_until_it_exists() {
    let data_dir = Arc::new(TempDir::new());
    let path = |name: &str| data_dir.path().join(name);
    std::fs::create_dir(path("folder.log")).unwrap();
    symlink("nowhere", path("link.log")).unwrap();
    append(&path("utf16.log"), b"\xff\xfea\0\n\0");
    append(&path("packed.log"), b"\x1f\x8b\x08\0");
    let names = ["typo", "link", "folder", "utf16", "packed"];
    let files: Vec<String> = names.iter().map(|name| format!("{name}={name}.log")).collect();
    let files = format!("{},./none*.log", files.join(","));
    let viewer = viewer(&data_dir, &files).env("CONTAINERS", "web,nosuch*").start();
    let root = data_dir.path().display();
    let missing = [
        "no container matches web in CONTAINERS (yet); only * has a special meaning".to_owned(),
        "no container matches nosuch* in CONTAINERS (yet); only * has a special meaning".to_owned(),
        format!("no file matches {root}/none*.log in LOG_FILES (yet)"),
        format!("{root}/typo.log does not exist (yet)"),
        format!("{root}/link.log is a link to nowhere, which does not exist (yet)"),
    ];
    let unreadable = [
        format!("cannot read {root}/folder.log: it is a directory, not a regular file"),
        format!("{root}/utf16.log is UTF-16 text, which is not supported; let the program write UTF-8"),
        format!("{root}/packed.log is compressed, so no program appends lines to it; name the file that is written to"),
    ];
    let expected: BTreeMap<String, Vec<String>> =
        [("source_missing".to_owned(), missing.to_vec()), ("source_unreadable".to_owned(), unreadable.to_vec())].into();
    assert_eventually_eq(&expected, || warnings(&viewer));
    let reasons = missing[3..].iter().chain(&unreadable);
    for (name, reason) in names.iter().zip(reasons) {
        let status = container_status(&viewer, name);
        assert_eq!((&status["followed"], &status["reason"]), (&json!(false), &json!(reason)), "{name}");
    }
    let logged = viewer.log().iter().filter(|line| line.contains("typo.log does not exist (yet)")).count();
    assert_eq!(logged, 1, "once, not at each scan");
    append(&path("typo.log"), "now it exists\n");
    append(&path("none-any-more.log"), "now it matches\n");
    Container::new(&data_dir, "web");
    wait_for_entry_count(&viewer, "typo", 1);
    assert_eventually_eq(&json!(["link.log", "nosuch*"]), || {
        let missing = &warnings(&viewer)["source_missing"];
        let mut left: Vec<Value> = Vec::new();
        for name in ["link.log", "none*.log", "nosuch*", "typo.log", " web "] {
            left.extend(missing.iter().any(|why| why.contains(name)).then(|| json!(name)));
        }
        json!(left)
    });
    assert_eq!(container_status(&viewer, "typo")["followed"], json!(true));
}

#[test]
fn one_line_of_1970_leaves_the_histogram_of_the_others_readable() {
    let data_dir = Arc::new(TempDir::new());
    let web = Container::new(&data_dir, "web");
    web.write_lines([("1970-01-01T00:00:07Z", "stdout", "before the clock was set\n")]);
    web.write_now(["after"]);
    let viewer = viewer(&data_dir, "").start();
    wait_for_entry_count(&viewer, "web", 2);
    let histogram = |query: &str| viewer.get(&format!("/api/logs/histogram?{query}")).expect(200).json();
    let all = histogram("");
    assert_eq!((&all["total"], &all["bucket_minutes"]), (&json!(1), &json!(1)), "{all}");
    assert_eq!(histogram("until=1980-01-01T00:00:00Z&since=1960-01-01T00:00:00Z")["total"], 1);
    let listed = viewer.get("/api/logs").expect(200).json();
    assert_eq!(listed["total"], 2);
    // The id is exact in JavaScript, and leads to the entry.
    let id = listed["logs"][1]["id"].as_f64().unwrap();
    assert!((1.0..9_007_199_254_740_992.0).contains(&id), "{id}");
    let context = viewer.get(&format!("/api/logs/{id}/context")).expect(200).json();
    assert_eq!(context["logs"][0]["message"], "before the clock was set");
}

#[test]
fn periods_go_by_the_times_that_are_shown_where_they_step_back() {
    let data_dir = Arc::new(TempDir::new());
    let web = Container::new(&data_dir, "web");
    web.write_lines([
        ("2026-01-31T12:00:10.000Z", "stdout", "a\n"),
        ("2026-01-31T12:00:09.900Z", "stdout", "b\n"),
        ("2026-01-31T12:00:10.100Z", "stdout", "c\n"),
    ]);
    let viewer = viewer(&data_dir, "").start();
    wait_for_entry_count(&viewer, "web", 3);
    let shown = |query: &str| message_lines(&export_entries(&viewer, query)).concat();
    assert_eq!(shown(""), "abc");
    assert_eq!(shown("until=2026-01-31T12:00:09.950Z"), "b");
    assert_eq!(shown("since=2026-01-31T12:00:09.950Z"), "ac");
    let stats = viewer.get("/api/logs/stats").expect(200).json();
    assert_eq!(stats["oldest_log"], "2026-01-31T12:00:09.900000000Z");
}
