//! Contract of source maps at the browser relay: upload, list, delete, symbolication, and verification of positions.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::relay::{ERRORS, RelayEnv};
use super::{assert_cases, contains_subset};
use crate::support::databases::copy_original;
use crate::support::harness::{Request, Service, Setup, TempDir, wait_until};

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

/// Returns a browser report with this release and stack.
fn report(release: &str, stack: &str) -> Request {
    let message = stack.lines().next().unwrap().split_once(": ").map_or("", |(_, message)| message);
    Request::from_browser(ERRORS, &json!({ "type": "E", "message": message, "stack": stack, "release": release }))
}

/// Sends a report and returns the newest occurrence of its group.
#[track_caller]
fn newest_occurrence(env: &RelayEnv, request: &Request) -> Value {
    let id = env.relay.send(request).id();
    let group = env.tracker.get(&format!("/api/errors/{id}")).expect(200).json();
    group["occurrences"][0].clone()
}

fn list(relay: &Service, query: &str) -> Value {
    relay.get(&format!("{MAPS}{query}")).expect(200).json()
}

#[test]
fn stacks_of_three_engines_are_symbolicated() {
    let env = RelayEnv::start(|setup| setup);
    for bundle in ["esbuild", "vite", "webpack", "rollup", "esbuild-bare"] {
        let uploaded = upload_for(bundle, "https://shop.example/assets/app.js", &corpus(&format!("maps/{bundle}.map")));
        env.relay
            .send(&uploaded)
            .expect(201)
            .has(json!({ "status": "uploaded", "project": "shop", "release": bundle }));
        for engine in ["chromium", "firefox", "safari"] {
            let stacks = corpus(&format!("stacks/{bundle}.{engine}.txt"));
            let expected = corpus(&format!("stacks/{bundle}.{engine}.expected"));
            for (stack, expected) in stacks.trim_end().split("\n\n").zip(expected.trim_end().split("\n\n")).take(3) {
                let occurrence = newest_occurrence(&env, &report(bundle, stack));
                assert_eq!(occurrence["traceback"], expected, "{bundle} {engine}");
                let frames = occurrence["extra"]["frames"].as_array().unwrap();
                let first = &frames[0];
                let line = expected.lines().nth(first["stack_line"].as_u64().unwrap() as usize).unwrap();
                let position = format!("{}:{}:{}", first["file"].as_str().unwrap(), first["line"], first["column"]);
                assert!(line.contains(&position), "{line:?} should contain {position}");
                if bundle != "esbuild-bare" {
                    let context = first["context"].as_array().unwrap();
                    assert!((2..=3).contains(&context.len()), "{first}");
                }
            }
        }
    }
}

#[test]
fn frames_without_a_source_map_stay_unchanged() {
    let env = RelayEnv::start(|setup| setup);
    env.relay.send(&upload("https://shop.example/app.js", &small_map())).expect(201);
    let stack = "E: e\n    at a (https://shop.example/app.js:1:1)\n    at b (https://shop.example/other.js:1:1)";
    let mapped = "E: e\n    at a (cart.js:2:4)\n    at b (https://shop.example/other.js:1:1)";
    for (name, release, stack, expected) in [
        ("frame with a map", "1.0", stack, mapped),
        ("unknown release", "2.0", stack, stack),
        ("no release", "", stack, stack),
        ("no stack", "1.0", "", ""),
        ("native code", "1.0", "E: e\n    at Array.map (<anonymous>)", "E: e\n    at Array.map (<anonymous>)"),
        (
            "file of an extension with the same name",
            "1.0",
            "E: e\n    at a (chrome-extension://x/app.js:1:1)",
            "E: e\n    at a (chrome-extension://x/app.js:1:1)",
        ),
    ] {
        let body = json!({ "message": "e", "type": name, "stack": stack, "release": release });
        let occurrence = newest_occurrence(&env, &Request::from_browser(ERRORS, &body));
        assert_eq!(occurrence["traceback"], expected, "{name}");
        assert_eq!(occurrence["extra"]["frames"].is_array(), stack != expected, "{name}");
    }
    // Source maps of one project are not used for another.
    let other = env.relay.post("/api/dsn-keys", &json!({ "project": "blog" })).expect(201).json();
    let request = report("1.0", stack).header("X-Monlight-Key", other["public_key"].as_str().unwrap());
    assert_eq!(newest_occurrence(&env, &request)["traceback"], stack);
}

