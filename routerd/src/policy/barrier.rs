//! What stands where nothing enforces policy: a table of interfaces that nothing passes.
//!
//! It stays over restarts, until the daemon knows who is to be cut off, or until its programs are in force everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use model::kernel::LinkName;
use model::object::ObjectId;
use nix::net::if_::if_nametoindex;
use policy_ebpf::kernel;
use tracing::{info, warn};

use super::Owner;
use super::cutoff::{Cutoff, Workload};

/// The kernel's side of it. Errors are messages for an operator.
pub trait Bar: Send {
    /// The interfaces that nothing passes; `None` when there is no table.
    ///
    /// # Errors
    /// The kernel does not tell.
    fn observe(&mut self) -> Result<Option<BTreeSet<LinkName>>, String>;

    /// Lets nothing pass these interfaces, and no others; without any there is no table.
    ///
    /// # Errors
    /// The kernel refuses; everything is as it was.
    fn set(&mut self, interfaces: &BTreeSet<LinkName>) -> Result<(), String>;

    /// Whether an interface has the programs of a daemon before.
    fn has_programs(&self, link: LinkName) -> bool;
}

/// The table in nftables.
pub struct Nft {
    cutoff: netlink::Cutoff,
    directory: PathBuf,
}

impl Nft {
    /// Opens nftables; the programs of a daemon before have their names below `directory`.
    pub fn open(directory: PathBuf) -> Nft {
        Nft {
            cutoff: netlink::Cutoff::open(),
            directory,
        }
    }

    /// The netlink port, carried by notifications of our own changes.
    pub fn port(&self) -> Option<u32> {
        self.cutoff.port()
    }
}

impl Bar for Nft {
    fn observe(&mut self) -> Result<Option<BTreeSet<LinkName>>, String> {
        self.cutoff.observe().map_err(|e| e.to_string())
    }

    fn set(&mut self, interfaces: &BTreeSet<LinkName>) -> Result<(), String> {
        self.cutoff.set(interfaces).map_err(|e| e.to_string())
    }

    fn has_programs(&self, link: LinkName) -> bool {
        let index = if_nametoindex(link.as_str());
        index.is_ok_and(|index| kernel::has_programs(&self.directory, link.as_str(), index))
    }
}

/// Who is cut off, and who should be.
pub struct Barrier {
    bar: Box<dyn Bar>,
    /// What stands, where that is known.
    found: Option<Option<BTreeSet<LinkName>>>,
    cutoff: Option<Cutoff>,
    wanted: BTreeMap<ObjectId, LinkName>,
    /// Those of them that nothing passes.
    standing: BTreeSet<LinkName>,
    /// Workloads that policies select and that go on by programs of a daemon before.
    pub(super) kept: usize,
    /// Why it is not as it should be.
    pub(super) failed: Option<String>,
}

impl Barrier {
    pub(super) fn new(bar: impl Bar + 'static) -> Barrier {
        Barrier {
            bar: Box::new(bar),
            found: None,
            cutoff: None,
            wanted: BTreeMap::new(),
            standing: BTreeSet::new(),
            kept: 0,
            failed: None,
        }
    }

    /// Workloads that are cut off.
    pub fn cut_off(&self) -> impl Iterator<Item = &ObjectId> {
        let stands = |(_, link): &(_, &LinkName)| self.standing.contains(link);
        self.wanted.iter().filter(stands).map(|(id, _)| id)
    }

    /// Whether a workload is.
    pub fn cuts_off(&self, id: &ObjectId) -> bool {
        (self.wanted.get(id)).is_some_and(|link| self.standing.contains(link))
    }

    /// How many should be and are not.
    pub(super) fn uncut(&self) -> usize {
        self.wanted.len() - self.cut_off().count()
    }

    /// Looks anew at what stands.
    pub(super) fn forget(&mut self) {
        self.found = None;
    }

    /// Whether it matters of a workload that its interface has programs, and it has them.
    fn has_programs(&self, id: &ObjectId, link: LinkName) -> bool {
        let matters = self.cutoff.as_ref().is_none_or(|c| c.trusts(id));
        matters && self.bar.has_programs(link)
    }

