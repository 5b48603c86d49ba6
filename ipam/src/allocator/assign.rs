//! Plans the assignment of addresses: who may have which, and from where.

use std::net::IpAddr;

use model::block::{Allocation, FORMAT, Handle};
use model::kv::{Compare, Revision};
use model::resources::AllowedUse;
use model::{Cidr, Family, keys};

use super::draft::{Change, Step, Why};
use super::plan::{Halt, Planned, Planner, caller, node_key, put_handle};
use super::world::HandleState;
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
        if let Some(HandleState::Is(handle, rev)) = self.handle(&wanted.handle)? {
            return self.confirm(wanted, handle, *rev);
        }
        // A new request is planned at once on the guess that its handle is new, which the transaction
        // compares; a refusal is given only when that has been read.
        self.assign_new(wanted).map_err(|halt| match halt {
            Halt::Answer(result, mut depends) => {
                depends.push(keys::handle(&wanted.handle));
                depends.extend(wanted.identity.as_deref().map(keys::handle));
                Halt::Answer(result, depends)
            }
            other => other,
        })
    }

    /// The same request again: the same answer, and the caller's writes once more.
    fn confirm(&self, wanted: &Assign, handle: &Handle, rev: Revision) -> Planned {
        let key = keys::handle(&wanted.handle);
        if handle.node.as_deref() != Some(self.node) {
            let error = match &handle.node {
                Some(node) => AllocError::HandleElsewhere {
                    handle: wanted.handle.clone(),
                    node: node.clone(),
                },
                None => AllocError::Invalid {
                    handle: wanted.handle.clone(),
                    message: "is an identity, not a workload".into(),
                },
            };
            return Err(Halt::refuse(error, vec![key]));
        }
        let assigned = Assigned {
            addresses: handle.addresses.clone(),
            blocks: handle.blocks.clone(),
            existing: true,
            revision: 0,
        };
        let extra = wanted.extra.make(&assigned);
        let mut compares = vec![
            (Compare::ModRevision(key, rev), Why::Record),
            (Compare::Present(node_key(self.node)), Why::NodeExists),
        ];
        compares.extend(caller(&extra));
        Ok(Step {
            changes: Vec::new(),
            compares,
            writes: extra.ops,
            handles: Vec::new(),
            reply: Reply::Assigned(assigned),
        })
    }

    fn assign_new(&self, wanted: &Assign) -> Planned {
        if wanted.usage == AllowedUse::Workload && self.view.cordoned {
            let (handle, node) = (wanted.handle.clone(), self.node.to_owned());
            return Err(Halt::refuse(AllocError::Cordoned { handle, node }, vec![]));
        }
        if let Some(identity) = &wanted.identity
            && let Some(HandleState::Is(kept, rev)) = self.handle(identity)?
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
        let assigned = Assigned {
            addresses: picks.iter().map(|p| p.ip).collect(),
            blocks: picks.iter().map(|p| p.cidr).collect(),
            existing: false,
            revision: 0,
        };
        let mut step = self.bind(wanted, assigned)?;
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
            let kept = Handle {
                node: None,
                identity: None,
                ..self.record(wanted, &step.reply)
            };
            let absent = Compare::Absent(keys::handle(identity));
            step.compares.push((absent, Why::Record));
            step.writes.push(put_handle(identity, &kept));
            step.handles.push((identity.clone(), Some(kept)));
        }
        Ok(step)
    }

    /// A new workload of an identity that holds addresses already.
    fn resume(&self, wanted: &Assign, identity: &str, kept: &Handle, rev: Revision) -> Planned {
        let handle = wanted.handle.clone();
        let key = keys::handle(identity);
        if kept.node.is_some() {
            let message = format!("identity {identity} is a workload's handle");
            let error = AllocError::Invalid { handle, message };
            return Err(Halt::refuse(error, vec![key]));
        }
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
        let assigned = Assigned {
            addresses: kept.addresses.clone(),
            blocks: kept.blocks.clone(),
            existing: true,
            revision: 0,
        };
        let mut step = self.bind(wanted, assigned)?;
        let unchanged = Compare::ModRevision(key.clone(), rev);
        step.compares.push((unchanged, Why::Record));
        for (ip, cidr) in kept.addresses.iter().zip(&kept.blocks) {
            let depends = vec![key.clone(), keys::block(cidr)];
            let block = self.block(cidr)?;
            let place = place_of(cidr, *ip);
            let held = block.and_then(|b| Some((b, b.used.get(&place?)?)));
            let Some((block, held)) = held.filter(|(_, a)| a.handle == identity) else {
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

    /// The part that every new assignment has: the workload's handle and the caller's writes.
    fn bind(&self, wanted: &Assign, assigned: Assigned) -> Planned {
        let extra = wanted.extra.make(&assigned);
        let reply = Reply::Assigned(assigned);
        let record = self.record(wanted, &reply);
        let mut compares = vec![
            (Compare::Absent(keys::handle(&wanted.handle)), Why::Record),
            (Compare::Present(node_key(self.node)), Why::NodeExists),
        ];
        compares.extend(caller(&extra));
        let mut writes = vec![put_handle(&wanted.handle, &record)];
        writes.extend(extra.ops);
        Ok(Step {
            changes: Vec::new(),
            compares,
            writes,
            handles: vec![(wanted.handle.clone(), Some(record))],
            reply,
        })
    }

    fn record(&self, wanted: &Assign, reply: &Reply) -> Handle {
        let (addresses, blocks) = match reply {
            Reply::Assigned(a) => (a.addresses.clone(), a.blocks.clone()),
            Reply::Released(_) => (Vec::new(), Vec::new()),
        };
        Handle {
            version: FORMAT,
            addresses,
            node: Some(self.node.to_owned()),
            namespace: wanted.namespace.clone(),
            name: wanted.name.clone(),
            blocks,
            identity: wanted.identity.clone(),
        }
    }

    fn allocation(&self, wanted: &Assign) -> Allocation {
        let node = Some(self.node.to_owned());
        match &wanted.identity {
            Some(identity) => Allocation {
                handle: identity.clone(),
                node,
                holder: Some(wanted.handle.clone()),
            },
            None => Allocation {
                handle: wanted.handle.clone(),
                node,
                holder: None,
            },
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
