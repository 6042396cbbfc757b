//! Tests of streamed responses and of the shares of clients, on a server with routes of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use super::*;
use crate::env::Secret;
use crate::error::Error;

const TIMEOUT: Duration = Duration::from_secs(20);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A body of `parts` parts of `bytes` bytes. The part `fails_at` is an error, and the part `panics_at` a panic.
struct Counting {
    next: usize,
    parts: usize,
    bytes: usize,
    fails_at: usize,
    panics_at: usize,
    produced: Arc<AtomicUsize>,
}

impl BodySource for Counting {
    fn write_part(&mut self, out: &mut Vec<u8>) -> crate::error::Result<bool> {
        assert_ne!(self.next, self.panics_at, "on purpose");
        if self.next == self.fails_at {
            return Err(Error::Busy("on purpose"));
        }
        out.extend(part(self.next, self.bytes));
        self.next += 1;
        self.produced.fetch_add(1, Ordering::Relaxed);
        Ok(self.next < self.parts)
    }
}

/// Returns the content of a part, which differs from all others.
fn part(index: usize, bytes: usize) -> Vec<u8> {
    let line = format!("part {index} of the body\n");
    line.bytes().cycle().take(bytes).collect()
}

fn start() -> (Server, Arc<AtomicUsize>) {
    let keys: Vec<String> = (0..8).map(|n| format!("reader-{n}:read:key-{n}")).collect();
    let admission = AdmissionSettings {
        keys: Keys::new(Secret::new("main"), &keys).unwrap(),
        proxies: TrustedProxies::default(),
        rate_per_address: 0,
        rate_per_key: 0,
        body_bytes_max: 1024,
        public_keys: PublicKeySettings::default(),
        sessions: Arc::default(),
    };
    let settings = Settings {
        connection_limits: ConnectionLimits { connections: 512, connections_per_address: 512 },
        admission,
        spool_dir: std::env::temp_dir(),
        response_timeout: RESPONSE_TIMEOUT,
    };
    let stream = |produced: &Arc<AtomicUsize>, request: &Request| {
        let number = |name, default| usize::try_from(request.query_number(name, default, 0..=i64::MAX)).unwrap();
        let source = Counting {
            next: 0,
            parts: number("parts", 3),
            bytes: number("bytes", 20_000),
            fails_at: number("fails_at", i64::MAX),
            panics_at: number("panics_at", i64::MAX),
            produced: Arc::clone(produced),
        };
        Ok(Response::streamed(200, "text/plain", source))
    };
    let slow = |_: &Arc<AtomicUsize>, request: &Request| {
        std::thread::sleep(Duration::from_millis(request.query_number("ms", 0, 0..=10_000).unsigned_abs()));
        Ok(Response::text(200, "done".into()))
    };
    let read = Access::Key(Scope::Read);
    let routes = vec![Route::get("/stream", read, stream), Route::get("/slow", read, slow)];
    let produced: Arc<AtomicUsize> = Arc::default();
    let state = Arc::new(Arc::clone(&produced));
    let bound = BoundListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    (Server::start(bound, settings, routes, |_| state).unwrap(), produced)
}

