//! Contract of `GET /api/errors`, `/api/projects` and `/api/variants`: filters, search, sort order, pagination and
//! decoding.

use serde_json::{Value, json};

use super::{Case, assert_cases, group_detail, minutes_ago, post_report, unique_report_with};
use crate::support::harness::{Request, Service, Setup};

/// Starts a tracker with five groups, created in the order of `last_seen`; `delta` has the earliest `first_seen`. The
/// messages start with the names of the groups.
fn fixture() -> Service {
    let service = Setup::error_tracker().start();
    let python = |file: &str| format!("  File \"/app/{file}.py\", line 1, in open_socket\n    dial()");
    let alpha = json!({
        "project": "shop", "exception_type": "net.ConnectTimeoutError", "message": "alpha",
        "traceback": python("dial"), "release": "1.0", "timestamp": minutes_ago(50),
    });
    let beta = json!({
        "project": "shop", "exception_type": "ValueError", "message": "beta: 100% of user_name failed",
        "traceback": python("beta"), "environment": "staging", "level": "warning", "timestamp": minutes_ago(40),
    });
    let gamma = json!({
        "project": "blog", "exception_type": "TypeError", "message": "gamma: no \"price\" of NEAR(undefined)",
        "traceback": "TypeError: x\n    at pay (https://ex.com/app.js:10:5)", "request_method": "BROWSER",
        "extra": { "session_id": "s-1" }, "release": "2.0", "timestamp": minutes_ago(30),
    });
    let delta = |environment: &str, minutes: u64| {
        json!({
            "project": "blog", "exception_type": "KeyError", "message": "delta: Größe überschritten 支付",
            "traceback": python("delta"), "environment": environment, "level": "critical",
            "timestamp": minutes_ago(minutes),
        })
    };
    let omega = json!({
        "project": "shop", "exception_type": "OSError", "message": "omega: disk failed", "traceback": python("omega"),
        "timestamp": minutes_ago(10),
    });
    for report in [&alpha, &beta, &gamma, &delta("prod", 60), &omega, &alpha, &alpha, &delta("staging", 20)] {
        service.post("/api/errors", report);
    }
    service.post("/api/errors/5/resolve", &json!({})).expect(200);
    service
}

/// Returns the names of the listed groups, separated by spaces.
#[track_caller]
fn names(service: &Service, query: &str) -> String {
    let page = service.get(&format!("/api/errors?{query}")).expect(200).json();
    let name = |group: &Value| group["message"].as_str().unwrap().split(':').next().unwrap().to_owned();
    let names: Vec<String> = page["errors"].as_array().unwrap().iter().map(name).collect();
    assert_eq!(page["total"], names.len(), "{query}");
    names.join(" ")
}

#[test]
fn errors_support_all_filters_and_sort_orders() {
    let service = fixture();
    let since = |minutes| format!("since={}", minutes_ago(minutes));
    let until = |minutes| format!("until={}", minutes_ago(minutes));
    for (query, expected) in [
        ("", "delta gamma beta alpha"),
        ("unknown=1", "delta gamma beta alpha"),
        ("resolved=false", "delta gamma beta alpha"),
        ("resolved=true", "omega"),
        ("resolved=all", "omega delta gamma beta alpha"),
        ("resolved=maybe", "delta gamma beta alpha"),
        ("project=shop", "beta alpha"),
        ("project=shop&resolved=all", "omega beta alpha"),
        ("project=", "delta gamma beta alpha"),
        ("project=sho", ""),
        ("project=Shop", ""),
        ("project=shop&project=blog", "beta alpha"),
        ("environment=prod", "delta gamma alpha"),
        ("environment=staging", "delta beta"),
        ("environment=dev", ""),
        ("source=browser", "gamma"),
        ("source=server", "delta beta alpha"),
        ("session_id=s-1", "gamma"),
        ("session_id=s-2", ""),
        ("level=error", "gamma alpha"),
        ("level=WARNING", "beta"),
        ("level=warn", "beta"),
        ("level=fatal", "delta"),
        ("level=info", ""),
        ("level=loud", ""),
        ("release=1.0", "alpha"),
        ("release=1", ""),
        (&since(35), "delta gamma"),
        (&until(35), "delta beta alpha"),
        (&format!("{}&{}", since(45), until(35)), "delta beta"),
        (&format!("{}&{}", since(25), until(55)), "delta"),
        (&format!("{}&{}", since(25), until(65)), ""),
        ("sort=last_seen", "delta gamma beta alpha"),
        ("sort=first_seen", "gamma beta alpha delta"),
        ("sort=count", "alpha delta gamma beta"),
        ("sort=nonsense", "delta gamma beta alpha"),
        ("project=blog&environment=prod&source=server&level=critical&search=delta&sort=count", "delta"),
    ] {
        assert_eq!(names(&service, query), expected, "{query}");
    }
}

