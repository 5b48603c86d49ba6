//! The pools in order of their ranges, so that the pool of a block is found at once.

use model::resources::{IpPoolSpec, VxlanMode};
use model::snapshot::Snapshot;
use model::{Cidr, Family};

/// A pool and its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool<'a> {
    pub(crate) name: &'a str,
    pub(crate) spec: &'a IpPoolSpec,
}

/// All pools, disabled ones included: addresses of theirs may still be in use.
pub(crate) struct Pools<'a> {
    /// Sorted by range: a covering prefix comes before what it covers.
    sorted: Vec<Pool<'a>>,
}

impl<'a> Pools<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Pools<'a> {
        let mut sorted: Vec<_> = (snapshot.pools.iter())
            .map(|(name, r)| Pool {
                name,
                spec: &r.spec,
            })
            .collect();
        sorted.sort_by_key(|p| p.spec.cidr);
        Pools { sorted }
    }

    /// The pool that a block lies in; the narrowest, should pools overlap after all.
    pub(crate) fn of(&self, block: &Cidr) -> Option<&Pool<'a>> {
        let end = self.sorted.partition_point(|p| p.spec.cidr <= *block);
        let before = self.sorted.get(..end)?;
        before.iter().rev().find(|p| p.spec.cidr.covers(block))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pool<'a>> {
        self.sorted.iter()
    }

    /// Whether some pool has its traffic carried by VXLAN.
    pub(crate) fn want_vxlan(&self) -> bool {
        self.iter().any(|p| p.spec.vxlan_mode != VxlanMode::Never)
    }

    /// Whether a block of a deleted pool still has addresses in use. Looks at every block.
    pub(crate) fn leave_orphans(&self, snapshot: &Snapshot) -> bool {
        (snapshot.blocks.iter()).any(|(cidr, block)| block.in_use && self.of(cidr).is_none())
    }

    /// Whether some pool is of a family.
    pub(crate) fn have(&self, family: Family) -> bool {
        self.iter().any(|p| p.spec.cidr.family() == family)
    }
}

/// How blocks of a deleted pool are reached: the mode of the pool is gone with it, so by the one that
/// reaches most.
pub(crate) const ORPHAN_MODE: VxlanMode = VxlanMode::CrossSubnet;

#[cfg(test)]
mod tests {
    use super::*;
    use model::object::Resource;

    fn snapshot(cidrs: &[&str]) -> Snapshot {
        let mut s = Snapshot::default();
        for c in cidrs {
            let spec = IpPoolSpec::new(c.parse().unwrap());
            s.pools.insert(c.to_string(), Resource::named(*c, spec));
        }
        s
    }

    #[test]
    fn a_block_belongs_to_the_pool_that_covers_it() {
        let s = snapshot(&["10.0.0.0/16", "10.2.0.0/16", "fd00::/64", "10.2.3.0/24"]);
        let pools = Pools::new(&s);
        let of = |b: &str| pools.of(&b.parse().unwrap()).map(|p| p.name);
        assert_eq!(of("10.0.0.0/26"), Some("10.0.0.0/16"));
        assert_eq!(of("10.0.255.192/26"), Some("10.0.0.0/16"));
        assert_eq!(of("10.1.0.0/26"), None);
        assert_eq!(of("10.2.3.64/26"), Some("10.2.3.0/24"));
        assert_eq!(of("10.2.9.0/26"), Some("10.2.0.0/16"));
        assert_eq!(of("fd00::/122"), Some("fd00::/64"));
        assert_eq!(of("fd01::/122"), None);
        assert_eq!(of("9.0.0.0/26"), None);
    }
}
