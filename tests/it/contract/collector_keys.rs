//! Access control of the metrics collector: scopes per route, and keys restricted to a project.

use serde_json::{Value, json};

use super::{Case, assert_cases};
use crate::support::harness::{API_KEY, Request, Setup};

const API_KEYS: &str = "app:ingest:app-key, eye:read:eye-key, ops:admin:ops-key, shop:ingest@shop:shop:key";

fn batch(projects: &[Value]) -> Request {
    let point = |project: &Value| json!({ "name": "n", "type": "counter", "value": 1, "project": project });
    Request::post("/api/metrics", &projects.iter().map(point).collect())
}

#[test]
fn collector_routes_require_their_scopes() {
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
        ("unknown path", Request::get("/api/nothing")),
        ("health", Request::get("/health")),
    ];
    for (key, statuses) in [
        (API_KEY, [202, 202, 200, 200, 200, 200, 200, 200, 200, 404, 200]),
        ("app-key", [202, 202, 403, 403, 403, 403, 403, 403, 403, 404, 200]),
        ("eye-key", [403, 403, 200, 200, 200, 200, 200, 200, 200, 404, 200]),
        ("ops-key", [403, 403, 200, 200, 200, 200, 200, 200, 200, 404, 200]),
        ("shop:key", [202, 403, 403, 403, 403, 403, 403, 403, 403, 404, 200]),
        ("no-key", [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200]),
        ("", [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200]),
    ] {
        for ((route, request), status) in routes.iter().zip(statuses) {
            let response = service.send(&request.clone().header("X-API-Key", key));
            assert_eq!(response.status, status, "{route} with {key:?}: {}", response.text());
            let bearer = request.clone().without_header("X-API-Key").header("Authorization", &format!("Bearer {key}"));
            assert_eq!(service.send(&bearer).status, status, "{route} with {key:?} as a bearer token");
        }
    }
}

#[test]
fn project_key_accepts_a_batch_only_if_all_points_match() {
    let service = Setup::metrics_collector().env("API_KEYS", API_KEYS).start();
    let batch_with_key = |projects: &[Value]| batch(projects).header("X-API-Key", "shop:key");
    let wrong_project = json!("This key may only send data for project 'shop'");
    let cases: [Case; 5] = [
        ("one point of another project", batch_with_key(&[json!("shop"), json!("blog")]), 403, wrong_project.clone()),
        ("one point without a project", batch_with_key(&[json!("shop"), Value::Null]), 403, wrong_project.clone()),
        ("empty project", batch_with_key(&[json!("")]), 403, wrong_project.clone()),
        ("different case", batch_with_key(&[json!("Shop")]), 403, wrong_project),
        ("its own project", batch_with_key(&[json!("shop"), json!("shop")]), 202, json!({ "count": 2 })),
    ];
    assert_cases(&service, cases);
    let body = service.get("/api/dashboard").expect(200).json();
    assert_eq!(body["summary"]["total_datapoints"], 2);
}
