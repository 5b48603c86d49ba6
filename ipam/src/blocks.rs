//! Block arithmetic: which blocks a pool has, in which order a node tries them, which address of a
//! block comes next. Nothing here is proportional to the size of a pool.

use model::Cidr;
use model::block::Block;

/// Most blocks that a node tries before it holds a pool for full. Exhaustive for pools of up to
/// this many blocks; beyond, a pool that is not full has a block among them but for bad luck that
/// needs more than 99.99 % of it taken.
pub const MAX_PROBES: u128 = 1 << 18;

/// Largest block that is understood, addresses. Validation allows 4096.
pub const MAX_BLOCK: u128 = 1 << 16;

/// Number of blocks of prefix length `len` in a pool; 0 when the pool is smaller than a block.
pub fn block_count(pool: &Cidr, len: u8) -> u128 {
    match len.checked_sub(pool.prefix_len()) {
        Some(bits) if len <= pool.family().bits() => {
            1u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX)
        }
        _ => 0,
    }
}

/// The block at `index` of a pool.
pub fn nth_block(pool: &Cidr, len: u8, index: u128) -> Option<Cidr> {
    if index >= block_count(pool, len) {
        return None;
    }
    let shift = u32::from(pool.family().bits() - len);
    Cidr::containing(pool.nth(index.checked_shl(shift)?)?, len)
}

/// The blocks of a pool in the order in which `node` tries them, from a place in that order on.
///
/// A full cycle with a start and an odd stride taken from the node's name: the count of blocks is a
/// power of two, so every block comes exactly once, and two nodes rarely meet.
pub fn candidates(
    pool: Cidr,
    len: u8,
    node: &str,
    from: u128,
) -> impl Iterator<Item = (u128, Cidr)> {
    let count = block_count(&pool, len);
    let mask = count.wrapping_sub(1);
    let (start, stride) = (hash(node, &pool, 1), hash(node, &pool, 2) | 1);
    (from..count.min(MAX_PROBES)).filter_map(move |i| {
        let index = start.wrapping_add(i.wrapping_mul(stride)) & mask;
        Some((i, nth_block(&pool, len, index)?))
    })
}

/// A fixed hash (FNV-1a with a final mix) of a node and a prefix: the same on every machine and in
/// every version, so it can be reasoned about in a bug report.
pub fn hash(node: &str, cidr: &Cidr, salt: u64) -> u128 {
    let text = cidr.to_string();
    let half = |salt: u64| {
        let mut h = 0xcbf2_9ce4_8422_2325_u64 ^ salt;
        for byte in node.bytes().chain([0]).chain(text.bytes()) {
            h = (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        h ^ (h >> 31)
    };
    u128::from(half(salt)) << 64 | u128::from(half(salt ^ 0x9e37_79b9_7f4a_7c15))
}

/// Prefixes that are never handed out on their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved(Vec<Cidr>);

impl Reserved {
    /// From prefixes in any order.
    pub fn new(mut cidrs: Vec<Cidr>) -> Reserved {
        cidrs.sort_unstable();
        cidrs.dedup();
        Reserved(cidrs)
    }

    /// Whether `ip` is covered.
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        self.0.iter().any(|c| c.contains(ip))
    }

    /// Whether every address of `cidr` is covered by one reservation.
    pub fn covers(&self, cidr: &Cidr) -> bool {
        self.0.iter().any(|c| c.covers(cidr))
    }

    /// The reservations that touch a block; usually none.
    fn within(&self, block: &Cidr) -> Vec<Cidr> {
        let touching = self.0.iter().filter(|c| c.overlaps(block));
        touching.copied().collect()
    }
}

/// How long freed addresses rest, as of a moment.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// Now, milliseconds since the epoch.
    pub now: u64,
    /// The cooldown, milliseconds.
    pub cooldown: u64,
}

impl Rest {
    /// Whether an address freed at `freed` has rested enough. A time of release further ahead than
    /// the cooldown comes from a wrong clock and does not lock the address up.
    pub fn over(&self, freed: u64) -> bool {
        freed.saturating_add(self.cooldown) <= self.now
            || freed > self.now.saturating_add(self.cooldown)
    }
}

/// The next address of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At this place.
    Place(u32),
    /// None now: those that are free rest until then, milliseconds since the epoch.
    Resting(u64),
    /// None: all are used or reserved.
    Full,
}

