//! The error type of the whole program. Errors propagate as values; `http` converts them into a status and a sentence for the
//! client, in one place, and logs details that clients must not see.

use std::fmt;

/// The result of operations that can fail for a reason that a client or an operator needs to know.
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why a request, a command or a start failed. Every string for clients is one sentence that they can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request is malformed or violates a documented rule; the sentence names the field.
    Invalid(String),
    /// The key is missing or unknown; the sentence names the kind of key and where it belongs.
    Unauthorized(&'static str),
    /// The key does not allow this.
    Forbidden(String),
    /// The path or the id does not exist.
    NotFound(String),
    /// The path allows other methods only; the string is the `Allow` header.
    MethodNotAllowed(String),
    /// The client missed a deadline; the string names the part of the request.
    Timeout(&'static str),
    /// The body, declared or decoded, is larger than `limit_bytes`.
    TooLarge {
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The data become larger than another service accepts; the sentence says what to send instead.
    TooLargeToForward(String),
    /// The content coding or media type is not supported.
    Unsupported(String),
    /// The client exceeded a rate limit.
    TooMany {
        /// Seconds until the next request can succeed.
        retry_after_s: u64,
    },
    /// A limit of this program is temporarily reached (queue, memory budget); nothing was stored.
    Busy(&'static str),
    /// The database cannot be read or written now (disk full, read-only, I/O error); nothing was stored. The string is for
    /// the log, never for a client.
    Storage(String),
    /// An upstream service failed in a way that a retry does not fix; the sentence names it.
    Upstream(String),
    /// The request requires a setting that is not set; the sentence names it.
    NotConfigured(String),
    /// A defect of this program. The string is for the log, never for a client.
    Internal(String),
}

impl Error {
    /// Returns the error for an invalid field of a request: `Field 'project' must be 1-100 characters`.
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
            | Self::TooLargeToForward(sentence)
            | Self::Unsupported(sentence)
            | Self::Upstream(sentence)
            | Self::NotConfigured(sentence) => f.write_str(sentence),
            Self::Unauthorized(sentence) => f.write_str(sentence),
            Self::MethodNotAllowed(allow) => write!(f, "Method not allowed; allowed: {allow}"),
            Self::Timeout(what) => write!(f, "Timeout: the {what} took too long to arrive"),
            Self::TooLarge { limit_bytes } => write!(f, "The body exceeds {limit_bytes} bytes"),
            Self::TooMany { retry_after_s } => write!(f, "Too many requests; retry in {retry_after_s} s"),
            Self::Busy(what) => write!(f, "{what}; retry later"),
            Self::Storage(why) => write!(f, "storage: {why}"),
            Self::Internal(why) => write!(f, "internal error: {why}"),
        }
    }
}

impl std::error::Error for Error {}
