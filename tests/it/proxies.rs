//! Real reverse proxies, with the examples for them: everything below one name with TLS, also what is live.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{API_KEY, Service, Setup, TempDir, send_signal, skip, wait_until};
use crate::peers::find_program;
use crate::smoke::{Smoke, curl_or_skip, smoke_test};

const ORIGIN: &str = "https://shop.example";
/// Requests a minute that the error tracker takes of one address, more than the smoke test needs.
const ERRORS_RATE_LIMIT: u32 = 50;
/// How long one line may take through a proxy on a machine that has much else to do; one that keeps what it gets until it
/// has enough would keep it for much longer.
const LINE_WITHIN: Duration = Duration::from_secs(2);
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The four services, listening for a proxy.
struct Behind {
    errors: Service,
    logs: Service,
    metrics: Service,
    relay: Service,
    folder: Arc<TempDir>,
}

impl Behind {
    fn start() -> Self {
        let folder = Arc::new(TempDir::new());
        std::fs::write(folder.path().join("app.log"), "begun\n").unwrap();
        let trusts = |setup: Setup| setup.env("TRUSTED_PROXIES", "127.0.0.1");
        let errors = trusts(Setup::error_tracker()).env("RATE_LIMIT", ERRORS_RATE_LIMIT).start();
        let logs = trusts(Setup::log_viewer())
            .env("LOG_FILES", format!("app={}", folder.path().join("app.log").display()))
            .start();
        let metrics = trusts(Setup::metrics_collector()).start();
        let relay = trusts(Setup::browser_relay(errors.address, metrics.address))
            .env("CORS_ORIGINS", ORIGIN)
            .env("RATE_LIMIT", 300)
            .start();
        Self { errors, logs, metrics, relay, folder }
    }

    /// An example for a proxy with everything replaced in it that is another here. What is to be replaced has to be there.
    #[track_caller]
    fn example(&self, name: &str, replaced: &[(&str, String)]) -> String {
        let text = std::fs::read_to_string(Path::new(ROOT).join("deploy").join(name)).unwrap();
        let ports = [
            ("127.0.0.1:5010", self.errors.address.to_string()),
            ("127.0.0.1:5011", self.logs.address.to_string()),
            ("127.0.0.1:5012", self.metrics.address.to_string()),
            ("127.0.0.1:5013", self.relay.address.to_string()),
        ];
        ports.iter().chain(replaced).fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{name} has {from}");
            text.replace(from, to)
        })
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A certificate for `localhost` that only its own holder believes.
    fn certificate(&self) -> bool {
        let (certificate, key) = (self.at("cert.pem"), self.at("key.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost", "-keyout", &key, "-out", &certificate])
            .output();
        let made = made.is_ok_and(|output| output.status.success());
        if !made {
            skip("openssl makes no certificate");
        }
        made
    }
}

/// A proxy at work, ended when dropped.
struct Proxy<'a> {
    child: Child,
    behind: &'a Behind,
    port: u16,
}

impl<'a> Proxy<'a> {
    fn start(behind: &'a Behind, port: u16, command: &mut Command) -> Self {
        let log = std::fs::File::create(behind.at("proxy.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut proxy = Self { child: command.spawn().unwrap(), behind, port };
        let answers = wait_until(|| {
            let ended = proxy.child.try_wait().unwrap().is_some();
            let (status, _) = proxy.curl("/monitoring/errors/health", &[]);
            (ended || status == 200).then_some(!ended)
        });
        assert_eq!(answers, Some(true), "{}", std::fs::read_to_string(behind.at("proxy.log")).unwrap());
        proxy
    }

    fn origin(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// A `curl` that believes the certificate.
    fn command(&self, path: &str, options: &[&str]) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "20", "--cacert", &self.behind.at("cert.pem")]);
        command.args(options).arg(self.origin() + path);
        command
    }

    /// The status of an answer, and the answer with its head.
    fn curl(&self, path: &str, options: &[&str]) -> (u16, String) {
        let output = self.command(path, &[&["--include"], options].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, text)
    }

    fn is_smooth(&self) {
        let url = |service: &str| format!("{}/monitoring/{service}", self.origin());
        let begun = Instant::now();
        let output = smoke_test(
            &[],
            &[
                ("ERRORS_URL", url("errors")),
                ("LOGS_URL", url("logs")),
                ("METRICS_URL", url("metrics")),
                ("RELAY_URL", url("relay")),
                ("API_KEY", API_KEY.to_owned()),
                ("ORIGIN", ORIGIN.to_owned()),
                ("CURL_CA_BUNDLE", self.behind.at("cert.pem")),
            ],
        );
        let smoke = Smoke::of(&output, begun.elapsed());
        smoke.is_green();
        eprintln!("the smoke test took {:.1?}", smoke.took);
    }