/// Picks the next address of a block: the lowest that does not rest, else the one freed first of
/// those that have rested. Every address counts, an IPv4 block's first and last too: routes to
/// workloads are host routes, so there is no network or broadcast address.
pub fn next_address(block: &Block, reserved: &Reserved, rest: Rest) -> Next {
    let size = u32::try_from(block.cidr.size()).unwrap_or(u32::MAX);
    if block.used.len() >= size as usize {
        return Next::Full;
    }
    let reserved = reserved.within(&block.cidr);
    let held_back = |place: u32| {
        !reserved.is_empty()
            && block
                .cidr
                .nth(u128::from(place))
                .is_none_or(|ip| reserved.iter().any(|c| c.contains(ip)))
    };
    let mut used = block.used.keys().copied().peekable();
    let mut resting = block.cooldown.keys().copied().peekable();
    for place in 0..size {
        // Both maps are sorted: one walk beside the count.
        let is_used = used.next_if_eq(&place).is_some();
        let is_resting = resting.next_if_eq(&place).is_some();
        if !is_used && !is_resting && !held_back(place) {
            return Next::Place(place);
        }
    }
    let free = block.cooldown.iter();
    let free = free.filter(|(place, _)| !block.used.contains_key(place) && !held_back(**place));
    let free: Vec<(u64, u32)> = free.map(|(place, freed)| (*freed, *place)).collect();
    match free.iter().filter(|(freed, _)| rest.over(*freed)).min() {
        Some((_, place)) => Next::Place(*place),
        None => match free.iter().min() {
            Some((freed, _)) => Next::Resting(freed.saturating_add(rest.cooldown)),
            None => Next::Full,
        },
    }
}

/// Addresses of a block that do not rest, are not used and not reserved; and when the one that
/// rests longest was freed.
pub fn room(block: &Block, reserved: &Reserved) -> (u32, Option<u64>) {
    let size = u32::try_from(block.cidr.size()).unwrap_or(u32::MAX);
    let taken = |place: u32| block.used.contains_key(&place) || block.cooldown.contains_key(&place);
    let reserved = reserved.within(&block.cidr);
    let free = if reserved.is_empty() {
        let taken = block.used.len() + block.cooldown.len();
        size.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    } else {
        let free = (0..size).filter(|place| {
            let ip = block.cidr.nth(u128::from(*place));
            !taken(*place) && !ip.is_some_and(|ip| reserved.iter().any(|c| c.contains(ip)))
        });
        u32::try_from(free.count()).unwrap_or(u32::MAX)
    };
    (free, block.cooldown.values().min().copied())
}

