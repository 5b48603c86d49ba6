//! The internet checksum (RFC 1071), fast enough to run over every byte.
//!
//! Sums are kept in the machine's byte order and swapped only where a number goes in or out, as RFC 1071,
//! section 2 (B) allows.

/// A sum in progress. Every part but the last must have an even length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes; an odd last one counts as if a zero followed.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        const WIDE: usize = 64;
        let mut lanes = [0u64; WIDE / 4];
        let mut chunks = bytes.chunks_exact(WIDE);
        for chunk in &mut chunks {
            for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
                *lane += u64::from(word.first_chunk().map_or(0, |w| u32::from_ne_bytes(*w)));
            }
        }
        self.0 += lanes.iter().sum::<u64>();
        for word in chunks.remainder().chunks(2) {
            let word = [word[0], word.get(1).copied().unwrap_or(0)];
            self.0 += u64::from(u16::from_ne_bytes(word));
        }
    }

    /// Adds a number as it would stand in a header.
    pub(crate) fn add_number(&mut self, number: u16) {
        self.0 += u64::from(number.to_be());
    }

    /// The sum in sixteen bits, as bytes for a header: what a partial checksum holds.
    pub(crate) fn folded(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap_or(0).to_ne_bytes()
    }

    /// The checksum: the complement of the sum.
    pub(crate) fn checksum(self) -> [u8; 2] {
        self.folded().map(|byte| !byte)
    }

    /// Whether the bytes, their checksum among them, sum up to what they should.
    pub(crate) fn is_right(self) -> bool {
        self.folded() == [0xff, 0xff]
    }
}

/// The sum of the pseudo-header of RFC 9293, section 3.1, and RFC 8200, section 8.1, but for the
/// length, over the addresses of an IP header of either family.
pub(crate) fn pseudo_header(addresses: &[u8], protocol: u8) -> Sum {
    let mut sum = Sum::default();
    sum.add(addresses);
    sum.add_number(protocol.into());
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(bytes in prop::collection::vec(any::<u8>(), 0..500), number: u16) {
            let mut sum = Sum::default();
            sum.add(&bytes);
            prop_assert_eq!(u16::from_be_bytes(sum.folded()), naive(&bytes));
            sum.add_number(number);
            let mut with = number.to_be_bytes().to_vec();
            with.extend(&bytes);
            prop_assert_eq!(u16::from_be_bytes(sum.folded()), naive(&with));
        }
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), [0xdd, 0xf2]);
        assert_eq!(sum.checksum(), [0x22, 0x0d]);
    }
}
