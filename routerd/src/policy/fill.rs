//! How full the maps of the programs are.

use policy_ebpf::Size;
use policy_ebpf::kernel::Sizes;

use super::Seen;
use crate::flows::Measured;

/// What the owner of policy has put into maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Batches of changes that were compiled.
    pub generation: u32,
    /// Interfaces that have the programs.
    pub interfaces: usize,
    /// Endpoints of this node that have none, by name.
    pub without: Vec<String>,
    /// Why there is nothing to enforce policy with.
    pub missing: Option<String>,
    /// Workloads that are cut off for that, by name.
    pub cut_off: Vec<String>,
    size: Size,
}

impl Fill {
    /// As of now.
    pub fn of(seen: &Seen<'_>) -> Fill {
        let places = seen.places.keys();
        let without = places.filter(|id| !seen.attached.has(id));
        Fill {
            generation: seen.engine.generation(),
            interfaces: seen.attached.len(),
            without: without.map(ToString::to_string).collect(),
            missing: seen.missing().map(str::to_owned),
            cut_off: seen.barrier.cut_off().map(ToString::to_string).collect(),
            size: seen.engine.size(),
        }
    }

    /// Name, entries and most entries of each map.
    pub fn maps(&self, seen: &Measured) -> [(&'static str, usize, usize); 8] {
        let sizes = Sizes::default();
        let room = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let size = &self.size;
        [
            ("CONNECTIONS", seen.connections, room(seen.room)),
            ("COUNTERS", seen.counters, room(sizes.counters())),
            ("TRAILS", seen.trails, room(sizes.trails())),
            ("ENDPOINTS", self.interfaces, room(sizes.endpoints)),
            // Of both versions, and each has room for so many.
            ("IDENTITY", size.prefixes, room(sizes.prefixes)),
            ("CLASS", size.classes, room(sizes.rows)),
            ("CELL", size.cells, room(sizes.rows)),
            ("CHAIN", size.chains, room(sizes.chains())),
        ]
    }
}
