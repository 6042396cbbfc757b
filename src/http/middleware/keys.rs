//! API keys and the scope of each.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use crate::env::Secret;
use crate::error::{Error, Result};
use crate::records::key_kind::KeyKind;

/// The names of the main keys of the services, which no other key may have.
const RESERVED_NAMES: [&str; 2] = ["API_KEY", "ADMIN_API_KEY"];
/// The start of the names of public keys, which no other key may have.
const PUBLIC_KEY_PREFIX: &str = "dsn-key-";

/// The permission that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Send telemetry.
    Ingest,
    /// Read stored data.
    Read,
    /// Change stored data.
    Admin,
}

/// The holder of the key that a request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's name: `API_KEY`, or the name in `API_KEYS`; empty on routes that need no key.
    pub name: String,
    /// `None` allows everything.
    scope: Option<Scope>,
    project: Option<String>,
    kind: KeyKind,
    /// The index of the API key; `None` for public keys and on routes that need no key.
    key_index: Option<usize>,
}

/// An API key and its holder.
#[derive(Debug)]
struct KeyEntry {
    secret: Secret,
    principal: Principal,
}

impl Principal {
    /// Returns the principal of routes that need no key.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: String::new(), scope: None, project: None, kind: KeyKind::Server, key_index: None }
    }

    /// Returns the principal of a project's public key.
    pub(in crate::http) fn public_key(id: i64, project: &str, kind: KeyKind) -> Self {
        Self {
            name: format!("{PUBLIC_KEY_PREFIX}{id}"),
            scope: Some(Scope::Ingest),
            project: Some(project.to_owned()),
            kind,
            key_index: None,
        }
    }

    /// Returns the index of the API key, as [`Keys::authenticate`] returns it.
    pub(in crate::http) fn key_index(&self) -> Option<usize> {
        self.key_index
    }

    /// Returns the kind of the key.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether a key authenticated the holder, as opposed to a route that needs none.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        !self.name.is_empty()
    }

    /// Returns the project that this key is limited to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// Checks that this key may send telemetry of `project`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if the key is limited to another project.
    pub fn check_project(&self, project: &str) -> Result<()> {
        match &self.project {
            Some(own) if own != project => {
                Err(Error::Forbidden(format!("This key may only send data for project '{own}'")))
            }
            _ => Ok(()),
        }
    }

    /// Whether this key grants `required`.
    #[must_use]
    pub fn allows(&self, required: Scope) -> bool {
        match self.scope {
            None => true,
            // An administrator also reads, but does not send telemetry.
            Some(Scope::Admin) => required != Scope::Ingest,
            Some(own) => own == required,
        }
    }
}

/// All API keys of a service.
#[derive(Debug)]
pub struct Keys(Vec<KeyEntry>);

impl Keys {
    /// Creates the list of keys: `main`, which allows everything, and `named` items of the form `name:scope:key` with scope
    /// `ingest`, `read`, `admin` or `ingest@project`.
    ///
    /// # Errors
    /// Returns one sentence for each item that is malformed or that shares its name or its key with another one. The
    /// sentences contain no keys.
    pub fn new(main: Secret, named: &[String]) -> std::result::Result<Self, Vec<String>> {
        let principal = Principal { name: "API_KEY".into(), key_index: Some(0), ..Principal::anonymous() };
        let mut keys = vec![KeyEntry { secret: main, principal }];
        let mut errors = Vec::new();
        for (index, item) in named.iter().enumerate() {
            match parse_named(item, &keys) {
                Ok(key) => keys.push(key),
                Err(why) => errors.push(format!("item {}: {why}", index + 1)),
            }
        }
        if errors.is_empty() { Ok(Self(keys)) } else { Err(errors) }
    }

    /// Returns the principals by the index that [`Keys::authenticate`] returns.
    pub(in crate::http) fn principals(&self) -> Vec<Arc<Principal>> {
        self.0.iter().map(|key| Arc::new(key.principal.clone())).collect()
    }

    /// Returns the digest of each key, in the same order.
    pub(in crate::http) fn digests<D>(&self, digest: fn(&str) -> D) -> Vec<D> {
        self.0.iter().map(|key| digest(key.secret.reveal())).collect()
    }

    /// Returns the index of the key that equals `presented`. Compares every key in constant time, so the duration reveals
    /// only the lengths of the keys.
    pub(in crate::http) fn authenticate(&self, presented: &str) -> Option<usize> {
        self.0.iter().enumerate().fold(None, |found, (index, key)| {
            let secret = key.secret.reveal().as_bytes();
            let is_equal = !secret.is_empty() && bool::from(secret.ct_eq(presented.as_bytes()));
            if is_equal { found.or(Some(index)) } else { found }
        })
    }
}

