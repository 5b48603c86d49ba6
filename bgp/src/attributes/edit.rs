//! Changing a canonical block: what import and export do to a route's attributes.

use std::net::Ipv4Addr;

use super::builder::{put_sequence, put_tlv};
use super::{AttrView, AttributesError, LargeCommunity, Tlv, code, flag};

/// What becomes of one attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Keep<T> {
    /// It stays as it is.
    #[default]
    AsIs,
    /// It goes.
    Drop,
    /// It gets this value.
    Set(T),
    /// It gets this value when it is missing.
    Default(T),
}

impl<T: Copy> Keep<T> {
    fn apply(self, old: Option<T>) -> Option<T> {
        match self {
            Keep::AsIs => old,
            Keep::Drop => None,
            Keep::Set(value) => Some(value),
            Keep::Default(value) => old.or(Some(value)),
        }
    }
}

/// Changes to a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Edit {
    /// AS numbers put before the path, nearest first.
    pub prepend: Vec<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Keep<u32>,
    /// LOCAL_PREF.
    pub local_pref: Keep<u32>,
    /// ORIGINATOR_ID.
    pub originator: Keep<Ipv4Addr>,
    /// `Drop` takes CLUSTER_LIST away; `Set` and `Default` put a cluster before it.
    pub cluster: Keep<u32>,
    /// ONLY_TO_CUSTOMER.
    pub otc: Keep<u32>,
    /// Communities to add.
    pub communities: Vec<u32>,
    /// Large communities to add.
    pub large_communities: Vec<LargeCommunity>,
    /// Whether the block leaves for a neighbour: what is not ours to pass on goes, and what we do not know
    /// is marked as partial (RFC 4271 §5).
    pub leaving: bool,
}

const TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;

fn known(code: u8) -> bool {
    matches!(
        code,
        code::ORIGIN
            ..=code::CLUSTER_LIST
                | code::EXT_COMMUNITIES
                | code::LARGE_COMMUNITIES
                | code::ONLY_TO_CUSTOMER
    )
}

impl Edit {
    /// Whether nothing changes.
    pub fn is_none(&self) -> bool {
        *self == Edit::default()
    }

    /// Writes the changed block to `out`, attributes in the order of their codes.
    ///
    /// # Errors
    ///
    /// When an attribute grew too long for its length field.
    pub fn apply(&self, view: AttrView<'_>, out: &mut Vec<u8>) -> Result<(), AttributesError> {
        out.clear();
        let mut done = [false; 7];
        // Attributes that may have to be made, in the order of their codes.
        let made = [
            code::MED,
            code::LOCAL_PREF,
            code::COMMUNITIES,
            code::ORIGINATOR_ID,
            code::CLUSTER_LIST,
            code::LARGE_COMMUNITIES,
            code::ONLY_TO_CUSTOMER,
        ];
        for tlv in view.tlvs() {
            for (code, done) in made.iter().zip(&mut done) {
                if *code < tlv.code && !*done && view.value(*code).is_none() {
                    self.put(*code, None, out)?;
                    *done = true;
                }
            }
            if tlv.code == code::AS_PATH {
                self.put_path(tlv, out)?;
            } else if let Some(at) = made.iter().position(|c| *c == tlv.code) {
                self.put(tlv.code, Some(tlv), out)?;
                if let Some(done) = done.get_mut(at) {
                    *done = true;
                }
            } else if !self.leaving || known(tlv.code) {
                put_tlv(out, tlv.flags, tlv.code, tlv.value)?;
            } else if tlv.flags & flag::TRANSITIVE != 0 {
                put_tlv(out, tlv.flags | flag::PARTIAL, tlv.code, tlv.value)?;
            }
        }
        for (code, done) in made.iter().zip(done) {
            if !done && view.value(*code).is_none() {
                self.put(*code, None, out)?;
            }
        }
        Ok(())
    }

    fn put_path(&self, tlv: Tlv<'_>, out: &mut Vec<u8>) -> Result<(), AttributesError> {
        if self.prepend.is_empty() {
            return put_tlv(out, tlv.flags, tlv.code, tlv.value);
        }
        let mut value = Vec::with_capacity(tlv.value.len() + 4 * self.prepend.len() + 2);
        match tlv.value {
            // Grow the first sequence where there is room: one segment is what everybody else writes.
            [2, count, rest @ ..] if usize::from(*count) + self.prepend.len() <= 255 => {
                let added = u8::try_from(self.prepend.len()).unwrap_or(0);
                value.extend([2, count + added]);
                value.extend(self.prepend.iter().flat_map(|a| a.to_be_bytes()));
                value.extend_from_slice(rest);
            }
            old => {
                put_sequence(&mut value, &self.prepend);
                value.extend_from_slice(old);
            }
        }
        put_tlv(out, tlv.flags, tlv.code, &value)
    }

