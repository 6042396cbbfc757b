//! Contract of the log API: list, filters, pagination, statistics, histogram, context, export and access control.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Case, assert_cases, contains_subset, member_names};
use crate::support::harness::{API_KEY, Request, Service, Setup, TempDir};
use crate::support::logs::{
    Container, assert_eventually_eq, export_entries, message_lines, percent_encode, wait_for_entry_count,
};

const API_KEYS: &str = "app:ingest:app-key, eye:read:eye-key, ops:admin:ops-key, shop:ingest@shop:shop:key";

/// Starts a viewer with two containers of three entries each. The messages contain Greek letters in order of time.
fn fixture() -> Service {
    fixture_with(|setup| setup)
}

fn fixture_with(configure: impl Fn(Setup) -> Setup) -> Service {
    let data_dir = Arc::new(TempDir::new());
    Container::new(&data_dir, "web-1").write_lines([
        ("2026-01-31T12:00:00.123456789Z", "stdout", "alpha: first\n"),
        ("2026-01-31T12:00:02Z", "stdout", "level=warn msg=\"gamma: slow\"\n"),
        ("2026-01-31T12:01:30.5Z", "stderr", "ERROR: epsilon: no level\n"),
    ]);
    Container::new(&data_dir, "db").write_lines([
        ("2026-01-31T12:00:01.5Z", "stderr", "DEBUG: beta: ready\n"),
        ("2026-01-31T12:00:59.999999999Z", "stdout", "[ERROR] delta: \u{1b}[31mfailed\u{1b}[0m\n"),
        ("2026-01-31T12:05:00Z", "stdout", "CRITICAL: omega: gone\n"),
    ]);
    let viewer = configure(Setup::log_viewer()).data_dir(&data_dir).start();
    assert_eventually_eq(&json!(6), || viewer.get("/health").json()["logs_indexed"].clone());
    viewer
}

/// Returns the Greek letters of the listed entries, separated by spaces.
#[track_caller]
fn names(viewer: &Service, query: &str) -> String {
    let page = viewer.get(&format!("/api/logs?{query}")).expect(200).json();
    let name = |entry: &Value| {
        let message = entry["message"].as_str().unwrap().split(": ").collect::<Vec<_>>();
        message[message.len() - 2].trim_start_matches("level=warn msg=\"").trim_start_matches("[ERROR] ").to_owned()
    };
    let names: Vec<String> = page["logs"].as_array().unwrap().iter().map(name).collect();
    assert_eq!(page["total"], names.len(), "{query}");
    names.join(" ")
}

#[test]
fn logs_support_all_filters_and_are_sorted_newest_first() {
    let viewer = fixture();
    let all = "omega epsilon delta gamma beta alpha";
    for (query, expected) in [
        ("", all),
        ("unknown=1", all),
        ("container=&level=&search=&since=&until=", all),
        ("container=web-1", "epsilon gamma alpha"),
        ("container=web-2", ""),
        ("container=web", ""),
        ("container=WEB-1", ""),
        ("container=web*", "epsilon gamma alpha"),
        ("container=*-1", "epsilon gamma alpha"),
        ("container=*", all),
        ("container=*b*", all),
        ("container=d*b", "omega delta beta"),
        ("container=%25", ""),
        ("container=web_1", ""),
        ("level=ERROR", "epsilon delta"),
        ("level=error", "epsilon delta"),
        ("level=DEBUG", "beta"),
        ("level=INFO", "alpha"),
        ("level=CRITICAL", "omega"),
        ("level=%3E%3DWARNING", "omega epsilon delta gamma"),
        ("level=>=WARNING", "omega epsilon delta gamma"),
        ("level=>=DEBUG", all),
        ("level=>=CRITICAL", "omega"),
        ("level=DEBUG,CRITICAL", "omega beta"),
        ("container=db&level=>=ERROR", "omega delta"),
        ("since=2026-01-31T12:00:59.999Z", "omega epsilon delta"),
        ("since=2026-01-31T12:01:00Z", "omega epsilon"),
        ("since=2026-01-31T14:01:00%2B02:00", "omega epsilon"),
        ("until=2026-01-31T12:00:01.5Z", "beta alpha"),
        ("until=2026-01-31T12:00:01.499Z", "alpha"),
        ("until=2026-01-31T12:00:00.123Z", "alpha"),
        ("since=2026-01-31T12:00:02Z&until=2026-01-31T12:01:30.5Z", "epsilon delta gamma"),
        ("since=2026-01-31T12:06:00Z", ""),
        ("since=2026-01-31T12:05:00Z&until=2026-01-31T12:00:00Z", ""),
        ("since=0000-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", all),
        ("search=failed", "delta"),
        ("q=failed", "delta"),
        ("search=slow&q=failed", "gamma"),
        ("container=web*&search=level", "epsilon gamma"),
        ("container=web*&search=level&level=WARNING", "gamma"),
        ("contains=LEVEL%3Dw", "gamma"),
        ("contains=: failed", "delta"),
        ("regex=(?i)^(alpha|%5C%5Berror)", "delta alpha"),
        ("contains=o&regex=o%24", ""),
    ] {
        assert_eq!(names(&viewer, &query.replace(' ', "+")), expected, "{query}");
    }
}