/// Why a stored block cannot be worked with; `None` when it can.
pub fn fault(block: &Block, key: &Cidr) -> Option<String> {
    let size = block.cidr.size();
    if block.version != model::block::FORMAT {
        let (version, known) = (block.version, model::block::FORMAT);
        return Some(format!(
            "version {version} is not known, only {known}: upgrade"
        ));
    }
    if block.cidr != *key {
        return Some(format!("cidr {} differs from the key", block.cidr));
    }
    if size > MAX_BLOCK {
        return Some(format!("{size} addresses are more than {MAX_BLOCK}"));
    }
    let places = block.used.keys().chain(block.cooldown.keys());
    if let Some(place) = places.copied().find(|p| u128::from(*p) >= size) {
        return Some(format!("place {place} lies past the end"));
    }
    let twice = block.used.keys().find(|p| block.cooldown.contains_key(p));
    twice.map(|place| format!("place {place} is both used and resting"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::block::Allocation;
    use proptest::prelude::*;

    use super::*;

    fn c(s: &str) -> Cidr {
        s.parse().unwrap()
    }

    fn rest(now: u64) -> Rest {
        let cooldown = 30_000;
        Rest { now, cooldown }
    }

    fn used(handle: &str) -> Allocation {
        Allocation {
            handle: handle.into(),
            node: Some("n".into()),
            holder: None,
            workload: None,
        }
    }

    #[test]
    fn candidates_are_every_block_once() {
        let pool = c("10.0.0.0/20");
        let all: BTreeSet<Cidr> = candidates(pool, 26, "rack1-a", 0).map(|(_, c)| c).collect();
        assert_eq!(all.len(), 64);
        assert!(all.iter().all(|b| b.prefix_len() == 26 && pool.covers(b)));
        assert_eq!(candidates(c("10.0.0.0/28"), 26, "a", 0).count(), 0);
        assert_eq!(candidates(c("10.0.0.0/26"), 26, "a", 0).count(), 1);
    }

    #[test]
    fn a_huge_ipv6_pool_costs_nothing() {
        let pool = c("fd00:1::/48");
        let first: Vec<Cidr> = candidates(pool, 122, "rack1-a", 0)
            .map(|(_, c)| c)
            .take(3)
            .collect();
        assert!(
            first
                .iter()
                .all(|b| b.prefix_len() == 122 && pool.covers(b))
        );
        assert_eq!(block_count(&pool, 122), 1 << 74);
        assert_eq!(candidates(c("::/0"), 128, "a", 0).take(2).count(), 2);
    }

    #[test]
    fn nodes_start_at_different_blocks() {
        let pool = c("10.0.0.0/12");
        let nodes = (0..100).map(|i| format!("node-{i}"));
        let starts: BTreeSet<Cidr> = nodes
            .filter_map(|n| candidates(pool, 26, &n, 0).next().map(|(_, c)| c))
            .collect();
        assert!(starts.len() >= 98, "{} of 100 differ", starts.len());
    }

    #[test]
    fn every_address_of_an_ipv4_block_is_used() {
        let mut block = Block::new(c("10.0.0.0/30"), None);
        for place in 0..4 {
            let next = next_address(&block, &Reserved::default(), rest(0));
            assert_eq!(next, Next::Place(place));
            block.used.insert(place, used("h"));
        }
        let next = next_address(&block, &Reserved::default(), rest(0));
        assert_eq!(next, Next::Full);
    }

    #[test]
    fn resting_addresses_come_last_and_oldest_first() {
        let mut block = Block::new(c("10.0.0.0/30"), None);
        block.used.insert(0, used("h"));
        block.cooldown = [(1, 5_000), (2, 1_000)].into();
        let none = Reserved::default();
        assert_eq!(next_address(&block, &none, rest(6_000)), Next::Place(3));
        block.used.insert(3, used("h"));
        let resting = next_address(&block, &none, rest(6_000));
        assert_eq!(resting, Next::Resting(31_000));
        assert_eq!(next_address(&block, &none, rest(31_000)), Next::Place(2));
        assert_eq!(next_address(&block, &none, rest(99_000)), Next::Place(2));
        let reserved = Reserved::new(vec![c("10.0.0.2/32")]);
        let other = next_address(&block, &reserved, rest(99_000));
        assert_eq!(other, Next::Place(1));
    }

    #[test]
    fn a_release_far_ahead_does_not_lock_an_address_up() {
        assert!(rest(1_000).over(9_000_000));
        assert!(!rest(1_000).over(1_000));
        assert!(!rest(1_000).over(20_000));
    }

    #[test]
    fn foreign_blocks_are_refused() {
        let key = c("10.0.0.0/30");
        let good = Block::new(key, None);
        assert_eq!(fault(&good, &key), None);
        let mut far = good.clone();
        far.cooldown.insert(4, 1);
        assert!(fault(&far, &key).unwrap().contains("past the end"));
        let mut newer = good.clone();
        newer.version = 2;
        assert!(fault(&newer, &key).unwrap().contains("upgrade"));
        assert!(fault(&good, &c("10.0.0.4/30")).is_some());
        assert!(fault(&Block::new(c("10.0.0.0/8"), None), &c("10.0.0.0/8")).is_some());
    }

    proptest! {
        #[test]
        fn next_address_agrees_with_trying_each(
            taken in proptest::collection::btree_map(0u32..16, any::<bool>(), 0..16),
            freed in proptest::collection::vec(0u64..100_000, 16),
            held in 0u32..16,
            now in 0u64..150_000,
        ) {
            let mut block = Block::new(c("10.0.0.0/28"), None);
            for (place, is_used) in taken {
                if is_used {
                    block.used.insert(place, used("h"));
                } else {
                    block.cooldown.insert(place, freed[place as usize]);
                }
            }
            let ip = block.cidr.nth(u128::from(held)).unwrap();
            let reserved = Reserved::new(vec![Cidr::host(ip)]);
            let open = |p: &u32| *p != held && !block.used.contains_key(p);
            let fresh = (0..16).filter(open).find(|p| !block.cooldown.contains_key(p));
            let over = |p: &u32| block.cooldown.get(p).is_some_and(|f| rest(now).over(*f));
            let rested = (0..16).filter(open).filter(over).min_by_key(|p| block.cooldown[p]);
            let next = next_address(&block, &reserved, rest(now));
            match (fresh, rested) {
                (Some(p), _) | (None, Some(p)) => prop_assert_eq!(next, Next::Place(p)),
                (None, None) => prop_assert!(!matches!(next, Next::Place(_))),
            }
            let count = (0..16).filter(open).filter(|p| !block.cooldown.contains_key(p)).count();
            prop_assert_eq!(room(&block, &reserved).0 as usize, count);
        }
    }
}