    /// Cuts off whom policies select, and nobody else.
    fn bring(
        &mut self,
        workloads: &BTreeMap<ObjectId, Workload>,
        in_doubt: bool,
    ) -> Result<(), String> {
        let found = match self.found.take() {
            Some(found) => found,
            None => self.bar.observe()?,
        };
        self.standing = found.clone().unwrap_or_default();
        let stands = &self.standing;
        let cutoff = (self.cutoff).get_or_insert_with(|| Cutoff::new(workloads, stands));
        self.wanted = cutoff.judge(workloads, in_doubt);
        let selected = workloads.iter().filter(|(_, w)| !w.policies.is_empty());
        self.kept = selected
            .filter(|(id, _)| !self.wanted.contains_key(*id))
            .count();
        let links: BTreeSet<LinkName> = self.wanted.values().copied().collect();
        let table = (!links.is_empty()).then(|| links.clone());
        if found != table {
            self.bar.set(&links)?;
            self.report(&links);
        }
        self.standing = links;
        self.found = Some(table);
        Ok(())
    }

    fn report(&self, now: &BTreeSet<LinkName>) {
        let new = |(_, link): &(_, &LinkName)| !self.standing.contains(link);
        let workloads = self.wanted.iter().filter(new);
        let workloads: Vec<String> = workloads.map(|(id, _)| id.to_string()).collect();
        if !workloads.is_empty() {
            warn!(
                ?workloads,
                "cut off: policies select them that this node cannot enforce"
            );
        }
        let interfaces: Vec<&LinkName> = self.standing.difference(now).collect();
        if !interfaces.is_empty() {
            info!(?interfaces, "no longer cut off");
        }
    }
}

impl Owner {
    /// Cuts off the workloads that policies select, where nothing enforces them.
    pub(super) fn bar(&mut self) {
        // Who is cut off stays so until the programs are in force.
        if !self.listed || self.kernel.is_ok() && !self.taken_over {
            return;
        }
        let workloads = match &self.kernel {
            Ok(_) => BTreeMap::new(),
            Err(_) => self.workloads(),
        };
        let done = (self.barrier).bring(&workloads, self.engine.is_in_doubt());
        let failed = done.err();
        if let Some(why) = &failed
            && self.barrier.failed.as_ref() != Some(why)
        {
            warn!("workloads are not cut off as wanted: {why}");
        }
        self.barrier.failed = failed;
    }

    fn workloads(&self) -> BTreeMap<ObjectId, Workload> {
        let local = self.places.iter().filter(|(_, place)| !place.host);
        let each = local.filter_map(|(id, place)| {
            let link: LinkName = place.interface.parse().ok()?;
            let policies: BTreeSet<ObjectId> = self.selecting(id).cloned().collect();
            let has_programs = !policies.is_empty() && self.barrier.has_programs(id, link);
            let workload = Workload {
                link,
                policies,
                has_programs,
            };
            Some((id.clone(), workload))
        });
        each.collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A table in memory; clones are of the same one.
    #[derive(Clone, Default)]
    pub(crate) struct FakeBar(pub(crate) Arc<Mutex<Table>>);

    #[derive(Default)]
    pub(crate) struct Table {
        pub(crate) stands: Option<BTreeSet<LinkName>>,
        pub(crate) writes: usize,
        pub(crate) refuses: bool,
        /// Interfaces with the programs of a daemon before.
        pub(crate) programmed: BTreeSet<LinkName>,
    }

    impl Bar for FakeBar {
        fn observe(&mut self) -> Result<Option<BTreeSet<LinkName>>, String> {
            Ok(self.0.lock().unwrap().stands.clone())
        }

        fn set(&mut self, interfaces: &BTreeSet<LinkName>) -> Result<(), String> {
            let mut table = self.0.lock().unwrap();
            if table.refuses {
                return Err("set table inet routerd_cutoff: no".to_owned());
            }
            table.writes += 1;
            table.stands = (!interfaces.is_empty()).then(|| interfaces.clone());
            Ok(())
        }

        fn has_programs(&self, link: LinkName) -> bool {
            self.0.lock().unwrap().programmed.contains(&link)
        }
    }
}