#[test]
fn invalid_filters_are_rejected_by_name() {
    let viewer = fixture();
    let get = |query: &str| Request::get(&format!("/api/logs?{query}"));
    let cases: [Case; 8] = [
        ("unknown level", get("level=LOUD"), 400, json!("'level'")),
        ("missing level after >=", get("level=>="), 400, json!("'level'")),
        ("unsupported operator", get("level=<=ERROR"), 400, json!("'level'")),
        ("one unknown level of two", get("level=ERROR,LOUD"), 400, json!("'level'")),
        ("invalid since", get("since=yesterday"), 400, json!("'since'")),
        ("invalid until", get("until=2026-01-31"), 400, json!("'until'")),
        ("invalid pattern", get("regex=("), 400, json!("'regex'")),
        ("pattern too long", get(&format!("regex={}", "a".repeat(1_001))), 400, json!("'regex'")),
    ];
    assert_cases(&viewer, cases);
}

#[test]
fn entry_has_nanosecond_timestamp_and_only_documented_members() {
    let viewer = fixture();
    let body = viewer.get("/api/logs?level=INFO").expect(200).json();
    let entry = &body["logs"][0];
    assert_eq!(member_names(entry).len(), 6);
    let expected = json!({
        "timestamp": "2026-01-31T12:00:00.123456789Z", "container": "web-1", "stream": "stdout", "level": "INFO",
        "message": "alpha: first",
    });
    assert!(contains_subset(entry, &expected) && entry["id"].as_i64().unwrap() > 0, "{entry}");
    assert_eq!((member_names(&body).len(), &body["limit"], &body["offset"]), (4, &json!(100), &json!(0)), "{body}");
    let delta = viewer.get("/api/logs?level=ERROR&container=db").expect(200).json();
    let expected =
        json!({ "timestamp": "2026-01-31T12:00:59.999999999Z", "message": "[ERROR] delta: \u{1b}[31mfailed\u{1b}[0m" });
    assert!(contains_subset(&delta["logs"][0], &expected), "ANSI colors must be kept: {delta}");
}

#[test]
fn log_pages_are_slices_of_the_whole_list() {
    let viewer = fixture();
    let page = |limit: i64, offset: i64| json!({ "limit": limit, "offset": offset });
    for (query, expected) in [
        ("limit=", page(100, 0)),
        ("limit=1", page(1, 0)),
        ("limit=500", page(500, 0)),
        ("limit=0", page(1, 0)),
        ("limit=-3", page(1, 0)),
        ("limit=501", page(500, 0)),
        ("limit=99999999999999999999", page(500, 0)),
        ("limit=ten", page(100, 0)),
        ("offset=-1", page(100, 0)),
        ("offset=x", page(100, 0)),
        ("offset=7", page(100, 7)),
        ("offset=99999999999999999999", page(100, 100_000)),
    ] {
        viewer.get(&format!("/api/logs?{query}")).expect(200).has(expected);
    }
    let list = viewer.get("/api/logs").expect(200).json();
    let entries = list["logs"].as_array().unwrap();
    for limit in 1..=7 {
        for offset in 0..=7 {
            let page = viewer.get(&format!("/api/logs?limit={limit}&offset={offset}")).expect(200);
            let page = page.has(json!({ "total": 6, "limit": limit, "offset": offset })).json();
            let part: Vec<&Value> = entries.iter().skip(offset).take(limit).collect();
            assert_eq!(page["logs"].as_array().unwrap().iter().collect::<Vec<_>>(), part, "{limit} {offset}");
        }
    }
}

