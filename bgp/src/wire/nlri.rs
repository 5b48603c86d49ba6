//! Prefixes on the wire (RFC 4271 §4.3, RFC 4760 §5), with path identifiers where agreed (RFC 7911).

use std::marker::PhantomData;

use super::Reader;
use crate::prefix::PrefixKey;

/// Prefixes of one family that were found well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nlri<'a, K> {
    bytes: &'a [u8],
    add_path: bool,
    key: PhantomData<K>,
}

impl<K> Default for Nlri<'_, K> {
    fn default() -> Self {
        Nlri {
            bytes: &[],
            add_path: false,
            key: PhantomData,
        }
    }
}

impl<'a, K: PrefixKey> Nlri<'a, K> {
    /// Checks `bytes`; `None` when a length is too long for the family or the field ends inside a prefix.
    pub fn parse(bytes: &'a [u8], add_path: bool) -> Option<Nlri<'a, K>> {
        let mut reader = Reader(bytes);
        while !reader.0.is_empty() {
            take::<K>(&mut reader, add_path)?;
        }
        Some(Nlri::unchecked(bytes, add_path))
    }

    /// Takes `bytes` as they are: what cannot be read ends the list.
    pub(super) fn unchecked(bytes: &'a [u8], add_path: bool) -> Nlri<'a, K> {
        Nlri {
            bytes,
            add_path,
            key: PhantomData,
        }
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The prefixes, each with its path identifier (0 without add-path).
    pub fn iter(&self) -> impl Iterator<Item = (u32, K)> + use<'a, K> {
        let mut reader = Reader(self.bytes);
        let add_path = self.add_path;
        std::iter::from_fn(move || take(&mut reader, add_path))
    }
}

fn take<K: PrefixKey>(reader: &mut Reader<'_>, add_path: bool) -> Option<(u32, K)> {
    let path_id = if add_path { reader.u32()? } else { 0 };
    let len = reader.u8()?;
    let bits = reader.take(usize::from(len).div_ceil(8))?;
    Some((path_id, K::from_bits(len, bits)?))
}

/// Appends a prefix.
pub fn put<K: PrefixKey>(out: &mut Vec<u8>, path_id: Option<u32>, key: K) {
    if let Some(id) = path_id {
        out.extend(id.to_be_bytes());
    }
    out.push(key.len());
    out.extend(key.octets().iter().take(key.octet_count()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::prefix::{V4, V6};

    fn round_trip<K: PrefixKey>(prefixes: &[(u32, u8, [u8; 16])], add_path: bool) {
        let keys: Vec<(u32, K)> = prefixes
            .iter()
            .filter_map(|(id, len, bits)| {
                let id = if add_path { *id } else { 0 };
                Some((id, K::from_bits(*len, bits)?))
            })
            .collect();
        let mut out = Vec::new();
        for (id, key) in &keys {
            put(&mut out, add_path.then_some(*id), *key);
        }
        let read = Nlri::<K>::parse(&out, add_path).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), keys);
    }

    proptest! {
        #[test]
        fn prefixes_survive_the_wire(
            prefixes in prop::collection::vec((any::<u32>(), 0u8..=128, any::<[u8; 16]>()), 0..20),
            add_path: bool,
        ) {
            round_trip::<V4>(&prefixes, add_path);
            round_trip::<V6>(&prefixes, add_path);
        }

        #[test]
        fn what_parses_is_walked_to_its_end(bytes: Vec<u8>, add_path: bool) {
            if let Some(nlri) = Nlri::<V4>::parse(&bytes, add_path) {
                prop_assert!(nlri.iter().count() <= bytes.len());
                prop_assert_eq!(nlri.is_empty(), nlri.iter().count() == 0);
            }
        }
    }

    #[test]
    fn lengths_beyond_the_family_and_cut_prefixes_are_refused() {
        for bytes in [
            &[33, 1, 2, 3, 4, 5][..],
            &[24, 10, 0],
            &[255],
            &[0, 0, 0, 1],
        ] {
            let add_path = bytes.len() == 4;
            assert!(Nlri::<V4>::parse(bytes, add_path).is_none(), "{bytes:?}");
        }
        assert!(Nlri::<V6>::parse(&[129; 18], false).is_none());
    }
}
