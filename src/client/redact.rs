//! Removal of secrets from messages that other servers wrote.

use std::fmt;

/// Replaces known secrets with `***`. Some servers repeat a token or the requested path in their responses.
#[derive(Clone, Default)]
pub struct Redactor {
    longest_first: Vec<String>,
}

impl Redactor {
    /// Creates a redactor for `secrets`; ignores empty ones.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut longest_first: Vec<String> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        // A path is replaced before a part of it, or the rest of the path would stay.
        longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { longest_first }
    }

    /// Returns `message` with every secret replaced by `***`.
    #[must_use]
    pub fn redact(&self, message: &str) -> String {
        self.longest_first.iter().fold(message.to_owned(), |message, secret| message.replace(secret.as_str(), "***"))
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.longest_first.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_longest_first() {
        let redactor = Redactor::new(["T0KEN".to_owned(), String::new(), "/hook/T0KEN".to_owned()]);
        assert_eq!(redactor.redact("no /hook/T0KEN, T0KEN?"), "no ***, ***?");
        assert_eq!(format!("{redactor:?}"), "Redactor(2 secrets)");
    }
}
