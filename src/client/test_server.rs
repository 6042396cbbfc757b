//! Servers for unit tests, on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

/// Calls `handle` for each connection with its number, counted from 0.
pub(crate) fn serve(handle: impl Fn(usize, TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            handle(index, stream.unwrap());
        }
    });
    address
}

/// Starts an HTTP server that sends one of `responses`, such as `200 OK\r\n\r\nbody`, on each connection, and the last
/// one on all further connections. The channel receives each request, head and body.
pub(crate) fn http(responses: &'static [&'static str]) -> (SocketAddr, Receiver<String>) {
    let (sender, requests) = unbounded();
    let address = serve(move |index, stream| {
        let response = responses[index.min(responses.len() - 1)];
        let request = read_request(&stream);
        // A test that needs no requests has dropped the receiver.
        let _ = sender.send(request);
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        write!(&stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    (address, requests)
}

/// Reads the head of a request and as much of a body as `Content-Length` announces.
pub(crate) fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") && reader.read_line(&mut request).unwrap() > 0 {}
    let length =
        request.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    request.push_str(&String::from_utf8(body).unwrap());
    request
}

/// Starts a server that sends `start` and then one byte every 20 ms until the client disconnects.
pub(crate) fn dripping(start: &'static str) -> SocketAddr {
    serve(move |_, mut stream| {
        thread::spawn(move || {
            let _ = stream.write_all(start.as_bytes());
            while stream.write_all(b"2").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
    })
}
