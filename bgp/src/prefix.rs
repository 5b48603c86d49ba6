//! Prefixes as the tables keep them: no family tag, no host bits, as few bytes as they need.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Cidr, Family};

/// What a table needs of a prefix. Implemented by [`V4`] and [`V6`].
pub trait PrefixKey: Copy + Eq + Ord + Hash + Debug + Default {
    /// The family of all such prefixes.
    const FAMILY: Family;

    /// Reads `len` bits from the first bytes of `bits`, which may be too short for the family:
    /// missing bytes are zero, and host bits are cleared. `None` when `len` is too long.
    fn from_bits(len: u8, bits: &[u8]) -> Option<Self>;

    /// Network bytes that a wire encoding carries, in an array long enough for either family.
    fn octets(self) -> [u8; 16];

    /// Prefix length in bits.
    fn len(self) -> u8;

    /// Whether this is the default route.
    fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes of [`PrefixKey::octets`] that matter.
    fn octet_count(self) -> usize {
        usize::from(self.len()).div_ceil(8)
    }

    /// As the rest of the daemon writes it.
    fn cidr(self) -> Cidr;

    /// The same prefix as a key; `None` for the other family.
    fn from_cidr(cidr: &Cidr) -> Option<Self>;

    /// Whether every address of `other` lies inside.
    fn covers(self, other: Self) -> bool;
}

/// An IPv4 prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct V4 {
    bits: u32,
    len: u8,
}

/// An IPv6 prefix. Two halves, because a `u128` would be aligned to 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct V6 {
    words: [u32; 4],
    len: u8,
}

impl V6 {
    fn bits(self) -> u128 {
        self.words
            .iter()
            .fold(0, |bits, word| bits << 32 | u128::from(*word))
    }

    fn of(bits: u128, len: u8) -> V6 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bits.to_be_bytes();
        V6 {
            words: [
                u32::from_be_bytes([a, b, c, d]),
                u32::from_be_bytes([e, f, g, h]),
                u32::from_be_bytes([i, j, k, l]),
                u32::from_be_bytes([m, n, o, p]),
            ],
            len,
        }
    }
}

fn first<const N: usize>(bits: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bits) {
        *to = *from;
    }
    out
}

fn mask4(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

fn mask6(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl PrefixKey for V4 {
    const FAMILY: Family = Family::V4;

    fn from_bits(len: u8, bits: &[u8]) -> Option<V4> {
        // Byte by byte in registers: an array of so many bytes would have to be written before it can be read as a number.
        let byte = |at: usize| u32::from(bits.get(at).copied().unwrap_or(0));
        (len <= 32).then(|| V4 {
            bits: (byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3)) & mask4(len),
            len,
        })
    }

    fn octets(self) -> [u8; 16] {
        first(&self.bits.to_be_bytes())
    }

    fn len(self) -> u8 {
        self.len
    }

    fn cidr(self) -> Cidr {
        let ip = IpAddr::V4(Ipv4Addr::from_bits(self.bits));
        Cidr::containing(ip, self.len).unwrap_or(Cidr::host(ip))
    }

    fn from_cidr(cidr: &Cidr) -> Option<V4> {
        match cidr.network() {
            IpAddr::V4(ip) => V4::from_bits(cidr.prefix_len(), &ip.octets()),
            IpAddr::V6(_) => None,
        }
    }

    fn covers(self, other: V4) -> bool {
        self.len <= other.len && other.bits & mask4(self.len) == self.bits
    }
}

impl PrefixKey for V6 {
    const FAMILY: Family = Family::V6;

    fn from_bits(len: u8, bits: &[u8]) -> Option<V6> {
        (len <= 128).then(|| V6::of(u128::from_be_bytes(first(bits)) & mask6(len), len))
    }

    fn octets(self) -> [u8; 16] {
        self.bits().to_be_bytes()
    }

    fn len(self) -> u8 {
        self.len
    }

    fn cidr(self) -> Cidr {
        let ip = IpAddr::V6(Ipv6Addr::from_bits(self.bits()));
        Cidr::containing(ip, self.len).unwrap_or(Cidr::host(ip))
    }

    fn from_cidr(cidr: &Cidr) -> Option<V6> {
        match cidr.network() {
            IpAddr::V6(ip) => V6::from_bits(cidr.prefix_len(), &ip.octets()),
            IpAddr::V4(_) => None,
        }
    }

    fn covers(self, other: V6) -> bool {
        self.len <= other.len && other.bits() & mask6(self.len) == self.bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_survives_its_key_in_both_families() {
        for text in ["0.0.0.0/0", "10.1.128.0/17", "192.0.2.7/32"] {
            assert_eq!(V4::from_cidr(&cidr(text)).unwrap().cidr(), cidr(text));
        }
        for text in ["::/0", "2001:db8:8000::/33", "2001:db8::7/128"] {
            assert_eq!(V6::from_cidr(&cidr(text)).unwrap().cidr(), cidr(text));
        }
        assert_eq!(V4::from_cidr(&cidr("::/0")), None);
    }

    #[test]
    fn host_bits_are_cleared_and_long_lengths_refused() {
        let key = V4::from_bits(9, &[10, 255]).unwrap();
        assert_eq!(key.cidr(), cidr("10.128.0.0/9"));
        assert_eq!(V4::from_bits(33, &[]), None);
        assert_eq!(V6::from_bits(129, &[]), None);
        assert_eq!(V6::from_bits(0, &[]).unwrap().cidr(), cidr("::/0"));
    }

    #[test]
    fn keys_are_small() {
        assert_eq!(size_of::<V4>(), 8);
        assert_eq!(size_of::<V6>(), 20);
    }

    #[test]
    fn covering_needs_the_shorter_prefix_and_the_same_bits() {
        let key = |text| V4::from_cidr(&cidr(text)).unwrap();
        assert!(key("10.0.0.0/8").covers(key("10.1.0.0/16")));
        assert!(key("10.0.0.0/8").covers(key("10.0.0.0/8")));
        assert!(!key("10.1.0.0/16").covers(key("10.0.0.0/8")));
        assert!(!key("10.0.0.0/8").covers(key("11.0.0.0/16")));
        assert!(key("0.0.0.0/0").covers(key("255.0.0.0/8")));
    }
}
