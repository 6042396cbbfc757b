//! Source maps at the browser relay: upload, list, remove, stacks mapped by them, and why a position does not resolve.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::relay::{ERRORS, House};
use super::{assert_cases, contains_subset};
use crate::harness::{Request, Service, Setup, TempDir, wait_until};

const MAPS: &str = "/api/source-maps";

fn corpus(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)).unwrap()
}

fn upload(file_url: &str, map: &str) -> Request {
    upload_for("1.0", file_url, map)
}

fn upload_for(release: &str, file_url: &str, map: &str) -> Request {
    let body = json!({ "project": "shop", "release": release, "file_url": file_url, "map_content": map });
    Request::post(MAPS, &body)
}

fn small_map() -> String {
    // Line 1, column 1 of the generated code is `add` at line 2, column 4 of cart.js.
    json!({
        "version": 3, "sources": ["cart.js"], "names": ["add"], "mappings": "AACGA",
        "sourcesContent": ["// one\n   add(2);\n// three\n"],
    })
    .to_string()
}

/// A report of a stack by a page of a release.
fn report(release: &str, stack: &str) -> Request {
    let message = stack.lines().next().unwrap().split_once(": ").map_or("", |(_, message)| message);
    Request::from_browser(ERRORS, &json!({ "type": "E", "message": message, "stack": stack, "release": release }))
}

/// The latest report of the group that a report went into.
#[track_caller]
fn reported(house: &House, request: &Request) -> Value {
    let id = house.relay.send(request).id();
    let group = house.tracker.get(&format!("/api/errors/{id}")).expect(200).json();
    group["occurrences"][0].clone()
}

fn list(relay: &Service, query: &str) -> Value {
    relay.get(&format!("{MAPS}{query}")).expect(200).json()
}

#[test]
fn stacks_of_three_engines_are_mapped_on_their_way() {
    let house = House::new(|setup| setup);
    for bundle in ["esbuild", "vite", "webpack", "rollup", "esbuild-bare"] {
        let uploaded = upload_for(bundle, "https://shop.example/assets/app.js", &corpus(&format!("maps/{bundle}.map")));
        house
            .relay
            .send(&uploaded)
            .expect(201)
            .has(json!({ "status": "uploaded", "project": "shop", "release": bundle }));
        for engine in ["chromium", "firefox", "safari"] {
            let stacks = corpus(&format!("stacks/{bundle}.{engine}.txt"));
            let expected = corpus(&format!("stacks/{bundle}.{engine}.expected"));
            for (stack, expected) in stacks.trim_end().split("\n\n").zip(expected.trim_end().split("\n\n")).take(3) {
                let found = reported(&house, &report(bundle, stack));
                assert_eq!(found["traceback"], expected, "{bundle} {engine}");
                let frames = found["extra"]["frames"].as_array().unwrap();
                let first = &frames[0];
                let line = expected.lines().nth(first["stack_line"].as_u64().unwrap() as usize).unwrap();
                let place = format!("{}:{}:{}", first["file"].as_str().unwrap(), first["line"], first["column"]);
                assert!(line.contains(&place), "{line} is {place}");
                if bundle != "esbuild-bare" {
                    let context = first["context"].as_array().unwrap();
                    assert!((2..=3).contains(&context.len()), "{first}");
                }
            }
        }
    }
}

#[test]
fn what_has_no_map_goes_as_it_came() {
    let house = House::new(|setup| setup);
    house.relay.send(&upload("https://shop.example/app.js", &small_map())).expect(201);
    let stack = "E: e\n    at a (https://shop.example/app.js:1:1)\n    at b (https://shop.example/other.js:1:1)";
    let mapped = "E: e\n    at a (cart.js:2:4)\n    at b (https://shop.example/other.js:1:1)";
    for (what, release, stack, expected) in [
        ("a frame with a map", "1.0", stack, mapped),
        ("an unknown release", "2.0", stack, stack),
        ("no release", "", stack, stack),
        ("no stack", "1.0", "", ""),
        ("native code", "1.0", "E: e\n    at Array.map (<anonymous>)", "E: e\n    at Array.map (<anonymous>)"),
        (
            "an extension's file of the same name",
            "1.0",
            "E: e\n    at a (chrome-extension://x/app.js:1:1)",
            "E: e\n    at a (chrome-extension://x/app.js:1:1)",
        ),
    ] {
        let body = json!({ "message": "e", "type": what, "stack": stack, "release": release });
        let found = reported(&house, &Request::from_browser(ERRORS, &body));
        assert_eq!(found["traceback"], expected, "{what}");
        assert_eq!(found["extra"]["frames"].is_array(), stack != expected, "{what}");
    }
    // Another project's pages do not see it.
    let other = house.relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201).json();
    let request = report("1.0", stack).header("X-Monlight-Key", other["public_key"].as_str().unwrap());
    assert_eq!(reported(&house, &request)["traceback"], stack);
}