#[test]
fn search_finds_words_and_substrings_in_type_message_and_traceback() {
    let service = fixture();
    for (search, expected) in [
        ("gamma", "gamma"),
        ("GAMMA", "gamma"),
        ("gam", "gamma"),
        ("amm", "gamma"),
        ("failed", "beta"),
        ("failed+beta", "beta"),
        ("failed+gamma", ""),
        ("++failed++", "beta"),
        ("ValueError", "beta"),
        ("timeout", "alpha"),
        ("connecttimeout", "alpha"),
        ("imeouterr", "alpha"),
        ("net.ConnectTimeoutError", "alpha"),
        ("dial.py", "alpha"),
        ("%2Fapp%2Fdial.py", "alpha"),
        ("open_socket", "delta beta alpha"),
        ("pen_sock", "delta beta alpha"),
        ("gr%C3%B6%C3%9Fe", "delta"),
        ("GR%C3%96%C3%9FE", "delta"),
        ("%C3%BCberschr", "delta"),
        ("berschritten", "delta"),
        ("https://ex.com/app.js:10:5", "gamma"),
        ("app.js+10", "gamma"),
        ("%E6%94%AF", "delta"),
        ("%E4%BB%98+delta", "delta"),
        ("nowhere", ""),
        ("+", "delta gamma beta alpha"),
    ] {
        assert_eq!(names(&service, &format!("search={search}")), expected, "{search}");
    }
    assert_eq!(names(&service, "search=failed&resolved=all"), "omega beta");
}

#[test]
fn search_treats_operators_as_plain_text() {
    let service = fixture();
    for (search, expected) in [
        ("%25", "beta"),
        ("100%25", "beta"),
        ("user_name", "beta"),
        ("us_r", ""),
        ("us%25name", ""),
        ("%25%25", ""),
        ("%5C", ""),
        ("%22price%22", "gamma"),
        ("%22price", "gamma"),
        ("%22%22", ""),
        ("NEAR(", "gamma"),
        ("NEAR(undefined)", "gamma"),
        ("beta+OR+gamma", ""),
        ("beta+AND+failed", ""),
        ("beta+NOT+failed", ""),
        ("-beta", "beta"),
        ("beta*", "beta"),
        ("*", ""),
        ("words:beta", ""),
        ("%5Ebeta", "beta"),
        ("beta.failed", ""),
        ("%E0%A4%95%E0%A4%BF%E0%A4%A4", ""),
        ("beta%E2%92%B6", ""),
        ("{beta}", "beta"),
        ("'", ""),
        ("';DROP+TABLE+errors;--", ""),
        ("gamma%00", "gamma"),
        ("gamma%00delta", ""),
        ("%FF", ""),
    ] {
        assert_eq!(names(&service, &format!("search={search}")), expected, "{search}");
    }
    for long in ["x".repeat(1_000), "x.y+".repeat(250), "%25".repeat(1_000), "%22+".repeat(500)] {
        assert_eq!(names(&service, &format!("search={long}")), "", "{long}");
    }
    assert_eq!(names(&service, ""), "delta gamma beta alpha");
}