#[test]
fn most_specific_map_wins_and_a_new_upload_replaces_the_old() {
    let env = RelayEnv::start(|setup| setup);
    let map = |source: &str| small_map().replace("cart.js", source);
    for (url, source) in [
        ("https://shop.example/assets/app.js", "by-url.js"),
        ("/assets/app.js", "by-path.js"),
        ("app.js", "by-name.js"),
    ] {
        env.relay.send(&upload(url, &map(source))).expect(201);
    }
    let resolved_file = |url: &str| {
        let request = report("1.0", &format!("E: {url}\n    at a ({url}:1:1)"));
        let occurrence = newest_occurrence(&env, &request);
        occurrence["extra"]["frames"][0]["file"].as_str().unwrap().to_owned()
    };
    assert_eq!(resolved_file("https://shop.example/assets/app.js?v=1"), "by-url.js");
    assert_eq!(resolved_file("https://cdn.example/assets/app.js"), "by-path.js");
    assert_eq!(resolved_file("https://cdn.example/app.js"), "by-name.js");
    let replaced = env.relay.send(&upload("app.js", &map("replaced.js"))).expect(201).id();
    assert_eq!(resolved_file("https://b.example/app.js"), "replaced.js");
    let listed = list(&env.relay, "?project=shop");
    assert!(listed["total"] == 3 && listed["source_maps"][0]["id"] == replaced, "{listed}");
}

#[test]
fn source_maps_apply_only_to_their_own_files() {
    let env = RelayEnv::start(|setup| setup);
    let map = |source: &str| small_map().replace("cart.js", source);
    for (url, source) in [
        ("https://shop.example/static/js/main.js", "main.ts"),
        ("https://shop.example/loader.js", "loader.ts"),
        ("https://shop.example/_next/pages/blog/[slug]-0a1b.js", "slug.tsx"),
        ("https://shop.example/caf%C3%A9/menu.js", "menu.ts"),
    ] {
        env.relay.send(&upload(url, &map(source))).expect(201);
    }
    for (url, expected) in [
        ("https://shop.example/static/js/main.js", Some("main.ts")),
        ("https://cdn.example/static/js/main.js", Some("main.ts")),
        ("https://cdn.widget.example/v3/main.js", None),
        ("https://shop.example/vendor/main.js", None),
        ("http://localhost:3000/main.js", None),
        ("https://www.shop.example/loader.js", Some("loader.ts")),
        ("https://widget.example/loader.js", None),
        ("https://shop.example/_next/pages/blog/%5Bslug%5D-0a1b.js", Some("slug.tsx")),
        ("https://shop.example/caf%c3%a9/menu.js", Some("menu.ts")),
    ] {
        let stack = format!("E: e\n    at a ({url}:1:1)");
        let occurrence = newest_occurrence(&env, &report("1.0", &stack));
        let source = occurrence["extra"]["frames"][0]["file"].as_str();
        assert_eq!(source, expected, "{url}");
        assert_eq!(occurrence["traceback"] == stack, expected.is_none(), "{occurrence}");
    }
}

