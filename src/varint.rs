//! Variable-length integers: LEB128, with zigzag coding for signed ones.

/// Appends an unsigned integer.
pub fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends a signed integer.
pub fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put(bytes, (number << 1 ^ number >> 63) as u64);
}

/// Removes an unsigned integer from the front of `bytes`. Returns `None` if it is truncated or exceeds 63 bits.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(number);
        }
    }
    None
}

/// Removes a signed integer from the front of `bytes`. Returns `None` if it is truncated or exceeds 63 bits.
#[inline]
pub fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    take(bytes).map(|number| (number >> 1) as i64 ^ -((number & 1) as i64))
}

/// Removes a length and that many bytes from the front of `bytes`. Returns `None` if they are truncated.
pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encoding_and_decoding_round_trips(numbers in prop::collection::vec(-(1i64 << 40)..1 << 40, 0..20)) {
            let mut bytes = Vec::new();
            for number in &numbers {
                put_signed(&mut bytes, *number);
                put(&mut bytes, number.unsigned_abs());
            }
            let mut rest = &bytes[..];
            for number in &numbers {
                prop_assert_eq!(take_signed(&mut rest), Some(*number));
                prop_assert_eq!(take(&mut rest), Some(number.unsigned_abs()));
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(take(&mut rest), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut rest = &bytes[..];
            while take_bytes(&mut rest).is_some() {}
            prop_assert!(rest.len() <= bytes.len());
        }
    }
}
