//! Which peer owns an address: the longest prefix that covers it.
//!
//! ```text
//!  AllowedIps ──snapshot()──► Arc<Routes> ──publish──► readers
//!  (the owner changes it)     (immutable)              lookup(destination): whom to send to
//!                                                      lookup(source) == sender: may it come from there
//! ```
//!
//! A prefix has one owner. Giving it to another peer changes one map entry, and readers see it with the
//! next snapshot: never owned by nobody, never by both.
//!
//! A lookup walks a path-compressed trie that branches on six bits at once, in nodes of one cache line.
//! Prefixes of a mesh differ in few bits (blocks of one pool), so two or three nodes decide.

mod trie;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{Cidr, Family};

use crate::peer_id::PeerId;
use trie::Trie;

/// The prefixes of all peers, and who owns each.
#[derive(Clone, Debug, Default)]
pub struct AllowedIps {
    owners: BTreeMap<Cidr, PeerId>,
}

impl AllowedIps {
    /// Gives `prefix` to `peer`, and takes it from whoever had it, whom it returns.
    pub fn assign(&mut self, prefix: Cidr, peer: PeerId) -> Option<PeerId> {
        self.owners.insert(prefix, peer)
    }

    /// Takes `prefix` from `peer`; does nothing when another peer owns it by now.
    pub fn release(&mut self, prefix: &Cidr, peer: PeerId) -> bool {
        let owned = self.owners.get(prefix) == Some(&peer);
        if owned {
            self.owners.remove(prefix);
        }
        owned
    }

    /// Takes `prefix` from whoever owns it.
    pub fn withdraw(&mut self, prefix: &Cidr) {
        self.owners.remove(prefix);
    }

    /// Takes everything from `peer`.
    pub fn release_all(&mut self, peer: PeerId) {
        self.owners.retain(|_, owner| *owner != peer);
    }

    /// All prefixes and their owners, covering ones first.
    pub fn iter(&self) -> impl Iterator<Item = (&Cidr, PeerId)> {
        self.owners.iter().map(|(prefix, peer)| (prefix, *peer))
    }

    /// The prefixes of `peer`, covering ones first.
    pub fn of(&self, peer: PeerId) -> impl Iterator<Item = &Cidr> {
        self.owners
            .iter()
            .filter(move |(_, p)| **p == peer)
            .map(|(c, _)| c)
    }

    /// The lookup table of this moment. Takes time in proportion to all prefixes, so make many changes
    /// and then one snapshot.
    pub fn snapshot(&self) -> Arc<Routes> {
        let of = |family| {
            self.owners
                .iter()
                .filter(move |(c, _)| c.family() == family)
        };
        Arc::new(Routes {
            v4: Trie::build(of(Family::V4).map(|(c, p)| (key(c.network()), c.prefix_len(), *p))),
            v6: Trie::build(of(Family::V6).map(|(c, p)| (key(c.network()), c.prefix_len(), *p))),
        })
    }
}

/// An immutable longest-prefix table of both families.
#[derive(Debug, Default)]
pub struct Routes {
    v4: Trie,
    v6: Trie,
}

impl Routes {
    /// The peer with the longest prefix that covers `ip`.
    #[inline]
    pub fn lookup(&self, ip: IpAddr) -> Option<PeerId> {
        match ip {
            IpAddr::V4(_) => self.v4.lookup(key(ip)),
            IpAddr::V6(_) => self.v6.lookup(key(ip)),
        }
    }
}

