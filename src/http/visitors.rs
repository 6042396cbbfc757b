//! Public keys: what pages in browsers hold instead of a key of their own. Anybody can read one, so it only tells whose
//! telemetry something is.

use std::sync::{Arc, PoisonError, RwLock};

use subtle::ConstantTimeEq as _;

use super::keys::Principal;

/// A public key as the service has it.
#[derive(Debug, Clone)]
pub struct PublicKey {
    /// Its number, by which what it sent is known again.
    pub id: i64,
    /// The key itself.
    pub key: String,
    /// Whose telemetry comes with it.
    pub project: String,
}

/// A key and whoever holds it.
type Holder = (PublicKey, Arc<Principal>);

/// The public keys that are active. The service changes them; the gate only looks.
#[derive(Debug, Default)]
pub struct PublicKeys(RwLock<Arc<[Holder]>>);

impl PublicKeys {
    /// Puts these in the place of those there were.
    pub fn replace(&self, keys: Vec<PublicKey>) {
        let keys = keys.into_iter().map(|key| {
            let principal = Principal::visitor(key.id, &key.project);
            (key, Arc::new(principal))
        });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys.collect();
    }

    /// Whose key it is. Looks at all of them in a time that does not tell how near a guess was.
    pub(super) fn holder(&self, presented: &str) -> Option<(i64, Arc<Principal>)> {
        let keys = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let mut found = None;
        for (known, principal) in &*keys {
            if bool::from(known.key.as_bytes().ct_eq(presented.as_bytes())) {
                found = Some((known.id, Arc::clone(principal)));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_its_project_while_it_is_active() {
        let keys = PublicKeys::default();
        assert!(keys.holder("").is_none());
        keys.replace(vec![PublicKey { id: 7, key: "a1".into(), project: "shop".into() }]);
        let (id, principal) = keys.holder("a1").unwrap();
        assert_eq!((id, principal.project()), (7, Some("shop")));
        assert!(keys.holder("a").is_none() && keys.holder("a12").is_none() && keys.holder("A1").is_none());
        keys.replace(Vec::new());
        assert!(keys.holder("a1").is_none());
    }
}
