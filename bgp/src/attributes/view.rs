//! Reading a canonical block in place.

use std::net::Ipv4Addr;

use model::bgp::LargeCommunity;

use super::{Origin, code, flag};

/// One attribute of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Flags as received.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// The value.
    pub value: &'a [u8],
}

/// Walks the attributes of a block; ends at the first that does not fit, which a canonical block has not.
#[derive(Clone, Copy, Debug)]
pub struct Tlvs<'a>(pub(crate) &'a [u8]);

impl<'a> Tlvs<'a> {
    /// Bytes not walked yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (&[flags, code], rest) = self.0.split_first_chunk()?;
        let (len, rest) = if flags & flag::EXTENDED == 0 {
            let (&len, rest) = rest.split_first()?;
            (usize::from(len), rest)
        } else {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(Tlv { flags, code, value })
    }
}

/// A segment of an AS path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsSegment<'a> {
    /// Whether order means something (AS_SEQUENCE); otherwise an AS_SET.
    pub ordered: bool,
    asns: &'a [u8],
}

impl<'a> AsSegment<'a> {
    /// The AS numbers, nearest first.
    pub fn asns(&self) -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator + use<'a> {
        let (words, _) = self.asns.as_chunks::<4>();
        words.iter().map(|w| u32::from_be_bytes(*w))
    }
}

/// A canonical block, read in place. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttrView<'a>(&'a [u8]);

impl<'a> AttrView<'a> {
    /// Reads `block`, which must be canonical: one that [`crate::wire::block::inspect`] gave.
    pub fn new(block: &'a [u8]) -> AttrView<'a> {
        AttrView(block)
    }

    /// The bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// All attributes in the block's order.
    pub fn tlvs(self) -> Tlvs<'a> {
        Tlvs(self.0)
    }

    /// The value of one attribute.
    pub fn value(self, code: u8) -> Option<&'a [u8]> {
        self.tlvs().find(|t| t.code == code).map(|t| t.value)
    }

    fn word(self, code: u8) -> Option<u32> {
        Some(u32::from_be_bytes(*self.value(code)?.first_chunk()?))
    }

    fn words(self, code: u8) -> impl Iterator<Item = u32> + use<'a> {
        let (words, _) = self.value(code).unwrap_or_default().as_chunks::<4>();
        words.iter().map(|w| u32::from_be_bytes(*w))
    }

    /// ORIGIN.
    pub fn origin(self) -> Origin {
        let value = self.value(code::ORIGIN).and_then(|v| v.first());
        Origin::from_u8(value.copied().unwrap_or(u8::MAX))
    }

    /// Segments of the AS path, nearest first.
    pub fn as_path(self) -> impl Iterator<Item = AsSegment<'a>> + use<'a> {
        let mut rest = self.value(code::AS_PATH).unwrap_or_default();
        std::iter::from_fn(move || {
            let (&[kind, count], tail) = rest.split_first_chunk()?;
            let (asns, tail) = tail.split_at_checked(usize::from(count) * 4)?;
            rest = tail;
            Some(AsSegment {
                ordered: kind == 2,
                asns,
            })
        })
    }

    /// Every AS number of the path, nearest first.
    pub fn asns(self) -> impl Iterator<Item = u32> + use<'a> {
        self.as_path().flat_map(|s| s.asns())
    }

    /// Length for the decision: a set counts one (RFC 4271 §9.1.2.2).
    pub fn path_len(self) -> usize {
        self.as_path()
            .map(|s| if s.ordered { s.asns().len() } else { 1 })
            .sum()
    }

    /// The neighbouring AS that the route came by, when the path starts with a sequence.
    pub fn first_as(self) -> Option<u32> {
        let first = self.as_path().next()?;
        first.ordered.then(|| first.asns().next()).flatten()
    }

    /// MULTI_EXIT_DISC.
    pub fn med(self) -> Option<u32> {
        self.word(code::MED)
    }

    /// LOCAL_PREF.
    pub fn local_pref(self) -> Option<u32> {
        self.word(code::LOCAL_PREF)
    }

    /// ORIGINATOR_ID.
    pub fn originator(self) -> Option<Ipv4Addr> {
        self.word(code::ORIGINATOR_ID).map(Ipv4Addr::from_bits)
    }

    /// CLUSTER_LIST, nearest first.
    pub fn clusters(self) -> impl Iterator<Item = u32> + use<'a> {
        self.words(code::CLUSTER_LIST)
    }

    /// COMMUNITIES (RFC 1997).
    pub fn communities(self) -> impl Iterator<Item = u32> + use<'a> {
        self.words(code::COMMUNITIES)
    }

    /// Extended communities (RFC 4360).
    pub fn ext_communities(self) -> impl Iterator<Item = u64> + use<'a> {
        let value = self.value(code::EXT_COMMUNITIES).unwrap_or_default();
        value
            .as_chunks::<8>()
            .0
            .iter()
            .map(|w| u64::from_be_bytes(*w))
    }

    /// Large communities (RFC 8092).
    pub fn large_communities(self) -> impl Iterator<Item = LargeCommunity> + use<'a> {
        let value = self.value(code::LARGE_COMMUNITIES).unwrap_or_default();
        value.as_chunks::<12>().0.iter().map(|c| {
            let [a, b, d, e, f, g, h, i, j, k, l, m] = *c;
            LargeCommunity {
                global: u32::from_be_bytes([a, b, d, e]),
                local1: u32::from_be_bytes([f, g, h, i]),
                local2: u32::from_be_bytes([j, k, l, m]),
            }
        })
    }

    /// ONLY_TO_CUSTOMER (RFC 9234).
    pub fn otc(self) -> Option<u32> {
        self.word(code::ONLY_TO_CUSTOMER)
    }
}
