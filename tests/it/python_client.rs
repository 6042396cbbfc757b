//! The published Python client in a FastAPI application with the error tracker: existing deployments keep working.

use serde_json::{Value, json};

use crate::support::harness::{Request, Service, Setup, wait_until};
use crate::support::python::Application;

fn raise_exception(application: &Application) {
    let request = Request::new("POST", "/checkout/7").header("X-Request-ID", "r-1").header("Cookie", "session=s3cret");
    application.send(&request.body("")).expect(500);
}

/// Waits until the tracker has exactly one group and it satisfies `condition`, and returns the group.
fn wait_for_group(tracker: &Service, condition: impl Fn(&Value) -> bool) -> Value {
    let group = wait_until(|| {
        let list = tracker.get("/api/errors?resolved=all").expect(200).json();
        let group = list["errors"][0].clone();
        (list["total"] == 1 && condition(&group)).then_some(group)
    });
    group.expect("the client reports the exception")
}

#[test]
fn exceptions_of_a_fastapi_application_are_reported_grouped_resolved_and_reopened() {
    let tracker = Setup::error_tracker().start();
    let Some(application) = Application::start("raising_app.py", &tracker) else { return };
    raise_exception(&application);
    let group = wait_for_group(&tracker, |_| true);
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
    assert_eq!(occurrence["request_headers"]["cookie"], Value::Null, "the client sent a secret header");
    assert!(detail["traceback"].as_str().unwrap().contains("raise ValueError"));

    for _ in 0..10 {
        raise_exception(&application);
    }
    wait_for_group(&tracker, |group| group["count"] == 11);
    let detail = tracker.get("/api/errors/1").expect(200).json();
    assert_eq!(detail["occurrences"].as_array().unwrap().len(), 5);

    tracker.post("/api/errors/1/resolve", &json!({})).expect(200);
    wait_for_group(&tracker, |group| group["resolved"] == true);
    raise_exception(&application);
    let reopened = wait_for_group(&tracker, |group| group["resolved"] == false);
    assert_eq!((&reopened["id"], &reopened["count"]), (&json!(1), &json!(12)));
}
