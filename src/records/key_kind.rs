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

    /// Returns the id in the table `key_kinds`, which never changes.
    #[must_use]
    pub fn id(self) -> i64 {
        match self {
            Self::Server => 1,
            Self::Browser => 2,
        }
    }

    /// Returns the kind with this id. An unknown id, of a later version, has the smaller rights.
    #[must_use]
    pub fn from_id(id: i64) -> Self {
        if id == Self::Server.id() { Self::Server } else { Self::Browser }
    }

    /// Returns the kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Server, Self::Browser].into_iter().find(|kind| kind.name() == name)
    }
}
