//! Who holds which key, and what each key may do.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use crate::env::Secret;
use crate::error::{Error, Result};

/// What a route asks of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Send telemetry.
    Ingest,
    /// Look at what is stored.
    Read,
    /// Change what is stored.
    Admin,
}

/// Whoever stands behind a request, as far as its key tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's name: `API_KEY`, or the one given in `API_KEYS`; empty on routes that need no key.
    pub name: String,
    scope: Option<Scope>,
    project: Option<String>,
}

impl Principal {
    /// Nobody in particular, as on routes that need no key.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: String::new(), scope: None, project: None }
    }

    /// A page that holds a project's public key.
    pub(super) fn visitor(id: i64, project: &str) -> Self {
        Self { name: format!("dsn-key-{id}"), scope: Some(Scope::Ingest), project: Some(project.to_owned()) }
    }

    /// The project this key is limited to.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// Refuses telemetry for another project than the key's own.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when the key is limited to another project.
    pub fn check_project(&self, project: &str) -> Result<()> {
        match &self.project {
            Some(own) if own != project => {
                Err(Error::Forbidden(format!("This key may report for project '{own}' only")))
            }
            _ => Ok(()),
        }
    }

    /// Whether this key may do what asks for a scope.
    #[must_use]
    pub fn allows(&self, wanted: Scope) -> bool {
        // No scope means everything; administration includes looking.
        match self.scope {
            None => true,
            Some(Scope::Admin) => wanted != Scope::Ingest,
            Some(own) => own == wanted,
        }
    }
}

/// Every key this service knows.
#[derive(Debug)]
pub struct Keys(Vec<(Secret, Principal)>);

impl Keys {
    /// `main` may do everything; `named` holds `name:scope:key` items with scope `ingest`, `read`, `admin` or
    /// `ingest@project`.
    ///
    /// # Errors
    /// One sentence for each item that cannot be read; no key stands in it.
    pub fn new(main: Secret, named: &[String]) -> std::result::Result<Self, Vec<String>> {
        let all = Principal { name: "API_KEY".into(), scope: None, project: None };
        let mut keys = vec![(main, all)];
        let mut faults = Vec::new();
        for (index, item) in named.iter().enumerate() {
            match parse_named(item) {
                Ok(key) => keys.push(key),
                Err(why) => faults.push(format!("item {}: {why}", index + 1)),
            }
        }
        if faults.is_empty() { Ok(Self(keys)) } else { Err(faults) }
    }

    /// Who holds the keys, in the order that [`Keys::holder`] numbers them.
    pub(super) fn principals(&self) -> Vec<Arc<Principal>> {
        self.0.iter().map(|(_, principal)| Arc::new(principal.clone())).collect()
    }

    /// What becomes of each key, with who holds it, in the same order.
    pub(super) fn digests<D>(&self, digest: fn(&str) -> D) -> Vec<(D, Principal)> {
        self.0.iter().map(|(secret, principal)| (digest(secret.reveal()), principal.clone())).collect()
    }

    /// Which key `presented` is. Every key is compared in full, so the time taken tells nothing about any of them
    /// but its length.
    pub(super) fn holder(&self, presented: &str) -> Option<usize> {
        self.0.iter().enumerate().fold(None, |found, (index, (secret, _))| {
            let secret = secret.reveal().as_bytes();
            let same = !secret.is_empty() && bool::from(secret.ct_eq(presented.as_bytes()));
            if same { found.or(Some(index)) } else { found }
        })
    }
}

fn parse_named(item: &str) -> std::result::Result<(Secret, Principal), &'static str> {
    const FORM: &str = "must be name:scope:key with scope ingest, read, admin or ingest@project";
    let mut parts = item.splitn(3, ':');
    let (Some(name), Some(scope), Some(key)) = (parts.next(), parts.next(), parts.next()) else { return Err(FORM) };
    if name.is_empty() || key.is_empty() {
        return Err(FORM);
    }
    let (scope, project) = match scope.split_once('@') {
        Some(("ingest", project)) if !project.is_empty() => (Scope::Ingest, Some(project.to_owned())),
        None if scope == "ingest" => (Scope::Ingest, None),
        None if scope == "read" => (Scope::Read, None),
        None if scope == "admin" => (Scope::Admin, None),
        _ => return Err(FORM),
    };
    Ok((Secret::new(key), Principal { name: name.to_owned(), scope: Some(scope), project }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(named: &[&str]) -> std::result::Result<Keys, Vec<String>> {
        Keys::new(Secret::new("main"), &named.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn each_key_may_do_what_its_scope_says() {
        let keys = keys(&["app:ingest:a", "eye:read:b", "ops:admin:c", "shop:ingest@shop:d:with:colons"]).unwrap();
        for (key, ingest, read, admin) in [
            ("main", true, true, true),
            ("a", true, false, false),
            ("b", false, true, false),
            ("c", false, true, true),
            ("d:with:colons", true, false, false),
        ] {
            let holder = &keys.0[keys.holder(key).unwrap()].1;
            assert_eq!(
                [holder.allows(Scope::Ingest), holder.allows(Scope::Read), holder.allows(Scope::Admin)],
                [ingest, read, admin],
                "{key}"
            );
        }
        let shop = &keys.0[keys.holder("d:with:colons").unwrap()].1;
        assert!(shop.check_project("shop").is_ok() && shop.check_project("blog").is_err());
        for unknown in ["", "mai", "main ", "e"] {
            assert_eq!(keys.holder(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn malformed_items_are_named_without_their_key() {
        let faults =
            keys(&["a:ingest:ok", "nonsense", "b:root:secret", ":read:secret", "c:ingest@:secret"]).unwrap_err();
        assert_eq!(faults.len(), 4);
        assert!(faults[0].starts_with("item 2: must be"), "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.contains("secret")));
    }
}
