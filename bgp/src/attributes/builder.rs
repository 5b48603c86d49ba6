//! Attributes by name: for routes of our own, for tests, and to print.

use std::net::Ipv4Addr;

use super::{AttrView, LargeCommunity, Origin, code, flag};

/// Why attributes cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// An attribute is longer than the 65,535 bytes of its length field.
    #[error("attribute {code} is {len} bytes long and may have 65535: give it fewer values")]
    TooLong {
        /// Type code.
        code: u8,
        /// Its length.
        len: usize,
    },
}

/// A route's attributes by name. `as_path` is one sequence, nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, one AS_SEQUENCE; empty for a route of this AS.
    pub as_path: Vec<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Whether the route is an aggregate that lost paths.
    pub atomic_aggregate: bool,
    /// COMMUNITIES.
    pub communities: Vec<u32>,
    /// ORIGINATOR_ID.
    pub originator: Option<Ipv4Addr>,
    /// CLUSTER_LIST.
    pub clusters: Vec<u32>,
    /// Extended communities.
    pub ext_communities: Vec<u64>,
    /// Large communities.
    pub large_communities: Vec<LargeCommunity>,
    /// ONLY_TO_CUSTOMER.
    pub otc: Option<u32>,
}

/// Appends one attribute, with the long form of the length only where it is needed.
pub(crate) fn put_tlv(
    out: &mut Vec<u8>,
    flags: u8,
    code: u8,
    value: &[u8],
) -> Result<(), AttributesError> {
    let flags = flags & !flag::EXTENDED;
    if let Ok(len) = u8::try_from(value.len()) {
        out.extend([flags, code, len]);
    } else {
        let len = u16::try_from(value.len()).map_err(|_| AttributesError::TooLong {
            code,
            len: value.len(),
        })?;
        out.extend([flags | flag::EXTENDED, code]);
        out.extend(len.to_be_bytes());
    }
    out.extend_from_slice(value);
    Ok(())
}

/// Appends AS_SEQUENCE segments of at most 255 numbers each.
pub(crate) fn put_sequence(out: &mut Vec<u8>, asns: &[u32]) {
    for part in asns.chunks(255) {
        out.extend([2, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        out.extend(part.iter().flat_map(|a| a.to_be_bytes()));
    }
}

impl Attributes {
    /// The canonical block, attributes in the order of their codes.
    ///
    /// # Errors
    ///
    /// When an attribute is too long for its length field.
    pub fn block(&self) -> Result<Vec<u8>, AttributesError> {
        let mut out = Vec::with_capacity(64);
        let well_known = flag::TRANSITIVE;
        let transitive = flag::OPTIONAL | flag::TRANSITIVE;
        let mut value = Vec::new();
        put_tlv(&mut out, well_known, code::ORIGIN, &[self.origin as u8])?;
        put_sequence(&mut value, &self.as_path);
        put_tlv(&mut out, well_known, code::AS_PATH, &value)?;
        if let Some(med) = self.med {
            put_tlv(&mut out, flag::OPTIONAL, code::MED, &med.to_be_bytes())?;
        }
        if let Some(pref) = self.local_pref {
            put_tlv(&mut out, well_known, code::LOCAL_PREF, &pref.to_be_bytes())?;
        }
        if self.atomic_aggregate {
            put_tlv(&mut out, well_known, code::ATOMIC_AGGREGATE, &[])?;
        }
        let mut list = |flags, code, value: Vec<u8>| {
            if value.is_empty() {
                return Ok(());
            }
            put_tlv(&mut out, flags, code, &value)
        };
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_be_bytes()).collect();
        list(transitive, code::COMMUNITIES, words(&self.communities))?;
        let originator = self.originator.map(|o| o.octets().to_vec());
        list(
            flag::OPTIONAL,
            code::ORIGINATOR_ID,
            originator.unwrap_or_default(),
        )?;
        list(flag::OPTIONAL, code::CLUSTER_LIST, words(&self.clusters))?;
        let ext = self.ext_communities.iter().flat_map(|w| w.to_be_bytes());
        list(transitive, code::EXT_COMMUNITIES, ext.collect())?;
        let large = self.large_communities.iter();
        let large = large.flat_map(|l| [l.global, l.local1, l.local2].map(u32::to_be_bytes));
        list(
            transitive,
            code::LARGE_COMMUNITIES,
            large.flatten().collect(),
        )?;
        let otc = self.otc.map(|o| o.to_be_bytes().to_vec());
        list(transitive, code::ONLY_TO_CUSTOMER, otc.unwrap_or_default())?;
        Ok(out)
    }
}

impl From<AttrView<'_>> for Attributes {
    fn from(view: AttrView<'_>) -> Attributes {
        Attributes {
            origin: view.origin(),
            as_path: view.asns().collect(),
            med: view.med(),
            local_pref: view.local_pref(),
            atomic_aggregate: view.value(code::ATOMIC_AGGREGATE).is_some(),
            communities: view.communities().collect(),
            originator: view.originator(),
            clusters: view.clusters().collect(),
            ext_communities: view.ext_communities().collect(),
            large_communities: view.large_communities().collect(),
            otc: view.otc(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_their_block() {
        let all = Attributes {
            origin: Origin::Egp,
            as_path: (1..=300).collect(),
            med: Some(7),
            local_pref: Some(200),
            atomic_aggregate: true,
            communities: (0..100).collect(),
            originator: Some(Ipv4Addr::new(10, 0, 0, 1)),
            clusters: vec![1, 2],
            ext_communities: vec![0x0002_fc00_0000_0001],
            large_communities: vec![LargeCommunity {
                global: 1,
                local1: 2,
                local2: 3,
            }],
            otc: Some(64512),
        };
        for attributes in [all, Attributes::default()] {
            let block = attributes.block().unwrap();
            assert_eq!(Attributes::from(AttrView::new(&block)), attributes);
        }
    }

    #[test]
    fn an_attribute_too_long_is_an_error() {
        let attributes = Attributes {
            communities: vec![1; 16384],
            ..Attributes::default()
        };
        let error = attributes.block().unwrap_err();
        assert!(error.to_string().contains("attribute 8 is 65536 bytes"));
    }
}
