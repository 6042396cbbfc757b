//! HTTP server of the library, with a table of test routes: handlers that panic, dropped responders, compression, and
//! bodies that are spooled to disk.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use monlight::env::Secret;
use monlight::error::Error;
use monlight::http::{
    Access, AdmissionSettings, BodyLimit, BoundListener, ConnectionLimits, DeferredHandler, Keys, Method,
    PublicKeySettings, Response, Route, RouteSpec, Scope, Server, Settings, TrustedProxies,
};

use crate::support::harness::{API_KEY, Client, Request, TempDir};

/// Repeated text of a long, compressible response.
const REPEATED: &str = "the same again, ";
const SPOOLED_BYTES_MAX: usize = 3_000_000;

struct NoContext;

fn route_spec(path: &'static str, body_limit: BodyLimit) -> RouteSpec {
    RouteSpec::new(Method::Post, path, Access::Key(Scope::Ingest)).body_limit(body_limit)
}

fn routes() -> Vec<Route<NoContext>> {
    let drop_responder: DeferredHandler<NoContext> = Box::new(|_, _, responder| drop(responder));
    let panic_later: DeferredHandler<NoContext> = Box::new(|_, _, _responder| panic!("on purpose"));
    let measure_body: DeferredHandler<NoContext> = Box::new(|_, request, responder| {
        let mut bytes = Vec::new();
        let read = request.spooled().map(|mut file| file.read_to_end(&mut bytes));
        assert!(matches!(read, Some(Ok(_))) && request.body().is_empty());
        let checksum = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        responder.send(Response::text(200, format!("{} {checksum}", bytes.len())));
    });
    vec![
        Route::get("/panics", Access::Open, |_, _| panic!("on purpose")),
        Route::get("/fails", Access::Open, |_, _| Err(Error::Internal("SELECT secret FROM place".into()))),
        Route::get("/fine", Access::Open, |_, _| Ok(Response::text(200, "fine".into()))),
        Route::get("/long", Access::Open, |_, _| Ok(Response::text(200, REPEATED.repeat(1_000)))),
        Route::deferred(route_spec("/drops", BodyLimit::MaxBodySize), drop_responder),
        Route::deferred(route_spec("/panics-later", BodyLimit::MaxBodySize), panic_later),
        Route::deferred(route_spec("/spooled", BodyLimit::Spooled(SPOOLED_BYTES_MAX)), measure_body),
    ]
}

/// Running server, and the folder of its spooled bodies.
struct TestServer {
    server: Server,
    spool_dir: TempDir,
}

impl TestServer {
    fn start() -> Self {
        let spool_dir = TempDir::new();
        let bound = BoundListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let settings = Settings {
            connection_limits: ConnectionLimits { connections: 16, connections_per_address: 16 },
            admission: AdmissionSettings {
                public_keys: PublicKeySettings::default(),
                sessions: Arc::default(),
                keys: Keys::new(Secret::new(API_KEY), &[]).unwrap(),
                proxies: TrustedProxies::default(),
                rate_per_address: 0,
                rate_per_key: 0,
                body_bytes_max: 100_000,
            },
            spool_dir: spool_dir.path().to_owned(),
            response_timeout: Duration::from_secs(30),
        };
        let server = Server::start(bound, settings, routes(), |_| Arc::new(NoContext)).unwrap();
        Self { server, spool_dir }
    }

    fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.server.address()).unwrap())
    }

    fn send(&self, request: &Request) -> crate::support::harness::Response {
        self.connect().send(request)
    }
}

#[test]
fn faulty_handlers_get_a_500_response_and_the_pool_keeps_working() {
    let server = TestServer::start();
    let mut client = server.connect();
    for _ in 0..20 {
        client.send(&Request::get("/panics")).expect(500).has_detail("log");
        let response = client.send(&Request::get("/fails")).expect(500).has_detail("log");
        assert!(!response.text().contains("secret"), "the response contains an internal error message");
        client.send(&Request::post("/drops", &"x".into())).expect(500);
        client.send(&Request::post("/panics-later", &"x".into())).expect(500);
        client.send(&Request::get("/fine")).expect(200);
    }
    assert!(server.server.stop(Duration::from_secs(5)));
}

#[test]
fn long_response_is_compressed_if_the_client_accepts_gzip() {
    let server = TestServer::start();
    let get_with_gzip = |path: &str| server.send(&Request::get(path).header("Accept-Encoding", "br;q=1.0, gzip;q=0.8"));
    let compressed = get_with_gzip("/long").expect(200);
    assert_eq!(
        (compressed.header("content-encoding"), compressed.header("vary")),
        (Some("gzip"), Some("Accept-Encoding"))
    );
    assert!(compressed.body.len() < 500, "{} bytes", compressed.body.len());
    let mut text = String::new();
    flate2::read::GzDecoder::new(compressed.body.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, REPEATED.repeat(1_000));
    let short = get_with_gzip("/fine").expect(200);
    assert_eq!((short.text().as_str(), short.header("content-encoding")), ("fine", None));
    let plain = server.send(&Request::get("/long")).expect(200);
    assert_eq!((plain.text().as_str(), plain.header("content-encoding")), (text.as_str(), None));
}

#[test]
fn large_body_is_spooled_to_an_anonymous_file() {
    let server = TestServer::start();
    let body: Vec<u8> = (0..2_900_000u32).map(|n| n as u8).collect();
    let expected = format!("{} {}", body.len(), body.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    assert_eq!(server.send(&Request::new("POST", "/spooled").body(body.clone())).expect(200).text(), expected);

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&body).unwrap();
    let compressed =
        Request::new("POST", "/spooled").header("Content-Encoding", "gzip").body(encoder.finish().unwrap());
    assert_eq!(server.send(&compressed).expect(200).text(), expected);

    // While half of a body has arrived, the spool folder shows no file.
    let mut client = server.connect();
    let request = Request::new("POST", "/spooled").body(body).bytes();
    client.write(&request[..request.len() / 2]);
    server.send(&Request::get("/fine")).expect(200);
    assert_eq!(std::fs::read_dir(server.spool_dir.path()).unwrap().count(), 0);
    client.write(&request[request.len() / 2..]);
    assert_eq!(client.read_response().expect(200).text(), expected);
}

#[test]
fn spooled_body_limit_applies_to_declared_and_decompressed_size() {
    let server = TestServer::start();
    let declared = Request::new("POST", "/spooled").header("Content-Length", "20000000");
    server.send(&declared).expect(413).has_detail("3000000 bytes");
    server.send(&declared.without_header("X-API-Key")).expect(401);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 50_000_000]).unwrap();
    let bomb = Request::new("POST", "/spooled").header("Content-Encoding", "gzip").body(encoder.finish().unwrap());
    server.send(&bomb).expect(413);
}
