//! Clients that ask and never read the responses.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, Request, Service, report};

use super::siege::{Siege, drain, push, stranger};

/// A group whose page is about as large as a page can be: five occurrences, each with a traceback of its own.
fn large_group(tracker: &Service) {
    for n in 0..6 {
        let mut large = report("a large group");
        // The same location, hence the same group; a text that differs, hence stored each time.
        let traceback = large["traceback"].as_str().unwrap().to_owned();
        large["traceback"] = json!(format!("{traceback}\n{n}\n{}", "x".repeat(200_000)));
        tracker.post("/api/errors", &large);
    }
    let page = tracker.get("/api/errors/1").expect(200).body.len();
    assert!(page > 1_000_000, "{page}");
}

/// A connection whose client has room for hardly anything that is not read.
fn deaf(service: &Service, from: usize) -> Client {
    let client = service.connect_from(stranger(from)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(client.socket(), 4096).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(client.socket(), 16_384).unwrap();
    client
}

/// Asks and asks on so many connections, of eight to an address, and never reads; those that the server closes are
/// replaced.
fn ask_on(service: &Service, connections: usize, requests: &[u8], lasting: Duration) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..connections).map(|n| deaf(service, n / 8)).collect();
    let mut sent = vec![0; connections];
    let until = Instant::now() + lasting;
    while Instant::now() < until {
        for n in 0..connections {
            if !push(&clients[n], requests, &mut sent[n]) {
                (clients[n], sent[n]) = (deaf(service, n / 8), 0);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    clients
}

#[test]
fn a_reader_that_never_reads_holds_one_answer() {
    let siege = Siege::lay();
    large_group(&siege.service);
    let page = Request::get("/api/errors/1").bytes();
    siege.withstands(|tracker| ask_on(tracker, 1, &page, Duration::from_secs(2)));
}

#[test]
fn many_that_never_read_hold_no_more_than_a_few_answers() {
    let siege = Siege::lay();
    large_group(&siege.service);
    let page = Request::get("/api/errors/1").bytes();
    siege.withstands(|tracker| ask_on(tracker, 256, &page, Duration::from_secs(3)));
}

#[test]
fn refusals_that_nobody_reads_pile_up_nowhere() {
    let refused = b"GET /api/errors HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    Siege::lay().withstands(|tracker| ask_on(tracker, 256, &refused, Duration::from_secs(2)));
}

#[test]
fn those_that_read_bit_by_bit_hold_no_more_than_others() {
    let siege = Siege::lay();
    large_group(&siege.service);
    let page = Request::get("/api/errors/1").bytes();
    siege.withstands(|tracker| {
        let mut clients: Vec<Client> = (0..64).map(|n| deaf(tracker, n / 8)).collect();
        for client in &mut clients {
            client.write(&page.repeat(20));
        }
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            for client in &clients {
                drain(client, 20_000);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        clients
    });
}

#[test]
fn half_closed_without_reading_they_cost_no_processor_time() {
    let siege = Siege::lay();
    large_group(&siege.service);
    let page = Request::get("/api/errors/1").bytes();
    siege.withstands(|tracker| {
        let mut clients = [deaf(tracker, 0), deaf(tracker, 1)];
        for client in &mut clients {
            client.write(&page.repeat(20));
            client.socket().shutdown(Shutdown::Write).unwrap();
        }
        clients
    });
}
