//! The watch over what leaves in clear.
//!
//! ```text
//! table inet routerd_guard {
//!     set pools4 { type ipv4_addr; flags interval; ... }      pools6 alike
//!     set inside { type ifname; ... }                         interfaces of workloads that others have named
//!     chain clear_text {
//!         type filter hook postrouting priority mangle; policy accept;
//!         oifname "rtd.wg" accept                             encrypted
//!         oifname "lo" accept
//!         oifname "rtd*" oifname != "rtd.*" accept            a workload of this host
//!         oifname @inside accept
//!         ip saddr @pools4 ip daddr @pools4 counter           and then drop, where all is to be encrypted
//!         ip6 saddr @pools6 ip6 daddr @pools6 counter
//!     }
//! }
//! ```
//!
//! Ahead of masquerade, so that addresses are those of workloads; a packet that VXLAN carries is met before
//! it is wrapped. What other programs redirect below IP is not met.

use model::kernel::{ClearText, Guard};
use model::{Family, marks};

use super::table::{Chain, Keys, Step, padded, uncounted};
use super::{Nftables, sorted, wire};
use crate::nat::{pools, prefixes};
use crate::{Error, Refusal};

const TABLE: &str = marks::NFT_GUARD;
const CHAIN: &str = "clear_text";
const POOLS: [(&str, Family); 2] = [("pools4", Family::V4), ("pools6", Family::V6)];
const INSIDE: &str = "inside";

fn chain() -> Chain {
    Chain {
        name: CHAIN.to_owned(),
        kind: "filter".to_owned(),
        // NF_INET_POST_ROUTING, NF_IP_PRI_MANGLE, NF_ACCEPT.
        hook: 4,
        priority: -150,
        policy: 1,
    }
}

fn in_set(set: &str) -> Step {
    let set = set.to_owned();
    Step::Lookup { set, not: false }
}

/// The rules, in order. The last two count, from these numbers of bytes on.
pub(super) fn rules(drop: bool, [v4, v6]: [u64; 2]) -> Vec<Vec<Step>> {
    let by = |name: &str| vec![Step::OutInterface, Step::Equal(padded(name)), Step::Accept];
    let start = |text: &str| text.as_bytes().to_vec();
    let devices = format!("{}.", marks::LINK_PREFIX);
    let from_pool_to_pool = |nfproto: u8, source: u32, len: u32, set: &str, counted: u64| {
        let mut steps = vec![
            Step::Protocol,
            Step::Equal(vec![nfproto]),
            Step::Network {
                offset: source,
                len,
            },
            in_set(set),
            Step::Network {
                offset: source + len,
                len,
            },
            in_set(set),
            Step::Counter(counted),
        ];
        steps.extend(drop.then_some(Step::Drop));
        steps
    };
    vec![
        by(marks::WIREGUARD),
        by("lo"),
        vec![
            Step::OutInterface,
            Step::Equal(start(marks::WORKLOAD_PREFIX)),
            Step::OutInterface,
            Step::NotEqual(start(&devices)),
            Step::Accept,
        ],
        vec![Step::OutInterface, in_set(INSIDE), Step::Accept],
        from_pool_to_pool(2, 12, 4, POOLS[0].0, v4),
        from_pool_to_pool(10, 8, 16, POOLS[1].0, v6),
    ]
}

/// Whether these rules drop, and what they have counted; `None` when they are not ours.
fn read_rules(found: Vec<Vec<Step>>) -> Option<(bool, [u64; 2])> {
    let mut counted = found.iter().flatten().filter_map(|step| match step {
        Step::Counter(bytes) => Some(*bytes),
        _ => None,
    });
    let counted = [counted.next()?, counted.next()?];
    let found = uncounted(found);
    let drop = [false, true]
        .into_iter()
        .find(|drop| found == rules(*drop, [0, 0]))?;
    Some((drop, counted))
}

impl Nftables {
    /// Puts the guard in place of what is there. What it has counted stands, unless it begins or ceases to drop.
    pub(crate) fn set_guard(&mut self, guard: &Guard) -> Result<(), Refusal> {
        let before = self.counted()?.filter(|(drop, _)| *drop == guard.drop);
        let counted = before.map_or([0, 0], |(_, counted)| counted);
        self.replace(TABLE, |batch| {
            for (set, family) in POOLS {
                wire::set(batch, TABLE, set, Keys::Addresses(family));
                wire::elements(batch, TABLE, set, family, &pools(guard, family));
            }
            wire::set(batch, TABLE, INSIDE, Keys::Names);
            wire::names(batch, TABLE, INSIDE, &guard.inside);
            wire::chain(batch, TABLE, &chain());
            for rule in rules(guard.drop, counted) {
                wire::rule(batch, TABLE, CHAIN, &rule);
            }
        })
    }

    /// Deletes the guard; done when there is none.
    pub(crate) fn delete_guard(&mut self) -> Result<(), Refusal> {
        self.remove(TABLE)
    }

    /// What the guard has counted; `None` when there is none.
    pub(crate) fn clear_text(&mut self) -> Result<Option<ClearText>, Refusal> {
        let counted = self.counted()?;
        Ok(counted.map(|(drop, [v4, v6])| {
            let bytes = v4.saturating_add(v6);
            match drop {
                true => ClearText {
                    left: 0,
                    dropped: bytes,
                },
                false => ClearText {
                    left: bytes,
                    dropped: 0,
                },
            }
        }))
    }

    fn counted(&mut self) -> Result<Option<(bool, [u64; 2])>, Refusal> {
        match self.rules(TABLE, CHAIN) {
            Ok(found) => Ok(read_rules(found)),
            Err(e) if e.errno == libc::ENOENT => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the guard does; `None` when there is none. One that is not as we write it has no pools.
    pub(crate) fn observe_guard(&mut self) -> Result<Option<Guard>, Error> {
        let what = format!("table inet {TABLE}");
        self.read_guard().map_err(|e| e.during("dump", what))
    }

    fn read_guard(&mut self) -> Result<Option<Guard>, Refusal> {
        if !self.exists(TABLE)? {
            return Ok(None);
        }
        let foreign = Ok(Some(Guard::default()));
        if self.chains(TABLE)? != [chain()]
            || self.sets(TABLE)? != sorted(POOLS.iter().map(|(name, _)| *name).chain([INSIDE]))
        {
            return foreign;
        }
        let Some((drop, _)) = read_rules(self.rules(TABLE, CHAIN)?) else {
            return foreign;
        };
        let mut guard = Guard {
            drop,
            ..Guard::default()
        };
        for (set, family) in POOLS {
            let Some(ranges) = self.read_elements(TABLE, set, family)? else {
                return foreign;
            };
            guard.pools.extend(prefixes(&ranges, family));
        }
        for name in self.read_names(TABLE, INSIDE)? {
            let Ok(name) = name.parse() else {
                return foreign;
            };
            guard.inside.insert(name);
        }
        Ok(Some(guard))
    }
}