/// An address as bits, the first bit of either family on top.
#[inline]
fn key(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => u128::from(a.to_bits()) << 96,
        IpAddr::V6(a) => a.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(n: u32) -> PeerId {
        PeerId::new(n)
    }

    fn c(s: &str) -> Cidr {
        s.parse().unwrap()
    }

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn a_borrowed_address_beats_the_block_around_it() {
        let mut ips = AllowedIps::default();
        ips.assign(c("10.0.0.0/26"), peer(1));
        ips.assign(c("10.0.0.7/32"), peer(2));
        ips.assign(c("fd00::/122"), peer(1));
        ips.assign(c("fd00::7/128"), peer(2));
        let routes = ips.snapshot();
        for (addr, owner) in [
            ("10.0.0.6", Some(1)),
            ("10.0.0.7", Some(2)),
            ("10.0.0.8", Some(1)),
            ("10.0.0.64", None),
            ("fd00::6", Some(1)),
            ("fd00::7", Some(2)),
            ("fd00::40", None),
            ("0.0.0.0", None),
            ("::", None),
        ] {
            assert_eq!(routes.lookup(ip(addr)), owner.map(peer), "{addr}");
        }
    }

    #[test]
    fn a_move_is_seen_whole_by_a_reader_of_any_snapshot() {
        let mut ips = AllowedIps::default();
        ips.assign(c("10.0.0.0/26"), peer(1));
        let before = ips.snapshot();
        assert_eq!(ips.assign(c("10.0.0.0/26"), peer(2)), Some(peer(1)));
        // A late release by the old owner must not undo the move.
        assert!(!ips.release(&c("10.0.0.0/26"), peer(1)));
        let after = ips.snapshot();
        assert_eq!(before.lookup(ip("10.0.0.1")), Some(peer(1)));
        assert_eq!(after.lookup(ip("10.0.0.1")), Some(peer(2)));
        assert_eq!(ips.of(peer(1)).count(), 0);
    }

    #[test]
    fn a_mesh_of_five_thousand_is_small_and_shallow() {
        let mut ips = AllowedIps::default();
        for n in 0..5000u32 {
            let block = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n * 64);
            ips.assign(Cidr::containing(block.into(), 26).unwrap(), peer(n));
            let v6 = std::net::Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(n) * 64);
            ips.assign(Cidr::containing(v6.into(), 122).unwrap(), peer(n));
        }
        let routes = ips.snapshot();
        assert!(routes.v4.bytes() + routes.v6.bytes() < 500_000);
        for n in 0..5000u32 {
            let host = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n * 64 + 63);
            assert_eq!(routes.lookup(host.into()), Some(peer(n)));
            assert!(routes.v4.depth(key(host.into())) <= 3);
            let host = std::net::Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(n) * 64 + 63);
            assert_eq!(routes.lookup(host.into()), Some(peer(n)));
            assert!(routes.v6.depth(key(host.into())) <= 3);
        }
    }

    /// Addresses that agree in long runs of bits, so that prefixes nest and collide.
    fn address() -> impl Strategy<Value = IpAddr> {
        let crowded = prop_oneof![Just(0u128), Just(u128::MAX), 0u128..8, any::<u128>()];
        (crowded, 0u32..128, any::<bool>()).prop_map(|(bits, turn, v4)| {
            let bits = bits.rotate_left(turn);
            if v4 {
                std::net::Ipv4Addr::from_bits((bits >> 96) as u32).into()
            } else {
                std::net::Ipv6Addr::from_bits(bits).into()
            }
        })
    }

    fn prefix() -> impl Strategy<Value = Cidr> {
        (address(), 0u8..=128)
            .prop_map(|(ip, len)| Cidr::containing(ip, len % (Family::of(ip).bits() + 1)).unwrap())
    }

    #[derive(Clone, Debug)]
    enum Change {
        Assign(Cidr, u32),
        Release(prop::sample::Index, u32),
        ReleaseAll(u32),
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Against a plain list that is searched from end to end.
        #[test]
        fn lookups_equal_a_naive_list(
            changes in prop::collection::vec(prop_oneof![
                6 => (prefix(), 0u32..6).prop_map(|(c, p)| Change::Assign(c, p)),
                2 => (any::<prop::sample::Index>(), 0u32..6).prop_map(|(i, p)| Change::Release(i, p)),
                1 => (0u32..6).prop_map(Change::ReleaseAll),
            ], 0..60),
            probes in prop::collection::vec(address(), 20),
        ) {
            let mut ips = AllowedIps::default();
            let mut naive: Vec<(Cidr, PeerId)> = Vec::new();
            for change in changes {
                match change {
                    Change::Assign(c, p) => {
                        ips.assign(c, peer(p));
                        naive.retain(|(n, _)| *n != c);
                        naive.push((c, peer(p)));
                    }
                    Change::Release(at, p) if !naive.is_empty() => {
                        let (c, owner) = naive[at.index(naive.len())];
                        prop_assert_eq!(ips.release(&c, peer(p)), owner == peer(p));
                        naive.retain(|entry| *entry != (c, peer(p)));
                    }
                    Change::Release(..) => {}
                    Change::ReleaseAll(p) => {
                        ips.release_all(peer(p));
                        naive.retain(|(_, owner)| *owner != peer(p));
                    }
                }
            }
            let routes = ips.snapshot();
            // Random addresses, and the first and last of every prefix and those just outside.
            let edges = naive.iter().flat_map(|(c, _)| {
                let first = key(c.network());
                let ones = u128::MAX.checked_shr(c.prefix_len().into()).unwrap_or(0);
                [first, first | ones, first.wrapping_sub(1), (first | ones).wrapping_add(1)]
                    .map(|bits| match c.family() {
                        Family::V4 => std::net::Ipv4Addr::from_bits((bits >> 96) as u32).into(),
                        Family::V6 => std::net::Ipv6Addr::from_bits(bits).into(),
                    })
            });
            for ip in probes.into_iter().chain(edges) {
                let want = naive
                    .iter()
                    .filter(|(c, _)| c.contains(ip))
                    .max_by_key(|(c, _)| c.prefix_len())
                    .map(|(_, p)| *p);
                prop_assert_eq!(routes.lookup(ip), want, "{}", ip);
            }
        }
    }
}