#[test]
fn the_best_fitting_map_is_taken_and_the_latest_upload_counts() {
    let house = House::new(|setup| setup);
    let map = |source: &str| small_map().replace("cart.js", source);
    for (url, source) in [
        ("https://shop.example/assets/app.js", "by-url.js"),
        ("/assets/app.js", "by-path.js"),
        ("app.js", "by-name.js"),
    ] {
        house.relay.send(&upload(url, &map(source))).expect(201);
    }
    let at = |url: &str| {
        let request = report("1.0", &format!("E: {url}\n    at a ({url}:1:1)"));
        let found = reported(&house, &request);
        found["extra"]["frames"][0]["file"].as_str().unwrap().to_owned()
    };
    assert_eq!(at("https://shop.example/assets/app.js?v=1"), "by-url.js");
    assert_eq!(at("https://cdn.example/assets/app.js"), "by-path.js");
    assert_eq!(at("https://cdn.example/app.js"), "by-name.js");
    let replaced = house.relay.send(&upload("app.js", &map("again.js"))).expect(201).id();
    assert_eq!(at("https://b.example/app.js"), "again.js");
    let listed = list(&house.relay, "?project=shop");
    assert!(listed["total"] == 3 && listed["source_maps"][0]["id"] == replaced, "{listed}");
}

#[test]
fn maps_are_listed_and_removed() {
    let house = House::new(|setup| setup.env("API_KEYS", "eye:read:r"));
    let relay = &house.relay;
    let id = relay.send(&upload("/a.js", &small_map())).expect(201).id();
    relay.send(&upload_for("2.0", "/a.js", &small_map())).expect(201);
    let all = list(relay, "");
    let expected = json!({ "total": 2, "source_maps": [
        { "project": "shop", "release": "2.0", "file_url": "/a.js" },
        { "id": id, "project": "shop", "release": "1.0", "file_url": "/a.js" },
    ] });
    assert!(
        contains_subset(&all, &expected) && all["source_maps"][0]["uploaded_at"].as_str().unwrap().ends_with('Z'),
        "{all}"
    );
    assert_eq!(list(relay, "?project=blog"), json!({ "source_maps": [], "total": 0, "limit": 1000, "offset": 0 }));
    assert_eq!(list(relay, "?release=2.0")["total"], 1);
    let page = list(relay, "?limit=1&offset=1");
    assert!(page["total"] == 2 && page["source_maps"][0]["id"] == id, "{page}");
    let delete = |id: i64| Request::new("DELETE", &format!("{MAPS}/{id}"));
    assert_cases(
        relay,
        [
            ("who only looks", delete(id).header("X-API-Key", "r"), 403, json!("admin")),
            ("and may look", Request::get(MAPS).header("X-API-Key", "r"), 200, Value::Null),
            ("removed", delete(id), 200, json!({ "status": "deleted" })),
            ("removed already", delete(id), 404, json!("no source map")),
        ],
    );
    assert_eq!(list(relay, "")["total"], 1);
    let database = rusqlite::Connection::open(relay.data_dir.path().join("browser-relay.db")).unwrap();
    let owners: i64 =
        database.query_row("SELECT count(DISTINCT map_id) FROM map_blocks", [], |row| row.get(0)).unwrap();
    assert_eq!(owners, 1, "its blocks are gone with it");
}