    /// One attribute that the edit is about; `tlv` is what was there.
    fn put(
        &self,
        code: u8,
        tlv: Option<Tlv<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), AttributesError> {
        let old = tlv.map_or(&[][..], |t| t.value);
        let word = old.first_chunk().map(|w| u32::from_be_bytes(*w));
        let number = |keep: Keep<u32>| match keep.apply(word) {
            Some(value) => value.to_be_bytes().to_vec(),
            None => Vec::new(),
        };
        let (flags, value) = match code {
            code::MED => (flag::OPTIONAL, number(self.med)),
            code::LOCAL_PREF => (flag::TRANSITIVE, number(self.local_pref)),
            code::ONLY_TO_CUSTOMER => (TRANSITIVE, number(self.otc)),
            code::ORIGINATOR_ID => {
                let ip = self.originator.apply(word.map(Ipv4Addr::from_bits));
                (
                    flag::OPTIONAL,
                    ip.map_or(Vec::new(), |ip| ip.octets().to_vec()),
                )
            }
            code::CLUSTER_LIST => {
                let value = match self.cluster {
                    Keep::AsIs => old.to_vec(),
                    Keep::Drop => Vec::new(),
                    Keep::Set(id) | Keep::Default(id) => [&id.to_be_bytes(), old].concat(),
                };
                (flag::OPTIONAL, value)
            }
            code::COMMUNITIES => {
                let mut value = old.to_vec();
                for community in self.communities.iter().map(|c| c.to_be_bytes()) {
                    if !value.as_chunks::<4>().0.contains(&community) {
                        value.extend(community);
                    }
                }
                (TRANSITIVE, value)
            }
            _ => {
                let mut value = old.to_vec();
                for c in &self.large_communities {
                    let mut bytes = [0; 12];
                    let words = [c.global, c.local1, c.local2]
                        .map(u32::to_be_bytes)
                        .concat();
                    bytes.copy_from_slice(&words);
                    if !value.as_chunks::<12>().0.contains(&bytes) {
                        value.extend(bytes);
                    }
                }
                (TRANSITIVE, value)
            }
        };
        if value.is_empty() {
            return Ok(());
        }
        let partial = tlv.map_or(0, |t| t.flags & flag::PARTIAL);
        put_tlv(out, flags | partial, code, &value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::Attributes;

    fn edited(from: &Attributes, edit: &Edit) -> Attributes {
        let mut out = Vec::new();
        let block = from.block().unwrap();
        edit.apply(AttrView::new(&block), &mut out).unwrap();
        let codes: Vec<u8> = AttrView::new(&out).tlvs().map(|t| t.code).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        Attributes::from(AttrView::new(&out))
    }

    #[test]
    fn every_field_is_set_dropped_and_left() {
        let full = Attributes {
            as_path: vec![7],
            med: Some(1),
            local_pref: Some(2),
            communities: vec![3],
            originator: Some(Ipv4Addr::new(4, 4, 4, 4)),
            clusters: vec![5],
            otc: Some(6),
            ..Attributes::default()
        };
        assert_eq!(edited(&full, &Edit::default()), full);
        let drop = Edit {
            med: Keep::Drop,
            local_pref: Keep::Drop,
            originator: Keep::Drop,
            cluster: Keep::Drop,
            otc: Keep::Drop,
            leaving: true,
            ..Edit::default()
        };
        let bare = Attributes {
            as_path: vec![7],
            communities: vec![3],
            ..Attributes::default()
        };
        assert_eq!(edited(&full, &drop), bare);
        let large = LargeCommunity {
            global: 1,
            local1: 2,
            local2: 3,
        };
        let set = Edit {
            prepend: vec![9, 8],
            med: Keep::Set(11),
            local_pref: Keep::Default(12),
            originator: Keep::Default(Ipv4Addr::new(1, 1, 1, 1)),
            cluster: Keep::Set(13),
            otc: Keep::Default(14),
            communities: vec![3, 15],
            large_communities: vec![large],
            leaving: true,
        };
        let expected = Attributes {
            as_path: vec![9, 8, 7],
            med: Some(11),
            local_pref: Some(2),
            communities: vec![3, 15],
            originator: Some(Ipv4Addr::new(4, 4, 4, 4)),
            clusters: vec![13, 5],
            large_communities: vec![large],
            otc: Some(6),
            ..Attributes::default()
        };
        assert_eq!(edited(&full, &set), expected);
        let expected = Attributes {
            as_path: vec![9, 8],
            med: Some(11),
            local_pref: Some(12),
            communities: vec![3, 15],
            originator: Some(Ipv4Addr::new(1, 1, 1, 1)),
            clusters: vec![13],
            large_communities: vec![large],
            otc: Some(14),
            ..Attributes::default()
        };
        assert_eq!(edited(&Attributes::default(), &set), expected);
    }

    #[test]
    fn a_full_segment_gets_another_before_it() {
        let long = Attributes {
            as_path: (1..=255).collect(),
            ..Attributes::default()
        };
        let edit = Edit {
            prepend: vec![1000],
            ..Edit::default()
        };
        let path = edited(&long, &edit).as_path;
        assert_eq!((path.len(), path[0], path[255]), (256, 1000, 255));
    }

    #[test]
    fn strangers_leave_as_partial_or_not_at_all() {
        let mut block = Attributes::default().block().unwrap();
        block.extend([0xc0, 99, 1, 7, 0x80, 100, 1, 7]);
        let leaving = Edit {
            leaving: true,
            ..Edit::default()
        };
        let mut out = Vec::new();
        leaving.apply(AttrView::new(&block), &mut out).unwrap();
        let last = AttrView::new(&out).tlvs().last().unwrap();
        assert_eq!((last.flags, last.code), (0xe0, 99));
    }
}
