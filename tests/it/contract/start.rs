//! Starting: arguments, settings, secrets, files, the port, the log, and the container's health check.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::{post_report, unique_report_with};
use crate::harness::{API_KEY, Request, Setup, TempDir};

/// Every variable, and how its row in `--help` ends.
const VARIABLES: [(&str, &str); 37] = [
    ("API_KEY", "(secret)"),
    ("API_KEYS", "(secret)"),
    ("PORT", "[5010]"),
    ("LISTEN_ADDR", "[0.0.0.0]"),
    ("DATABASE_PATH", "[./data/errors.db]"),
    ("SYNCHRONOUS", "[FULL]"),
    ("MAX_DB_MB", "[0]"),
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
];

#[test]
fn every_variable_stands_in_the_help_with_its_default() {
    for argument in ["--help", "-h"] {
        let (code, help) = Setup::error_tracker().arguments(&[argument]).run_to_exit();
        assert_eq!(code, Some(0), "{help}");
        let rows: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        assert_eq!(rows.len(), VARIABLES.len(), "{help}");
        for (row, (name, end)) in rows.into_iter().zip(VARIABLES) {
            assert!(row.starts_with(&format!("{name} ")) && row.ends_with(end), "{name} {end} in {row:?}");
        }
    }
}

#[test]
fn arguments_that_mean_something_and_those_that_do_not() {
    let version = format!("error-tracker {}\n", env!("CARGO_PKG_VERSION"));
    for (argument, code, says) in [
        ("--version", 0, version.as_str()),
        ("-V", 0, &version),
        ("--verbose", 2, "unknown argument --verbose; --help lists what there is"),
        ("serve", 2, "unknown argument serve"),
    ] {
        let (exit, said) = Setup::error_tracker().arguments(&[argument]).run_to_exit();
        assert!(exit == Some(code) && said.starts_with(says), "{argument}: {exit:?} {said}");
    }
}

