//! Test helper that compares a service's OpenAPI document with its route table.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::Asset;
use crate::http::{Access, BodyLimit, Route, RouteSpec, Scope};

/// Asserts that the document describes exactly these routes, without the files of the web UI, each with its security and
/// body; that every reference resolves; and that every operation has an id, a summary, a schema for each response, and the
/// error statuses that its kind of route can return.
#[track_caller]
pub(crate) fn assert_openapi_matches<S>(openapi: &Asset, ui: &[Asset], routes: &[Route<S>]) {
    let mut text = String::new();
    GzDecoder::new(openapi.gzip).read_to_string(&mut text).unwrap();
    let document = Document(serde_json::from_str(&text).unwrap());
    assert_eq!(document.0["info"]["version"], env!("CARGO_PKG_VERSION"));

    let specs: Vec<&RouteSpec> = routes.iter().map(|route| &route.spec).collect();
    let specs: Vec<&RouteSpec> =
        specs.into_iter().filter(|spec| ui.iter().all(|asset| asset.path != spec.path)).collect();
    let expected: BTreeSet<String> = specs.iter().map(|spec| format!("{} {}", spec.method, spec.path)).collect();
    assert_eq!(document.operations(), expected, "documented operations (left) and routes (right)");

    let mut errors = document.dangling_references(&document.0);
    let sessions = specs.iter().any(|spec| spec.path == "/api/session");
    let mut names = BTreeSet::new();
    for spec in specs {
        let operation = &document.0["paths"][spec.path][spec.method.to_string().to_lowercase()];
        let mut found = document.errors(spec, operation, sessions);
        if !names.insert(operation["operationId"].as_str()) {
            found.push("its operationId is not unique".to_owned());
        }
        errors.extend(found.into_iter().map(|error| format!("{} {}: {error}", spec.method, spec.path)));
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

struct Document(Value);

impl Document {
    fn operations(&self) -> BTreeSet<String> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let of_path = |(path, item): (&String, &Value)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
        };
        paths.flat_map(of_path).collect()
    }

    /// Resolves a reference; returns any other value unchanged.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null),
            None => value,
        }
    }

    /// Returns the references below a value that do not resolve.
    fn dangling_references(&self, value: &Value) -> Vec<String> {
        match value {
            Value::Array(items) => items.iter().flat_map(|item| self.dangling_references(item)).collect(),
            Value::Object(members) => {
                let own = members.get("$ref").filter(|_| self.resolve(value).is_null());
                let below = members.values().flat_map(|member| self.dangling_references(member));
                own.map(|reference| format!("{reference} does not resolve")).into_iter().chain(below).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the names of the accepted security schemes.
    fn security(&self, operation: &Value) -> BTreeSet<String> {
        let schemes = operation.get("security").unwrap_or(&self.0["security"]).as_array().unwrap();
        schemes.iter().flat_map(|scheme| scheme.as_object().unwrap().keys().cloned()).collect()
    }

    fn errors(&self, spec: &RouteSpec, operation: &Value, sessions: bool) -> Vec<String> {
        let mut errors = Vec::new();
        let mut check = |is_met: bool, error: String| {
            if !is_met {
                errors.push(error);
            }
        };
        for name in ["operationId", "summary"] {
            check(operation[name].as_str().is_some_and(|text| !text.is_empty()), format!("it has no {name}"));
        }
        let (schemes, scope) = (security(spec.access, sessions), scope(spec.access));
        check(self.security(operation) == schemes, format!("its security should be {schemes:?}"));
        check(operation["x-scope"].as_str() == scope, format!("its x-scope should be {scope:?}"));
        let has_body = spec.body_limit != BodyLimit::NoBody;
        check(operation.get("requestBody").is_some() == has_body, format!("it should have a requestBody: {has_body}"));

        let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
        let parameters: Vec<&Value> = parameters.into_iter().map(|parameter| self.resolve(parameter)).collect();
        let is_described =
            |parameter: &&&Value| parameter["schema"].is_object() && parameter["description"].is_string();
        check(
            parameters.iter().filter(is_described).count() == parameters.len(),
            "a parameter is not described".into(),
        );
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path" && parameter["required"] == true);
        let in_path: BTreeSet<&str> = in_path.filter_map(|parameter| parameter["name"].as_str()).collect();
        let segments = spec.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let segments: BTreeSet<&str> = segments.collect();
        check(in_path == segments, format!("its path parameters should be {segments:?}"));

        let responses = operation["responses"].as_object().unwrap();
        for (status, is_expected) in error_statuses(spec, !segments.is_empty()) {
            check(responses.contains_key(status) == is_expected, format!("it should document {status}: {is_expected}"));
        }
        for (status, response) in responses {
            let response = self.resolve(response);
            let schemas = response["content"].as_object().into_iter().flatten().map(|(_, media)| &media["schema"]);
            let schemas: Vec<&Value> = schemas.collect();
            let is_error = status.starts_with(['4', '5']) && spec.path != "/health";
            let is_valid = match status.as_str() {
                "304" => schemas.is_empty(),
                _ if is_error => schemas.iter().all(|schema| schema["$ref"] == "#/components/schemas/Error"),
                _ => schemas.iter().all(|schema| schema.as_object().is_some_and(|schema| !schema.is_empty())),
            };
            check(is_valid && (status == "304" || !schemas.is_empty()), format!("{status} has a wrong schema"));
            check(response["description"].is_string(), format!("{status} has no description"));
        }
        check(responses.keys().any(|status| status.starts_with('2')), "it documents no success".into());
        errors
    }
}

fn security(access: Access, sessions: bool) -> BTreeSet<String> {
    let schemes: &[&str] = match access {
        Access::Open | Access::OptionalKey => &[],
        Access::Key(_) => &["key", "bearer"],
        Access::KeyInQuery(_) => &["key", "bearer", "keyInUrl"],
        Access::PublicKey => &["publicKey", "publicKeyInUrl"],
    };
    let session = (sessions && scope(access).is_some()).then_some("session");
    schemes.iter().copied().chain(session).map(str::to_owned).collect()
}

fn scope(access: Access) -> Option<&'static str> {
    match access {
        Access::Open | Access::OptionalKey | Access::PublicKey => None,
        Access::Key(scope) | Access::KeyInQuery(scope) => Some(match scope {
            Scope::Ingest => "ingest",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }),
    }
}

/// Returns error statuses, each with whether the document of a route must contain it.
fn error_statuses(spec: &RouteSpec, has_id: bool) -> Vec<(&'static str, bool)> {
    let (needs_key, has_body) =
        (!matches!(spec.access, Access::Open | Access::OptionalKey), spec.body_limit != BodyLimit::NoBody);
    let mut statuses = vec![
        ("401", needs_key),
        ("403", needs_key),
        ("408", has_body),
        ("413", has_body),
        ("415", has_body),
        ("429", needs_key),
    ];
    // Belongs to methods that are not documented.
    statuses.push(("405", false));
    // Other routes may document these as well.
    statuses.extend(has_id.then_some(("404", true)));
    statuses.extend(needs_key.then_some(("503", true)));
    statuses
}
