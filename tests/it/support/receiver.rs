//! Minimal HTTP receiver for requests that a service sends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

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
