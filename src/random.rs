//! What nobody can guess.

use crate::error::{Error, Result};

/// So many random bits, a multiple of 8, in hexadecimal digits.
///
/// # Errors
/// [`Error::Internal`] when the system has none.
pub fn hex_token(bits: usize) -> Result<String> {
    let mut bytes = vec![0; bits / 8];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match drawn {
        Ok(count) if count == bytes.len() => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        other => Err(Error::Internal(format!("the system has no random bytes: {other:?}"))),
    }
}