#[test]
fn entries_with_equal_timestamps_keep_their_order_and_have_unique_ids() {
    let data_dir = Arc::new(TempDir::new());
    let timestamp = "2026-01-31T12:00:00.000000001Z";
    let lines: Vec<String> = (0..50).map(|n| format!("line {n}\n")).collect();
    Container::new(&data_dir, "web").write_lines(lines.iter().map(|line| (timestamp, "stdout", line.as_str())));
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    wait_for_entry_count(&viewer, "web", 50);
    let entries = export_entries(&viewer, "");
    assert_eq!(message_lines(&entries), lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>());
    assert!(entries.is_sorted_by(|one, next| one.id < next.id), "{entries:?}");
    let listed = viewer.get("/api/logs?limit=500").expect(200).json();
    let newest: Vec<i64> =
        listed["logs"].as_array().unwrap().iter().map(|entry| entry["id"].as_i64().unwrap()).collect();
    assert!(newest.iter().rev().eq(entries.iter().map(|entry| &entry.id)));
}

#[test]
fn container_counts_and_statistics_have_two_paths() {
    let viewer = fixture();
    let levels = |debug, info, warning, error, critical| json!({ "DEBUG": debug, "INFO": info, "WARNING": warning, "ERROR": error, "CRITICAL": critical });
    let containers = json!({ "containers": [
        { "name": "db", "log_count": 3, "levels": levels(1, 0, 0, 1, 1), "image": "shop:1", "project": "shop",
          "service": "", "followed": true, "reason": null },
        { "name": "web-1", "log_count": 3, "levels": levels(0, 1, 1, 1, 0), "followed": true },
    ] });
    let stats = json!({
        "total_logs": 6, "oldest_log": "2026-01-31T12:00:00.123456789Z", "newest_log": "2026-01-31T12:05:00.000000000Z",
        "by_level": levels(1, 1, 1, 2, 1), "by_container": { "db": 3, "web-1": 3 },
    });
    let cases: [Case; 4] = [
        ("containers", Request::get("/api/logs/containers"), 200, containers.clone()),
        ("containers, short", Request::get("/api/containers"), 200, containers),
        ("stats", Request::get("/api/logs/stats"), 200, stats.clone()),
        ("stats, short", Request::get("/api/stats"), 200, stats),
    ];
    assert_cases(&viewer, cases);
}

#[test]
fn empty_database_returns_empty_responses() {
    let data_dir = Arc::new(TempDir::new());
    std::fs::create_dir(data_dir.path().join("containers")).unwrap();
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    let cases: [Case; 6] = [
        ("list", Request::get("/api/logs"), 200, json!({ "logs": [], "total": 0 })),
        ("search", Request::get("/api/logs?search=x"), 200, json!({ "logs": [], "total": 0 })),
        ("containers", Request::get("/api/containers"), 200, json!({ "containers": [] })),
        ("stats", Request::get("/api/stats"), 200, json!({ "total_logs": 0, "oldest_log": null, "newest_log": null })),
        ("histogram", Request::get("/api/logs/histogram"), 200, json!({ "buckets": [], "total": 0 })),
        ("context", Request::get("/api/logs/1/context"), 404, json!("Log entry 1 not found")),
    ];
    assert_cases(&viewer, cases);
    assert_eq!(export_entries(&viewer, ""), []);
    viewer.get("/health").expect(200).has(json!({ "logs_indexed": 0, "last_ingest": null, "containers": 0 }));
}

