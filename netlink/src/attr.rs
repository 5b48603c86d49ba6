//! Netlink attributes: type, length, value, padded to four bytes.
//!
//! Dumps are read attribute by attribute, so one that is odd or new never hides the object it is
//! on. Requests to rtnetlink are written by `netlink-packet-route`, those to nftables with this.

use std::net::IpAddr;

use model::kernel::Mac;

const HEADER: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`.
const KIND_MASK: u16 = 0x3fff;

/// `NLA_ALIGN`.
pub(crate) fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// The attributes in a byte string; ends at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attrs<'a>(&'a [u8]);

impl<'a> Attrs<'a> {
    /// The attributes of a nest.
    pub(crate) fn new(bytes: &'a [u8]) -> Attrs<'a> {
        Attrs(bytes)
    }

    /// The attributes after a fixed header of `header` bytes.
    pub(crate) fn after(payload: &'a [u8], header: usize) -> Attrs<'a> {
        Attrs(payload.get(align(header)..).unwrap_or_default())
    }

    /// The value of the first attribute of a kind.
    pub(crate) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(k, value)| (k == kind).then_some(value))
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & KIND_MASK;
        let value = self.0.get(HEADER..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// A number in host order at an offset.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_ne_bytes)
}

/// A number in host order at an offset.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

/// A value that is a number in host order.
pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

/// A value that is a number in network order.
pub(crate) fn be32_of(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_be_bytes)
}

/// A value that is a long number in network order.
pub(crate) fn be64_of(value: &[u8]) -> Option<u64> {
    value.first_chunk().copied().map(u64::from_be_bytes)
}

/// A value that is an address, its family told by its length.
pub(crate) fn ip_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().copied().map(IpAddr::from),
        16 => value.first_chunk::<16>().copied().map(IpAddr::from),
        _ => None,
    }
}

/// A value that is an Ethernet address.
pub(crate) fn mac_of(value: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(value).ok().map(Mac)
}

/// A value that is a text ended by a zero byte.
pub(crate) fn text_of(value: &[u8]) -> Option<&str> {
    let text = value.split(|b| *b == 0).next()?;
    std::str::from_utf8(text).ok()
}

/// Appends an attribute.
pub(crate) fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Ours are small but for element lists, which are cut to fit.
    let len = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
    out.extend(len.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(align(out.len()), 0);
}

/// Appends a text with its zero byte.
pub(crate) fn put_text(out: &mut Vec<u8>, kind: u16, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    put(out, kind, &value);
}

/// Appends a number in network order.
pub(crate) fn put_be32(out: &mut Vec<u8>, kind: u16, value: u32) {
    put(out, kind, &value.to_be_bytes());
}

/// Appends an attribute that holds attributes.
pub(crate) fn nest(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; HEADER]);
    fill(out);
    let len = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    if let Some(header) = out.get_mut(start..start + HEADER) {
        let [a, b] = len.to_ne_bytes();
        let [c, d] = (kind | NESTED).to_ne_bytes();
        header.copy_from_slice(&[a, b, c, d]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_text(&mut out, 1, "eth0");
        nest(&mut out, 2, |out| put_be32(out, 3, 7));
        let attrs = Attrs::new(&out);
        assert_eq!(attrs.find(1).and_then(text_of), Some("eth0"));
        let nested = attrs.find(2).map(Attrs::new).and_then(|n| n.find(3));
        assert_eq!(nested.and_then(be32_of), Some(7));
        assert_eq!(attrs.count(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let total: usize = Attrs::new(&bytes).map(|(_, v)| v.len() + HEADER).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
