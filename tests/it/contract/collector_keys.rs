//! The collector's routes and the keys that may use them.

use serde_json::{Value, json};

use super::{Case, assert_cases};
use crate::harness::{API_KEY, Request, Setup};

const API_KEYS: &str = "app:ingest:app-key, eye:read:eye-key, ops:admin:ops-key, shop:ingest@shop:shop:key";

fn batch(projects: &[Value]) -> Request {
    let point = |project: &Value| json!({ "name": "n", "type": "counter", "value": 1, "project": project });
    Request::post("/api/metrics", &projects.iter().map(point).collect())
}

#[test]
fn every_route_of_the_collector_declares_its_scope() {
    let service = Setup::metrics_collector().env("API_KEYS", API_KEYS).start();
    let routes = [
        ("points of shop", batch(&[json!("shop"), json!("shop")])),
        ("points of shop and blog", batch(&[json!("shop"), json!("blog")])),
        ("buckets", Request::get("/api/metrics?name=n")),
        ("names", Request::get("/api/metrics/names")),
        ("labels", Request::get("/api/metrics/labels?name=n")),
        ("projects", Request::get("/api/projects")),
        ("dashboard", Request::get("/api/dashboard")),
        ("federate", Request::get("/federate")),
        ("metrics", Request::get("/metrics")),
        ("nothing", Request::get("/api/nothing")),
        ("health", Request::get("/health")),
    ];
    for (key, expected) in [
        (API_KEY, [202, 202, 200, 200, 200, 200, 200, 200, 200, 404, 200]),
        ("app-key", [202, 202, 403, 403, 403, 403, 403, 403, 403, 404, 200]),
        ("eye-key", [403, 403, 200, 200, 200, 200, 200, 200, 200, 404, 200]),
        ("ops-key", [403, 403, 200, 200, 200, 200, 200, 200, 200, 404, 200]),
        ("shop:key", [202, 403, 403, 403, 403, 403, 403, 403, 403, 404, 200]),
        ("no-key", [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200]),
        ("", [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200]),
    ] {
        for ((what, request), status) in routes.iter().zip(expected) {
            let response = service.send(&request.clone().header("X-API-Key", key));
            assert_eq!(response.status, status, "{what} with {key:?}: {}", response.text());
            let bearer = request.clone().without_header("X-API-Key").header("Authorization", &format!("Bearer {key}"));
            assert_eq!(service.send(&bearer).status, status, "{what} with {key:?} as a bearer");
        }
    }
}

#[test]
fn a_key_of_a_project_reports_all_of_a_batch_for_it_or_nothing() {
    let service = Setup::metrics_collector().env("API_KEYS", API_KEYS).start();
    let with = |projects: &[Value]| batch(projects).header("X-API-Key", "shop:key");
    let only = json!("This key may report for project 'shop' only");
    let cases: [Case; 5] = [
        ("another among its own", with(&[json!("shop"), json!("blog")]), 403, only.clone()),
        ("none among its own", with(&[json!("shop"), Value::Null]), 403, only.clone()),
        ("an empty one", with(&[json!("")]), 403, only.clone()),
        ("in other letters", with(&[json!("Shop")]), 403, only),
        ("its own", with(&[json!("shop"), json!("shop")]), 202, json!({ "count": 2 })),
    ];
    assert_cases(&service, cases);
    let body = service.get("/api/dashboard").expect(200).json();
    assert_eq!(body["summary"]["total_datapoints"], 2);
}