#[test]
fn histogram_counts_filtered_entries() {
    let viewer = fixture();
    let bucket = |minute: &str, count: i64, levels: Value| json!({ "bucket": format!("2026-01-31T12:{minute}:00Z"), "count": count, "levels": levels });
    for (query, minutes, buckets) in [
        (
            "",
            1,
            json!([
                bucket("00", 4, json!({ "DEBUG": 1, "INFO": 1, "WARNING": 1, "ERROR": 1, "CRITICAL": 0 })),
                bucket("01", 1, json!({ "ERROR": 1 })),
                bucket("05", 1, json!({ "CRITICAL": 1 })),
            ]),
        ),
        (
            "level=>=ERROR&bucket_minutes=5",
            5,
            json!([bucket("00", 2, json!({ "ERROR": 2 })), bucket("05", 1, json!({}))]),
        ),
        ("container=web*&bucket_minutes=0", 1, json!([bucket("00", 2, json!({})), bucket("01", 1, json!({}))])),
        ("since=2026-01-31T12:01:00Z", 1, json!([bucket("01", 1, json!({})), bucket("05", 1, json!({}))])),
        ("search=failed", 1, json!([bucket("00", 1, json!({ "ERROR": 1, "INFO": 0 }))])),
        ("contains=o", 1, json!([bucket("00", 2, json!({})), bucket("01", 1, json!({})), bucket("05", 1, json!({}))])),
        ("container=unknown", 1, json!([])),
    ] {
        let response = viewer.get(&format!("/api/logs/histogram?{query}")).expect(200).json();
        let total: i64 = buckets.as_array().unwrap().iter().map(|bucket| bucket["count"].as_i64().unwrap()).sum();
        let expected = json!({ "bucket_minutes": minutes, "buckets": buckets, "total": total });
        assert!(contains_subset(&response, &expected), "{query}: {response} should contain {expected}");
    }
    viewer.get("/api/logs/histogram?level=LOUD").expect(400).has_detail("'level'");
}

#[test]
fn context_returns_neighbors_from_the_same_container() {
    let viewer = fixture();
    let id = |query: &str| viewer.get(&format!("/api/logs?{query}")).expect(200).json()["logs"][0]["id"].clone();
    let delta = id("search=failed");
    let context = |query: &str| {
        let response = viewer.get(&format!("/api/logs/{delta}/context?{query}")).expect(200).json();
        let messages =
            response["logs"].as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned());
        messages.map(|message| message.split(": ").nth(1).map_or("delta".to_owned(), str::to_owned)).collect::<Vec<_>>()
    };
    for (query, expected) in [
        ("", 3),
        ("before=1&after=1", 3),
        ("before=0", 2),
        ("after=0", 2),
        ("before=0&after=0", 1),
        ("before=-1&after=1000", 2),
    ] {
        assert_eq!(context(query).len(), expected, "{query}");
    }
    let messages = viewer.get(&format!("/api/logs/{delta}/context")).expect(200).json();
    let containers: Vec<&Value> =
        messages["logs"].as_array().unwrap().iter().map(|entry| &entry["container"]).collect();
    assert_eq!(containers, ["db"; 3], "the context must be from one container");
    assert_eq!(messages["logs"][0]["message"], "DEBUG: beta: ready");
    let cases: [Case; 4] = [
        ("unknown ID", Request::get("/api/logs/7/context"), 404, json!("Log entry 7 not found")),
        ("ID 0", Request::get("/api/logs/0/context"), 404, Value::Null),
        ("negative ID", Request::get("/api/logs/-7/context"), 404, json!("must be a positive integer")),
        ("non-numeric ID", Request::get("/api/logs/x/context"), 404, Value::Null),
    ];
    assert_cases(&viewer, cases);
}

#[test]
fn entries_before_2026_are_sorted_filtered_and_counted() {
    let data_dir = Arc::new(TempDir::new());
    Container::new(&data_dir, "old").write_lines([
        ("2019-05-01T10:00:30Z", "stdout", "ERROR: one: x\n"),
        ("2025-12-31T23:59:59.999999Z", "stdout", "WARNING: two: x\n"),
        ("2025-12-31T23:59:59.9999999Z", "stdout", "DEBUG: three: x\n"),
        ("2026-01-01T00:00:00Z", "stdout", "ERROR: four: x\n"),
    ]);
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    assert_eventually_eq(&json!(4), || viewer.get("/health").json()["logs_indexed"].clone());
    for (query, expected) in [
        ("", "four three two one"),
        ("level=ERROR", "four one"),
        ("level=DEBUG&search=x", "three"),
        ("search=x&level=>=WARNING", "four two one"),
        ("until=2025-12-31T23:59:59Z", "one"),
        ("since=2019-05-01T10:00:31Z&until=2025-12-31T23:59:59.999Z", "three two"),
    ] {
        let page = viewer.get(&format!("/api/logs?{query}")).expect(200).json();
        let entries = page["logs"].as_array().unwrap().iter();
        let words = entries.map(|entry| entry["message"].as_str().unwrap().split(' ').nth(1).unwrap());
        assert_eq!(words.collect::<Vec<_>>().join(" ").replace(':', ""), expected, "{query}");
    }
    let one = viewer.get("/api/logs?level=ERROR").expect(200).json()["logs"][1].clone();
    assert_eq!(one["timestamp"], "2019-05-01T10:00:30.000000000Z");
    let context = viewer.get(&format!("/api/logs/{}/context?after=1", one["id"])).expect(200).json();
    assert_eq!(context["logs"].as_array().unwrap().len(), 2, "{context}");
    for query in ["", "&search=x"] {
        let path = format!(
            "/api/logs/histogram?since=2025-12-31T23:59:00Z&until=2026-01-01T00:00:59Z&bucket_minutes=1{query}"
        );
        let histogram = viewer.get(&path).expect(200).json();
        let counts: Vec<&Value> =
            histogram["buckets"].as_array().unwrap().iter().map(|bucket| &bucket["count"]).collect();
        assert_eq!(counts, [2, 1], "{histogram}");
    }
}

