//! Start: arguments, settings, secrets, files, the port, the log, and the health check for containers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::{post_report, unique_report_with};
use crate::support::harness::{API_KEY, Request, Setup, TempDir};

/// Settings in the order of `--help`, with the end of their rows.
const VARIABLES: [(&str, &str); 42] = [
    ("API_KEY", "(secret)"),
    ("API_KEYS", "(secret)"),
    ("PORT", "[5010]"),
    ("LISTEN_ADDR", "[0.0.0.0]"),
    ("DATABASE_PATH", "[./data/errors.db]"),
    ("SYNCHRONOUS", "[FULL]"),
    ("MAX_DB_MB", "[1024]"),
    ("RATE_LIMIT", "[100]"),
    ("KEY_RATE_LIMIT", "[0]"),
    ("MAX_BODY_SIZE", "[262144]"),
    ("MAX_CONNECTIONS", "[512]"),
    ("MAX_CONNECTIONS_PER_ADDRESS", "[64]"),
    ("TRUSTED_PROXIES", ""),
    ("METRICS_OPEN", "[0]"),
    ("LOG_LEVEL", "[info]"),
    ("SERVICES", ""),
    ("RETENTION_DAYS", "[90]"),
    ("MAX_GROUPS", "[50000]"),
    ("BASE_URL", "[http://localhost:5010]"),
    ("ALERT_COOLDOWN", "[3600]"),
    ("ALERT_MAX_PER_HOUR", "[20]"),
    ("ALERT_DIGEST_DELAY", "[60]"),
    ("POSTMARK_API_TOKEN", "(secret)"),
    ("POSTMARK_FROM_EMAIL", ""),
    ("POSTMARK_API_BASE", "[https://api.postmarkapp.com]"),
    ("ALERT_EMAILS", ""),
    ("SMTP_HOST", ""),
    ("SMTP_PORT", "[25]"),
    ("SMTP_USERNAME", ""),
    ("SMTP_PASSWORD", "(secret)"),
    ("SMTP_FROM", "[errors@example.com]"),
    ("ALERT_WEBHOOK_URL", "(secret)"),
    ("ALERT_WEBHOOK_FORMAT", "[auto]"),
    ("ALERT_CA_FILE", ""),
    ("EXPORT_URL", ""),
    ("EXPORT_FORMAT", "[jsonl]"),
    ("EXPORT_HEADERS", "(secret)"),
    ("CA_FILE", ""),
    ("HTTP_PROXY", "(secret)"),
    ("HTTPS_PROXY", "(secret)"),
    ("ALL_PROXY", "(secret)"),
    ("NO_PROXY", ""),
];

#[test]
fn help_lists_all_settings_with_their_defaults() {
    for argument in ["--help", "-h"] {
        let (code, help) = Setup::error_tracker().arguments(&[argument]).run_to_exit();
        assert_eq!(code, Some(0), "{help}");
        let rows = help.lines().filter_map(|line| line.strip_prefix("  "));
        let rows: Vec<&str> = rows.filter(|row| row.starts_with(|c: char| c.is_ascii_uppercase())).collect();
        assert_eq!(rows.len(), VARIABLES.len(), "{help}");
        for (row, (name, end)) in rows.into_iter().zip(VARIABLES) {
            assert!(row.starts_with(&format!("{name} ")) && row.ends_with(end), "{name} {end} in {row:?}");
        }
    }
}

#[test]
fn each_service_has_a_default_database_size() {
    let closed_port = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    for (setup, default_mb) in [
        (Setup::error_tracker(), 1_024),
        (Setup::log_viewer(), 2_048),
        (Setup::metrics_collector(), 1_024),
        (Setup::browser_relay(closed_port, closed_port), 256),
    ] {
        let (_, help) = setup.arguments(&["--help"]).run_to_exit();
        let row = help.lines().find(|line| line.starts_with("  MAX_DB_MB ")).unwrap();
        assert!(row.ends_with(&format!("0 = unlimited [{default_mb}]")), "{row}");
    }
}

#[test]
fn version_is_printed_and_unknown_arguments_are_rejected() {
    let version = format!("error-tracker {}\n", env!("CARGO_PKG_VERSION"));
    for (argument, code, expected) in [
        ("--version", 0, version.as_str()),
        ("-V", 0, &version),
        ("--verbose", 2, "unknown argument --verbose; see --help"),
        ("serve", 2, "unknown argument serve"),
    ] {
        let (exit_code, output) = Setup::error_tracker().arguments(&[argument]).run_to_exit();
        assert!(exit_code == Some(code) && output.starts_with(expected), "{argument}: {exit_code:?} {output}");
    }
}

