//! The other side of what a service sends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// Takes one request and answers it with a status and nothing else: its head and its body.
pub fn answer(socket: TcpStream, status: &str) -> (String, Vec<u8>) {
    let mut socket = BufReader::new(socket);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        socket.read_line(&mut head).unwrap();
        if let Some(text) = head[from..].to_lowercase().strip_prefix("content-length: ") {
            length = text.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).unwrap();
    write!(socket.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    (head, body)
}
