//! Masquerade as address ranges: what an nftables set can hold.
//!
//! A set with intervals holds ranges that neither overlap nor touch. Pools may do both, so they
//! are merged first, and comparison is by what a set of prefixes covers, not by how it is written.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::kernel::{Guard, Nat};
use model::{Cidr, Family};

/// First and last address of a range, as numbers.
pub(crate) type Range = (u128, u128);

/// Destinations that are never masqueraded whatever the pools say: they never leave the link,
/// or go to many.
fn fixed_exempt(family: Family) -> [Range; 2] {
    match family {
        // 169.254.0.0/16, and 224.0.0.0 (multicast) to the end (reserved, broadcast).
        Family::V4 => [(0xa9fe_0000, 0xa9fe_ffff), (0xe000_0000, 0xffff_ffff)],
        // fe80::/10 and ff00::/8.
        Family::V6 => [
            (0xfe80 << 112, (0xfec0 << 112) - 1),
            (0xff00 << 112, u128::MAX),
        ],
    }
}

/// The last address of a family as a number.
pub(crate) fn last(family: Family) -> u128 {
    match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        // Never cut: numbers of this family fit.
        Family::V4 => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// Merges ranges that overlap or touch; sorted.
pub(crate) fn merge(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, end) in ranges {
        match merged.last_mut() {
            Some((_, last)) if first <= last.saturating_add(1) => *last = end.max(*last),
            _ => merged.push((first, end)),
        }
    }
    merged
}

fn ranges<'a>(cidrs: impl Iterator<Item = &'a Cidr>, family: Family) -> Vec<Range> {
    cidrs
        .filter(|c| c.family() == family)
        .map(|c| {
            let first = number(c.network());
            (
                first,
                block_end(first, u32::from(family.bits() - c.prefix_len())),
            )
        })
        .collect()
}

/// What is masqueraded, of one family, merged.
pub(crate) fn sources(nat: &Nat, family: Family) -> Vec<Range> {
    merge(ranges(nat.sources.iter(), family))
}

/// To where it is not, of one family, merged.
pub(crate) fn exempt(nat: &Nat, family: Family) -> Vec<Range> {
    let mut all = ranges(nat.exempt.iter(), family);
    all.extend(fixed_exempt(family));
    merge(all)
}

/// The fewest prefixes that cover exactly these ranges.
pub(crate) fn prefixes(ranges: &[Range], family: Family) -> BTreeSet<Cidr> {
    let mut prefixes = BTreeSet::new();
    for &(first, end) in ranges {
        let mut next = Some(first);
        while let Some(start) = next.filter(|s| *s <= end) {
            // As long as it is aligned and does not reach past the end.
            let bits = u32::from(family.bits());
            let mut host = start.trailing_zeros().min(bits);
            while host > 0 && block_end(start, host) > end {
                host -= 1;
            }
            let len = u8::try_from(bits - host).unwrap_or(family.bits());
            prefixes.extend(Cidr::containing(address(family, start), len));
            next = block_end(start, host).checked_add(1);
        }
    }
    prefixes
}

/// The last address of the block at `start` with `host` host bits.
fn block_end(start: u128, host: u32) -> u128 {
    start | 1u128.checked_shl(host).map_or(u128::MAX, |size| size - 1)
}

/// The same masquerade in the one way that observation reports it: fewest prefixes, with the
/// destinations that are always exempt.
pub fn canonical(nat: &Nat) -> Nat {
    let each = |of: fn(&Nat, Family) -> Vec<Range>| {
        Family::ALL
            .into_iter()
            .flat_map(|f| prefixes(&of(nat, f), f))
            .collect()
    };
    Nat {
        sources: each(sources),
        exempt: each(exempt),
    }
}

/// The pools of a guard, of one family, merged.
pub(crate) fn pools(guard: &Guard, family: Family) -> Vec<Range> {
    merge(ranges(guard.pools.iter(), family))
}

/// The same guard in the one way that observation reports it: fewest prefixes.
pub fn canonical_guard(guard: &Guard) -> Guard {
    let families = Family::ALL.into_iter();
    Guard {
        pools: families
            .flat_map(|f| prefixes(&pools(guard, f), f))
            .collect(),
        ..guard.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nat(sources: &[&str], exempt: &[&str]) -> Nat {
        let set = |v: &[&str]| v.iter().map(|c| c.parse().unwrap()).collect();
        Nat {
            sources: set(sources),
            exempt: set(exempt),
        }
    }

    #[test]
    fn touching_and_nested_prefixes_become_one() {
        let n = canonical(&nat(
            &["10.0.0.0/25", "10.0.0.128/25", "10.0.0.7/32", "::/0"],
            &[],
        ));
        assert_eq!(n.sources, nat(&["10.0.0.0/24", "::/0"], &[]).sources);
    }

    #[test]
    fn ranges_reach_the_last_address() {
        let n = nat(&["0.0.0.0/0", "255.255.255.255/32", "::/0"], &["ffff::/16"]);
        assert_eq!(sources(&n, Family::V4), [(0, 0xffff_ffff)]);
        assert_eq!(sources(&n, Family::V6), [(0, u128::MAX)]);
        assert_eq!(
            exempt(&n, Family::V6).last(),
            Some(&(0xff00 << 112, u128::MAX))
        );
        let ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128";
        assert_eq!(
            sources(&nat(&[ones], &[]), Family::V6),
            [(u128::MAX, u128::MAX)]
        );
        let but_one = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/128";
        assert_eq!(
            sources(&nat(&[but_one], &[]), Family::V6),
            [(u128::MAX - 1, u128::MAX - 1)]
        );
    }

    #[test]
    fn what_stays_on_the_link_is_always_exempt() {
        let n = canonical(&nat(&[], &[]));
        let wanted = ["169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "ff00::/8"];
        assert_eq!(n, nat(&[], &wanted));
    }

    proptest! {
        #[test]
        fn prefixes_cover_exactly_what_was_given(
            given in prop::collection::vec((any::<u8>(), 24u8..=32), 0..8)
        ) {
            let sources: BTreeSet<Cidr> = given
                .iter()
                .filter_map(|&(b, len)| Cidr::containing(Ipv4Addr::new(10, 0, 0, b).into(), len))
                .collect();
            let merged = canonical(&Nat { sources: sources.clone(), exempt: BTreeSet::new() });
            for last in 0..=255u8 {
                let ip = IpAddr::from([10, 0, 0, last]);
                let before = sources.iter().any(|c| c.contains(ip));
                let after = merged.sources.iter().filter(|c| c.contains(ip)).count();
                prop_assert_eq!(usize::from(before), after, "{}", ip);
            }
            prop_assert_eq!(canonical(&merged), merged.clone());
        }
    }
}
