//! More connections than a service can hold, opened, kept or thrown away.

use std::time::{Duration, Instant};

use crate::harness::{Client, Request, Setup, report_at, wait_until};

use super::siege::{Siege, crowd, drain, gone, metric, push, stranger};

/// The defaults of `MAX_CONNECTIONS` and `MAX_CONNECTIONS_PER_ADDRESS`.
const CONNECTIONS_MAX: usize = 512;
const PER_ADDRESS_MAX: usize = 64;

#[test]
fn of_2000_idle_connections_only_the_newest_stay() {
    Siege::lay().withstands(|tracker| {
        let mut idle: Vec<Client> = Vec::new();
        for n in 0..2_000 {
            let mut client = tracker.connect_from(stranger(n % 250)).unwrap();
            client.send(&Request::get("/health")).expect(200);
            idle.push(client);
            if n % 100 == 99 {
                // Closed by the server; kept, their descriptors would run out here.
                idle.retain(|client| !gone(client));
                assert!(idle.len() <= CONNECTIONS_MAX, "{}", idle.len());
            }
        }
        assert!(metric(tracker, "monlight_connections") <= CONNECTIONS_MAX as u64);
        assert!(idle.len() > CONNECTIONS_MAX - 100, "few stay: {}", idle.len());
        idle.last_mut().unwrap().send(&Request::get("/health")).expect(200);
        idle
    });
}

#[test]
fn one_address_has_64_connections_and_loses_the_oldest_first() {
    Siege::lay().withstands(|tracker| {
        let neighbour = tracker.connect_from(stranger(1)).unwrap();
        let mut own: Vec<Client> =
            (0..3 * PER_ADDRESS_MAX).map(|_| tracker.connect_from(stranger(0)).unwrap()).collect();
        let lost = wait_until(|| own.iter().filter(|client| gone(client)).count().checked_sub(2 * PER_ADDRESS_MAX));
        assert_eq!(lost, Some(0));
        let kept: Vec<usize> = (0..own.len()).filter(|n| !gone(&own[*n])).collect();
        assert_eq!(kept, (2 * PER_ADDRESS_MAX..3 * PER_ADDRESS_MAX).collect::<Vec<_>>());
        for client in &mut own[2 * PER_ADDRESS_MAX..] {
            client.send(&Request::get("/health")).expect(200);
        }
        assert!(!gone(&neighbour), "another address pays for it");
        (own, neighbour)
    });
}

#[test]
fn connections_that_send_and_reset_leave_nothing_behind() {
    let report = Request::post("/api/errors", &report_at("reset", 2)).bytes();
    let pieces = [
        Vec::new(),
        b"GET /hea".to_vec(),
        Request::get("/health").bytes(),
        Request::get("/api/errors").bytes().repeat(20),
        report[..report.len() - 5].to_vec(),
        report,
        b"nonsense\r\n\r\n".to_vec(),
    ];
    Siege::lay().withstands(|tracker| {
        for n in 0..3_000 {
            let mut client = tracker.connect_from(stranger(n % 20)).unwrap();
            client.write(&pieces[n % pieces.len()]);
            reset(client);
        }
        for mut client in crowd(tracker, 20, 20) {
            client.send(&Request::get("/health")).expect(200);
        }
    });
}

/// Closes with a reset instead of an orderly end.
fn reset(client: Client) {
    rustix::net::sockopt::set_socket_linger(client.socket(), Some(Duration::ZERO)).unwrap();
    drop(client);
}

#[test]
fn without_descriptors_it_goes_on_and_recovers() {
    let setup = Setup::error_tracker().wrapped_by(&["sh", "-c", "ulimit -n 64; exec \"$0\""]);
    Siege::of(setup).withstands(|tracker| {
        // Some have begun to ask, some are silent. The oldest of those that are not being answered goes, so an honest
        // client has as long as 40 others take to come: they come one a millisecond.
        let connections: Vec<Client> = (0..400)
            .map(|n| {
                let mut client = tracker.connect_from(stranger(n % 200)).unwrap();
                client.write([&b""[..], b"GET /hea", b"POST /api/errors HTTP/1.1\r\n"][n % 3]);
                std::thread::sleep(Duration::from_millis(1));
                client
            })
            .collect();
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", tracker.pid())).unwrap().count();
        assert!(descriptors >= 60, "only {descriptors} are open");
        connections
    });
}

#[test]
fn a_burst_of_kept_connections_is_answered_in_full() {
    const BURST: usize = 200;
    let rounds = [
        Request::get("/health"),
        Request::post("/api/errors", &report_at("burst", 1)),
        Request::get("/api/errors?limit=1"),
        Request::post("/api/errors", &report_at("burst", 1)),
        Request::get("/api/projects"),
    ];
    Siege::lay().withstands(|tracker| {
        let mut clients = crowd(tracker, BURST, 4);
        for round in &rounds {
            for client in &mut clients {
                client.write(&round.bytes());
            }
            for client in &mut clients {
                let status = client.read_response().status;
                assert!(matches!(status, 200 | 201), "{status}");
            }
        }
        let found = tracker.get("/api/errors?search=burst").expect(200).json();
        assert_eq!(found["errors"][0]["count"], 2 * BURST);
        clients
    });
}

#[test]
fn a_flood_of_requests_without_a_key_keeps_nobody_waiting() {
    // Refused by the door itself, and so small that thousands arrive at once.
    let begging = b"GET /api/errors HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_500);
    Siege::lay().withstands(|tracker| {
        let clients = crowd(tracker, 256, 32);
        flood(&clients, &begging, Duration::from_secs(2));
    });
}

/// Keeps the connections full of requests and reads whatever comes back.
fn flood(clients: &[Client], requests: &[u8], lasting: Duration) {
    let until = Instant::now() + lasting;
    let mut sent = vec![0; clients.len()];
    while Instant::now() < until {
        for (client, sent) in clients.iter().zip(&mut sent) {
            assert!(push(client, requests, sent), "a request like any other ended its connection");
            drain(client, usize::MAX);
        }
    }
}

#[test]
fn a_flood_of_health_checks_keeps_nobody_waiting() {
    let asking = Request::get("/health").without_header("X-API-Key").bytes().repeat(100);
    Siege::lay().withstands(|tracker| {
        let clients = crowd(tracker, 256, 32);
        flood(&clients, &asking, Duration::from_secs(2));
    });
}
