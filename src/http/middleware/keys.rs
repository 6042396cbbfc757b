//! API keys and the scope of each.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use crate::env::Secret;
use crate::error::{Error, Result};
use crate::records::key_kind::KeyKind;

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
        Self { name: String::new(), scope: None, project: None, kind: KeyKind::Server }
    }

    /// Returns the principal of a project's public key.
    pub(in crate::http) fn public_key(id: i64, project: &str, kind: KeyKind) -> Self {
        Self { name: format!("dsn-key-{id}"), scope: Some(Scope::Ingest), project: Some(project.to_owned()), kind }
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
    /// Returns one sentence for each malformed item. The sentences contain no keys.
    pub fn new(main: Secret, named: &[String]) -> std::result::Result<Self, Vec<String>> {
        let principal = Principal { name: "API_KEY".into(), scope: None, project: None, kind: KeyKind::Server };
        let mut keys = vec![KeyEntry { secret: main, principal }];
        let mut errors = Vec::new();
        for (index, item) in named.iter().enumerate() {
            match parse_named(item) {
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

    /// Returns the digest of each key with its principal, in the same order.
    pub(in crate::http) fn digests<D>(&self, digest: fn(&str) -> D) -> Vec<(D, Principal)> {
        self.0.iter().map(|key| (digest(key.secret.reveal()), key.principal.clone())).collect()
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

fn parse_named(item: &str) -> std::result::Result<KeyEntry, &'static str> {
    const SYNTAX: &str = "must be name:scope:key with scope ingest, read, admin or ingest@project";
    let mut parts = item.splitn(3, ':');
    let (Some(name), Some(scope), Some(key)) = (parts.next(), parts.next(), parts.next()) else { return Err(SYNTAX) };
    if name.is_empty() || key.is_empty() {
        return Err(SYNTAX);
    }
    let (scope, project) = match scope.split_once('@') {
        Some(("ingest", project)) if !project.is_empty() => (Scope::Ingest, Some(project.to_owned())),
        None if scope == "ingest" => (Scope::Ingest, None),
        None if scope == "read" => (Scope::Read, None),
        None if scope == "admin" => (Scope::Admin, None),
        _ => return Err(SYNTAX),
    };
    let principal = Principal { name: name.to_owned(), scope: Some(scope), project, kind: KeyKind::Server };
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
}
