//! The table that masquerades as data: what is written, and what reading it back must give.

use model::Family;
use model::kernel::Nat;

use crate::nat::{self, Range};

/// The chain.
pub(super) const CHAIN: &str = "postrouting";

/// A set of addresses with intervals.
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) family: Family,
    pub(super) is_source: bool,
    pub(super) ranges: fn(&Nat, Family) -> Vec<Range>,
}

const fn set(name: &'static str, family: Family, is_source: bool) -> Set {
    let ranges = if is_source { nat::sources } else { nat::exempt };
    Set {
        name,
        family,
        is_source,
        ranges,
    }
}

/// All sets.
pub(super) const SETS: [Set; 4] = [
    set("sources4", Family::V4, true),
    set("exempt4", Family::V4, false),
    set("sources6", Family::V6, true),
    set("exempt6", Family::V6, false),
];

/// A chain with its hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) policy: u32,
}

/// The one chain that the table has.
pub(super) fn chain() -> Chain {
    Chain {
        name: CHAIN.to_owned(),
        kind: "nat".to_owned(),
        // NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC, NF_ACCEPT.
        hook: 4,
        priority: 100,
        policy: 1,
    }
}

/// `IFNAMSIZ`.
pub(super) const NAME_LEN: u32 = 16;

/// The name of an interface as rules compare it.
pub(super) fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_LEN as usize, 0);
    bytes
}

/// What a set is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Ranges of addresses.
    Addresses(Family),
    /// Names of interfaces.
    Names,
}

/// Rules as they compare: whatever they have counted.
pub(super) fn uncounted(mut rules: Vec<Vec<Step>>) -> Vec<Vec<Step>> {
    for step in rules.iter_mut().flatten() {
        if let Step::Counter(bytes) = step {
            *bytes = 0;
        }
    }
    rules
}

/// A step of a rule. All work on the first register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The packet is of this family (`NFPROTO_*`).
    Protocol,
    /// Equal to this.
    Equal(Vec<u8>),
    /// Bytes of the network header.
    Network { offset: u32, len: u32 },
    /// In a set, or not in it.
    Lookup { set: String, not: bool },
    /// The packet came in by the interface of this name.
    InInterface,
    /// The packet leaves by the interface of this name.
    OutInterface,
    /// Not equal to this.
    NotEqual(Vec<u8>),
    /// Bytes that came this far.
    Counter(u64),
    /// It may leave.
    Accept,
    /// It may not.
    Drop,
    /// Leave with the address of the interface.
    Masquerade,
    /// Something that we never write.
    Foreign(String),
}

/// The rules, in order.
pub(super) fn rules() -> Vec<Vec<Step>> {
    let rule = |nfproto: u8, source: u32, destination: u32, len: u32, sets: [&str; 2]| {
        let [sources, exempt] = sets.map(str::to_owned);
        vec![
            Step::Protocol,
            Step::Equal(vec![nfproto]),
            Step::Network {
                offset: source,
                len,
            },
            Step::Lookup {
                set: sources,
                not: false,
            },
            Step::Network {
                offset: destination,
                len,
            },
            Step::Lookup {
                set: exempt,
                not: true,
            },
            Step::Counter(0),
            Step::Masquerade,
        ]
    };
    vec![
        rule(2, 12, 16, 4, ["sources4", "exempt4"]),
        rule(10, 8, 24, 16, ["sources6", "exempt6"]),
    ]
}

/// Where a range begins, or the first address after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bound {
    /// The first address after a range.
    End(u128),
    /// The first address of a range.
    Start(u128),
}

impl Bound {
    fn at(self) -> u128 {
        let (Bound::End(at) | Bound::Start(at)) = self;
        at
    }
}

/// Ranges as bounds. One that reaches the last address has no end.
pub(super) fn bounds(ranges: &[Range], family: Family) -> Vec<Bound> {
    let mut bounds = Vec::with_capacity(2 * ranges.len());
    for &(first, last) in ranges {
        bounds.push(Bound::Start(first));
        if last != nat::last(family) {
            bounds.push(Bound::End(last + 1));
        }
    }
    bounds
}

/// Bounds as ranges, in whatever order the kernel tells them; `None` when they do not match.
pub(super) fn ranges(mut bounds: Vec<Bound>, family: Family) -> Option<Vec<Range>> {
    bounds.sort_unstable_by_key(|b| (b.at(), *b));
    let mut ranges = Vec::new();
    let mut open: Option<u128> = None;
    for bound in bounds {
        match (bound, open.take()) {
            (Bound::Start(first), None) => open = Some(first),
            (Bound::End(after), Some(first)) => ranges.push((first, after.checked_sub(1)?)),
            // nft(8) writes an end at zero when no range starts there.
            (Bound::End(0), None) => {}
            _ => return None,
        }
    }
    ranges.extend(open.map(|first| (first, nat::last(family))));
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_are_ranges_again(
            given in prop::collection::vec((any::<u32>(), 0..1000u32), 0..20), to_end in any::<bool>()
        ) {
            let mut given: Vec<Range> = given
                .into_iter()
                .map(|(a, n)| (u128::from(a), u128::from(a.saturating_add(n))))
                .collect();
            if to_end {
                given.push((u128::from(u32::MAX), u128::from(u32::MAX)));
            }
            let merged = nat::merge(given);
            let mut told = bounds(&merged, Family::V4);
            told.reverse();
            prop_assert_eq!(ranges(told, Family::V4), Some(merged));
        }
    }

    #[test]
    fn bounds_that_do_not_match_are_noticed() {
        let odd = vec![Bound::Start(1), Bound::Start(2)];
        assert_eq!(ranges(odd, Family::V4), None);
        assert_eq!(ranges(vec![Bound::End(9)], Family::V4), None);
        assert_eq!(ranges(vec![Bound::End(0)], Family::V4), Some(vec![]));
    }
}
