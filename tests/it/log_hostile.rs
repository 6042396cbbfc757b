//! Log viewer against containers, files, searches and clocks that want to hide the logs of others.

use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::harness::{Client, Request, Service, Setup, TempDir, root_or_skip, wait_until};
use crate::support::logs::{
    Container, TailClient, assert_eventually_eq, container_status, export_entries, percent_encode, wait_for_entry_count,
};

const NOBODY: u32 = 65_534;
const SPARSE_BYTES: u64 = 30_000_000_000;
/// Time in which a viewer has to show a line that was written to another log.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Maximum duration of a search, which is stopped after 1.5 seconds. Generous for the debug build on a busy machine.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(6);

/// Viewer that follows text files in its data folder.
struct Followed {
    data_dir: Arc<TempDir>,
    viewer: Service,
}

impl Followed {
    /// Starts a viewer. `prepare` gets the folder with the logs before the start.
    fn start(names: &[&str], prepare: impl Fn(&std::path::Path)) -> Self {
        let data_dir = Arc::new(TempDir::new());
        let folder = data_dir.path().join("logs");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(data_dir.path().join("containers")).unwrap();
        prepare(&folder);
        let files: Vec<String> = names.iter().map(|name| format!("{name}={}/{name}.log", folder.display())).collect();
        let setup = Setup::log_viewer().data_dir(&data_dir).env("LOG_FILES", files.join(","));
        Self { viewer: setup.env("TAIL_BUFFER", 1_000_000_000).start(), data_dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.data_dir.path().join("logs").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }

    /// Asserts that a line of the log `other` is soon shown.
    #[track_caller]
    fn assert_other_is_seen(&self) {
        let started = Instant::now();
        self.append("other.log", "seen\n");
        let seen = wait_until(|| (container_status(&self.viewer, "other")["log_count"] == 1).then_some(()));
        let took = started.elapsed();
        assert!(seen.is_some() && took < SEEN_WITHIN, "{took:?}: {:#?}", self.viewer.log());
    }
}

#[test]
fn a_pipe_in_place_of_a_log_does_not_block_others() {
    let followed = Followed::start(&["app", "other"], |folder| {
        rustix::fs::mknodat(rustix::fs::CWD, folder.join("app.log"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
    });
    followed.assert_other_is_seen();
    let status = container_status(&followed.viewer, "app");
    assert!(
        status["followed"] == false && status["reason"].as_str().unwrap().contains("not a regular file"),
        "{status}"
    );
    let warnings = followed.viewer.get("/health").expect(200).json()["warnings"].to_string();
    assert!(warnings.contains("source_unreadable"), "{warnings}");
    followed.viewer.get("/api/logs/containers").expect(200);
}

#[test]
fn a_link_out_of_the_folder_is_not_followed_by_root() {
    if !root_or_skip("reading the files of other users") {
        return;
    }
    let followed = Followed::start(&["app", "dated", "other"], |folder| {
        chown(folder, Some(NOBODY), None).unwrap();
        let secret = folder.parent().unwrap().join("secret");
        std::fs::write(&secret, "the secret\n").unwrap();
        symlink(&secret, folder.join("app.log")).unwrap();
        std::fs::write(folder.join("dated-today.log"), "of the same folder\n").unwrap();
        symlink("dated-today.log", folder.join("dated.log")).unwrap();
    });
    followed.assert_other_is_seen();
    assert_eventually_eq(&json!(1), || container_status(&followed.viewer, "dated")["log_count"].clone());
    let status = container_status(&followed.viewer, "app");
    assert_eq!((&status["log_count"], &status["followed"]), (&json!(0), &json!(false)));
    assert!(status["reason"].as_str().unwrap().contains("a link out of its folder"), "{status}");
    // A log that was followed is replaced.
    std::fs::remove_file(followed.path("other.log")).unwrap();
    symlink("../secret", followed.path("other.log")).unwrap();
    let refused = wait_until(|| (container_status(&followed.viewer, "other")["followed"] == false).then_some(()));
    assert!(refused.is_some(), "{:#?}", followed.viewer.log());
    let shown: Vec<String> = export_entries(&followed.viewer, "").into_iter().map(|entry| entry.message).collect();
    assert!(!shown.iter().any(|message| message.contains("secret")), "{shown:?}");
}

#[test]
fn a_folder_that_is_replaced_with_a_link_is_not_followed_by_root() {
    if !root_or_skip("reading the files of other users") {
        return;
    }
    let data_dir = Arc::new(TempDir::new());
    let [data, secret] = ["data", "secret"].map(|name| data_dir.path().join(name));
    let logs = data.join("logs");
    for (folder, line) in [(&logs, "of the user\n"), (&secret, "of root\n")] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("app.log"), line).unwrap();
        std::fs::set_permissions(folder.join("app.log"), PermissionsExt::from_mode(0o600)).unwrap();
    }
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o700)).unwrap();
    for path in [&data, &logs, &logs.join("app.log")] {
        chown(path, Some(NOBODY), None).unwrap();
    }
    let files = format!("app={}/app.log", logs.display());
    let setup = Setup::log_viewer().data_dir(&data_dir).env("LOG_FILES", files).env("TAIL_BUFFER", 1_000_000);
    let viewer = setup.start();
    let messages = || export_entries(&viewer, "").into_iter().map(|entry| entry.message).collect::<Vec<String>>();
    assert_eventually_eq(&vec!["of the user".to_owned()], messages);
    std::fs::rename(&logs, data.join("logs2")).unwrap();
    symlink(&secret, &logs).unwrap();
    lchown(&logs, Some(NOBODY), None).unwrap();
    let refused = wait_until(|| {
        assert_eq!(messages(), ["of the user"]);
        (container_status(&viewer, "app")["followed"] == false).then_some(())
    });
    assert!(refused.is_some(), "{:#?}", viewer.log());
    let status = container_status(&viewer, "app");
    assert!(status["reason"].as_str().unwrap().contains("a link out of its folder"), "{status}");
}

