//! Kind of the key that authenticated a client.

/// Kind of a key: who can have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// Only programs of the operator have the key.
    Server,
    /// Everybody who opens a page of the project can read the key.
    Browser,
}

/// Header that says that a request was sent with a browser key to the service that forwards it. It only takes rights away, so
/// anyone may send it.
pub const KEY_KIND_HEADER: &str = "X-Monlight-Key-Kind";

impl KeyKind {
    /// Returns the kind as the API and [`KEY_KIND_HEADER`] name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Browser => "browser",
        }
    }

    /// Returns the kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Server, Self::Browser].into_iter().find(|kind| kind.name() == name)
    }
}
