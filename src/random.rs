//! Unguessable tokens from the random number generator of the system.

use crate::error::{Error, Result};

/// Returns `bits` random bits, a multiple of 8, as hexadecimal digits.
///
/// # Errors
/// [`Error::Internal`] if the system provides no random bytes.
pub fn hex_token(bits: usize) -> Result<String> {
    let mut bytes = vec![0; bits / 8];
    let result = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match result {
        Ok(count) if count == bytes.len() => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        other => Err(Error::Internal(format!("getrandom failed: {other:?}"))),
    }
}