#[test]
fn a_sparse_file_costs_nothing_and_hides_no_line() {
    let followed = Followed::start(&["app", "other"], |folder| {
        let file = std::fs::File::create(folder.join("app.log")).unwrap();
        file.set_len(SPARSE_BYTES).unwrap();
    });
    followed.assert_other_is_seen();
    followed.append("app.log", "\nafter the hole\n");
    let found = || followed.viewer.get("/api/logs?search=hole").expect(200).json()["total"].clone();
    assert_eventually_eq(&json!(1), found);
}

#[test]
fn a_slow_search_is_stopped_and_does_not_delay_others() {
    let followed = Followed::start(&["app"], |folder| {
        let mut state = 1_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b"abcd"[(state >> 40) as usize % 4]
        };
        let line: Vec<u8> = (0..400_000).map(|_| letter()).collect();
        let line = String::from_utf8(line).unwrap() + "\n";
        std::fs::write(folder.join("app.log"), line.repeat(20)).unwrap();
    });
    let viewer = &followed.viewer;
    assert_eventually_eq(&json!(20), || container_status(viewer, "app")["log_count"].clone());
    let too_many = percent_encode("(?:a.{0,60}b.{0,60}c.{0,60}d.{0,60}z)");
    viewer.get(&format!("/api/logs?regex={too_many}")).expect(400).has_detail("at most 10,000");
    for name in ["search", "contains", "regex"] {
        let query = |chars: usize| format!("/api/logs?{name}={}", percent_encode("é".repeat(chars)));
        viewer.get(&query(1_001)).expect(400).has_detail(&format!("'{name}' must be at most 1,000 characters"));
        viewer.get(&query(1_000)).expect(200);
    }
    for pattern in
        ["[ab].{0,1000}[yz]", "a.{0,90}b.{0,90}[yz]", "[ab]*a[ab][ab][ab][ab][ab][ab][ab][ab][ab][ab][ab][ab][yz]"]
    {
        for path in ["/api/logs", "/api/logs/histogram"] {
            let started = Instant::now();
            let response = viewer.get(&format!("{path}?regex={}", percent_encode(pattern))).expect(200).json();
            let took = started.elapsed();
            assert!(took < SEARCH_TIMEOUT, "{path} with {pattern} took {took:?}");
            assert!(response["partial"] == true || response["total"] == 0, "{response}");
        }
    }
}