#[test]
fn keys_that_share_a_name_or_a_secret_are_rejected() {
    for (keys, expected) in [
        (
            "ops:admin:new,ops:admin:old",
            "API_KEYS: item 2: the name 'ops' is used twice; give each key a name of its own",
        ),
        ("app:ingest@a:ka,app:ingest@b:kb", "API_KEYS: item 2: the name 'app' is used twice"),
        ("a:read:s3cret,b:admin:s3cret", "API_KEYS: item 2: 'b' has the same key as 'a'; generate another one"),
        ("a:read:test-key-0123456789", "API_KEYS: item 1: 'a' has the same key as 'API_KEY'"),
        ("API_KEY:read:x", "API_KEYS: item 1: the name 'API_KEY' is reserved"),
        ("dsn-key-1:ingest:x", "API_KEYS: item 1: the name 'dsn-key-1' is reserved"),
    ] {
        let (code, output) = Setup::error_tracker().env("API_KEYS", keys).run_to_exit();
        assert!(code == Some(2) && output.contains(expected), "{keys}: {code:?} {output}");
        assert!(!output.contains("s3cret"), "{output}");
    }
}

#[test]
fn all_invalid_settings_are_reported_at_once() {
    const INVALID: [(&str, &str, &str); 24] = [
        ("API_KEY", "", "API_KEY: required; generate one with: openssl rand -hex 16 (or set API_KEY_FILE)"),
        ("API_KEYS", "a:ingest:ok,b:root:s3cret", "API_KEYS: item 2: must be name:scope:key"),
        ("PORT", "65536", "PORT: must be an integer from 0 to 65535"),
        ("LISTEN_ADDR", "localhost", "LISTEN_ADDR: must be an IPv4 or IPv6 address"),
        ("SYNCHRONOUS", "OFF", "SYNCHRONOUS: must be one of FULL, NORMAL"),
        ("MAX_DB_MB", "-1", "MAX_DB_MB: must be an integer"),
        ("RATE_LIMIT", "many", "RATE_LIMIT: must be an integer"),
        ("KEY_RATE_LIMIT", "1.5", "KEY_RATE_LIMIT: must be an integer"),
        ("MAX_BODY_SIZE", "1023", "MAX_BODY_SIZE: must be an integer from 1024"),
        ("MAX_CONNECTIONS", "7", "MAX_CONNECTIONS: must be an integer from 8"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "0", "MAX_CONNECTIONS_PER_ADDRESS: must be an integer from 1"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy", "TRUSTED_PROXIES: 'proxy' is not an IP address or CIDR range"),
        ("METRICS_OPEN", "perhaps", "METRICS_OPEN: must be 1 or 0"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: must be one of error, warn, info, debug"),
        ("RETENTION_DAYS", "0", "RETENTION_DAYS: must be an integer from 1 to 3650"),
        ("MAX_GROUPS", "0", "MAX_GROUPS: must be an integer from 1"),
        ("BASE_URL", "errors.example.com", "BASE_URL: must begin with http:// or https://"),
        ("ALERT_COOLDOWN", "-1", "ALERT_COOLDOWN: must be an integer"),
        ("ALERT_MAX_PER_HOUR", "0", "ALERT_MAX_PER_HOUR: must be an integer from 1"),
        ("ALERT_DIGEST_DELAY", "0", "ALERT_DIGEST_DELAY: must be an integer from 1"),
        ("ALERT_EMAILS", "nobody", "ALERT_EMAILS: 'nobody' is not an ASCII email address"),
        ("ALERT_WEBHOOK_URL", "ftp://example.com/s3cret", "ALERT_WEBHOOK_URL: must be"),
        ("ALERT_WEBHOOK_FORMAT", "pigeon", "ALERT_WEBHOOK_FORMAT: must be one of"),
        ("SMTP_PASSWORD_FILE", "/nonexistent/password", "SMTP_PASSWORD_FILE: cannot read /nonexistent/password: "),
    ];
    let setup = INVALID.iter().fold(Setup::error_tracker(), |setup, (name, value, _)| setup.env(name, value));
    let (code, output) = setup.run_to_exit();
    assert_eq!(code, Some(2), "{output}");
    for (name, _, message) in INVALID {
        assert_eq!(output.lines().filter(|line| line.starts_with(message)).count(), 1, "{name} in\n{output}");
    }
    assert_eq!(output.lines().count(), INVALID.len(), "{output}");
    assert!(!output.contains("s3cret"), "the output must not contain secrets:\n{output}");
}

#[test]
fn misspelt_settings_are_named_with_the_closest_setting() {
    let service = Setup::error_tracker().env("RATE_LIMT", 4).env("ALERT_EMAIL", "").env("HOME_URL", "x").start();
    let log = service.stop_and_collect_log();
    let named: Vec<&str> = log.iter().filter_map(|line| line.split_once("settings: ")).map(|(_, rest)| rest).collect();
    let expected = [
        "ALERT_EMAIL: unknown setting; did you mean ALERT_EMAILS?",
        "RATE_LIMT: unknown setting; did you mean RATE_LIMIT?",
    ];
    assert_eq!(std::collections::BTreeSet::from_iter(named), expected.into(), "{log:#?}");
    let (code, output) = Setup::error_tracker().env("API_KEY", "").env("API_KEY_FIEL", "/key").run_to_exit();
    let hint = "API_KEY_FIEL: unknown setting; did you mean API_KEY_FILE?";
    assert!(code == Some(2) && output.lines().count() == 2 && output.contains(hint), "{output}");
}

#[test]
fn start_log_names_the_database_and_the_address_to_open() {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    for (setup, has_web_ui) in [(Setup::error_tracker(), true), (Setup::browser_relay(nowhere, nowhere), false)] {
        let service = setup.env("LISTEN_ADDR", "0.0.0.0").start();
        let (port, folder) = (service.address.port(), service.data_dir.path().to_owned());
        let log = service.stop_and_collect_log();
        let rest_of =
            |prefix: &str| log.iter().find_map(|line| line.split_once(prefix).map(|(_, rest)| rest.to_owned()));
        let database = rest_of("database: ").expect("the log names the database");
        assert!(std::path::Path::new(&database).starts_with(folder), "{database}");
        assert_eq!(rest_of("web UI: "), has_web_ui.then(|| format!("http://localhost:{port}/")), "{log:#?}");
    }
}

#[test]
fn secrets_can_be_read_from_files() {
    let dir = TempDir::new();
    let file = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (key, empty) = (file("key", "key-of-a-file\r\n"), file("empty", "\n"));
    let keys = file("keys", "eye:read:eye-key\n");
    let service =
        Setup::error_tracker().env("API_KEY", "").env("API_KEY_FILE", &key).env("API_KEYS_FILE", keys).start();
    for (key, status) in [("key-of-a-file", 200), ("eye-key", 200), (API_KEY, 401), (&key, 401)] {
        service.send(&Request::get("/api/projects").header("X-API-Key", key)).expect(status);
    }
    for (value, path, message) in [
        (API_KEY, key.as_str(), "API_KEY: API_KEY_FILE is also set; set only one of them"),
        ("", &empty, " is empty"),
        ("", "/nonexistent/key", "API_KEY_FILE: cannot read /nonexistent/key: "),
    ] {
        let (code, output) = Setup::error_tracker().env("API_KEY", value).env("API_KEY_FILE", path).run_to_exit();
        assert!(code == Some(2) && output.contains(message), "{message}: {code:?} {output}");
    }
}

#[test]
fn database_folder_is_created() {
    for (setting, expected) in [("", "data/errors.db"), ("a/b/c.db", "a/b/c.db"), ("errors.db", "errors.db")] {
        let service = Setup::error_tracker().env("DATABASE_PATH", setting).start();
        assert!(service.data_dir.path().join(expected).is_file(), "{setting:?}");
    }
}

#[test]
fn names_that_sqlite_treats_specially_are_rejected() {
    for (path, message) in [
        (":memory:", "DATABASE_PATH: must be the path of a file; a database in memory would lose all data"),
        (":", "DATABASE_PATH: must be the path of a file; a database in memory would lose all data"),
        ("file:errors.db?mode=memory", "DATABASE_PATH: must be a plain path, not a file: URI"),
        ("  ", "DATABASE_PATH: must be the path of a file (example: ./data/name.db)"),
    ] {
        for arguments in [&[][..], &["--backup", "copy.db"], &["--restore", "copy.db"]] {
            let setup = Setup::error_tracker().env("DATABASE_PATH", path).arguments(arguments);
            let (code, output) = setup.run_to_exit();
            assert!(code == Some(2) && output.starts_with(message), "{path:?} {arguments:?}: {code:?} {output}");
        }
    }
}

#[test]
fn foreign_file_is_rejected_and_left_unchanged() {
    let dir = TempDir::new();
    let path = dir.path().join("notes.txt");
    let content = "Not a database, but important.\n".repeat(100);
    std::fs::write(&path, &content).unwrap();
    let (file, below) = (path.display().to_string(), path.join("errors.db").display().to_string());
    for database in [&file, &below] {
        let (code, output) = Setup::error_tracker().env("DATABASE_PATH", database).run_to_exit();
        let named = output.starts_with(&format!("cannot open the database {database}: "));
        assert!(code == Some(1) && named && output.lines().count() == 1, "{code:?} {output}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a file was created beside the foreign one");
}

#[test]
fn port_in_use_is_reported_immediately() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let started = Instant::now();
    let (code, output) = Setup::error_tracker().env("PORT", address.port()).run_to_exit();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(code == Some(1) && output.contains(&format!("{address} is already in use")), "{code:?} {output}");
    let (code, output) = Setup::error_tracker().env("LISTEN_ADDR", "192.0.2.1").run_to_exit();
    assert!(code == Some(1) && output.contains("cannot listen on 192.0.2.1:0"), "foreign address: {code:?} {output}");
}

#[test]
fn port_0_selects_a_free_port_and_logs_it() {
    let services = [Setup::error_tracker().start(), Setup::error_tracker().start()];
    assert_ne!(services[0].address.port(), services[1].address.port());
    for service in &services {
        assert_ne!(service.address.port(), 0);
        assert!(service.log().iter().any(|line| line.ends_with(&format!("listening on {}", service.address))));
        service.get("/health").expect(200);
    }
}

#[test]
fn log_respects_the_level_and_contains_no_secrets_or_bodies() {
    for (level, logs_requests, logs_start) in [("debug", true, true), ("info", false, true), ("warn", false, false)] {
        let setup = Setup::error_tracker().env("LOG_LEVEL", level).env("API_KEYS", "eye:read:eye-key");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let service = setup.start_on_port(free.port());
        service.send(&Request::get("/api/projects?api_key=query-key&search=private")).expect(200);
        service.send(&Request::get("/api/projects").header("X-API-Key", "eye-key")).expect(200);
        service.send(&post_report(&unique_report_with("message", "private"))).expect(201);
        service.send(&post_report(&unique_report_with("message", 5))).expect(400);
        let log = service.stop_and_collect_log();
        let has = |part: &str| log.iter().any(|line| line.contains(part));
        assert_eq!(has("GET /api/projects"), logs_requests, "{level}: {log:#?}");
        assert_eq!(has("listening on") && has("stopped"), logs_start, "{level}: {log:#?}");
        assert!(logs_start || log.is_empty(), "{level}: {log:#?}");
        for secret in [API_KEY, "eye-key", "query-key", "private"] {
            assert!(!has(secret), "the log at level {level} contains {secret}: {log:#?}");
        }
    }
}

#[test]
fn explain_argument_shows_entries_and_levels_without_settings() {
    let explain = |arguments: &[&str]| Setup::log_viewer().env("API_KEY", "").arguments(arguments).run_to_exit();
    let (code, output) = explain(&["--explain", "E0131 12:00:00.000000 1 main.go:12] x\n\tat y"]);
    let expected = "lines 1-2: ERROR\n  format: klog, glog, CockroachDB\n  level: the letter in the prefix\n  \
                    line 2 joined: it is indented\n";
    assert_eq!((code, output.as_str().trim_end()), (Some(0), expected.trim_end()));
    assert_eq!(explain(&["--explain"]), (Some(0), String::new()), "stdin is empty");
    assert!(explain(&["--help"]).1.contains("--explain"));
    let (code, output) = Setup::error_tracker().arguments(&["--explain", "x"]).run_to_exit();
    assert!(code == Some(2) && output.starts_with("unknown argument"), "{code:?} {output}");
}

#[test]
fn healthcheck_argument_reports_health_by_exit_code() {
    let check = |listen: &str, port: u16| {
        let setup = Setup::error_tracker().env("API_KEY", "").env("LISTEN_ADDR", listen).env("PORT", port);
        setup.arguments(&["--healthcheck"]).run_to_exit()
    };
    for listen in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
        let service = Setup::error_tracker().env("LISTEN_ADDR", listen).start();
        assert_eq!(check(listen, service.address.port()), (Some(0), String::new()), "{listen}");
    }
    // Nothing listens on port 1 (tcpmux).
    let (code, output) = check("127.0.0.1", 1);
    assert!(code == Some(1) && output.starts_with("no response from 127.0.0.1:1: "), "{code:?} {output}");
    let degraded = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = degraded.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut socket = degraded.accept().unwrap().0;
        let _ = socket.read(&mut [0; 1024]).unwrap();
        socket.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let (code, output) = check("127.0.0.1", port);
    assert!(code == Some(1) && output.starts_with("unhealthy: HTTP/1.1 503"), "{code:?} {output}");
    server.join().unwrap();
    let (code, output) = check("nowhere", 1);
    assert!(code == Some(2) && output.starts_with("LISTEN_ADDR: must be"), "{code:?} {output}");
}
