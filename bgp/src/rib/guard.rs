//! The guard of our own pools: which learnt routes inside of them are used, passed on or refused.

use hashbrown::HashSet;
use model::Cidr;
use model::bgp::PoolGuard;

use super::peer::LOCAL;
use super::plane::Plane;
use super::{Rib, Shared};
use crate::prefix::{PrefixKey, V4, V6};

/// What the guard says of a learnt prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stance {
    /// It lies in no pool of ours.
    #[default]
    Free,
    /// It is what another node has, and used.
    Importable,
    /// It is what another node has, and passed on; this node has its own way there.
    Passable,
    /// It lies in a pool, and no other node has exactly this.
    Refused,
}

impl Stance {
    /// What an operator should know of it.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Stance::Free | Stance::Importable => None,
            Stance::Passable => Some("this node has its own way there"),
            Stance::Refused => Some("inside our pools, and no other node has this block"),
        }
    }
}

/// The guard as the table of one family needs it.
#[derive(Debug)]
pub(crate) struct Guard<K> {
    /// Sorted, none inside another: at most one of them can hold a prefix.
    pools: Vec<K>,
    importable: HashSet<K>,
    passable: HashSet<K>,
}

impl<K> Default for Guard<K> {
    fn default() -> Self {
        Guard {
            pools: Vec::new(),
            importable: HashSet::new(),
            passable: HashSet::new(),
        }
    }
}

impl<K: PrefixKey> Guard<K> {
    fn new(guard: &PoolGuard) -> Guard<K> {
        let keys = |of: &std::collections::BTreeSet<Cidr>| -> HashSet<K> {
            of.iter().filter_map(K::from_cidr).collect()
        };
        let mut pools: Vec<K> = guard.pools.iter().filter_map(K::from_cidr).collect();
        pools.sort_unstable();
        // Sorted, what covers comes before what it covers.
        pools.dedup_by(|inner, outer| outer.covers(*inner));
        Guard {
            pools,
            importable: keys(&guard.importable),
            passable: keys(&guard.passable),
        }
    }

    /// What is to be done with a learnt `key`.
    pub(crate) fn stance(&self, key: K) -> Stance {
        let after = self.pools.partition_point(|pool| *pool <= key);
        let pool = after.checked_sub(1).and_then(|at| self.pools.get(at));
        if !pool.is_some_and(|pool| pool.covers(key)) {
            Stance::Free
        } else if self.importable.contains(&key) {
            Stance::Importable
        } else if self.passable.contains(&key) {
            Stance::Passable
        } else {
            Stance::Refused
        }
    }
}

impl<K: PrefixKey> Plane<K> {
    fn set_guard(&mut self, shared: &mut Shared, guard: &PoolGuard) {
        let new = Guard::new(guard);
        let old = std::mem::replace(&mut self.guard, new);
        let changed = |key: &K| old.stance(*key) != self.guard.stance(*key);
        let nets: Vec<u32> = if old.pools == self.guard.pools {
            // Blocks come and go all the time: no reason to look at a full table.
            let (new, mut nets) = (&self.guard, Vec::new());
            let both = old.importable.symmetric_difference(&new.importable);
            let keys: HashSet<K> = both
                .chain(old.passable.symmetric_difference(&new.passable))
                .copied()
                .collect();
            nets.extend(
                keys.into_iter()
                    .filter(changed)
                    .filter_map(|key| self.table.find(key)),
            );
            nets
        } else {
            let nets = 0..self.table.end();
            nets.filter(|net| changed(&self.table.key(*net))).collect()
        };
        for net in nets {
            let paths: Vec<u32> = self.table.paths_of(net).collect();
            if paths.is_empty() {
                continue; // Its number is free, and its prefix may live on under another.
            }
            for path in paths {
                if self.table.path(path).peer != LOCAL {
                    self.rejudge_one(shared, net, path);
                }
            }
            // Used or only passed on: the same path, and not the same for the kernel.
            self.kernel.insert(net);
        }
    }
}

impl Rib {
    /// Changes which learnt routes inside our pools are used, and judges those held again.
    pub fn set_guard(&mut self, guard: &PoolGuard) {
        self.v4.set_guard(&mut self.shared, guard);
        self.v6.set_guard(&mut self.shared, guard);
    }

    /// What the guard says of a learnt prefix.
    pub fn stance(&self, prefix: &Cidr) -> Stance {
        let v4 = V4::from_cidr(prefix).map(|key| self.v4.guard.stance(key));
        let v6 = || V6::from_cidr(prefix).map(|key| self.v6.guard.stance(key));
        v4.or_else(v6).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(texts: &[&str]) -> std::collections::BTreeSet<Cidr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_lies_in_a_pool_is_guarded() {
        let guard = PoolGuard {
            pools: set(&["10.0.0.0/16", "10.0.128.0/17", "10.2.0.0/24", "fd00::/64"]),
            importable: set(&["10.0.1.0/26", "10.0.200.5/32", "fd00::40/122"]),
            passable: set(&["10.0.2.0/26", "192.0.2.0/24"]),
        };
        let (v4, v6) = (Guard::<V4>::new(&guard), Guard::<V6>::new(&guard));
        assert_eq!(v4.pools.len(), 2, "a pool inside another adds nothing");
        for (prefix, stance) in [
            ("0.0.0.0/0", Stance::Free),
            ("10.0.0.0/8", Stance::Free),
            ("10.0.0.0/16", Stance::Refused),
            ("10.0.1.0/26", Stance::Importable),
            ("10.0.1.0/27", Stance::Refused),
            ("10.0.1.0/25", Stance::Refused),
            ("10.0.200.5/32", Stance::Importable),
            ("10.0.2.0/26", Stance::Passable),
            ("10.1.0.0/26", Stance::Free),
            ("10.2.0.128/25", Stance::Refused),
            ("192.0.2.0/24", Stance::Free),
        ] {
            let key = V4::from_cidr(&prefix.parse().unwrap()).unwrap();
            assert_eq!(v4.stance(key), stance, "{prefix}");
        }
        for (prefix, stance) in [
            ("::/0", Stance::Free),
            ("fd00::40/122", Stance::Importable),
            ("fd00::80/122", Stance::Refused),
            ("fd00:0:0:1::/64", Stance::Free),
        ] {
            let key = V6::from_cidr(&prefix.parse().unwrap()).unwrap();
            assert_eq!(v6.stance(key), stance, "{prefix}");
        }
    }

    fn any_prefix() -> impl Strategy<Value = Cidr> {
        (0u8..4, 0u8..=255, 14u8..=32).prop_map(|(a, b, len)| {
            Cidr::containing(std::net::IpAddr::from([10, a, b, b]), len).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_tables_say_what_a_search_through_all_says(
            pools in prop::collection::btree_set(any_prefix(), 0..8),
            importable in prop::collection::btree_set(any_prefix(), 0..8),
            passable in prop::collection::btree_set(any_prefix(), 0..8),
            other in any_prefix(),
        ) {
            let guard = PoolGuard { pools, importable, passable };
            let tables = Guard::<V4>::new(&guard);
            let all = guard.pools.iter().chain(&guard.importable).chain(&guard.passable);
            for prefix in all.chain([&other]) {
                let naive = if !guard.pools.iter().any(|pool| pool.covers(prefix)) {
                    Stance::Free
                } else if guard.importable.contains(prefix) {
                    Stance::Importable
                } else if guard.passable.contains(prefix) {
                    Stance::Passable
                } else {
                    Stance::Refused
                };
                prop_assert_eq!(tables.stance(V4::from_cidr(prefix).unwrap()), naive, "{}", prefix);
            }
        }
    }
}
