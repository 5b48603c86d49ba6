//! Which path of a prefix is used (RFC 4271 §9.1.2, RFC 4456 §9).
//!
//! Steps are taken over all paths together, each leaving those that tie: a comparison of two at a time
//! would make the winner depend on the order of arrival, because MED is compared within a neighbouring AS only.

use std::net::{IpAddr, Ipv4Addr};

/// What the decision looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where the path is.
    pub path: u32,
    /// Ours: before all others.
    pub local: bool,
    /// LOCAL_PREF.
    pub local_pref: u32,
    /// Length of the AS path.
    pub path_len: u16,
    /// ORIGIN.
    pub origin: u8,
    /// MULTI_EXIT_DISC, 0 when missing.
    pub med: u32,
    /// First AS of the path.
    pub neighbour_as: u32,
    /// From another AS.
    pub external: bool,
    /// Distance of the next hop.
    pub metric: u32,
    /// Router id of the neighbour, or ORIGINATOR_ID.
    pub router_id: Ipv4Addr,
    /// Clusters passed.
    pub clusters: u8,
    /// Address of the neighbour.
    pub address: IpAddr,
    /// Identifier of the path (RFC 7911).
    pub path_id: u32,
}

/// What is decided differently from the RFC's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecisionConfig {
    /// Most paths used at once.
    pub multipath: u16,
    /// Compare MED between neighbouring ASes too.
    pub always_compare_med: bool,
}

impl Default for DecisionConfig {
    fn default() -> DecisionConfig {
        DecisionConfig {
            multipath: 1,
            always_compare_med: false,
        }
    }
}

/// Leaves those with the smallest key.
fn least<K: Ord>(list: &mut Vec<Candidate>, key: impl Fn(&Candidate) -> K) {
    if list.len() > 1
        && let Some(least) = list.iter().map(&key).min()
    {
        list.retain(|c| key(c) == least);
    }
}

/// Puts the best path first and leaves after it the others that are used beside it. Candidates that are not
/// used are removed.
pub fn select(list: &mut Vec<Candidate>, config: &DecisionConfig) {
    if list.len() < 2 {
        return;
    }
    least(list, |c| !c.local);
    least(list, |c| u32::MAX - c.local_pref);
    least(list, |c| c.path_len);
    least(list, |c| c.origin);
    med(list, config.always_compare_med);
    least(list, |c| !c.external);
    least(list, |c| c.metric);
    // What ties up to here is as good for forwarding; the rest only names one.
    list.sort_unstable_by_key(|c| (c.router_id, c.clusters, c.address, c.path_id, c.path));
    list.truncate(usize::from(config.multipath.max(1)));
}