#[test]
fn limit_and_offset_are_clamped() {
    let service = fixture();
    let page = |limit: i64, offset: i64| json!({ "limit": limit, "offset": offset, "total": 4 });
    let cases: [(&'static str, Value); 15] = [
        ("", page(50, 0)),
        ("limit=", page(50, 0)),
        ("limit=1", page(1, 0)),
        ("limit=200", page(200, 0)),
        ("limit=0", page(1, 0)),
        ("limit=-3", page(1, 0)),
        ("limit=201", page(200, 0)),
        ("limit=99999999999999999999", page(200, 0)),
        ("limit=ten", page(50, 0)),
        ("limit=1.5", page(50, 0)),
        ("limit=%202%20", page(2, 0)),
        ("offset=3", page(50, 3)),
        ("offset=-1", page(50, 0)),
        ("offset=last", page(50, 0)),
        ("offset=99999999999999999999", page(50, i64::MAX)),
    ];
    let case = |(query, expected): (&'static str, Value)| -> Case {
        (query, Request::get(&format!("/api/errors?{query}")), 200, expected)
    };
    assert_cases(&service, cases.map(case));
}

#[test]
fn pages_are_slices_of_the_whole_list() {
    let service = fixture();
    let list = service.get("/api/errors?resolved=all").expect(200).json();
    let groups = list["errors"].as_array().unwrap();
    for limit in 1..=6 {
        for offset in 0..=6 {
            let page = service.get(&format!("/api/errors?resolved=all&limit={limit}&offset={offset}")).expect(200);
            let page = page.has(json!({ "total": 5, "limit": limit, "offset": offset })).json();
            let part: Vec<&Value> = groups.iter().skip(offset).take(limit).collect();
            assert_eq!(page["errors"].as_array().unwrap().iter().collect::<Vec<_>>(), part, "{limit} {offset}");
        }
    }
}

#[test]
fn list_truncates_messages_over_2000_characters() {
    let service = Setup::error_tracker().start();
    for (id, length, listed_message) in [(1, 2_000, "ü".repeat(2_000)), (2, 2_001, "ü".repeat(1_999) + "…")] {
        let message = "ü".repeat(length);
        service
            .post("/api/errors", &unique_report_with("message", message.as_str()))
            .expect(201)
            .has(json!({ "id": id }));
        let listed = service.get("/api/errors?sort=first_seen&limit=1").expect(200).json();
        assert_eq!(listed["errors"][0]["message"], listed_message, "{length}");
        let group = group_detail(&service, id);
        assert_eq!((&group["message"], &group["occurrences"][0]["message"]), (&json!(message), &json!(message)));
    }
}

#[test]
fn query_values_are_percent_decoded_and_plus_is_a_space() {
    let service = Setup::error_tracker().start();
    let report =
        |project: &str| json!({ "project": project, "exception_type": "E", "message": project, "traceback": "" });
    for project in ["a b&c=d/ü+?#", "100%", "😀"] {
        service.send(&post_report(&report(project))).expect(201);
    }
    for (query, expected) in [
        ("project=a+b%26c%3Dd%2F%C3%BC%2B%3F%23", "a b&c=d/ü+?#"),
        ("project=a%20b%26c=d/%c3%bc%2b%3f%23", "a b&c=d/ü+?#"),
        ("%70roject=%F0%9F%98%80", "😀"),
        ("project=😀", "😀"),
        ("project=100%25", "100%"),
        ("project=100%", "100%"),
        ("&&project=100%25&&", "100%"),
        ("project=a%2Bb", ""),
        ("project=%FF%FE", ""),
        ("project=%zz", ""),
        ("project=%00", ""),
    ] {
        assert_eq!(names(&service, query), expected, "{query}");
    }
}

#[test]
fn projects_are_listed_once_and_sorted() {
    let service = Setup::error_tracker().start();
    service.get("/api/projects").expect(200).has(json!({ "projects": [] }));
    for (line, project) in ["shop", "blog", "shop", "Über", "a b"].into_iter().enumerate() {
        let traceback = format!("  File \"/app/a.py\", line {line}");
        let report = json!({ "project": project, "exception_type": "E", "message": "", "traceback": traceback });
        service.send(&post_report(&report)).expect(201);
    }
    let all = json!({ "projects": ["a b", "blog", "shop", "Über"] });
    service.get("/api/projects").expect(200).has(all.clone());
    service.post("/api/errors/2/resolve", &json!({})).expect(200);
    service.get("/api/projects?project=shop").expect(200).has(all);
}

#[test]
fn variants_list_environments_and_releases_once() {
    let tracker = fixture();
    let expected = json!({ "environments": ["prod", "staging"], "releases": ["1.0", "2.0"], "has_more": false });
    assert_eq!(tracker.get("/api/variants").expect(200).json(), expected);
}

#[test]
fn hourly_counts_match_the_reports() {
    let tracker = Setup::error_tracker().start();
    for (minutes, reports) in [(5, 3), (65, 1), (125, 2), (60 * 30, 4)] {
        for _ in 0..reports {
            let report = json!({ "project": "shop", "exception_type": "E", "message": "", "traceback": "", "timestamp": minutes_ago(minutes) });
            tracker.post("/api/errors", &report);
        }
    }
    let hours = |path: &str| {
        let response = tracker.get(path).expect(200).json();
        let group = response["errors"].get(0).unwrap_or(&response).clone();
        group["hours"].as_array().map(|hours| hours.iter().map(|hour| hour.as_i64().unwrap()).collect::<Vec<_>>())
    };
    for path in ["/api/errors", "/api/errors/1"] {
        assert_eq!(hours(path), None);
        for (requested, returned) in [("0", 0), ("2", 2), ("24", 24), ("168", 168), ("9999", 168)] {
            let counts = hours(&format!("{path}?hours={requested}")).unwrap_or_default();
            assert_eq!(counts.len(), returned, "{requested}");
            // A new hour may have started since the reports, so the last four hours are compared.
            let recent: i64 = counts.iter().rev().take(4).sum();
            let expected = if returned >= 4 { 6 } else { recent };
            assert_eq!(recent, expected, "{counts:?}");
            assert_eq!(counts.iter().sum::<i64>(), if returned == 168 { 10 } else { recent }, "{counts:?}");
        }
    }
}