#[test]
fn what_is_no_map_is_refused_in_words() {
    let house = House::new(|setup| setup.env("MAX_SOURCE_MAP_SIZE", 2_000));
    let relay = &house.relay;
    let map = small_map();
    let raw = |body: &str| Request::new("POST", MAPS).body(body);
    assert_cases(
        relay,
        [
            ("no JSON", raw("nonsense"), 400, json!("JSON")),
            ("no fields", raw("{}"), 400, json!("'project' is required")),
            (
                "a map that is no text",
                raw(r#"{"project":"p","release":"r","file_url":"f","map_content":{}}"#),
                400,
                json!("'map_content' must be a string"),
            ),
            ("an empty file_url", upload("", &map), 400, json!("'file_url'")),
            ("a file_url of two lines", upload("a\nb", &map), 400, json!("'file_url'")),
            ("a long release", upload_for(&"r".repeat(201), "/a.js", &map), 400, json!("'release'")),
            ("no map", upload("/a.js", "nonsense"), 400, json!("source map")),
            ("version 2", upload("/a.js", &map.replace("3", "2")), 400, json!("'version' must be 3")),
            ("mappings that end early", upload("/a.js", &map.replace("AACGA", "AACg")), 400, json!("source map")),
            ("too large a map", upload("/a.js", &map.replace("// one", &"x".repeat(2_000))), 413, json!("2000 bytes")),
            ("a key that may only report", upload("/a.js", &map).without_header("X-API-Key"), 401, Value::Null),
        ],
    );
    assert_eq!(list(relay, "")["total"], 0);
    let database = rusqlite::Connection::open(relay.data_dir.path().join("browser-relay.db")).unwrap();
    for table in ["map_blocks", "map_uploads"] {
        let left: i64 = database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
    relay.send(&upload("/a.js", &format!(")]}}'\n{map}"))).expect(201);
    // In the words of a reverse proxy's log: what the response needs is in the URL and the body compressed.
    let body = json!({ "project": "shop", "release": "1.0", "file_url": "/z.js", "map_content": map }).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, body.as_bytes()).unwrap();
    let compressed = Request::new("POST", MAPS).header("Content-Encoding", "gzip").body(gzip.finish().unwrap());
    relay.send(&compressed).expect(201);
}

#[test]
fn why_a_position_resolves_or_not_is_said() {
    let house = House::new(|setup| setup);
    let relay = &house.relay;
    relay.send(&upload("/assets/app.js", &small_map())).expect(201);
    let ask = |query: &str| Request::get(&format!("{MAPS}/verify?{query}"));
    let at = |project: &str, release: &str, url: &str, line: u32, column: u32| {
        ask(&format!("project={project}&release={release}&url={url}&line={line}&column={column}"))
    };
    let url = "https://shop.example/assets/app.js";
    let found = json!({
        "resolved": true, "source_map": { "file_url": "/assets/app.js" },
        "original": { "file": "cart.js", "line": 2, "column": 4, "name": "add",
            "context": [{ "line": 1, "text": "// one" }, { "line": 2, "text": "   add(2);" }, { "line": 3, "text": "// three" }] },
    });
    assert_cases(
        relay,
        [
            ("a position of the map", at("shop", "1.0", url, 1, 1), 200, found),
            ("another method", Request::new("DELETE", &format!("{MAPS}/verify")), 405, json!("only GET, HEAD")),
            ("no project", ask("release=1"), 400, json!("'project' is required")),
            ("no line", ask("project=shop&release=1.0&url=x&column=1"), 400, json!("'line' is required")),
            ("line 0", at("shop", "1.0", url, 0, 1), 400, json!("'line' must be a number from 1 up")),
        ],
    );
    for (request, said) in [
        (at("blog", "1.0", url, 1, 1), "Project 'blog' has no source maps"),
        (at("shop", "9", url, 1, 1), "Release '9' of project 'shop' has no source maps"),
        (at("shop", "1.0", "https://shop.example/other.js", 1, 1), "there are: /assets/app.js"),
        (at("shop", "1.0", url, 2, 1), "nothing at or before this column"),
    ] {
        let response = relay.send(&request).expect(200).json();
        assert!(response["resolved"] == false && response["reason"].as_str().unwrap().contains(said), "{response}");
    }
}

#[test]
fn maps_go_when_they_were_not_used_for_long() {
    let folder = Arc::new(TempDir::new());
    let house = House::new(|setup| setup.data_dir(&folder).env("RETENTION_DAYS", 10));
    house.relay.send(&upload("/used.js", &small_map())).expect(201);
    house.relay.send(&upload("/unused.js", &small_map())).expect(201);
    let House { tracker, collector, relay } = house;
    drop(relay);
    let age = || {
        let database = rusqlite::Connection::open(folder.path().join("browser-relay.db")).unwrap();
        database.execute("UPDATE source_maps SET used_at = used_at - 9 * 86400000", []).unwrap();
    };
    let start =
        || Setup::browser_relay(tracker.address, collector.address).data_dir(&folder).env("RETENTION_DAYS", 10).start();
    age();
    let relay = start();
    relay.send(&report("1.0", "E: e\n    at a (https://x/used.js:1:1)")).expect(201);
    let noted = || {
        let database = rusqlite::Connection::open(folder.path().join("browser-relay.db")).unwrap();
        let sql =
            "SELECT count(DISTINCT used_at) FROM source_maps WHERE used_at < uploaded_at OR file_url = '/used.js'";
        database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() == 2
    };
    assert_eq!(wait_until(|| noted().then_some(())), Some(()));
    drop(relay);
    age();
    let relay = start();
    let left = || list(&relay, "")["total"] == 1;
    assert_eq!(wait_until(|| left().then_some(())), Some(()));
    assert_eq!(list(&relay, "")["source_maps"][0]["file_url"], "/used.js");
}

#[test]
fn an_upload_that_was_cut_off_leaves_nothing() {
    let folder = Arc::new(TempDir::new());
    let house = House::new(|setup| setup.data_dir(&folder));
    let database = rusqlite::Connection::open(folder.path().join("browser-relay.db")).unwrap();
    let House { tracker, collector, relay } = house;
    relay.kill();
    database
        .execute_batch(
            "INSERT INTO map_uploads (id) VALUES (7);
             INSERT INTO map_blocks (map_id, kind, key, bytes) VALUES (7, 0, 0, x'00')",
        )
        .unwrap();
    let relay = Setup::browser_relay(tracker.address, collector.address).data_dir(&folder).start();
    let left: i64 = database.query_row("SELECT count(*) FROM map_blocks", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    assert_eq!(relay.send(&upload("/a.js", &small_map())).expect(201).id(), 8, "its number is not given again");
}

#[test]
fn a_file_of_the_original_opens_in_place_with_its_keys_and_maps() {
    let folder = Arc::new(TempDir::new());
    let path = folder.path().join("browser-relay.db");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/original/browser-relay.db"), &path).unwrap();
    let original = rusqlite::Connection::open(&path).unwrap();
    let map: String = original.query_row("SELECT map_content FROM source_maps", [], |row| row.get(0)).unwrap();
    original
        .execute(
            "INSERT INTO source_maps (project, release, file_url, map_content) VALUES ('web', '1.0.0', '/bad.js', 'x')",
            [],
        )
        .unwrap();
    drop(original);
    for start in ["first", "second"] {
        let house = House::new(|setup| setup.data_dir(&folder).env("DSN_KEYS", ""));
        let keys = house.relay.get("/api/dsn-keys").expect(200).json();
        let expected = json!({ "keys": [
            { "id": 1, "public_key": "a135a4568ae61e17e19b3aa56ecfd3a5", "project": "web", "active": true, "created_at": "2026-11-22T03:16:05Z" },
            { "id": 2, "public_key": "f37fa00513309a2a4109f72fbcbedca9", "project": "shop", "active": true },
            { "id": 3, "public_key": "979e10b214c876ae486f34d2144f160b", "project": "old", "active": false },
        ] });
        assert!(contains_subset(&keys, &expected), "{start}: {keys}");
        let maps = list(&house.relay, "");
        let expected = json!({ "total": 1, "source_maps": [
            { "id": 1, "project": "web", "release": "1.0.0", "file_url": "/static/small.min.js", "uploaded_at": "2026-11-22T03:16:05Z" },
        ] });
        assert!(contains_subset(&maps, &expected), "{start}: {maps}");
        let page = |key: &str| {
            report("1.0.0", "E: e\n    at a (https://web.example/static/small.min.js:1:300)")
                .header("X-Monlight-Key", key)
        };
        let found = reported(&house, &page("a135a4568ae61e17e19b3aa56ecfd3a5"));
        let file = found["extra"]["frames"][0]["file"].as_str().unwrap_or_else(|| panic!("{start}: {found}"));
        assert!(map.contains(&format!("\"{file}\"")), "{file}");
        house.relay.send(&page("979e10b214c876ae486f34d2144f160b")).expect(401);
        let (status, _) = house.relay.stop();
        assert!(status.success());
    }
    let kept = rusqlite::Connection::open(folder.path().join("browser-relay.db.original-3")).unwrap();
    let maps: i64 = kept.query_row("SELECT count(*) FROM source_maps", [], |row| row.get(0)).unwrap();
    assert_eq!(maps, 2, "a copy is kept");
}
