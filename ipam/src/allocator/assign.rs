//! Plans the assignment of addresses: who may have which, and from where.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::block::{Allocation, FORMAT, Identity};
use model::kv::{Compare, Revision};
use model::resources::AllowedUse;
use model::{Cidr, Family, keys};

use super::draft::{Change, Step, Why};
use super::plan::{Halt, Planned, Planner, caller, node_key};
use super::world::IdentityState;
use crate::error::{AllocError, PoolVerdict};
use crate::request::{Assign, Assigned, Families, Reply};
use crate::view::PoolView;

/// An address chosen, and what must happen to its block before.
pub(crate) struct Pick {
    pub cidr: Cidr,
    pub place: u32,
    pub ip: IpAddr,
    /// Makes or takes over the block.
    pub block: Option<Change>,
}

impl Planner<'_> {
    pub(crate) fn assign(&self, wanted: &Assign) -> Planned {
        let held = self.world.held(&wanted.handle);
        if !held.is_empty() {
            return self.confirm(wanted, held);
        }
        // A new identity is planned on the guess that it is new, which the transaction compares; a
        // refusal is given only when that has been read.
        self.assign_new(wanted).map_err(|halt| match halt {
            Halt::Answer(result, mut depends) => {
                depends.extend(wanted.identity.as_deref().map(keys::identity));
                Halt::Answer(result, depends)
            }
            other => other,
        })
    }

    /// The same request again: the same answer, and the caller's writes once more.
    fn confirm(&self, wanted: &Assign, held: &[(Cidr, u32)]) -> Planned {
        let mut places: Vec<(IpAddr, Cidr)> = held
            .iter()
            .filter_map(|(cidr, place)| Some((cidr.nth(u128::from(*place))?, *cidr)))
            .collect();
        in_order(wanted, &mut places);
        let (addresses, blocks) = places.into_iter().unzip();
        let assigned = Assigned {
            addresses,
            blocks,
            existing: true,
            revision: 0,
        };
        let extra = wanted.extra.make(&assigned);
        let mut compares = vec![(Compare::Present(node_key(self.node)), Why::NodeExists)];
        let blocks: BTreeSet<&Cidr> = assigned.blocks.iter().collect();
        compares.extend(blocks.into_iter().map(|c| (self.as_known(c), Why::Record)));
        compares.extend(caller(&extra));
        Ok(Step {
            compares,
            writes: extra.ops,
            ..Step::answering(Reply::Assigned(assigned))
        })
    }

    fn assign_new(&self, wanted: &Assign) -> Planned {
        if wanted.usage == AllowedUse::Workload && self.view.cordoned {
            let (handle, node) = (wanted.handle.clone(), self.node.to_owned());
            return Err(Halt::refuse(AllocError::Cordoned { handle, node }, vec![]));
        }
        if let Some(identity) = &wanted.identity
            && let Some(IdentityState::Is(kept, rev)) = self.identity(identity)?
        {
            return self.resume(wanted, identity, kept, *rev);
        }
        let mut picks: Vec<Pick> = Vec::new();
        for ip in &wanted.addresses {
            if picks.iter().all(|p| p.ip != *ip) {
                picks.push(self.pick_requested(wanted, *ip)?);
            }
        }
        for family in self.families(wanted)? {
            picks.push(self.pick_automatic(wanted, family)?);
        }
        let mut places: Vec<(IpAddr, Cidr)> = picks.iter().map(|p| (p.ip, p.cidr)).collect();
        in_order(wanted, &mut places);
        let (addresses, blocks): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        let kept = Identity {
            version: FORMAT,
            addresses: addresses.clone(),
            blocks: blocks.clone(),
        };
        let assigned = Assigned {
            addresses,
            blocks,
            existing: false,
            revision: 0,
        };
        let mut step = self.bind(wanted, assigned);
        if picks.iter().any(|p| p.block.is_some()) {
            step.compares.push(self.pools_unchanged()?);
        }
        let allocation = self.allocation(wanted);
        for pick in picks {
            step.changes
                .extend(pick.block.map(|change| (pick.cidr, change)));
            let take = Change::Take(pick.place, allocation.clone());
            step.changes.push((pick.cidr, take));
        }
        if let Some(identity) = &wanted.identity {
            let absent = Compare::Absent(keys::identity(identity));
            step.compares.push((absent, Why::Record));
            step.identities.push((identity.clone(), Some(kept)));
        }
        Ok(step)
    }

    /// A new workload of an identity that holds addresses already.
    fn resume(&self, wanted: &Assign, identity: &str, kept: &Identity, rev: Revision) -> Planned {
        let handle = wanted.handle.clone();
        let key = keys::identity(identity);
        if !wanted
            .addresses
            .iter()
            .all(|ip| kept.addresses.contains(ip))
        {
            let (identity, held) = (identity.to_owned(), kept.addresses.clone());
            let error = AllocError::IdentityDiffers {
                handle,
                identity,
                held,
            };
            return Err(Halt::refuse(error, vec![key]));
        }
        let both = kept.addresses.iter().copied();
        let mut places: Vec<(IpAddr, Cidr)> = both.zip(kept.blocks.iter().copied()).collect();
        in_order(wanted, &mut places);
        let (addresses, blocks) = places.into_iter().unzip();
        let assigned = Assigned {
            addresses,
            blocks,
            existing: true,
            revision: 0,
        };
        let mut step = self.bind(wanted, assigned);
        let unchanged = Compare::ModRevision(key.clone(), rev);
        step.compares.push((unchanged, Why::Record));
        for (ip, cidr) in kept.addresses.iter().zip(&kept.blocks) {
            let depends = vec![key.clone(), keys::block(cidr)];
            let block = self.block(cidr)?;
            let place = place_of(cidr, *ip);
            let held = block.and_then(|b| Some((b, b.used.get(&place?)?)));
            let Some((block, held)) = held.filter(|(_, a)| a.identity() == Some(identity)) else {
                let error = AllocError::Unreadable {
                    handle,
                    key,
                    message: format!("block {cidr} does not show {ip} as held by it"),
                };
                return Err(Halt::refuse(error, depends));
            };
            if let Some(live) = held.live().filter(|live| *live != wanted.handle) {
                let error = AllocError::IdentityInUse {
                    handle,
                    identity: identity.to_owned(),
                    holder: live.to_owned(),
                    node: held.node.clone().unwrap_or_default(),
                };
                return Err(Halt::refuse(error, depends));
            }
            if self.view.config.strict_affinity && block.node.as_deref() != Some(self.node) {
                let owner = owner_of(block.node.as_deref());
                let (ip, block) = (*ip, *cidr);
                let error = AllocError::Strict {
                    handle,
                    ip,
                    block,
                    owner,
                };
                return Err(Halt::refuse(error, depends));
            }
            if let Some(place) = place {
                let take = Change::Take(place, self.allocation(wanted));
                step.changes.push((*cidr, take));
            }
        }
        // The identity's record stays as it is: only its blocks tell who lives on it.
        Ok(step)
    }

    /// The part that every new assignment has: the node's existence and the caller's writes.
    fn bind(&self, wanted: &Assign, assigned: Assigned) -> Step {
        let extra = wanted.extra.make(&assigned);
        let mut compares = vec![(Compare::Present(node_key(self.node)), Why::NodeExists)];
        compares.extend(caller(&extra));
        Step {
            compares,
            writes: extra.ops,
            ..Step::answering(Reply::Assigned(assigned))
        }
    }

    fn allocation(&self, wanted: &Assign) -> Allocation {
        let (namespace, name) = (&wanted.namespace, &wanted.name);
        let workload = (!namespace.is_empty()).then(|| format!("{namespace}/{name}"));
        let (handle, holder) = match &wanted.identity {
            Some(identity) => (identity.clone(), Some(wanted.handle.clone())),
            None => (wanted.handle.clone(), None),
        };
        Allocation {
            handle,
            node: Some(self.node.to_owned()),
            holder,
            workload,
        }
    }

    /// The families that get an address chosen for them.
    fn families(&self, wanted: &Assign) -> Result<Vec<Family>, Halt> {
        let asked = |f: &Family| wanted.addresses.iter().any(|ip| Family::of(*ip) == *f);
        let named = |f: &Family| wanted.pools.iter().any(|(of, _)| of == f);
        let all = Family::ALL.into_iter().filter(|f| !asked(f));
        let families: Vec<Family> = match &wanted.families {
            Families::Exactly(list) => all.filter(|f| list.contains(f)).collect(),
            Families::Auto if !wanted.addresses.is_empty() => all.filter(named).collect(),
            Families::Auto => all
                .filter(|f| named(f) || !self.usable(wanted, *f).0.is_empty())
                .collect(),
        };
        if families.is_empty() && wanted.addresses.is_empty() {
            let verdicts = Family::ALL
                .into_iter()
                .flat_map(|f| self.usable(wanted, f).1);
            return Err(no_address(wanted, "IP", verdicts.collect()));
        }
        Ok(families)
    }

    /// The pools that may serve a request, in order, and why the others may not.
    pub(crate) fn usable(
        &self,
        wanted: &Assign,
        family: Family,
    ) -> (Vec<&PoolView>, Vec<PoolVerdict>) {
        let (mut pools, mut verdicts) = (Vec::new(), Vec::new());
        let of_family = |p: &&PoolView| p.spec.cidr.family() == family;
        let named = wanted.pools.iter().filter(|(f, _)| *f == family);
        let named: Vec<&str> = named.map(|(_, name)| name.as_str()).collect();
        let mut judge = |pool, named| match PoolView::unusable(pool, self.node, wanted, named) {
            None => pools.push(pool),
            Some(verdict) => verdicts.push(verdict),
        };
        if named.is_empty() {
            for pool in self.view.pools.iter().filter(of_family) {
                judge(pool, false);
            }
            return (pools, verdicts);
        }
        let mut unknown = Vec::new();
        for name in named {
            match self.view.pools.iter().find(|p| p.is_called(name)) {
                Some(pool) if of_family(&pool) => judge(pool, true),
                Some(_) => unknown.push(PoolVerdict::new(name, format!("is not {family}"))),
                None => unknown.push(PoolVerdict::new(name, "does not exist")),
            }
        }
        verdicts.extend(unknown);
        (pools, verdicts)
    }
}

/// The order of an answer: addresses that were asked for as they were, then IPv4 before IPv6. A request
/// that comes again gets the same.
fn in_order(wanted: &Assign, places: &mut [(IpAddr, Cidr)]) {
    let asked = |ip: &IpAddr| wanted.addresses.iter().position(|a| a == ip);
    places.sort_by_key(|(ip, _)| (asked(ip).unwrap_or(usize::MAX), *ip));
}

/// The refusal when no pool serves.
pub(crate) fn no_address(wanted: &Assign, family: &str, pools: Vec<PoolVerdict>) -> Halt {
    let (handle, family) = (wanted.handle.clone(), family.to_owned());
    let error = AllocError::NoAddress {
        handle,
        family,
        pools,
    };
    Halt::refuse(error, vec![])
}

/// The place of an address in a block.
pub(crate) fn place_of(cidr: &Cidr, ip: IpAddr) -> Option<u32> {
    u32::try_from(cidr.index_of(ip)?).ok()
}

/// A block's owner in words.
pub(crate) fn owner_of(node: Option<&str>) -> String {
    node.map_or_else(|| "no node".to_owned(), |n| format!("Node/{n}"))
}
