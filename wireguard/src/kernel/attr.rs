//! Netlink attributes: length, kind, value, padded to four bytes.

use zeroize::Zeroizing;

const HEADER: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`.
const KIND_MASK: u16 = 0x3fff;

/// The attributes in a byte string; ends at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attrs<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let len = usize::from(u16::from_ne_bytes(array(self.0)?));
        let kind = u16::from_ne_bytes(array(self.0.get(2..)?)?) & KIND_MASK;
        let value = self.0.get(HEADER..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The first `N` bytes.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

/// A message that is being written. It may hold keys: it has room from the start, so that nothing is
/// copied and left behind, and is wiped.
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// Room for `len` bytes after a fixed header.
    pub(super) fn new(header: &[u8], len: usize) -> Writer {
        let mut bytes = Zeroizing::new(Vec::with_capacity(header.len() + len));
        bytes.extend_from_slice(header);
        Writer(bytes)
    }

    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
    }

    /// A text with its zero byte.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// An attribute that holds attributes. What is written into it stays below 64 KiB: see `split`.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let start = self.0.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        if let Some(place) = self.0.get_mut(start..start + 2) {
            place.copy_from_slice(&len.to_ne_bytes());
        }
    }

    fn pad(&mut self) {
        let len = self.0.len().next_multiple_of(4);
        self.0.resize(len, 0);
    }

    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new(&[9; 4], 64);
        writer.put_text(1, "wg0");
        writer.nest(2, |writer| writer.put(3, &[7, 8, 9]));
        let bytes = writer.finish();
        let attrs: Vec<_> = Attrs(&bytes[4..]).collect();
        assert_eq!(attrs[0], (1, &b"wg0\0"[..]));
        assert_eq!((attrs.len(), attrs[1].0), (2, 2));
        assert_eq!(Attrs(attrs[1].1).collect::<Vec<_>>(), [(3, &[7, 8, 9][..])]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let total: usize = Attrs(&bytes).map(|(_, v)| v.len() + HEADER).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
