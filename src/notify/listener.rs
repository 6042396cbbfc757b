//! A server for tests: it answers what it was told, one connection after another.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

/// Calls `serve` for each connection with its number, counted from 0.
pub(super) fn serve(serve: impl Fn(usize, TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            serve(index, stream.unwrap());
        }
    });
    address
}

/// An HTTP server with one answer, such as `200 OK\r\n\r\nbody`, for each connection, the last one for all that follow.
/// What it received comes out of the channel, head and body.
pub(super) fn http(answers: &'static [&'static str]) -> (SocketAddr, Receiver<String>) {
    let (sender, requests) = unbounded();
    let address = serve(move |index, stream| {
        let answer = answers[index.min(answers.len() - 1)];
        let mut reader = BufReader::new(&stream);
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") && reader.read_line(&mut request).unwrap() > 0 {}
        let length =
            request.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        request.push_str(&String::from_utf8(body).unwrap());
        // A test that asks for no request has dropped the receiver.
        let _ = sender.send(request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        write!(&stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    (address, requests)
}

/// A server that begins with `start` and goes on with one byte every 20 ms until nobody listens.
pub(super) fn dripping(start: &'static str) -> SocketAddr {
    serve(move |_, mut stream| {
        thread::spawn(move || {
            let _ = stream.write_all(start.as_bytes());
            while stream.write_all(b"2").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
    })
}
