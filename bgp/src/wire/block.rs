//! Values of attributes: checks a block once and says what the RIB needs of it (RFC 7606 §7).

use rustbgpd_wire as codec;

use super::{Disposition, Fault, MAX_AS_PATH, MAX_CLUSTERS, MAX_COMMUNITIES};
use crate::attributes::{AttrView, Tlvs, code};

/// A block that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The canonical block where it is not the received one: 4-octet AS numbers, nothing that RFC 7606
    /// discards, nothing that a neighbour of another AS has no business to send.
    pub canonical: Option<Vec<u8>>,
    /// Attributes that were discarded.
    pub discarded: Vec<Fault>,
}

fn fault(of: &codec::MalformedAttribute) -> Fault {
    let (_, subcode, _) = of.error.to_notification();
    Fault {
        attribute: of.type_code,
        disposition: match of.disposition {
            codec::ErrorDisposition::AttributeDiscard => Disposition::AttributeDiscard,
            // Prefixes are not in a block, so nothing here hides where they are.
            codec::ErrorDisposition::TreatAsWithdraw | codec::ErrorDisposition::SessionReset => {
                Disposition::TreatAsWithdraw
            }
        },
        subcode,
        what: what(of.type_code, subcode),
    }
}

fn what(attribute: u8, subcode: u8) -> &'static str {
    match (attribute, subcode) {
        (_, 2) => "a well-known attribute is unknown",
        (_, 4) => "an attribute has wrong flags",
        (code::ORIGIN, _) => "ORIGIN is malformed",
        (code::AS_PATH, _) => "AS_PATH is malformed",
        (code::AS4_PATH, _) => "AS4_PATH is malformed or not wanted here",
        (code::MED, _) => "MULTI_EXIT_DISC is malformed",
        (code::LOCAL_PREF, _) => "LOCAL_PREF is malformed or not wanted here",
        (code::ATOMIC_AGGREGATE, _) => "ATOMIC_AGGREGATE is malformed",
        (code::AGGREGATOR | code::AS4_AGGREGATOR, _) => {
            "AGGREGATOR is malformed or not wanted here"
        }
        (code::COMMUNITIES, _) => "COMMUNITIES is malformed",
        (code::ORIGINATOR_ID, _) => "ORIGINATOR_ID is malformed or not wanted here",
        (code::CLUSTER_LIST, _) => "CLUSTER_LIST is malformed or not wanted here",
        (code::EXT_COMMUNITIES, _) => "EXTENDED_COMMUNITIES is malformed",
        (code::LARGE_COMMUNITIES, _) => "LARGE_COMMUNITIES is malformed",
        (code::ONLY_TO_CUSTOMER, _) => "ONLY_TO_CUSTOMER is malformed",
        _ => "an attribute is malformed",
    }
}

fn withdraw(attribute: u8, subcode: u8, what: &'static str) -> Fault {
    Fault {
        attribute,
        disposition: Disposition::TreatAsWithdraw,
        subcode,
        what,
    }
}

/// Checks [`super::update::Update::block`].
///
/// # Errors
///
/// The fault for which the UPDATE's prefixes count as withdrawn.
pub fn inspect(block: &[u8], ibgp: bool, as4: bool) -> Result<Inspected, Fault> {
    let garbled = withdraw(0, 1, "the attributes cannot be read");
    let decoded = codec::attribute::decode_path_attributes_revised(block, as4, ibgp, &[])
        .map_err(|_| garbled)?;
    let faults = || decoded.malformed.iter().map(fault);
    if let Some(fault) = faults().find(|f| f.disposition == Disposition::TreatAsWithdraw) {
        return Err(fault);
    }
    if has_empty_segment(block, as4) {
        return Err(withdraw(
            code::AS_PATH,
            11,
            "AS_PATH has a segment without a number",
        ));
    }
    let mut discarded: Vec<Fault> = faults().collect();
    let mut attributes = decoded.attributes;
    for attribute in &attributes {
        if let codec::PathAttribute::Unknown(raw) = attribute
            && raw.flags & crate::attributes::flag::OPTIONAL == 0
        {
            return Err(withdraw(raw.type_code, 2, what(raw.type_code, 2)));
        }
    }
    if !ibgp {
        // RFC 7606 §7.5, §7.9, §7.10: from another AS they are dropped, malformed or not.
        let inner = [code::LOCAL_PREF, code::ORIGINATOR_ID, code::CLUSTER_LIST];
        attributes.retain(|attribute| {
            let attribute = attribute.type_code();
            let wanted = !inner.contains(&attribute);
            if !wanted {
                discarded.push(Fault {
                    attribute,
                    disposition: Disposition::AttributeDiscard,
                    subcode: 9,
                    what: what(attribute, 9),
                });
            }
            wanted
        });
    }
    let unchanged = as4 && discarded.is_empty() && attributes.len() == Tlvs(block).count();
    let canonical = if unchanged {
        None
    } else {
        let mut out = Vec::with_capacity(block.len() + 16);
        codec::attribute::encode_path_attributes(&attributes, &mut out, true, false)
            .map_err(|_| garbled)?;
        Some(out)
    };
    bounds(AttrView::new(canonical.as_deref().unwrap_or(block)))?;
    Ok(Inspected {
        canonical,
        discarded,
    })
}

/// RFC 7606 §7.2; the codec skips such segments.
fn has_empty_segment(block: &[u8], as4: bool) -> bool {
    let Some(mut rest) = AttrView::new(block).value(code::AS_PATH) else {
        return false;
    };
    let width = if as4 { 4 } else { 2 };
    while let Some((&[_, count], tail)) = rest.split_first_chunk() {
        if count == 0 {
            return true;
        }
        rest = tail.get(usize::from(count) * width..).unwrap_or_default();
    }
    false
}

fn bounds(view: AttrView<'_>) -> Result<(), Fault> {
    let limits = [
        (
            code::AS_PATH,
            view.asns().count(),
            MAX_AS_PATH,
            11,
            "AS_PATH is too long",
        ),
        (
            code::COMMUNITIES,
            view.communities().count(),
            MAX_COMMUNITIES,
            9,
            "too many communities",
        ),
        (
            code::EXT_COMMUNITIES,
            view.ext_communities().count(),
            MAX_COMMUNITIES,
            9,
            "too many extended communities",
        ),
        (
            code::LARGE_COMMUNITIES,
            view.large_communities().count(),
            MAX_COMMUNITIES,
            9,
            "too many large communities",
        ),
        (
            code::CLUSTER_LIST,
            view.clusters().count(),
            MAX_CLUSTERS,
            9,
            "too many clusters",
        ),
    ];
    for (attribute, count, limit, subcode, what) in limits {
        if count > limit {
            return Err(withdraw(attribute, subcode, what));
        }
    }
    Ok(())
}

/// A canonical block for a peer with 2-octet AS numbers (RFC 6793 §4.2.2); `None` when it cannot be written.
pub(crate) fn to_as2(block: &[u8]) -> Option<Vec<u8>> {
    let decoded = codec::attribute::decode_path_attributes_revised(block, true, true, &[]).ok()?;
    let mut out = Vec::with_capacity(block.len());
    codec::attribute::encode_path_attributes(&decoded.attributes, &mut out, false, false).ok()?;
    Some(out)
}
