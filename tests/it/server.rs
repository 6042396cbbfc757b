//! What the house's server promises to every service, on a table of routes made for the purpose: handlers that panic,
//! responders that are dropped, and bodies that are kept on disk while they arrive.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use monlight::env::Secret;
use monlight::error::Error;
use monlight::http::{
    Access, AdmissionSettings, BodyLimit, Bound, ConnectionLimits, DeferredHandler, Keys, Method, Proxies,
    PublicKeySettings, Response, Route, RouteSpec, Scope, Server, Settings,
};

use crate::harness::{API_KEY, Client, Request, TempDir};

const LONG: &str = "the same again, ";
const SPOOLED_BYTES_MAX: usize = 3_000_000;

struct Nothing;

fn spec(path: &'static str, body_limit: BodyLimit) -> RouteSpec {
    RouteSpec::new(Method::Post, path, Access::Key(Scope::Ingest)).body_limit(body_limit)
}

fn routes() -> Vec<Route<Nothing>> {
    let drops: DeferredHandler<Nothing> = Box::new(|_, _, responder| drop(responder));
    let panics: DeferredHandler<Nothing> = Box::new(|_, _, _responder| panic!("on purpose"));
    let measures: DeferredHandler<Nothing> = Box::new(|_, request, responder| {
        let mut bytes = Vec::new();
        let read = request.spooled().map(|mut file| file.read_to_end(&mut bytes));
        assert!(matches!(read, Some(Ok(_))) && request.body().is_empty());
        let sum = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        responder.send(Response::text(200, format!("{} {sum}", bytes.len())));
    });
    vec![
        Route::get("/panics", Access::Open, |_, _| panic!("on purpose")),
        Route::get("/fails", Access::Open, |_, _| Err(Error::Internal("SELECT secret FROM place".into()))),
        Route::get("/fine", Access::Open, |_, _| Ok(Response::text(200, "fine".into()))),
        Route::get("/long", Access::Open, |_, _| Ok(Response::text(200, LONG.repeat(1_000)))),
        Route::deferred(spec("/drops", BodyLimit::MaxBodySize), drops),
        Route::deferred(spec("/panics-later", BodyLimit::MaxBodySize), panics),
        Route::deferred(spec("/spooled", BodyLimit::Spooled(SPOOLED_BYTES_MAX)), measures),
    ]
}

/// The server, and the folder it spools to.
struct Running {
    server: Server,
    folder: TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = TempDir::new();
        let bound = Bound::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let settings = Settings {
            connection_limits: ConnectionLimits { connections: 16, connections_per_address: 16 },
            admission: AdmissionSettings {
                public_keys: PublicKeySettings::default(),
                sessions: Arc::default(),
                keys: Keys::new(Secret::new(API_KEY), &[]).unwrap(),
                proxies: Proxies::default(),
                rate_per_address: 0,
                rate_per_key: 0,
                body_bytes_max: 100_000,
            },
            spool_dir: folder.path().to_owned(),
        };
        let server = Server::start(bound, settings, routes(), |_| Arc::new(Nothing)).unwrap();
        Self { server, folder }
    }

    fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.server.address()).unwrap())
    }

    fn send(&self, request: &Request) -> crate::harness::Response {
        self.connect().send(request)
    }
}

#[test]
fn whatever_a_handler_does_every_request_is_answered_and_the_pool_goes_on() {
    let running = Running::start();
    let mut client = running.connect();
    for _ in 0..20 {
        client.send(&Request::get("/panics")).expect(500).has_detail("log");
        let answer = client.send(&Request::get("/fails")).expect(500).has_detail("log");
        assert!(!answer.text().contains("secret"), "internal text stays inside");
        client.send(&Request::post("/drops", &"x".into())).expect(500);
        client.send(&Request::post("/panics-later", &"x".into())).expect(500);
        client.send(&Request::get("/fine")).expect(200);
    }
    assert!(running.server.stop(Duration::from_secs(5)));
}

#[test]
fn a_long_answer_is_packed_for_who_can_unpack_it() {
    let running = Running::start();
    let asking = |path: &str| running.send(&Request::get(path).header("Accept-Encoding", "br;q=1.0, gzip;q=0.8"));
    let packed = asking("/long").expect(200);
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
    assert!(packed.body.len() < 500, "{} bytes", packed.body.len());
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, LONG.repeat(1_000));
    let short = asking("/fine").expect(200);
    assert_eq!((short.text().as_str(), short.header("content-encoding")), ("fine", None));
    let plain = running.send(&Request::get("/long")).expect(200);
    assert_eq!((plain.text().as_str(), plain.header("content-encoding")), (text.as_str(), None));
}

#[test]
fn a_large_body_lies_in_a_file_without_a_name() {
    let running = Running::start();
    let body: Vec<u8> = (0..2_900_000u32).map(|n| n as u8).collect();
    let expected = format!("{} {}", body.len(), body.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    assert_eq!(running.send(&Request::new("POST", "/spooled").body(body.clone())).expect(200).text(), expected);

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&body).unwrap();
    let coded = Request::new("POST", "/spooled").header("Content-Encoding", "gzip").body(encoder.finish().unwrap());
    assert_eq!(running.send(&coded).expect(200).text(), expected);

    // Half a body, and nothing can be seen of it.
    let mut client = running.connect();
    let request = Request::new("POST", "/spooled").body(body).bytes();
    client.write(&request[..request.len() / 2]);
    running.send(&Request::get("/fine")).expect(200);
    assert_eq!(std::fs::read_dir(running.folder.path()).unwrap().count(), 0);
    client.write(&request[request.len() / 2..]);
    assert_eq!(client.read_response().expect(200).text(), expected);
}

#[test]
fn a_spooled_body_is_held_to_its_limit_declared_and_decoded() {
    let running = Running::start();
    let declared = Request::new("POST", "/spooled").header("Content-Length", "20000000");
    running.send(&declared).expect(413).has_detail("3000000 bytes");
    running.send(&declared.without_header("X-API-Key")).expect(401);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 50_000_000]).unwrap();
    let bomb = Request::new("POST", "/spooled").header("Content-Encoding", "gzip").body(encoder.finish().unwrap());
    running.send(&bomb).expect(413);
}
