//! Public keys of browser pages (DSN keys). Every visitor of a page can read its key, so a key only identifies a project.

use std::sync::{Arc, PoisonError, RwLock};

use subtle::ConstantTimeEq as _;

use super::keys::Principal;
use crate::records::key_kind::KeyKind;

/// An active public key.
#[derive(Debug, Clone)]
pub struct PublicKey {
    /// The id of its database row.
    pub id: i64,
    /// The key itself.
    pub key: String,
    /// The project whose telemetry it may send.
    pub project: String,
    /// The kind of the key.
    pub kind: KeyKind,
}

type KeyEntry = (PublicKey, Arc<Principal>);

/// The active public keys. The service replaces them; admission control reads them.
#[derive(Debug, Default)]
pub struct PublicKeys(RwLock<Arc<[KeyEntry]>>);

impl PublicKeys {
    /// Replaces the list of active keys.
    pub fn replace(&self, keys: Vec<PublicKey>) {
        let entries = keys.into_iter().map(|key| {
            let principal = Principal::public_key(key.id, &key.project, key.kind);
            (key, Arc::new(principal))
        });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = entries.collect();
    }

    /// Returns the id and the principal of the key that equals `presented`. Compares all keys in constant time, so the
    /// duration does not reveal how close a guess was.
    pub(in crate::http) fn authenticate(&self, presented: &str) -> Option<(i64, Arc<Principal>)> {
        let entries = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let mut found = None;
        for (key, principal) in &*entries {
            if bool::from(key.key.as_bytes().ct_eq(presented.as_bytes())) {
                found = Some((key.id, Arc::clone(principal)));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_authenticates_its_project_while_it_is_active() {
        let keys = PublicKeys::default();
        assert!(keys.authenticate("").is_none());
        keys.replace(vec![PublicKey { id: 7, key: "a1".into(), project: "shop".into(), kind: KeyKind::Browser }]);
        let (id, principal) = keys.authenticate("a1").unwrap();
        assert_eq!((id, principal.project()), (7, Some("shop")));
        assert!(
            keys.authenticate("a").is_none() && keys.authenticate("a12").is_none() && keys.authenticate("A1").is_none()
        );
        keys.replace(Vec::new());
        assert!(keys.authenticate("a1").is_none());
    }
}
