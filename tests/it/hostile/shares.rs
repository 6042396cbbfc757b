//! Clients that take more than their share: of the kernel's memory, by not reading, and of time, by reading slowly.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::harness::{Client, Request, Service, Setup, TEST_TIMEOUT, free_port, send_signal, wait_until};

use super::attack::{Attack, attacker_address, discard_input, write_nonblocking};
use super::unread::{connect_with_small_buffers, create_large_group};

/// Maximum kernel memory of a connection for data that the client has not read.
const SEND_BYTES_MAX: u64 = 96 * 1024;

/// Returns the bytes in the send queues of a service's connections, open and closed, and the number of these connections.
fn send_queues(service: &Service) -> (u64, u64) {
    let port = format!(":{:04X}", service.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Local address, remote address, state, and the queues (proc(5)).
    rows.filter(|row| row[1].ends_with(&port)).fold((0, 0), |(bytes, connections), row| {
        (bytes + u64::from_str_radix(&row[4][..8], 16).unwrap(), connections + 1)
    })
}

#[test]
fn silent_readers_of_many_connections_pin_little_kernel_memory() {
    let attack = Attack::start();
    let requests = Request::get("/openapi.json").without_header("X-API-Key").bytes().repeat(50);
    attack.assert_survives(|tracker| {
        // As many as the service accepts, from nine addresses.
        let clients: Vec<Client> = (0..500).map(|n| tracker.connect_from(attacker_address(n / 56)).unwrap()).collect();
        let mut sent = vec![0; clients.len()];
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            for (client, sent) in clients.iter().zip(&mut sent) {
                write_nonblocking(client, &requests, sent);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let (bytes, connections) = send_queues(tracker);
        assert!(bytes <= connections * SEND_BYTES_MAX, "{bytes} bytes of {connections} connections");
        assert!(bytes <= 48 * 1024 * 1024, "{bytes} bytes");
        clients
    });
}

#[test]
fn readers_of_one_byte_per_second_do_not_delay_lists() {
    let attack = Attack::start_with(Setup::error_tracker().env("API_KEYS", "eye:read:eye-key"));
    create_large_group(&attack.service);
    let request = Request::get("/api/errors/1").header("X-API-Key", "eye-key").bytes();
    attack.assert_survives(|tracker| {
        let mut readers: Vec<Client> = (0..60).map(|n| connect_with_small_buffers(tracker, n)).collect();
        for reader in &mut readers {
            reader.write(&request);
        }
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            for reader in &readers {
                discard_input(reader, 1);
            }
            let started = Instant::now();
            tracker.get("/api/errors").expect(200);
            assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
            std::thread::sleep(Duration::from_millis(200));
        }
        readers
    });
}

#[test]
fn unread_log_blocks_nothing_and_is_reported() {
    // A pipe that is open for reading, but that nobody reads.
    let shell = r#"mkfifo log; exec 3<>log; exec "$0" 2>log"#;
    let setup = Setup::error_tracker().env("LOG_LEVEL", "debug").wrapped_by(&["sh", "-c", shell]);
    let service = setup.start_on_port(free_port());
    let mut client = service.connect();
    let request = Request::get("/health").without_header("X-API-Key");
    let deadline = Instant::now() + TEST_TIMEOUT;
    let warnings = loop {
        let health = client.send(&request).expect(200).json();
        if health["warnings"].is_array() {
            break health["warnings"].clone();
        }
        assert!(Instant::now() < deadline, "nothing was dropped");
    };
    assert_eq!(warnings[0]["code"], "log_lines_dropped");
    let dropped = super::attack::metric_value(&service, "monlight_log_lines_dropped_total");
    assert!(dropped >= 1);
    let mut with_key = service.get("/health").expect(200).json();
    assert!(with_key["warnings"][0]["message"].take().as_str().unwrap().contains("stderr"), "{with_key}");
    let (status, took) = service.stop();
    assert!(status.code() == Some(0) && took < Duration::from_secs(2), "{status} after {took:?}");
}

#[test]
fn write_beyond_the_maximum_file_size_is_rejected() {
    // In blocks of 512 bytes.
    let setup = Setup::error_tracker().wrapped_by(&["sh", "-c", r#"ulimit -f 1500; exec "$0""#]);
    let service = setup.start();
    let mut n = 0;
    let rejected = wait_until(|| {
        n += 1;
        let report = json!({ "project": "shop", "exception_type": format!("E{n}"), "message": "x".repeat(20_000), "traceback": "" });
        let response = service.post("/api/errors", &report);
        (response.status != 201).then_some(response)
    });
    rejected.unwrap().expect(503).has_detail("nothing was stored");
    service.get("/api/errors").expect(200);
    assert_eq!(service.stop().0.code(), Some(0));
}

#[test]
fn other_signals_end_nothing_or_end_it_in_order() {
    // The tests themselves may run under nohup.
    let service = Setup::error_tracker().wrapped_by(&["env", "--default-signal=HUP"]).start();
    for signal in ["USR1", "USR2"] {
        send_signal(service.pid(), signal);
        service.get("/health").expect(200);
    }
    send_signal(service.pid(), "HUP");
    assert!(service.wait_for_log("stopping on signal 1").is_some());
    assert!(service.wait_for_log("stopped").is_some());
    assert_eq!(service.stop_status().code(), Some(0));
    let service = Setup::error_tracker().wrapped_by(&["sh", "-c", r#"trap "" HUP; exec "$0""#]).start();
    send_signal(service.pid(), "HUP");
    service.get("/health").expect(200);
}