/// Times that do not fit into IDs, and the first and last years of other limits.
#[test]
fn entries_of_all_years_have_safe_ids_and_are_found() {
    const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;
    let data_dir = Arc::new(TempDir::new());
    let times = [
        "1969-12-31T23:59:59.000000001Z",
        "1970-01-01T00:00:00.000000000Z",
        "2039-06-01T12:00:00.000000000Z",
        "2109-05-01T12:00:00.000000000Z",
        "2109-12-31T12:00:00.000000000Z",
        "2200-01-01T00:00:00.000000000Z",
    ];
    let lines = times.map(|time| format!("line of {time}\n"));
    let lines = times.iter().zip(&lines).map(|(time, line)| (*time, "stdout", line.as_str()));
    Container::new(&data_dir, "clocks").write_lines(lines);
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    wait_for_entry_count(&viewer, "clocks", 6);
    let entries = export_entries(&viewer, "");
    assert_eq!(entries.iter().map(|entry| entry.timestamp.as_str()).collect::<Vec<_>>(), times);
    for (index, entry) in entries.iter().enumerate() {
        assert!((1..=SAFE_INTEGER_MAX).contains(&entry.id), "{entry:?}");
        let context = viewer.get(&format!("/api/logs/{}/context?before=0&after=0", entry.id)).expect(200).json();
        assert_eq!(context["logs"][0]["message"], entry.message);
        let (time, id) = (&entry.timestamp, entry.id);
        let queries = [(format!("since={time}&until={time}"), 1), (format!("max_id={id}&limit=1"), index + 1)];
        for (query, total) in queries {
            let page = viewer.get(&format!("/api/logs?{query}")).expect(200).json();
            assert_eq!((&page["total"], &page["logs"][0]["id"]), (&json!(total), &json!(id)), "{query}");
        }
    }
    let stats = json!({ "oldest_log": times[0], "newest_log": times[5] });
    viewer.get("/api/logs/stats").expect(200).has(stats);
    let histogram = viewer.get("/api/logs/histogram?bucket_minutes=1440&until=2300-01-01T00:00:00Z").expect(200).json();
    let buckets = histogram["buckets"].as_array().unwrap();
    let days: Vec<&str> = buckets.iter().map(|bucket| &bucket["bucket"].as_str().unwrap()[..10]).collect();
    assert_eq!(days, times.map(|time| &time[..10]));
    let view = rusqlite::Connection::open(data_dir.path().join("logs.db")).unwrap();
    let mut read = view.prepare("SELECT timestamp FROM log_entries ORDER BY id").unwrap();
    let in_view: Vec<String> = read.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(in_view, times);
}

