//! Holds what a service says of itself in OpenAPI against the routes it has.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::Asset;
use crate::http::{Access, BodyLimit, Route, RouteSpec, Scope};

/// That the document describes these routes but for the files of an interface, each with who may and what it takes, and
/// no other; that every reference leads somewhere; and that every operation has a name, a summary, a schema for what it
/// answers, and the refusals that its kind can have.
#[track_caller]
pub(crate) fn hold<S>(file: &Asset, interface: &[Asset], routes: &[Route<S>]) {
    let mut text = String::new();
    GzDecoder::new(file.gzip).read_to_string(&mut text).unwrap();
    let document = Document(serde_json::from_str(&text).unwrap());
    assert_eq!(document.0["info"]["version"], env!("CARGO_PKG_VERSION"));

    let specs: Vec<&RouteSpec> = routes.iter().map(|route| &route.spec).collect();
    let specs: Vec<&RouteSpec> =
        specs.into_iter().filter(|spec| interface.iter().all(|file| file.path != spec.path)).collect();
    let there: BTreeSet<String> = specs.iter().map(|spec| format!("{} {}", spec.method, spec.path)).collect();
    assert_eq!(document.operations(), there, "what is described (left) and what is there (right)");

    let mut faults = document.dangling(&document.0);
    let sessions = specs.iter().any(|spec| spec.path == "/api/session");
    let mut names = BTreeSet::new();
    for spec in specs {
        let operation = &document.0["paths"][spec.path][spec.method.to_string().to_lowercase()];
        let mut found = document.faults(spec, operation, sessions);
        if !names.insert(operation["operationId"].as_str()) {
            found.push("its operationId is another's".to_owned());
        }
        faults.extend(found.into_iter().map(|fault| format!("{} {}: {fault}", spec.method, spec.path)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
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

    /// Where a reference leads; what is none leads to itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null),
            None => value,
        }
    }

    /// The references below a value that lead nowhere.
    fn dangling(&self, value: &Value) -> Vec<String> {
        match value {
            Value::Array(items) => items.iter().flat_map(|item| self.dangling(item)).collect(),
            Value::Object(members) => {
                let own = members.get("$ref").filter(|_| self.resolve(value).is_null());
                let below = members.values().flat_map(|member| self.dangling(member));
                own.map(|reference| format!("{reference} leads nowhere")).into_iter().chain(below).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The ways to say who one is, any of which is enough.
    fn security(&self, operation: &Value) -> BTreeSet<String> {
        let ways = operation.get("security").unwrap_or(&self.0["security"]).as_array().unwrap();
        ways.iter().flat_map(|way| way.as_object().unwrap().keys().cloned()).collect()
    }

    fn faults(&self, spec: &RouteSpec, operation: &Value, sessions: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let mut ask = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        for name in ["operationId", "summary"] {
            ask(operation[name].as_str().is_some_and(|text| !text.is_empty()), format!("it has no {name}"));
        }
        let (ways, scope) = (security(spec.access, sessions), scope(spec.access));
        ask(self.security(operation) == ways, format!("its security should be {ways:?}"));
        ask(operation["x-scope"].as_str() == scope, format!("its x-scope should be {scope:?}"));
        let takes = spec.body_limit != BodyLimit::NoBody;
        ask(operation.get("requestBody").is_some() == takes, format!("it should have a requestBody: {takes}"));

        let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
        let parameters: Vec<&Value> = parameters.into_iter().map(|parameter| self.resolve(parameter)).collect();
        let described = |parameter: &&&Value| parameter["schema"].is_object() && parameter["description"].is_string();
        ask(parameters.iter().filter(described).count() == parameters.len(), "a parameter is not described".into());
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path" && parameter["required"] == true);
        let in_path: BTreeSet<&str> = in_path.filter_map(|parameter| parameter["name"].as_str()).collect();
        let braced = spec.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let braced: BTreeSet<&str> = braced.collect();
        ask(in_path == braced, format!("its path's parameters should be {braced:?}"));

        let responses = operation["responses"].as_object().unwrap();
        for (status, told) in refusals(spec, !braced.is_empty()) {
            ask(responses.contains_key(status) == told, format!("it should tell of {status}: {told}"));
        }
        for (status, response) in responses {
            let response = self.resolve(response);
            let schemas = response["content"].as_object().into_iter().flatten().map(|(_, media)| &media["schema"]);
            let schemas: Vec<&Value> = schemas.collect();
            let refuses = status.starts_with(['4', '5']) && spec.path != "/health";
            let fits = match status.as_str() {
                "304" => schemas.is_empty(),
                _ if refuses => schemas.iter().all(|schema| schema["$ref"] == "#/components/schemas/Error"),
                _ => schemas.iter().all(|schema| schema.as_object().is_some_and(|schema| !schema.is_empty())),
            };
            ask(fits && (status == "304" || !schemas.is_empty()), format!("{status} has not the schema it should"));
            ask(response["description"].is_string(), format!("{status} has no description"));
        }
        ask(responses.keys().any(|status| status.starts_with('2')), "it never succeeds".into());
        faults
    }
}

fn security(access: Access, sessions: bool) -> BTreeSet<String> {
    let ways: &[&str] = match access {
        Access::Open => &[],
        Access::Key(_) => &["key", "bearer"],
        Access::KeyInQuery(_) => &["key", "bearer", "keyInUrl"],
        Access::PublicKey => &["publicKey", "publicKeyInUrl"],
    };
    let session = (sessions && scope(access).is_some()).then_some("session");
    ways.iter().copied().chain(session).map(str::to_owned).collect()
}

fn scope(access: Access) -> Option<&'static str> {
    match access {
        Access::Open | Access::PublicKey => None,
        Access::Key(scope) | Access::KeyInQuery(scope) => Some(match scope {
            Scope::Ingest => "ingest",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }),
    }
}

/// Refusals, each with whether a route has it to tell of.
fn refusals(spec: &RouteSpec, has_id: bool) -> Vec<(&'static str, bool)> {
    let (keyed, takes) = (spec.access != Access::Open, spec.body_limit != BodyLimit::NoBody);
    let mut refusals =
        vec![("401", keyed), ("403", keyed), ("408", takes), ("413", takes), ("415", takes), ("429", keyed)];
    // It is an answer to methods that are not described.
    refusals.push(("405", false));
    // Others may have these as well.
    refusals.extend(has_id.then_some(("404", true)));
    refusals.extend(keyed.then_some(("503", true)));
    refusals
}
