//! Randomness from the kernel, for names and jitter; keys are not made here.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    // `RandomState` is SipHash keyed by the kernel's generator; each call has another key.
    for chunk in out.chunks_mut(8) {
        let word = RandomState::new().build_hasher().finish().to_ne_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    out
}

/// Sixteen hexadecimal digits.
pub fn token() -> String {
    hex(&bytes::<8>())
}

/// A random UUID (RFC 9562 §5.4, version 4).
pub fn uuid() -> String {
    let mut b = bytes::<16>();
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex = hex(&b);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_form_and_is_never_the_same() {
        let (a, b) = (uuid(), uuid());
        assert_ne!(a, b);
        assert_eq!(
            a.split('-').map(str::len).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12]
        );
        assert_eq!(&a[14..15], "4");
        assert!("89ab".contains(&a[19..20]));
    }
}
