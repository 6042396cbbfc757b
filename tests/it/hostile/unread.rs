//! Clients that send requests and do not read the responses, or read them slowly.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::harness::{Client, Request, Service, report};

use super::attack::{Attack, attacker_address, discard_input, write_nonblocking};

/// Creates a group with a response of nearly the maximum size: five occurrences with different tracebacks.
pub fn create_large_group(tracker: &Service) {
    for n in 0..6 {
        let mut large = report("a large group");
        // The location is the same, so all reports are in one group. The traceback differs, so it is stored each time.
        let traceback = large["traceback"].as_str().unwrap().to_owned();
        large["traceback"] = json!(format!("{traceback}\n{n}\n{}", "x".repeat(200_000)));
        tracker.post("/api/errors", &large);
    }
    let response_bytes = tracker.get("/api/errors/1").expect(200).body.len();
    assert!(response_bytes > 1_000_000, "{response_bytes}");
}

/// Opens a connection with small socket buffers, so that few unread bytes fit.
pub fn connect_with_small_buffers(service: &Service, attacker: usize) -> Client {
    let client = service.connect_from(attacker_address(attacker)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(client.socket(), 4096).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(client.socket(), 16_384).unwrap();
    client
}

/// Sends requests on several connections, eight per address, without reading the responses. Replaces connections that
/// the server closes.
fn send_without_reading(service: &Service, connections: usize, requests: &[u8], duration: Duration) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..connections).map(|n| connect_with_small_buffers(service, n / 8)).collect();
    let mut sent = vec![0; connections];
    let until = Instant::now() + duration;
    while Instant::now() < until {
        for n in 0..connections {
            if !write_nonblocking(&clients[n], requests, &mut sent[n]) {
                (clients[n], sent[n]) = (connect_with_small_buffers(service, n / 8), 0);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    clients
}

#[test]
fn unread_responses_of_one_client_stay_within_the_memory_limit() {
    let attack = Attack::start();
    create_large_group(&attack.service);
    let request = Request::get("/api/errors/1").bytes();
    attack.assert_survives(|tracker| send_without_reading(tracker, 1, &request, Duration::from_secs(2)));
}

#[test]
fn unread_responses_of_many_clients_stay_within_the_memory_limit() {
    let attack = Attack::start();
    create_large_group(&attack.service);
    let request = Request::get("/api/errors/1").bytes();
    attack.assert_survives(|tracker| send_without_reading(tracker, 256, &request, Duration::from_secs(3)));
}

#[test]
fn unread_error_responses_do_not_accumulate() {
    let requests = b"GET /api/errors HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    Attack::start().assert_survives(|tracker| send_without_reading(tracker, 256, &requests, Duration::from_secs(2)));
}

#[test]
fn slow_readers_stay_within_the_memory_limit() {
    let attack = Attack::start();
    create_large_group(&attack.service);
    let request = Request::get("/api/errors/1").bytes();
    attack.assert_survives(|tracker| {
        let mut clients: Vec<Client> = (0..64).map(|n| connect_with_small_buffers(tracker, n / 8)).collect();
        for client in &mut clients {
            client.write(&request.repeat(20));
        }
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            for client in &clients {
                discard_input(client, 20_000);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        clients
    });
}

#[test]
fn half_closed_unread_connections_use_no_cpu_time() {
    let attack = Attack::start();
    create_large_group(&attack.service);
    let request = Request::get("/api/errors/1").bytes();
    attack.assert_survives(|tracker| {
        let mut clients = [connect_with_small_buffers(tracker, 0), connect_with_small_buffers(tracker, 1)];
        for client in &mut clients {
            client.write(&request.repeat(20));
            client.socket().shutdown(Shutdown::Write).unwrap();
        }
        clients
    });
}