#[test]
fn export_returns_all_matching_entries_in_both_formats() {
    let viewer = fixture();
    let export = |query: &str| viewer.get(&format!("/api/logs/export?{query}")).expect(200);
    let ndjson = export("container=db");
    assert_eq!(ndjson.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(export("container=db&format=ndjson").text(), ndjson.text());
    let listed = viewer.get("/api/logs?container=db").expect(200).json();
    let mut newest: Vec<Value> = ndjson.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    newest.reverse();
    assert_eq!(&Value::Array(newest), &listed["logs"], "the export must have the same entries, oldest first");
    let plain = export("format=text&level=>=ERROR");
    assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(
        plain.text(),
        "2026-01-31T12:00:59.999999999Z db stdout ERROR [ERROR] delta: failed\n\
         2026-01-31T12:01:30.500000000Z web-1 stderr ERROR ERROR: epsilon: no level\n\
         2026-01-31T12:05:00.000000000Z db stdout CRITICAL CRITICAL: omega: gone\n"
    );
    for (query, count) in [
        ("search=failed", 1),
        ("contains=o", 4),
        ("regex=%5Ba-z%5D%2B: ", 6),
        ("since=2026-01-31T12:00:02Z&until=2026-01-31T12:01:30.5Z", 3),
        ("limit=1&offset=2", 6),
        ("container=unknown", 0),
    ] {
        assert_eq!(export_entries(&viewer, &query.replace(' ', "%20")).len(), count, "{query}");
    }
    let get = |query: &str| Request::get(&format!("/api/logs/export?{query}"));
    let cases: [Case; 3] = [
        ("unknown format", get("format=csv"), 400, json!("'format'")),
        ("invalid level", get("level=LOUD"), 400, json!("'level'")),
        ("invalid pattern", get("regex=("), 400, json!("'regex'")),
    ];
    assert_cases(&viewer, cases);
}

#[test]
fn log_viewer_routes_require_their_scopes() {
    let viewer = fixture_with(|setup| setup.env("API_KEYS", API_KEYS));
    let paths = [
        "/api/logs",
        "/api/logs/containers",
        "/api/containers",
        "/api/logs/stats",
        "/api/stats",
        "/api/logs/histogram",
        "/api/logs/1",
        "/api/logs/1/context",
        "/api/logs/export",
        "/api/logs/tail",
        "/metrics",
        "/api/nothing",
        "/health",
    ];
    let allowed = [200, 200, 200, 200, 200, 200, 404, 404, 200, 200, 200, 404, 200];
    let forbidden = [403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 403, 404, 200];
    let unauthorized = [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200];
    for (key, statuses) in [
        (API_KEY, allowed),
        ("eye-key", allowed),
        ("ops-key", allowed),
        ("app-key", forbidden),
        ("shop:key", forbidden),
        ("no-key", unauthorized),
        ("", unauthorized),
    ] {
        for (path, status) in paths.iter().zip(statuses) {
            // The tail does not end, so only its head is requested.
            let method = if path.ends_with("/tail") { "HEAD" } else { "GET" };
            let request = Request::new(method, path).header("X-API-Key", key);
            assert_eq!(viewer.send(&request).status, status, "{path} with {key:?}");
            let bearer = request.without_header("X-API-Key").header("Authorization", &format!("Bearer {key}"));
            assert_eq!(viewer.send(&bearer).status, status, "{path} with {key:?} as a bearer token");
        }
    }
    for path in paths {
        let response = viewer.send(&Request::new("DELETE", path));
        assert_eq!(response.status, if path == "/api/nothing" { 404 } else { 405 }, "{path}");
    }
}

#[test]
fn log_viewer_health_reports_counts_and_last_ingest() {
    let viewer = fixture();
    let health =
        viewer.get("/health").expect(200).has(json!({ "status": "ok", "logs_indexed": 6, "containers": 2, "gaps": 0 }));
    let health = health.json();
    let at = health["last_ingest"].as_str().and_then(monlight::clock::Timestamp::parse).unwrap();
    assert!((0..60).contains(&(monlight::clock::Timestamp::now().seconds() - at.seconds())), "{health}");
    assert_eq!(member_names(&health).len(), 9, "{health}");
    let text = viewer.get("/metrics").expect(200).text();
    assert!(text.contains("\nmonlight_logs_indexed 6\n"), "{text}");
}

#[test]
fn log_query_values_are_percent_decoded() {
    let data_dir = Arc::new(TempDir::new());
    let message = "größe 50% a+b=c&d \u{1f600}";
    Container::new(&data_dir, "web").write_lines([("2026-01-31T12:00:00Z", "stdout", format!("{message}\n").as_str())]);
    let viewer = Setup::log_viewer().data_dir(&data_dir).start();
    wait_for_entry_count(&viewer, "web", 1);
    for (part, total) in [(message, 1), ("a+b=c&d", 1), ("50%", 1), ("\u{1f600}", 1), ("GRÖSSE", 0), ("GRÖßE", 1)] {
        let query = format!("/api/logs?contains={}", percent_encode(part));
        viewer.get(&query).expect(200).has(json!({ "total": total }));
    }
}
