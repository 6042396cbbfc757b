//! Floods: more connections than a service accepts, idle, reset or full of requests.

use std::time::{Duration, Instant};

use crate::support::harness::{Client, Request, Setup, report_at, wait_until};

use super::attack::{
    Attack, attacker_address, connect_many, discard_input, is_closed, metric_value, write_nonblocking,
};

/// The defaults of `MAX_CONNECTIONS` and `MAX_CONNECTIONS_PER_ADDRESS`.
const CONNECTIONS_MAX: usize = 512;
const PER_ADDRESS_MAX: usize = 64;

#[test]
fn oldest_idle_connections_are_closed_above_the_limit() {
    Attack::start().assert_survives(|tracker| {
        let mut idle: Vec<Client> = Vec::new();
        for n in 0..2_000 {
            let mut client = tracker.connect_from(attacker_address(n % 250)).unwrap();
            client.send(&Request::get("/health")).expect(200);
            idle.push(client);
            if n % 100 == 99 {
                // Drops connections that the server has closed, or this process would run out of descriptors.
                idle.retain(|client| !is_closed(client));
                assert!(idle.len() <= CONNECTIONS_MAX, "{}", idle.len());
            }
        }
        assert!(metric_value(tracker, "monlight_connections") <= CONNECTIONS_MAX as u64);
        assert!(idle.len() > CONNECTIONS_MAX - 100, "only {} connections are open", idle.len());
        idle.last_mut().unwrap().send(&Request::get("/health")).expect(200);
        idle
    });
}

#[test]
fn oldest_connections_of_an_address_are_closed_above_its_limit() {
    Attack::start().assert_survives(|tracker| {
        let neighbor = tracker.connect_from(attacker_address(1)).unwrap();
        let mut own: Vec<Client> =
            (0..3 * PER_ADDRESS_MAX).map(|_| tracker.connect_from(attacker_address(0)).unwrap()).collect();
        let excess =
            wait_until(|| own.iter().filter(|client| is_closed(client)).count().checked_sub(2 * PER_ADDRESS_MAX));
        assert_eq!(excess, Some(0));
        let kept: Vec<usize> = (0..own.len()).filter(|n| !is_closed(&own[*n])).collect();
        assert_eq!(kept, (2 * PER_ADDRESS_MAX..3 * PER_ADDRESS_MAX).collect::<Vec<_>>());
        for client in &mut own[2 * PER_ADDRESS_MAX..] {
            client.send(&Request::get("/health")).expect(200);
        }
        assert!(!is_closed(&neighbor), "a connection of another address was closed");
        (own, neighbor)
    });
}

#[test]
fn reset_connections_release_all_resources() {
    let report = Request::post("/api/errors", &report_at("reset", 2)).bytes();
    let payloads = [
        Vec::new(),
        b"GET /hea".to_vec(),
        Request::get("/health").bytes(),
        Request::get("/api/errors").bytes().repeat(20),
        report[..report.len() - 5].to_vec(),
        report,
        b"nonsense\r\n\r\n".to_vec(),
    ];
    Attack::start().assert_survives(|tracker| {
        for n in 0..3_000 {
            let mut client = tracker.connect_from(attacker_address(n % 20)).unwrap();
            client.write(&payloads[n % payloads.len()]);
            reset(client);
        }
        for mut client in connect_many(tracker, 20, 20) {
            client.send(&Request::get("/health")).expect(200);
        }
    });
}

/// Closes a connection with a reset (RST) instead of a FIN.
fn reset(client: Client) {
    rustix::net::sockopt::set_socket_linger(client.socket(), Some(Duration::ZERO)).unwrap();
    drop(client);
}

#[test]
fn service_survives_and_recovers_from_descriptor_exhaustion() {
    let setup = Setup::error_tracker().wrapped_by(&["sh", "-c", "ulimit -n 64; exec \"$0\""]);
    Attack::start_with(setup).assert_survives(|tracker| {
        // Some connections have sent part of a request, some nothing. The service closes the oldest one without a
        // request in progress. New ones arrive every millisecond, so the honest client has the time of about 40
        // connections.
        let connections: Vec<Client> = (0..400)
            .map(|n| {
                let mut client = tracker.connect_from(attacker_address(n % 200)).unwrap();
                client.write([&b""[..], b"GET /hea", b"POST /api/errors HTTP/1.1\r\n"][n % 3]);
                std::thread::sleep(Duration::from_millis(1));
                client
            })
            .collect();
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", tracker.pid())).unwrap().count();
        assert!(descriptors >= 60, "only {descriptors} descriptors are open");
        connections
    });
}

#[test]
fn burst_on_keep_alive_connections_is_answered_completely() {
    const BURST: usize = 200;
    let rounds = [
        Request::get("/health"),
        Request::post("/api/errors", &report_at("burst", 1)),
        Request::get("/api/errors?limit=1"),
        Request::post("/api/errors", &report_at("burst", 1)),
        Request::get("/api/projects"),
    ];
    Attack::start().assert_survives(|tracker| {
        let mut clients = connect_many(tracker, BURST, 4);
        for round in &rounds {
            for client in &mut clients {
                client.write(&round.bytes());
            }
            for client in &mut clients {
                let status = client.read_response().status;
                assert!(matches!(status, 200 | 201), "{status}");
            }
        }
        let list = tracker.get("/api/errors?search=burst").expect(200).json();
        assert_eq!(list["errors"][0]["count"], 2 * BURST);
        clients
    });
}

#[test]
fn flood_of_unauthorized_requests_does_not_delay_others() {
    // The event loop rejects these requests itself. They are so small that thousands arrive at once.
    let requests = b"GET /api/errors HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_500);
    Attack::start().assert_survives(|tracker| {
        let clients = connect_many(tracker, 256, 32);
        flood(&clients, &requests, Duration::from_secs(2));
    });
}

/// Keeps the connections full of requests and discards the responses.
fn flood(clients: &[Client], requests: &[u8], duration: Duration) {
    let until = Instant::now() + duration;
    let mut sent = vec![0; clients.len()];
    while Instant::now() < until {
        for (client, sent) in clients.iter().zip(&mut sent) {
            assert!(write_nonblocking(client, requests, sent), "the server closed a connection after a valid request");
            discard_input(client, usize::MAX);
        }
    }
}

#[test]
fn flood_of_health_checks_does_not_delay_others() {
    let requests = Request::get("/health").without_header("X-API-Key").bytes().repeat(100);
    Attack::start().assert_survives(|tracker| {
        let clients = connect_many(tracker, 256, 32);
        flood(&clients, &requests, Duration::from_secs(2));
    });
}
