//! nginx and Caddy with the shipped example configurations: all services below one host name with TLS, including the live
//! tail.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::harness::{API_KEY, Service, TempDir, free_port, send_signal, skip, wait_until};
use crate::support::peers::find_program;
use crate::support::smoke_test::{SmokeResult, curl_or_skip, smoke_test};
use crate::support::stack::{RELAY, TRACKER, VIEWER, start_services};

const ORIGIN: &str = "https://shop.example";
/// Rate limit of the error tracker in requests per minute and address; more than the smoke test needs.
const ERRORS_RATE_LIMIT: u32 = 50;
/// Maximum latency of a line through a proxy on a busy machine. A proxy that buffers responses would delay it for much
/// longer.
const LATENCY_MAX: Duration = Duration::from_secs(2);
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// All four services, configured to run behind a proxy.
struct Upstreams {
    errors: Service,
    logs: Service,
    metrics: Service,
    relay: Service,
    folder: Arc<TempDir>,
}

impl Upstreams {
    fn start() -> Self {
        let folder = Arc::new(TempDir::new());
        std::fs::write(folder.path().join("app.log"), "started\n").unwrap();
        let [errors, logs, metrics, relay] = start_services(|service, setup| {
            let setup = setup.env("TRUSTED_PROXIES", "127.0.0.1");
            match service {
                TRACKER => setup.env("RATE_LIMIT", ERRORS_RATE_LIMIT),
                VIEWER => setup.env("LOG_FILES", format!("app={}", folder.path().join("app.log").display())),
                RELAY => setup.env("CORS_ORIGINS", ORIGIN).env("RATE_LIMIT", 300),
                _ => setup,
            }
        });
        Self { errors, logs, metrics, relay, folder }
    }

