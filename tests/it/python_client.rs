//! The published Python client in a real application against the real tracker: what people have deployed goes on
//! working.

use serde_json::{Value, json};

use crate::harness::{Request, Service, Setup, wait_until};
use crate::python::Application;

fn raise(application: &Application) {
    let request = Request::new("POST", "/checkout/7").header("X-Request-ID", "r-1").header("Cookie", "session=s3cret");
    application.send(&request.body("")).expect(500);
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
    let Some(application) = Application::start("raising_app.py", &tracker) else { return };
    raise(&application);
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
        raise(&application);
    }
    group_when(&tracker, |group| group["count"] == 11);
    let detail = tracker.get("/api/errors/1").expect(200).json();
    assert_eq!(detail["occurrences"].as_array().unwrap().len(), 5);

    tracker.post("/api/errors/1/resolve", &json!({})).expect(200);
    group_when(&tracker, |group| group["resolved"] == true);
    raise(&application);
    let reopened = group_when(&tracker, |group| group["resolved"] == false);
    assert_eq!((&reopened["id"], &reopened["count"]), (&json!(1), &json!(12)));
}
