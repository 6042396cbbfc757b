//! The published Python client in a real application against the real tracker: what people have deployed goes on
//! working.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Client, KEY, Request, Service, Setup, wait_until};
use crate::python::interpreter;

/// `tests/python/raising_app.py`, ended with this value.
struct Application {
    child: Child,
    port: u16,
}

impl Application {
    /// `None` where there is no Python.
    fn start(tracker: &Service) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/raising_app.py");
        let mut command = Command::new(interpreter()?);
        command.arg(script).arg(format!("http://{}", tracker.address)).arg(KEY);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the application prints its port");
        Some(Self { child, port })
    }

    fn raise(&self) {
        let mut client = Client::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap());
        let request =
            Request::new("POST", "/checkout/7").header("X-Request-ID", "r-1").header("Cookie", "session=s3cret");
        client.send(&request.body("")).expect(500);
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The only group of a tracker, once it satisfies the test.
fn group_when(tracker: &Service, satisfied: impl Fn(&Value) -> bool) -> Value {
    let found = wait_until(|| {
        let listed = tracker.get("/api/errors?resolved=all").expect(200).json();
        let group = listed["errors"][0].clone();
        (listed["total"] == 1 && satisfied(&group)).then_some(group)
    });
    found.expect("the client reports what was raised")
}

#[test]
fn exceptions_of_a_fastapi_application_arrive_are_grouped_resolved_and_reopened() {
    let tracker = Setup::error_tracker().start();
    let Some(application) = Application::start(&tracker) else { return };
    application.raise();
    let group = group_when(&tracker, |_| true);
    assert_eq!(
        [&group["project"], &group["exception_type"], &group["message"], &group["environment"]],
        ["shop", "ValueError", "cart 7 is empty", "prod"]
    );
    let location = group["location"].as_str().unwrap();
    assert!(location.contains("raising_app.py:"), "{location}");

    let detail = tracker.get("/api/errors/1").expect(200).json();
    let occurrence = &detail["occurrences"][0];
    let url = occurrence["request_url"].as_str().unwrap();
    assert!(url.ends_with("/checkout/7"), "{url}");
    assert_eq!(occurrence["request_method"], "POST");
    assert_eq!(occurrence["request_headers"]["x-request-id"], "r-1");
    assert_eq!(occurrence["request_headers"]["cookie"], Value::Null, "the client strips secrets");
    assert!(detail["traceback"].as_str().unwrap().contains("raise ValueError"));

    for _ in 0..10 {
        application.raise();
    }
    group_when(&tracker, |group| group["count"] == 11);
    let detail = tracker.get("/api/errors/1").expect(200).json();
    assert_eq!(detail["occurrences"].as_array().unwrap().len(), 5);

    tracker.post("/api/errors/1/resolve", &json!({})).expect(200);
    group_when(&tracker, |group| group["resolved"] == true);
    application.raise();
    let reopened = group_when(&tracker, |group| group["resolved"] == false);
    assert_eq!((&reopened["id"], &reopened["count"]), (&json!(1), &json!(12)));
}