/// Parses an item of `API_KEYS`. Names and keys must differ from those of `existing`: sessions and idempotency keys belong
/// to one holder.
fn parse_named(item: &str, existing: &[KeyEntry]) -> std::result::Result<KeyEntry, String> {
    const SYNTAX: &str = "must be name:scope:key with scope ingest, read, admin or ingest@project";
    let mut parts = item.splitn(3, ':');
    let (Some(name), Some(scope), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(SYNTAX.into());
    };
    if name.is_empty() || key.is_empty() {
        return Err(SYNTAX.into());
    }
    if RESERVED_NAMES.contains(&name) || name.starts_with(PUBLIC_KEY_PREFIX) {
        return Err(format!("the name '{name}' is reserved; choose another one"));
    }
    if existing.iter().any(|other| other.principal.name == name) {
        return Err(format!("the name '{name}' is used twice; give each key a name of its own"));
    }
    if let Some(other) = existing.iter().find(|other| other.secret.reveal() == key) {
        return Err(format!("'{name}' has the same key as '{}'; generate another one", other.principal.name));
    }
    let (scope, project) = match scope.split_once('@') {
        Some(("ingest", project)) if !project.is_empty() => (Scope::Ingest, Some(project.to_owned())),
        None if scope == "ingest" => (Scope::Ingest, None),
        None if scope == "read" => (Scope::Read, None),
        None if scope == "admin" => (Scope::Admin, None),
        _ => return Err(SYNTAX.into()),
    };
    let (name, key_index) = (name.to_owned(), Some(existing.len()));
    let principal = Principal { name, scope: Some(scope), project, kind: KeyKind::Server, key_index };
    Ok(KeyEntry { secret: Secret::new(key), principal })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(named: &[&str]) -> std::result::Result<Keys, Vec<String>> {
        Keys::new(Secret::new("main"), &named.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn keys_allow_exactly_their_scope() {
        let keys = keys(&["app:ingest:a", "eye:read:b", "ops:admin:c", "shop:ingest@shop:d:with:colons"]).unwrap();
        for (key, ingest, read, admin) in [
            ("main", true, true, true),
            ("a", true, false, false),
            ("b", false, true, false),
            ("c", false, true, true),
            ("d:with:colons", true, false, false),
        ] {
            let principal = &keys.0[keys.authenticate(key).unwrap()].principal;
            assert_eq!(
                [principal.allows(Scope::Ingest), principal.allows(Scope::Read), principal.allows(Scope::Admin)],
                [ingest, read, admin],
                "{key}"
            );
        }
        let shop = &keys.0[keys.authenticate("d:with:colons").unwrap()].principal;
        assert!(shop.check_project("shop").is_ok() && shop.check_project("blog").is_err());
        for unknown in ["", "mai", "main ", "e"] {
            assert_eq!(keys.authenticate(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn malformed_items_are_reported_without_their_key() {
        let errors =
            keys(&["a:ingest:ok", "nonsense", "b:root:secret", ":read:secret", "c:ingest@:secret"]).unwrap_err();
        assert_eq!(errors.len(), 4);
        assert!(errors[0].starts_with("item 2: must be"), "{errors:?}");
        assert!(errors.iter().all(|error| !error.contains("secret")));
    }

    #[test]
    fn names_and_keys_belong_to_one_holder() {
        for (named, expected) in [
            ("b:read:s3cret", "item 2: the name 'b' is used twice; give each key a name of its own"),
            ("c:read:old", "item 2: 'c' has the same key as 'b'; generate another one"),
            ("c:read:main", "item 2: 'c' has the same key as 'API_KEY'; generate another one"),
            ("API_KEY:read:s3cret", "item 2: the name 'API_KEY' is reserved; choose another one"),
            ("ADMIN_API_KEY:read:s3cret", "item 2: the name 'ADMIN_API_KEY' is reserved; choose another one"),
            ("dsn-key-7:ingest:s3cret", "item 2: the name 'dsn-key-7' is reserved; choose another one"),
        ] {
            assert_eq!(keys(&["b:admin:old", named]).unwrap_err(), [expected]);
        }
        assert!(keys(&["b:admin:old", "B:admin:new", "dsn:read:s3cret"]).is_ok());
    }
}