#[test]
fn entries_of_a_clock_that_was_ahead_do_not_hide_later_ones() {
    let data_dir = Arc::new(TempDir::new());
    let (ahead, web) = (Container::new(&data_dir, "ahead"), Container::new(&data_dir, "web"));
    let future: Vec<(&str, &str, String)> =
        (0..50).map(|number| ("2099-01-31T12:00:00Z", "stdout", format!("future {number}\n"))).collect();
    ahead.write_lines(future.iter().map(|(time, stream, text)| (*time, *stream, text.as_str())));
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    assert_eventually_eq(&json!(50), || container_status(&viewer, "ahead")["log_count"].clone());
    let later = (monlight::clock::Timestamp::now() + Duration::from_secs(700)).to_string();
    web.write_lines([(later.as_str(), "stdout", "later\n")]);
    ahead.write_now(["corrected"]);
    assert_eventually_eq(&json!(52), || viewer.get("/api/logs").expect(200).json()["total"].clone());
    let listed = viewer.get("/api/logs?limit=500").expect(200).json();
    let messages: Vec<&str> =
        listed["logs"].as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap()).collect();
    // The order is that of arrival.
    let oldest: Vec<&str> = messages[2..].iter().rev().copied().collect();
    assert!(messages[..2].contains(&"corrected") && oldest[0] == "future 0", "{messages:?}");
    let mut numbers: Vec<&str> = messages.iter().filter_map(|message| message.strip_prefix("future ")).collect();
    numbers.reverse();
    assert_eq!(numbers, (0..50).map(|number| number.to_string()).collect::<Vec<_>>(), "the order is kept");
    let newest_id = listed["logs"][0]["id"].as_i64().unwrap();
    let now_ms = monlight::clock::Timestamp::now().ms();
    assert!(newest_id / 8 / 256 < now_ms + 5_000, "{newest_id}");
    // The timestamps stay, and filters use them.
    for (query, total) in [
        ("since=2098-01-01T00:00:00Z", 50),
        ("since=2099-01-31T12:00:01Z", 0),
        ("until=2098-01-01T00:00:00Z", 2),
        ("since=2099-01-31T12:00:00Z&search=future", 50),
        ("until=2098-01-01T00:00:00Z&search=later+OR+future", 1),
        ("until=2098-01-01T00:00:00Z&contains=e", 2),
    ] {
        let response = viewer.get(&format!("/api/logs?{query}")).expect(200).json();
        assert_eq!(response["total"], total, "{query}");
        assert_eq!(export_entries(&viewer, query).len(), total, "{query}");
    }
    // The chart shows the present, unless it is asked for the future.
    let histogram = |query: &str| viewer.get(&format!("/api/logs/histogram?{query}")).expect(200).json();
    let present = histogram("");
    assert_eq!((&present["total"], &present["bucket_minutes"]), (&json!(1), &json!(1)), "{present}");
    assert_eq!(histogram("until=2100-01-01T00:00:00Z")["total"], 52);
    assert_eq!(histogram("until=2100-01-01T00:00:00Z&search=future")["total"], 50);
}

#[test]
fn entries_with_an_unreadable_time_have_that_of_their_arrival() {
    let data_dir = Arc::new(TempDir::new());
    let (ahead, web) = (Container::new(&data_dir, "ahead"), Container::new(&data_dir, "web"));
    ahead.write_lines([
        ("2099-01-31T12:00:00Z", "stdout", "future\n"),
        ("0000-00-00T99:00:00Z", "stdout", "unreadable 1\n"),
        ("-1-01-01T00:00:00Z", "stdout", "unreadable 2\n"),
        ("9999-01-01T00:00:00Z", "stdout", "unreadable 3\n"),
    ]);
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    assert_eventually_eq(&json!(4), || container_status(&viewer, "ahead")["log_count"].clone());
    // Times are written in whole seconds.
    let later = (monlight::clock::Timestamp::now() + Duration::from_secs(1)).to_string();
    web.write_lines([(later.as_str(), "stdout", "later\n")]);
    assert_eventually_eq(&json!(5), || viewer.get("/api/logs").expect(200).json()["total"].clone());
    let listed = viewer.get("/api/logs").expect(200).json();
    assert_eq!(listed["logs"][0]["message"], "later", "{listed}");
    let now = monlight::clock::Timestamp::now();
    let is_present = |query: &str| viewer.get(&format!("/api/logs?search=unreadable&{query}")).expect(200).json();
    let (minute_ago, now) = (now - Duration::from_secs(60), now + Duration::from_secs(1));
    assert_eq!(is_present(&format!("since={minute_ago}&until={now}"))["total"], 3, "{listed}");
}

#[test]
fn names_of_containers_are_bounded() {
    let data_dir = Arc::new(TempDir::new());
    let long = Container::new(&data_dir, &format!("a\u{7}b{}", "\u{1f600}".repeat(10_000)));
    long.write_now(["first"]);
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    let containers = || viewer.get("/api/logs/containers").expect(200).json()["containers"].clone();
    assert_eventually_eq(&json!(1), || containers()[0]["log_count"].clone());
    let name = containers()[0]["name"].as_str().unwrap().to_owned();
    assert_eq!(name, format!("a b{}", "\u{1f600}".repeat(31)));
    assert_eq!(viewer.get("/api/logs/stats").expect(200).json()["by_container"], json!({ name.as_str(): 1 }));
    let found: Value = viewer.get(&format!("/api/logs?container={}", percent_encode(&name))).expect(200).json();
    assert_eq!(found["total"], 1);
}