fn med(list: &mut Vec<Candidate>, across: bool) {
    if list.len() < 2 {
        return;
    }
    if across {
        return least(list, |c| c.med);
    }
    list.sort_unstable_by_key(|c| (c.neighbour_as, c.med));
    let mut group = None;
    list.retain(|c| {
        let (asn, least) = *group.get_or_insert((c.neighbour_as, c.med));
        if asn != c.neighbour_as {
            group = Some((c.neighbour_as, c.med));
            return true;
        }
        c.med == least
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Candidate {
        Candidate {
            path: 0,
            local: false,
            local_pref: 100,
            path_len: 3,
            origin: 1,
            med: 10,
            neighbour_as: 64512,
            external: true,
            metric: 10,
            router_id: Ipv4Addr::new(10, 0, 0, 5),
            clusters: 2,
            address: Ipv4Addr::new(10, 0, 0, 5).into(),
            path_id: 5,
        }
    }

    /// Each step, by something better in it and worse in every later one.
    #[test]
    fn every_step_outweighs_all_that_follow() {
        type Change = fn(&mut Candidate, bool);
        let steps: [(&str, Change); 11] = [
            ("local", |c, b| c.local = b),
            ("LOCAL_PREF", |c, b| c.local_pref = if b { 200 } else { 50 }),
            ("path length", |c, b| c.path_len = if b { 1 } else { 9 }),
            ("ORIGIN", |c, b| c.origin = if b { 0 } else { 2 }),
            ("MED", |c, b| c.med = if b { 1 } else { 99 }),
            ("eBGP", |c, b| c.external = b),
            ("metric", |c, b| c.metric = if b { 1 } else { 99 }),
            ("router id", |c, b| {
                c.router_id = Ipv4Addr::from_bits(if b { 1 } else { u32::MAX });
            }),
            ("clusters", |c, b| c.clusters = if b { 0 } else { 9 }),
            ("address", |c, b| {
                c.address = Ipv4Addr::from_bits(if b { 1 } else { u32::MAX }).into();
            }),
            ("path id", |c, b| c.path_id = if b { 1 } else { 99 }),
        ];
        for (at, (name, step)) in steps.iter().enumerate() {
            let (mut winner, mut loser) = (base(), base());
            (winner.path, loser.path) = (1, 2);
            step(&mut winner, true);
            step(&mut loser, false);
            for (_, later) in &steps[at + 1..] {
                later(&mut winner, false);
                later(&mut loser, true);
            }
            for mut list in [vec![winner, loser], vec![loser, winner]] {
                select(&mut list, &DecisionConfig::default());
                assert_eq!(
                    list.iter().map(|c| c.path).collect::<Vec<_>>(),
                    [1],
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn med_counts_within_a_neighbouring_as_only() {
        let candidate = |path, neighbour_as, med, router| Candidate {
            path,
            neighbour_as,
            med,
            router_id: Ipv4Addr::from_bits(router),
            ..base()
        };
        // The classic loop: 1 beats 2 by router id, 2 beats 3 by it too, 3 beats 1 by MED.
        let all = [
            candidate(1, 7, 20, 1),
            candidate(2, 8, 0, 2),
            candidate(3, 7, 10, 3),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let mut list: Vec<_> = order.iter().map(|i| all[*i]).collect();
            select(&mut list, &DecisionConfig::default());
            assert_eq!(list[0].path, 2, "1 is out by MED, then router ids count");
            let mut list: Vec<_> = order.iter().map(|i| all[*i]).collect();
            let across = DecisionConfig {
                always_compare_med: true,
                multipath: 4,
            };
            select(&mut list, &across);
            assert_eq!(list.len(), 1);
        }
    }

    #[test]
    fn multipath_takes_what_ties_before_the_names_are_compared() {
        let mut list: Vec<_> = (1..6)
            .map(|path| Candidate {
                path,
                router_id: Ipv4Addr::from_bits(10 - path),
                metric: if path == 5 { 99 } else { 10 },
                ..base()
            })
            .collect();
        let config = DecisionConfig {
            multipath: 3,
            ..DecisionConfig::default()
        };
        select(&mut list, &config);
        assert_eq!(list.iter().map(|c| c.path).collect::<Vec<_>>(), [4, 3, 2]);
    }

    proptest! {
        #[test]
        fn order_of_arrival_never_matters(
            seeds in prop::collection::vec((0u8..3, 0u8..3, 0u32..3, 0u32..3, any::<bool>(), 0u32..3), 1..8),
            multipath in 1u16..4,
        ) {
            let all: Vec<Candidate> = seeds.iter().zip(0..).map(|((len, origin, med, asn, external, router), path)| Candidate {
                path,
                path_len: u16::from(*len),
                origin: *origin,
                med: *med,
                neighbour_as: *asn,
                external: *external,
                router_id: Ipv4Addr::from_bits(*router),
                ..base()
            }).collect();
            let config = DecisionConfig { multipath, always_compare_med: false };
            let mut forward = all.clone();
            select(&mut forward, &config);
            let mut backward: Vec<_> = all.into_iter().rev().collect();
            select(&mut backward, &config);
            prop_assert_eq!(forward, backward);
        }
    }
}