    /// What is logged comes to whoever watches as soon as it is.
    fn streams(&self) {
        let path = format!("/monitoring/logs/api/logs/tail?api_key={API_KEY}");
        let mut watching = self.command(&path, &["--no-buffer", "--include"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(watching.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut log = OpenOptions::new().append(true).open(self.behind.at("app.log")).unwrap();
        let begun = events.find(String::is_empty);
        assert!(begun.is_some(), "the answer begins before there is anything in it");
        for number in 1..=3 {
            let begun = Instant::now();
            writeln!(log, "line {number} as it comes").unwrap();
            let found = events.find(|line| line.starts_with("data: ") && line.contains(&format!("line {number} as")));
            let took = begun.elapsed();
            assert!(found.is_some() && took < LINE_WITHIN, "line {number} took {took:?}");
            eprintln!("line {number} took {took:.1?}");
        }
        watching.kill().unwrap();
        watching.wait().unwrap();
    }

    /// A browser signs in, with a cookie that goes over TLS only, and changes something from the service's own page.
    fn signs_in(&self) {
        let session = "/monitoring/errors/api/session";
        let (status, text) = self.curl(session, &["--request", "POST", "--header", &format!("X-API-Key: {API_KEY}")]);
        let cookie =
            text.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: ")).unwrap_or_default();
        assert!(status < 300 && cookie.contains("; Secure"), "{text}");
        let cookie = format!("Cookie: {}", cookie["set-cookie: ".len()..].split(';').next().unwrap());
        let (status, text) = self.curl(session, &["--header", &cookie]);
        assert_eq!(status, 200, "{text}");
        let from = |origin: &str| {
            let origin = format!("Origin: {origin}");
            self.curl(session, &["--request", "DELETE", "--header", &cookie, "--header", &origin]).0
        };
        assert_eq!(from("https://elsewhere.example"), 403);
        assert_eq!(from(&self.origin()), 200);
    }

    /// Limits count who asks: neither the proxy nor whoever a request says that it is from.
    fn tells_clients_apart(&self) {
        let key = format!("X-API-Key: {API_KEY}");
        let ask = |number: u32, from: &str| {
            let says = format!("X-Forwarded-For: 10.0.0.{number}");
            self.curl("/monitoring/errors/api/projects", &["--interface", from, "--header", &key, "--header", &says]).0
        };
        let refused = (0..=ERRORS_RATE_LIMIT).map(|number| ask(number, "127.0.0.1")).filter(|status| *status == 429);
        assert!(refused.count() > 0, "one address has as many as it wants");
        assert_eq!(ask(0, "127.0.0.2"), 200);
    }
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        // Its workers end with it only when it is asked.
        send_signal(self.child.id(), "TERM");
        if wait_until(|| self.child.try_wait().unwrap()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn everything_works_through_nginx() {
    let Some(nginx) = find_program("nginx").filter(|_| curl_or_skip()) else { return };
    let behind = Behind::start();
    if !behind.certificate() {
        return;
    }
    let (port, plain) = (free_port(), free_port());
    let example = behind.example(
        "nginx.conf.example",
        &[
            ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
            ("listen 80;", format!("listen 127.0.0.1:{plain};")),
            ("    listen [::]:443 ssl http2;\n", String::new()),
            ("    listen [::]:80;\n", String::new()),
            ("server_name monitoring.example.com", "server_name localhost".to_owned()),
            ("/etc/letsencrypt/live/monitoring.example.com/fullchain.pem", behind.at("cert.pem")),
            ("/etc/letsencrypt/live/monitoring.example.com/privkey.pem", behind.at("key.pem")),
            ("/var/log/nginx/monlight.log", behind.at("access.log")),
        ],
    );
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {};", behind.at(&format!("{name}_temp"))));
    let around = format!(
        "user root; daemon off; worker_processes 1; pid {}; events {{}}\nhttp {{ {}\n{example}\n}}\n",
        behind.at("pid"),
        temporary.join(" ")
    );
    std::fs::write(behind.at("nginx.conf"), around).unwrap();
    let proxy = Proxy::start(
        &behind,
        port,
        Command::new(nginx).args(["-e", &behind.at("error.log"), "-c", &behind.at("nginx.conf")]),
    );
    proxy.is_smooth();
    proxy.streams();
    proxy.signs_in();
    proxy.tells_clients_apart();
    let redirected =
        Command::new("curl").args(["--silent", "--include", &format!("http://localhost:{plain}/x")]).output();
    assert!(String::from_utf8(redirected.unwrap().stdout).unwrap().contains("Location: https://localhost/x"));
    let logged = std::fs::read_to_string(behind.at("access.log")).unwrap();
    assert!(logged.contains("GET /monitoring/logs/api/logs/tail\" 200"), "{logged}");
    assert!(!logged.contains("api_key") && !logged.contains(API_KEY), "{logged}");
}

#[test]
fn everything_works_through_caddy() {
    let Some(caddy) = find_program("caddy").filter(|_| curl_or_skip()) else { return };
    let behind = Behind::start();
    if !behind.certificate() {
        return;
    }
    let port = free_port();
    let (certificate, key) = (behind.at("cert.pem"), behind.at("key.pem"));
    let site = format!("https://localhost:{port} {{\n\ttls {certificate} {key}\n");
    let example = behind.example("Caddyfile.example", &[("monitoring.example.com {\n", site)]);
    let settings = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n";
    std::fs::write(behind.at("Caddyfile"), format!("{settings}{example}")).unwrap();
    let mut command = Command::new(caddy);
    command.args(["run", "--adapter", "caddyfile", "--config", &behind.at("Caddyfile")]);
    let proxy = Proxy::start(&behind, port, command.env("HOME", behind.folder.path()));
    proxy.is_smooth();
    proxy.streams();
    proxy.signs_in();
    proxy.tells_clients_apart();
}
