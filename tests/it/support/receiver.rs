//! HTTP receiver for requests that a service sends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::harness::wait_until;

/// Reads one request, responds with `status` and an empty body, and returns the head and the body of the request.
pub fn receive_request(mut socket: TcpStream, status: &str) -> (String, Vec<u8>) {
    let request = read_request(&socket);
    write_response(&mut socket, status, "");
    request
}

/// Responds with `status`, which can have further headers after a line break.
fn write_response(socket: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    // The client may be gone.
    let _ = write!(socket, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
}

/// Reads one request and returns its head and its body.
pub fn read_request(socket: &TcpStream) -> (String, Vec<u8>) {
    let mut socket = BufReader::new(socket);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let line_start = head.len();
        assert!(
            socket.read_line(&mut head).unwrap() > 0,
            "the client closed the connection before the end of its request"
        );
        if let Some(value) = head[line_start..].to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).unwrap();
    (head, body)
}

/// Decompresses a body as its head says.
fn decompress(head: &str, body: Vec<u8>) -> Vec<u8> {
    let head = head.to_lowercase();
    if head.contains("\r\ncontent-encoding: gzip\r\n") {
        let mut decompressed = Vec::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut decompressed).unwrap();
        decompressed
    } else if head.contains("\r\ncontent-encoding: snappy\r\n") {
        snap::raw::Decoder::new().decompress_vec(&body).unwrap()
    } else {
        body
    }
}

/// Head and decompressed body of each request.
type Requests = Vec<(String, Vec<u8>)>;

/// HTTP server on a free port of 127.0.0.1 that records all requests in a background thread, which runs until the test
/// process exits.
pub struct HttpReceiver {
    pub address: SocketAddr,
    requests: Arc<Mutex<Requests>>,
    read_count: AtomicUsize,
}

impl HttpReceiver {
    /// Responds to the first requests with the given statuses, and to all later ones with 204.
    pub fn start(statuses: &'static [&'static str]) -> Self {
        let mut statuses = statuses.iter();
        Self::respond_with(move |_| (statuses.next().copied().unwrap_or("204 No Content"), String::new()))
    }

    /// Responds with the status and the body that `respond` returns for the decompressed body of a request.
    pub fn respond_with(mut respond: impl FnMut(&[u8]) -> (&'static str, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::default());
        let recorded: Arc<Mutex<Requests>> = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let (head, body) = read_request(&socket);
                let body = decompress(&head, body);
                let (status, response) = respond(&body);
                recorded.lock().unwrap().push((head, body));
                write_response(&mut socket, status, &response);
            }
        });
        Self { address, requests, read_count: AtomicUsize::new(0) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the head and the text of all requests received so far.
    pub fn requests(&self) -> Vec<(String, String)> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(head, body)| (head.clone(), String::from_utf8(body.clone()).unwrap())).collect()
    }

    /// Waits for the next request that this method has not returned yet, and returns its head and its JSON body.
    #[track_caller]
    pub fn next_request(&self) -> (String, Value) {
        let number = self.read_count.fetch_add(1, Ordering::Relaxed);
        let request = wait_until(|| self.requests.lock().unwrap().get(number).cloned());
        let (head, body) = request.expect("the receiver gets a request");
        (head, serde_json::from_slice(&body).unwrap())
    }

    /// Returns whether `next_request` has returned all requests received so far.
    pub fn is_drained(&self) -> bool {
        self.requests.lock().unwrap().len() == self.read_count.load(Ordering::Relaxed)
    }
}