/// Opens a live tail from another loopback address and returns its status.
fn tail_from(viewer: &Service, address: [u8; 4]) -> (u16, Client) {
    let mut client = viewer.connect_from(address).unwrap();
    client.write(&Request::get("/api/logs/tail").bytes());
    (client.read_head().unwrap().status, client)
}

#[test]
fn one_client_does_not_exclude_others_from_the_live_tail() {
    let data_dir = Arc::new(TempDir::new());
    let web = Container::new(&data_dir, "web");
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    let mut own: Vec<TailClient> = (0..5).map(|_| TailClient::open(&viewer, "", None)).collect();
    assert_eq!(TailClient::try_open(&viewer, "", None).err(), Some(503));
    let others: Vec<(u16, Client)> = (0..2).map(|_| tail_from(&viewer, [127, 0, 0, 2])).collect();
    assert_eq!([others[0].0, others[1].0], [200, 200]);
    assert_eq!(tail_from(&viewer, [127, 0, 0, 2]).0, 503);
    web.write_now(["for those that remain"]);
    for (index, tail) in own.iter_mut().enumerate() {
        // A tail that has to end can still send the entry.
        let names: Vec<String> = std::iter::from_fn(|| tail.next_event().map(|event| event.name))
            .take(if index < 2 { 2 } else { 1 })
            .collect();
        assert!(names.contains(&if index < 2 { "close" } else { "log" }.to_owned()), "tail {index}: {names:?}");
    }
}

#[test]
fn sessions_of_one_key_do_not_exclude_other_keys_from_exports() {
    const EYE: &str = "eye-key-0123456789";
    let data_dir = Arc::new(TempDir::new());
    // More than the buffers of the sockets, so that exports wait for their clients.
    let log = data_dir.path().join("app.log");
    std::fs::write(&log, ("x".repeat(200_000) + "\n").repeat(50)).unwrap();
    std::fs::create_dir_all(data_dir.path().join("containers")).unwrap();
    let setup = Setup::log_viewer().data_dir(&data_dir).env("LOG_FILES", format!("app={}", log.display()));
    let viewer = setup.env("TAIL_BUFFER", 1_000_000_000).env("API_KEYS", format!("eye:read:{EYE}")).start();
    assert_eventually_eq(&json!(50), || container_status(&viewer, "app")["log_count"].clone());
    let mut slow = Vec::new();
    for _ in 0..2 {
        let signed_in = viewer.send(&Request::new("POST", "/api/session").header("X-API-Key", EYE)).expect(200);
        let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        for number in 0..12 {
            let mut client = viewer.connect();
            let request = Request::get("/api/logs/export").without_header("X-API-Key").header("Cookie", &cookie);
            client.write(&request.bytes());
            let status = client.read_head().unwrap().status;
            assert_eq!(status, if number < 6 { 200 } else { 503 });
            slow.push(client);
        }
    }
    for _ in 0..2 {
        assert_eq!(export_entries(&viewer, "").len(), 50);
    }
}

#[test]
fn secrets_in_the_configuration_of_a_container_are_not_stored() {
    let data_dir = Arc::new(TempDir::new());
    let container = Container::new(&data_dir, "web");
    let path = container.dir().join("config.v2.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["Config"]["Env"] = json!(["DATABASE_URL=postgres://shop:hunter2-env@db/shop"]);
    config["Config"]["Cmd"] = json!(["serve", "--token=hunter2-cmd"]);
    config["Config"]["Labels"]["token"] = json!("hunter2-label");
    config["HostConfig"] = json!({ "Binds": ["/srv/hunter2-bind:/data"] });
    std::fs::write(&path, config.to_string()).unwrap();
    container.write_lines([("2026-01-31T12:00:00Z", "stdout", "hello\n")]);
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    wait_for_entry_count(&viewer, "web", 1);
    let listed = viewer.get("/api/logs/containers").expect(200).text();
    assert!(!listed.contains("hunter2"), "{listed}");
    viewer.stop();
    for file in
        std::fs::read_dir(data_dir.path()).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file())
    {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{}", file.display());
    }
}