#[test]
fn all_faults_of_the_settings_are_told_at_once() {
    const FAULTS: [(&str, &str, &str); 24] = [
        ("API_KEY", "", "API_KEY is required; make one with: openssl rand -hex 16 (or set API_KEY_FILE)"),
        ("API_KEYS", "a:ingest:ok,b:root:s3cret", "API_KEYS item 2: must be name:scope:key"),
        ("PORT", "65536", "PORT must be a whole number from 0 to 65535"),
        ("LISTEN_ADDR", "localhost", "LISTEN_ADDR must be an IPv4 or IPv6 address"),
        ("SYNCHRONOUS", "OFF", "SYNCHRONOUS must be one of FULL, NORMAL"),
        ("MAX_DB_MB", "-1", "MAX_DB_MB must be a whole number"),
        ("RATE_LIMIT", "many", "RATE_LIMIT must be a whole number"),
        ("KEY_RATE_LIMIT", "1.5", "KEY_RATE_LIMIT must be a whole number"),
        ("MAX_BODY_SIZE", "1023", "MAX_BODY_SIZE must be a whole number from 1024"),
        ("MAX_CONNECTIONS", "7", "MAX_CONNECTIONS must be a whole number from 8"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "0", "MAX_CONNECTIONS_PER_ADDRESS must be a whole number from 1"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy", "TRUSTED_PROXIES has 'proxy'"),
        ("METRICS_OPEN", "perhaps", "METRICS_OPEN must be 1 or 0"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL must be one of error, warn, info, debug"),
        ("RETENTION_DAYS", "0", "RETENTION_DAYS must be a whole number from 1 to 3650"),
        ("MAX_GROUPS", "0", "MAX_GROUPS must be a whole number from 1"),
        ("BASE_URL", "errors.example.com", "BASE_URL must begin with http:// or https://"),
        ("ALERT_COOLDOWN", "-1", "ALERT_COOLDOWN must be a whole number"),
        ("ALERT_MAX_PER_HOUR", "0", "ALERT_MAX_PER_HOUR must be a whole number from 1"),
        ("ALERT_DIGEST_DELAY", "0", "ALERT_DIGEST_DELAY must be a whole number from 1"),
        ("ALERT_EMAILS", "nobody", "ALERT_EMAILS holds 'nobody'"),
        ("ALERT_WEBHOOK_URL", "ftp://example.com/s3cret", "ALERT_WEBHOOK_URL must be"),
        ("ALERT_WEBHOOK_FORMAT", "pigeon", "ALERT_WEBHOOK_FORMAT must be one of"),
        ("SMTP_PASSWORD_FILE", "/nonexistent/password", "SMTP_PASSWORD_FILE names /nonexistent/password, which"),
    ];
    let setup = FAULTS.iter().fold(Setup::error_tracker(), |setup, (name, value, _)| setup.env(name, value));
    let (code, said) = setup.run_to_exit();
    assert_eq!(code, Some(2), "{said}");
    for (name, _, sentence) in FAULTS {
        assert_eq!(said.lines().filter(|line| line.starts_with(sentence)).count(), 1, "{name} in\n{said}");
    }
    assert_eq!(said.lines().count(), FAULTS.len(), "{said}");
    assert!(!said.contains("s3cret"), "secrets are not repeated:\n{said}");
}

#[test]
fn a_secret_can_come_from_a_file() {
    let folder = TempDir::new();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (key, empty) = (file("key", "key-of-a-file\r\n"), file("empty", "\n"));
    let keys = file("keys", "eye:read:eye-key\n");
    let service =
        Setup::error_tracker().env("API_KEY", "").env("API_KEY_FILE", &key).env("API_KEYS_FILE", keys).start();
    for (given, status) in [("key-of-a-file", 200), ("eye-key", 200), (API_KEY, 401), (&key, 401)] {
        service.send(&Request::get("/api/projects").header("X-API-Key", given)).expect(status);
    }
    for (value, path, says) in [
        (API_KEY, key.as_str(), "API_KEY and API_KEY_FILE are both set; keep one"),
        ("", &empty, "which is empty"),
        ("", "/nonexistent/key", "API_KEY_FILE names /nonexistent/key, which cannot be read"),
    ] {
        let (code, said) = Setup::error_tracker().env("API_KEY", value).env("API_KEY_FILE", path).run_to_exit();
        assert!(code == Some(2) && said.contains(says), "{says}: {code:?} {said}");
    }
}

#[test]
fn the_database_gets_its_folder() {
    for (given, expected) in [("", "data/errors.db"), ("a/b/c.db", "a/b/c.db"), ("errors.db", "errors.db")] {
        let service = Setup::error_tracker().env("DATABASE_PATH", given).start();
        assert!(service.data_dir.path().join(expected).is_file(), "{given:?}");
    }
}

#[test]
fn what_is_no_database_of_ours_is_named_and_left_alone() {
    let folder = TempDir::new();
    let path = folder.path().join("notes.txt");
    let text = "Not a database, and dear to somebody.\n".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let (file, below) = (path.display().to_string(), path.join("errors.db").display().to_string());
    for given in [&file, &below] {
        let (code, said) = Setup::error_tracker().env("DATABASE_PATH", given).run_to_exit();
        let named = said.starts_with(&format!("cannot use the database {given}: "));
        assert!(code == Some(1) && named && said.lines().count() == 1, "{code:?} {said}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_port_in_use_is_named_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let begun = Instant::now();
    let (code, said) = Setup::error_tracker().env("PORT", address.port()).run_to_exit();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(code == Some(1) && said.contains(&format!("{address} is in use")), "{code:?} {said}");
    let (code, said) = Setup::error_tracker().env("LISTEN_ADDR", "192.0.2.1").run_to_exit();
    assert!(code == Some(1) && said.contains("cannot listen on 192.0.2.1:0"), "not ours: {code:?} {said}");
}

#[test]
fn port_0_takes_a_free_one_and_logs_it() {
    let services = [Setup::error_tracker().start(), Setup::error_tracker().start()];
    assert_ne!(services[0].address.port(), services[1].address.port());
    for service in &services {
        assert_ne!(service.address.port(), 0);
        assert!(service.log().iter().any(|line| line.ends_with(&format!("listening on {}", service.address))));
        service.get("/health").expect(200);
    }
}

#[test]
fn the_log_says_as_much_as_asked_and_never_a_secret_or_a_body() {
    for (level, requests, starts) in [("debug", true, true), ("info", false, true), ("warn", false, false)] {
        let setup = Setup::error_tracker().env("LOG_LEVEL", level).env("API_KEYS", "eye:read:eye-key");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let service = setup.start_on_port(free.port());
        service.send(&Request::get("/api/projects?api_key=query-key&search=private")).expect(200);
        service.send(&Request::get("/api/projects").header("X-API-Key", "eye-key")).expect(200);
        service.send(&post_report(&unique_report_with("message", "private"))).expect(201);
        service.send(&post_report(&unique_report_with("environment", 5))).expect(400);
        let log = service.stop_and_collect_log();
        let has = |part: &str| log.iter().any(|line| line.contains(part));
        assert_eq!(has("GET /api/projects"), requests, "{level}: {log:#?}");
        assert_eq!(has("listening on") && has("stopped"), starts, "{level}: {log:#?}");
        assert!(starts || log.is_empty(), "{level}: {log:#?}");
        for secret in [API_KEY, "eye-key", "query-key", "private"] {
            assert!(!has(secret), "{level} says {secret}: {log:#?}");
        }
    }
}

#[test]
fn the_health_check_of_a_container_tells_by_its_exit_code() {
    let check = |listen: &str, port: u16| {
        let setup = Setup::error_tracker().env("API_KEY", "").env("LISTEN_ADDR", listen).env("PORT", port);
        setup.arguments(&["--healthcheck"]).run_to_exit()
    };
    for listen in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
        let service = Setup::error_tracker().env("LISTEN_ADDR", listen).start();
        assert_eq!(check(listen, service.address.port()), (Some(0), String::new()), "{listen}");
    }
    // Nobody listens on the port of tcpmux.
    let (code, said) = check("127.0.0.1", 1);
    assert!(code == Some(1) && said.starts_with("no response from 127.0.0.1:1: "), "{code:?} {said}");
    let degraded = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = degraded.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let mut socket = degraded.accept().unwrap().0;
        let _ = socket.read(&mut [0; 1024]).unwrap();
        socket.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let (code, said) = check("127.0.0.1", port);
    assert!(code == Some(1) && said.starts_with("unhealthy: HTTP/1.1 503"), "{code:?} {said}");
    answering.join().unwrap();
    let (code, said) = check("nowhere", 1);
    assert!(code == Some(2) && said.starts_with("LISTEN_ADDR must be"), "{code:?} {said}");
}
