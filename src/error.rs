//! The nouns of what can go wrong. Errors travel upwards as values; `http` turns them into a status and a sentence
//! for the client, in one place, and whoever started the work logs what the client must not see.

use std::fmt;

/// The result of everything that can fail for a reason a client or an operator should hear of.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request, a command or a start failed. Every `String` shown to clients is one sentence they can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request cannot be understood or breaks a documented rule; the sentence names the field.
    Invalid(String),
    /// No key, or one that is not known, in a sentence that says which kind and where it belongs.
    Unauthorized(&'static str),
    /// The key is known and may not do this.
    Forbidden(String),
    /// There is nothing at this path, or nothing with this id.
    NotFound(String),
    /// The path exists with other methods, which are listed as `Allow` wants them.
    MethodNotAllowed(String),
    /// The client took longer than a deadline allows.
    Timeout(&'static str),
    /// The body, declared or decoded, is larger than `limit_bytes`.
    TooLarge {
        /// The limit that was broken, in bytes.
        limit_bytes: usize,
    },
    /// A `Content-Encoding` or an `Expect` this server does not speak.
    Unsupported(String),
    /// The client asked more often than it may.
    TooMany {
        /// Whole seconds until the next request can succeed.
        retry_after_s: u64,
    },
    /// A limit of this program is reached for the moment (queue, bytes in flight); nothing was stored.
    Busy(&'static str),
    /// The database cannot be written or read now (disk full, read-only, I/O error); nothing was stored.
    /// The text is for the log, never for a client.
    Storage(String),
    /// A service behind this one failed in a way that waiting does not mend; the sentence says which.
    Upstream(String),
    /// Something the client asked for needs a setting that the operator has not made; the sentence names it.
    NotConfigured(String),
    /// A defect of this program. The text is for the log, never for a client.
    Internal(String),
}

impl Error {
    /// A rule about one field of a request: `Field 'project' must be 1-100 characters`.
    #[must_use]
    pub fn field(name: &str, rule: impl fmt::Display) -> Self {
        Self::Invalid(format!("Field '{name}' {rule}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(sentence)
            | Self::Forbidden(sentence)
            | Self::NotFound(sentence)
            | Self::Unsupported(sentence)
            | Self::Upstream(sentence)
            | Self::NotConfigured(sentence) => f.write_str(sentence),
            Self::Unauthorized(sentence) => f.write_str(sentence),
            Self::MethodNotAllowed(allow) => write!(f, "This path answers only {allow}"),
            Self::Timeout(what) => write!(f, "The {what} took too long to arrive"),
            Self::TooLarge { limit_bytes } => write!(f, "The body may be at most {limit_bytes} bytes"),
            Self::TooMany { retry_after_s } => write!(f, "Too many requests; try again in {retry_after_s} s"),
            Self::Busy(what) => write!(f, "{what}; try again shortly"),
            Self::Storage(why) => write!(f, "storage: {why}"),
            Self::Internal(why) => write!(f, "internal error: {why}"),
        }
    }
}

impl std::error::Error for Error {}