#[test]
fn source_maps_that_were_stored_with_encoded_names_are_found() {
    let data_dir = Arc::new(TempDir::new());
    let env = RelayEnv::start(|setup| setup.data_dir(&data_dir));
    let url = "https://shop.example/blog/%5Bslug%5D.js";
    env.relay.send(&upload(url, &small_map())).expect(201);
    let RelayEnv { tracker, collector, relay } = env;
    drop(relay);
    let database = rusqlite::Connection::open(data_dir.path().join("browser-relay.db")).unwrap();
    let changed =
        database.execute("UPDATE source_maps SET file_name = '%5Bslug%5D.js' WHERE file_name = '[slug].js'", []);
    assert_eq!(changed, Ok(1));
    drop(database);
    let relay = Setup::browser_relay(tracker.address, collector.address).data_dir(&data_dir).start();
    let env = RelayEnv { tracker, collector, relay };
    let occurrence = newest_occurrence(&env, &report("1.0", &format!("E: e\n    at a ({url}:1:1)")));
    assert_eq!(occurrence["traceback"], "E: e\n    at a (cart.js:2:4)");
}

#[test]
fn source_maps_can_be_listed_and_deleted() {
    let env = RelayEnv::start(|setup| setup.env("API_KEYS", "eye:read:r"));
    let relay = &env.relay;
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
            ("delete with a read-only key", delete(id).header("X-API-Key", "r"), 403, json!("admin")),
            ("list with a read-only key", Request::get(MAPS).header("X-API-Key", "r"), 200, Value::Null),
            ("deleted", delete(id), 200, json!({ "status": "deleted" })),
            ("already deleted", delete(id), 404, json!("not found")),
        ],
    );
    assert_eq!(list(relay, "")["total"], 1);
    let database = rusqlite::Connection::open(relay.data_dir.path().join("browser-relay.db")).unwrap();
    let maps_with_blocks: i64 =
        database.query_row("SELECT count(DISTINCT map_id) FROM map_blocks", [], |row| row.get(0)).unwrap();
    assert_eq!(maps_with_blocks, 1, "the blocks of the deleted map must be deleted too");
}