    /// Reads an example configuration of `deploy/` and adapts it to the test: replaces the addresses of the services, and each
    /// of `replacements`. Asserts that the example contains everything that is replaced.
    #[track_caller]
    fn adapt_example(&self, name: &str, replacements: &[(&str, String)]) -> String {
        let text = std::fs::read_to_string(Path::new(ROOT).join("deploy").join(name)).unwrap();
        let ports = [
            ("127.0.0.1:5010", self.errors.address.to_string()),
            ("127.0.0.1:5011", self.logs.address.to_string()),
            ("127.0.0.1:5012", self.metrics.address.to_string()),
            ("127.0.0.1:5013", self.relay.address.to_string()),
        ];
        ports.iter().chain(replacements).fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{name} does not contain {from:?}");
            text.replace(from, to)
        })
    }

    /// Returns the path of a file in the temporary folder.
    fn path_of(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Creates a self-signed certificate for `localhost`. Skips the test and returns `false` if openssl fails.
    fn create_certificate(&self) -> bool {
        let (certificate, key) = (self.path_of("cert.pem"), self.path_of("key.pem"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost", "-keyout", &key, "-out", &certificate])
            .output();
        let created = output.is_ok_and(|output| output.status.success());
        if !created {
            skip("openssl is missing or cannot create a certificate; reverse proxies are not tested");
        }
        created
    }
}

/// Running proxy, stopped on drop.
struct Proxy<'a> {
    child: Child,
    upstreams: &'a Upstreams,
    port: u16,
}

impl<'a> Proxy<'a> {
    fn start(upstreams: &'a Upstreams, port: u16, command: &mut Command) -> Self {
        let log = std::fs::File::create(upstreams.path_of("proxy.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut proxy = Self { child: command.spawn().unwrap(), upstreams, port };
        let started = wait_until(|| {
            let exited = proxy.child.try_wait().unwrap().is_some();
            let (status, _) = proxy.curl("/monitoring/errors/health", &[]);
            (exited || status == 200).then_some(!exited)
        });
        assert_eq!(started, Some(true), "{}", std::fs::read_to_string(upstreams.path_of("proxy.log")).unwrap());
        proxy
    }

    fn origin(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Returns a `curl` command that trusts the certificate.
    fn curl_command(&self, path: &str, options: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "20", "--cacert", &self.upstreams.path_of("cert.pem")]);
        command.args(options).arg(self.origin() + path);
        command
    }

    /// Sends a request. Returns the status and the response with its head; the status is 0 without a response.
    fn curl(&self, path: &str, options: &[&str]) -> (u16, String) {
        let output = self.curl_command(path, &[&["--include"], options].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, text)
    }

    fn assert_smoke_test_passes(&self) {
        let url = |service: &str| format!("{}/monitoring/{service}", self.origin());
        let start = Instant::now();
        let output = smoke_test(
            &[],
            &[
                ("ERRORS_URL", url("errors")),
                ("LOGS_URL", url("logs")),
                ("METRICS_URL", url("metrics")),
                ("RELAY_URL", url("relay")),
                ("API_KEY", API_KEY.to_owned()),
                ("ORIGIN", ORIGIN.to_owned()),
                ("CURL_CA_BUNDLE", self.upstreams.path_of("cert.pem")),
            ],
        );
        let smoke = SmokeResult::parse(&output, start.elapsed());
        smoke.assert_success();
        eprintln!("the smoke test took {:.1?}", smoke.duration);
    }

    /// Asserts that the live tail delivers each line immediately.
    fn assert_live_tail_is_not_buffered(&self) {
        let path = format!("/monitoring/logs/api/logs/tail?api_key={API_KEY}");
        let mut tail = self.curl_command(&path, &["--no-buffer", "--include"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(tail.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut log = OpenOptions::new().append(true).open(self.upstreams.path_of("app.log")).unwrap();
        let end_of_head = events.find(String::is_empty);
        assert!(end_of_head.is_some(), "the proxy does not send the response head before the first event");
        for number in 1..=3 {
            let start = Instant::now();
            writeln!(log, "line {number} of the live tail").unwrap();
            let event = events.find(|line| line.starts_with("data: ") && line.contains(&format!("line {number} of")));
            let latency = start.elapsed();
            assert!(event.is_some() && latency < LATENCY_MAX, "line {number} took {latency:?}");
            eprintln!("line {number} took {latency:.1?}");
        }
        tail.kill().unwrap();
        tail.wait().unwrap();
    }

    /// Asserts that a browser can sign in, gets a `Secure` cookie, and can change data only from the service's own origin.
    fn assert_sign_in_works(&self) {
        let session = "/monitoring/errors/api/session";
        let (status, text) = self.curl(session, &["--request", "POST", "--header", &format!("X-API-Key: {API_KEY}")]);
        let cookie =
            text.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: ")).unwrap_or_default();
        assert!(status < 300 && cookie.contains("; Secure"), "{text}");
        let cookie = format!("Cookie: {}", cookie["set-cookie: ".len()..].split(';').next().unwrap());
        let (status, text) = self.curl(session, &["--header", &cookie]);
        assert_eq!(status, 200, "{text}");
        let sign_out_from = |origin: &str| {
            let origin = format!("Origin: {origin}");
            self.curl(session, &["--request", "DELETE", "--header", &cookie, "--header", &origin]).0
        };
        assert_eq!(sign_out_from("https://elsewhere.example"), 403);
        assert_eq!(sign_out_from(&self.origin()), 200);
    }

    /// Asserts that rate limits apply per client address, neither to the proxy nor to a forged `X-Forwarded-For`.
    fn assert_rate_limit_per_client(&self) {
        let key = format!("X-API-Key: {API_KEY}");
        let status_from = |number: u32, source: &str| {
            let forged = format!("X-Forwarded-For: 10.0.0.{number}");
            self.curl(
                "/monitoring/errors/api/projects",
                &["--interface", source, "--header", &key, "--header", &forged],
            )
            .0
        };
        let statuses = (0..=ERRORS_RATE_LIMIT).map(|number| status_from(number, "127.0.0.1"));
        let rate_limited = statuses.filter(|status| *status == 429).count();
        assert!(rate_limited > 0, "requests of one address are not limited");
        assert_eq!(status_from(0, "127.0.0.2"), 200);
    }
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        // After SIGKILL, the worker processes of nginx would keep running.
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        send_signal(self.child.id(), "TERM");
        if wait_until(|| self.child.try_wait().unwrap()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn services_work_through_nginx() {
    let Some(nginx) = find_program("nginx").filter(|_| curl_or_skip()) else { return };
    let upstreams = Upstreams::start();
    if !upstreams.create_certificate() {
        return;
    }
    let (port, http_port) = (free_port(), free_port());
    let example = upstreams.adapt_example(
        "nginx.conf.example",
        &[
            ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
            ("listen 80;", format!("listen 127.0.0.1:{http_port};")),
            ("    listen [::]:443 ssl http2;\n", String::new()),
            ("    listen [::]:80;\n", String::new()),
            ("server_name monitoring.example.com", "server_name localhost".to_owned()),
            ("/etc/letsencrypt/live/monitoring.example.com/fullchain.pem", upstreams.path_of("cert.pem")),
            ("/etc/letsencrypt/live/monitoring.example.com/privkey.pem", upstreams.path_of("key.pem")),
            ("/var/log/nginx/monlight.log", upstreams.path_of("access.log")),
        ],
    );
    let temporary_paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary_paths =
        temporary_paths.map(|name| format!("{name}_temp_path {};", upstreams.path_of(&format!("{name}_temp"))));
    // Without `access_log`, nginx opens its compiled-in /var/log/nginx, which only an installed nginx has.
    let config = format!(
        "user root; daemon off; worker_processes 1; pid {}; events {{}}\nhttp {{ access_log off; {}\n{example}\n}}\n",
        upstreams.path_of("pid"),
        temporary_paths.join(" ")
    );
    std::fs::write(upstreams.path_of("nginx.conf"), config).unwrap();
    let proxy = Proxy::start(
        &upstreams,
        port,
        Command::new(nginx).args(["-e", &upstreams.path_of("error.log"), "-c", &upstreams.path_of("nginx.conf")]),
    );
    proxy.assert_smoke_test_passes();
    proxy.assert_live_tail_is_not_buffered();
    proxy.assert_sign_in_works();
    proxy.assert_rate_limit_per_client();
    let redirect =
        Command::new("curl").args(["--silent", "--include", &format!("http://localhost:{http_port}/x")]).output();
    assert!(String::from_utf8(redirect.unwrap().stdout).unwrap().contains("Location: https://localhost/x"));
    let access_log = std::fs::read_to_string(upstreams.path_of("access.log")).unwrap();
    assert!(access_log.contains("GET /monitoring/logs/api/logs/tail\" 200"), "{access_log}");
    assert!(!access_log.contains("api_key") && !access_log.contains(API_KEY), "{access_log}");
}

#[test]
fn services_work_through_caddy() {
    let Some(caddy) = find_program("caddy").filter(|_| curl_or_skip()) else { return };
    let upstreams = Upstreams::start();
    if !upstreams.create_certificate() {
        return;
    }
    let port = free_port();
    let (certificate, key) = (upstreams.path_of("cert.pem"), upstreams.path_of("key.pem"));
    let site = format!("https://localhost:{port} {{\n\ttls {certificate} {key}\n");
    let example = upstreams.adapt_example("Caddyfile.example", &[("monitoring.example.com {\n", site)]);
    let settings = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n";
    std::fs::write(upstreams.path_of("Caddyfile"), format!("{settings}{example}")).unwrap();
    let mut command = Command::new(caddy);
    command.args(["run", "--adapter", "caddyfile", "--config", &upstreams.path_of("Caddyfile")]);
    let proxy = Proxy::start(&upstreams, port, command.env("HOME", upstreams.folder.path()));
    proxy.assert_smoke_test_passes();
    proxy.assert_live_tail_is_not_buffered();
    proxy.assert_sign_in_works();
    proxy.assert_rate_limit_per_client();
}
