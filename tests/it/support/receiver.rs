//! HTTP receiver for requests that a service sends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::harness::wait_until;

/// Reads one request, responds with `status` and an empty body, and returns the head and the body of the request.
pub fn receive_request(socket: TcpStream, status: &str) -> (String, Vec<u8>) {
    let mut socket = BufReader::new(socket);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let line_start = head.len();
        socket.read_line(&mut head).unwrap();
        if let Some(value) = head[line_start..].to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).unwrap();
    write!(socket.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    (head, body)
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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::default());
        let recorded: Arc<Mutex<Requests>> = Arc::clone(&requests);
        std::thread::spawn(move || {
            for (number, socket) in listener.incoming().map_while(Result::ok).enumerate() {
                let status = statuses.get(number).copied().unwrap_or("204 No Content");
                let (head, mut body) = receive_request(socket, status);
                if head.to_lowercase().contains("\r\ncontent-encoding: gzip\r\n") {
                    let compressed = std::mem::take(&mut body);
                    flate2::read::GzDecoder::new(compressed.as_slice()).read_to_end(&mut body).unwrap();
                }
                recorded.lock().unwrap().push((head, body));
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