fn connect(server: &Server) -> TcpStream {
    let socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// Returns a socket that receives little before it is read.
fn connect_with_small_buffer(server: &Server) -> TcpStream {
    connect_from(server, 1)
}

/// Connects from a loopback address with a small receive buffer.
fn connect_from(server: &Server, host: u8) -> TcpStream {
    let family = rustix::net::AddressFamily::INET;
    let socket = rustix::net::socket(family, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    rustix::net::connect(&socket, &server.address()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

fn send(mut socket: &TcpStream, request: &str, headers: &str) {
    let key = if headers.contains("X-API-Key") { "" } else { "X-API-Key: main\r\n" };
    socket.write_all(format!("{request}\r\nHost: x\r\n{key}{headers}\r\n").as_bytes()).unwrap();
}

/// Reads a head and returns it.
fn read_head(mut socket: &TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Reads a chunked body to its last chunk.
fn read_chunks(mut socket: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        socket.read_exact(&mut chunk)?;
        assert!(chunk.ends_with(b"\r\n"));
        if size == 0 {
            return Ok(body);
        }
        body.extend(&chunk[..size]);
    }
}

fn expected(parts: usize, bytes: usize) -> Vec<u8> {
    (0..parts).flat_map(|index| part(index, bytes)).collect()
}

#[test]
fn streamed_bodies_are_complete_and_keep_the_connection() {
    let (server, _) = start();
    let socket = connect(&server);
    for (query, parts, bytes) in
        [("parts=3", 3, 20_000), ("parts=40&bytes=70000", 40, 70_000), ("parts=2&bytes=0", 2, 0)]
    {
        send(&socket, &format!("GET /stream?{query} HTTP/1.1"), "");
        let head = read_head(&socket);
        assert!(head.contains("Transfer-Encoding: chunked\r\n") && head.contains("Connection: keep-alive"), "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
        assert!(read_chunks(&socket).unwrap() == expected(parts, bytes), "{query}");
        send(&socket, &format!("GET /stream?{query} HTTP/1.1"), "Accept-Encoding: gzip\r\n");
        let head = read_head(&socket);
        assert!(head.contains("Content-Encoding: gzip\r\n") && head.contains("Vary: Accept-Encoding\r\n"), "{head}");
        let mut body = Vec::new();
        GzDecoder::new(&*read_chunks(&socket).unwrap()).read_to_end(&mut body).unwrap();
        assert!(body == expected(parts, bytes), "{query} in gzip");
    }
    // A body of one part has a length, and HEAD has no body.
    send(&socket, "GET /stream?parts=1&bytes=100 HTTP/1.1", "");
    assert!(read_head(&socket).contains("Content-Length: 100\r\n"));
    (&socket).read_exact(&mut [0; 100]).unwrap();
    send(&socket, "HEAD /stream HTTP/1.1", "");
    assert!(read_head(&socket).contains("Transfer-Encoding: chunked\r\n"));
    // Two requests at once: the second one has arrived before the first is answered.
    send(
        &socket,
        "GET /stream HTTP/1.1\r\nHost: x\r\nX-API-Key: main\r\n\r\nGET /slow HTTP/1.1",
        "Connection: close\r\n",
    );
    read_head(&socket);
    assert!(read_chunks(&socket).unwrap() == expected(3, 20_000));
    assert!(read_head(&socket).contains("Content-Length: 4\r\n"));
    let mut rest = String::new();
    (&socket).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "done");
}

#[test]
fn old_clients_receive_streamed_bodies_until_the_connection_ends() {
    let (server, _) = start();
    let mut socket = connect(&server);
    send(&socket, "GET /stream?parts=20 HTTP/1.0", "Connection: keep-alive\r\n");
    let head = read_head(&socket);
    assert!(head.contains("Connection: close\r\n") && !head.contains("Transfer-Encoding"), "{head}");
    let mut body = Vec::new();
    socket.read_to_end(&mut body).unwrap();
    assert!(body == expected(20, 20_000));
}

#[test]
fn failed_sources_end_with_an_error_or_a_reset() {
    let (server, _) = start();
    for (failure, status) in [("fails_at=0", "503"), ("panics_at=0", "500")] {
        let socket = connect(&server);
        send(&socket, &format!("GET /stream?{failure} HTTP/1.1"), "");
        assert!(read_head(&socket).starts_with(&format!("HTTP/1.1 {status} ")), "{failure}");
    }
    for failure in ["fails_at=2", "panics_at=2"] {
        for version in ["1.1", "1.0"] {
            let mut socket = connect(&server);
            send(&socket, &format!("GET /stream?{failure} HTTP/{version}"), "");
            let mut received = Vec::new();
            let end = socket.read_to_end(&mut received).map_err(|why| why.kind());
            assert_eq!(end, Err(ErrorKind::ConnectionReset), "{failure} {version}");
            assert!(!received.ends_with(b"0\r\n\r\n"));
        }
    }
    let socket = connect(&server);
    send(&socket, "GET /stream HTTP/1.1", "");
    read_head(&socket);
    assert!(read_chunks(&socket).unwrap() == expected(3, 20_000));
}

#[test]
fn several_segments_fit_into_the_send_buffer() {
    let (server, _) = start();
    let client = connect(&server);
    // The loopback interface has segments of 64 KiB. With one of them in flight, the client would delay its acknowledgment.
    let segment_bytes = socket2::SockRef::from(&client).tcp_mss().unwrap();
    assert!(segment_bytes as usize * 4 <= worker_pool::SEND_BUFFER_BYTES, "{segment_bytes}");
}

#[test]
fn slow_readers_receive_everything_and_occupy_no_worker() {
    let (server, produced) = start();
    let readers: Vec<TcpStream> = (0..40).map(|_| connect_with_small_buffer(&server)).collect();
    for reader in &readers {
        send(reader, "GET /stream?parts=10 HTTP/1.1", "");
    }
    std::thread::scope(|scope| {
        for reader in &readers {
            scope.spawn(move || {
                // The whole body takes several times as long as a client may read nothing.
                read_head(reader);
                let mut reader = reader;
                let (mut received, mut buffer) = (Vec::new(), [0; 10_000]);
                while !received.ends_with(b"\r\n0\r\n\r\n") {
                    let read = reader.read(&mut buffer).unwrap();
                    assert_ne!(read, 0);
                    received.extend(&buffer[..read]);
                    std::thread::sleep(Duration::from_millis(150));
                }
                assert!(received.len() > 200_000);
            });
        }
        for _ in 0..20 {
            let (socket, started) = (connect(&server), Instant::now());
            send(&socket, "GET /slow?ms=1 HTTP/1.1", "");
            read_head(&socket);
            assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        // At the pace of the readers: most parts do not exist yet.
        let parts = produced.load(Ordering::Relaxed);
        assert!((40..300).contains(&parts), "{parts}");
    });
    assert_eq!(produced.load(Ordering::Relaxed), 400);
}

/// Returns the bytes that the kernel has accepted from the server and not sent yet, by /proc/net/tcp.
fn send_queue_bytes(server: &Server) -> u64 {
    let port = format!(":{:04X} ", server.address().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // The second column is the local address, the fifth one the queues.
    let lines = table.lines().filter(|line| line.get(..21).is_some_and(|start| start.contains(&port)));
    lines.map(|line| u64::from_str_radix(&line.split_whitespace().nth(4).unwrap()[..8], 16).unwrap()).sum()
}

#[test]
fn silent_readers_are_reset_and_free_the_kernel_memory() {
    let (server, _) = start();
    let readers: Vec<TcpStream> = (0..30).map(|_| connect_with_small_buffer(&server)).collect();
    for reader in &readers {
        send(reader, "GET /stream?parts=1000&bytes=32000 HTTP/1.1", "");
    }
    let deadline = Instant::now() + TIMEOUT;
    let mut peak = 0;
    while peak < 30 * 20_000 {
        peak = peak.max(send_queue_bytes(&server));
        assert!(Instant::now() < deadline, "{peak}");
    }
    assert!(peak <= 30 * 96 * 1024, "{peak}");
    let filled = Instant::now();
    while send_queue_bytes(&server) > 0 {
        assert!(filled.elapsed() < 3 * RESPONSE_TIMEOUT, "{} bytes are still there", send_queue_bytes(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
    for mut reader in readers {
        let end = reader.read_to_end(&mut Vec::new()).map_err(|why| why.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }
}

#[test]
fn slow_queries_leave_a_worker_to_others() {
    let (server, _) = start();
    // Four clients with one key. At first, nobody knows that their queries are slow.
    let slow: Vec<TcpStream> = (0..40).map(|n| connect_from(&server, n % 4 + 2)).collect();
    for socket in &slow {
        send(socket, "GET /slow?ms=1500 HTTP/1.1", "X-API-Key: key-0\r\n");
    }
    std::thread::sleep(Duration::from_millis(150));
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let (socket, started) = (connect(&server), Instant::now());
        send(&socket, "GET /slow?ms=10 HTTP/1.1", "X-API-Key: key-7\r\n");
        read_head(&socket);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
}