#[test]
fn invalid_source_maps_are_rejected_with_a_reason() {
    let env = RelayEnv::start(|setup| setup.env("MAX_SOURCE_MAP_SIZE", 2_000));
    let relay = &env.relay;
    let map = small_map();
    let raw = |body: &str| Request::new("POST", MAPS).body(body);
    assert_cases(
        relay,
        [
            ("invalid JSON", raw("nonsense"), 400, json!("JSON")),
            ("no fields", raw("{}"), 400, json!("'project' is required")),
            (
                "map_content is not a string",
                raw(r#"{"project":"p","release":"r","file_url":"f","map_content":{}}"#),
                400,
                json!("'map_content' must be a string"),
            ),
            ("empty file_url", upload("", &map), 400, json!("'file_url'")),
            ("file_url with a line break", upload("a\nb", &map), 400, json!("'file_url'")),
            ("release too long", upload_for(&"r".repeat(201), "/a.js", &map), 400, json!("'release'")),
            ("not a source map", upload("/a.js", "nonsense"), 400, json!("source map")),
            ("version 2", upload("/a.js", &map.replace("3", "2")), 400, json!("'version' must be 3")),
            ("truncated mappings", upload("/a.js", &map.replace("AACGA", "AACg")), 400, json!("source map")),
            ("map too large", upload("/a.js", &map.replace("// one", &"x".repeat(2_000))), 413, json!("2000 bytes")),
            ("public key instead of an API key", upload("/a.js", &map).without_header("X-API-Key"), 401, Value::Null),
        ],
    );
    assert_eq!(list(relay, "")["total"], 0);
    let database = rusqlite::Connection::open(relay.data_dir.path().join("browser-relay.db")).unwrap();
    for table in ["map_blocks", "map_contents"] {
        let left: i64 = database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
    relay.send(&upload("/a.js", &format!(")]}}'\n{map}"))).expect(201);
    // Compressed uploads are accepted.
    let body = json!({ "project": "shop", "release": "1.0", "file_url": "/z.js", "map_content": map }).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, body.as_bytes()).unwrap();
    let compressed = Request::new("POST", MAPS).header("Content-Encoding", "gzip").body(gzip.finish().unwrap());
    relay.send(&compressed).expect(201);
}

#[test]
fn verify_explains_why_a_position_resolves_or_not() {
    let env = RelayEnv::start(|setup| setup);
    let relay = &env.relay;
    relay.send(&upload("/assets/app.js", &small_map())).expect(201);
    let verify = |query: &str| Request::get(&format!("{MAPS}/verify?{query}"));
    let at = |project: &str, release: &str, url: &str, line: u32, column: u32| {
        verify(&format!("project={project}&release={release}&url={url}&line={line}&column={column}"))
    };
    let url = "https://shop.example/assets/app.js";
    let resolved = json!({
        "resolved": true, "source_map": { "file_url": "/assets/app.js" },
        "original": { "file": "cart.js", "line": 2, "column": 4, "name": "add",
            "context": [{ "line": 1, "text": "// one" }, { "line": 2, "text": "   add(2);" }, { "line": 3, "text": "// three" }] },
    });
    assert_cases(
        relay,
        [
            ("mapped position", at("shop", "1.0", url, 1, 1), 200, resolved),
            ("wrong method", Request::new("DELETE", &format!("{MAPS}/verify")), 405, json!("allowed: GET, HEAD")),
            ("no project", verify("release=1"), 400, json!("'project' is required")),
            ("no line", verify("project=shop&release=1.0&url=x&column=1"), 400, json!("'line' is required")),
            ("line 0", at("shop", "1.0", url, 0, 1), 400, json!("'line' must be a positive integer")),
        ],
    );
    for (request, reason) in [
        (at("blog", "1.0", url, 1, 1), "Project 'blog' has no source maps"),
        (at("shop", "9", url, 1, 1), "Release '9' of project 'shop' has no source maps"),
        (at("shop", "1.0", "https://shop.example/other.js", 1, 1), "it has maps for: /assets/app.js"),
        (at("shop", "1.0", url, 2, 1), "no mapping at or before this column"),
    ] {
        let response = relay.send(&request).expect(200).json();
        assert!(response["resolved"] == false && response["reason"].as_str().unwrap().contains(reason), "{response}");
    }
}

#[test]
fn unused_source_maps_expire() {
    let data_dir = Arc::new(TempDir::new());
    let env = RelayEnv::start(|setup| setup.data_dir(&data_dir).env("RETENTION_DAYS", 10));
    env.relay.send(&upload("/used.js", &small_map())).expect(201);
    env.relay.send(&upload("/unused.js", &small_map())).expect(201);
    let RelayEnv { tracker, collector, relay } = env;
    drop(relay);
    let age_by_nine_days = || {
        let database = rusqlite::Connection::open(data_dir.path().join("browser-relay.db")).unwrap();
        database.execute("UPDATE source_maps SET used_at_ms = used_at_ms - 9 * 86400000", []).unwrap();
    };
    let start = || {
        Setup::browser_relay(tracker.address, collector.address).data_dir(&data_dir).env("RETENTION_DAYS", 10).start()
    };
    age_by_nine_days();
    let relay = start();
    relay.send(&report("1.0", "E: e\n    at a (https://x/used.js:1:1)")).expect(201);
    let use_is_recorded = || {
        let database = rusqlite::Connection::open(data_dir.path().join("browser-relay.db")).unwrap();
        let sql = "SELECT count(DISTINCT used_at_ms) FROM source_maps WHERE used_at_ms < uploaded_at_ms OR file_url = '/used.js'";
        database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() == 2
    };
    assert_eq!(wait_until(|| use_is_recorded().then_some(())), Some(()));
    drop(relay);
    age_by_nine_days();
    let relay = start();
    let one_is_left = || list(&relay, "")["total"] == 1;
    assert_eq!(wait_until(|| one_is_left().then_some(())), Some(()));
    assert_eq!(list(&relay, "")["source_maps"][0]["file_url"], "/used.js");
}

#[test]
fn interrupted_upload_is_discarded_at_start() {
    let data_dir = Arc::new(TempDir::new());
    let env = RelayEnv::start(|setup| setup.data_dir(&data_dir));
    let database = rusqlite::Connection::open(data_dir.path().join("browser-relay.db")).unwrap();
    let RelayEnv { tracker, collector, relay } = env;
    relay.kill();
    database
        .execute_batch(
            "INSERT INTO map_contents (id) VALUES (7);
             INSERT INTO map_blocks (map_id, kind_id, key, data) VALUES (7, 1, 0, x'00')",
        )
        .unwrap();
    let relay = Setup::browser_relay(tracker.address, collector.address).data_dir(&data_dir).start();
    let left: i64 = database.query_row("SELECT count(*) FROM map_blocks", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    assert_eq!(
        relay.send(&upload("/a.js", &small_map())).expect(201).id(),
        8,
        "the ID of the discarded upload must not be reused"
    );
}

#[test]
fn database_of_the_original_opens_with_its_keys_and_maps() {
    let data_dir = Arc::new(TempDir::new());
    let path = data_dir.path().join("browser-relay.db");
    copy_original("browser-relay.db", &path);
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
        let env = RelayEnv::start(|setup| setup.data_dir(&data_dir).env("DSN_KEYS", ""));
        let keys = env.relay.get("/api/dsn-keys").expect(200).json();
        let expected = json!({ "keys": [
            { "id": 1, "public_key": "a135a4568ae61e17e19b3aa56ecfd3a5", "project": "web", "active": true, "created_at": "2026-11-22T03:16:05Z" },
            { "id": 2, "public_key": "f37fa00513309a2a4109f72fbcbedca9", "project": "shop", "active": true },
            { "id": 3, "public_key": "979e10b214c876ae486f34d2144f160b", "project": "old", "active": false },
        ] });
        assert!(contains_subset(&keys, &expected), "{start}: {keys}");
        let maps = list(&env.relay, "");
        let expected = json!({ "total": 1, "source_maps": [
            { "id": 1, "project": "web", "release": "1.0.0", "file_url": "/static/small.min.js", "uploaded_at": "2026-11-22T03:16:05Z" },
        ] });
        assert!(contains_subset(&maps, &expected), "{start}: {maps}");
        let page = |key: &str| {
            report("1.0.0", "E: e\n    at a (https://web.example/static/small.min.js:1:300)")
                .header("X-Monlight-Key", key)
        };
        let occurrence = newest_occurrence(&env, &page("a135a4568ae61e17e19b3aa56ecfd3a5"));
        let file = occurrence["extra"]["frames"][0]["file"].as_str().unwrap_or_else(|| panic!("{start}: {occurrence}"));
        assert!(map.contains(&format!("\"{file}\"")), "{file}");
        env.relay.send(&page("979e10b214c876ae486f34d2144f160b")).expect(401);
        let (status, _) = env.relay.stop();
        assert!(status.success());
    }
    let kept = rusqlite::Connection::open(data_dir.path().join("browser-relay.db.original-3")).unwrap();
    let maps: i64 = kept.query_row("SELECT count(*) FROM source_maps", [], |row| row.get(0)).unwrap();
    assert_eq!(maps, 2, "the original database is kept as a copy");
}

#[test]
fn source_maps_are_never_returned() {
    let env = RelayEnv::start(|setup| setup);
    let id = env.relay.send(&upload("/cart.js", &small_map())).expect(201).id();
    let paths = [
        MAPS.to_owned(),
        format!("{MAPS}?project=shop"),
        format!("{MAPS}/{id}"),
        format!("{MAPS}/{id}/content"),
        "/cart.js.map".into(),
    ];
    for path in &paths {
        let response = env.relay.get(path);
        assert!(matches!(response.status, 200 | 404 | 405), "{path}: {}", response.status);
        let text = response.text();
        assert!(!text.contains("add(2)") && !text.contains("AACGA"), "{path}: {text}");
    }
}
