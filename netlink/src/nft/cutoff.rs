//! Interfaces of workloads that are cut off, since policies select them that nothing enforces here.
//!
//! ```text
//! table inet routerd_cutoff {
//!     set interfaces { type ifname; ... }
//!     chain from_workloads { type filter hook prerouting priority raw; iifname @interfaces counter drop }
//!     chain to_workloads { type filter hook postrouting priority raw; oifname @interfaces counter drop }
//! }
//! ```
//!
//! What comes in by an interface passes the one hook, whoever it is for, and what leaves by it the other, whoever it is
//! from: other workloads, other nodes and the host. What programs redirect below IP is not met, nor is ARP: those of a daemon before, which
//! send frames from workload to workload, are told to leave that.

use std::collections::BTreeSet;

use model::kernel::LinkName;
use model::marks;

use super::table::{Chain, Keys, Step, uncounted};
use super::{Nftables, wire};
use crate::{Error, Refusal};

const TABLE: &str = marks::NFT_CUTOFF;
const SET: &str = "interfaces";

/// The table of interfaces that are cut off, in the network namespace of the thread that opened it.
///
/// It has an owner of its own: [`Kernel`](crate::Kernel) neither writes it nor tells of it.
pub struct Cutoff {
    /// Nothing when the kernel has no nftables: then there is no table of ours either.
    nftables: Result<Nftables, Refusal>,
}

/// The chains, each with its rule.
pub(super) fn chains() -> [(Chain, Vec<Step>); 2] {
    // NF_INET_PRE_ROUTING and NF_INET_POST_ROUTING.
    [
        ("from_workloads", 0, Step::InInterface),
        ("to_workloads", 4, Step::OutInterface),
    ]
    .map(|(name, hook, interface)| {
        let chain = Chain {
            name: name.to_owned(),
            kind: "filter".to_owned(),
            hook,
            // NF_IP_PRI_RAW, ahead of connection tracking and of anybody's NAT; NF_ACCEPT.
            priority: -300,
            policy: 1,
        };
        let listed = Step::Lookup {
            set: SET.to_owned(),
            not: false,
        };
        let rule = vec![interface, listed, Step::Counter(0), Step::Drop];
        (chain, rule)
    })
}

impl Cutoff {
    /// Opens nftables. A kernel without it is told of when it is needed.
    pub fn open() -> Cutoff {
        Cutoff {
            nftables: Nftables::open(),
        }
    }

    /// The netlink port, carried by notifications of our own changes.
    pub fn port(&self) -> Option<u32> {
        self.nftables.as_ref().ok().map(Nftables::port)
    }

    /// The interfaces that are cut off; `None` when there is no table. One that is not as we write it has none, which we
    /// never write.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn observe(&mut self) -> Result<Option<BTreeSet<LinkName>>, Error> {
        match &mut self.nftables {
            Ok(nftables) => (nftables.read_cutoff())
                .map_err(|e| e.during("dump", format!("table inet {TABLE}"))),
            Err(_) => Ok(None),
        }
    }

    /// Cuts off these interfaces and no others, at once; without any there is no table.
    ///
    /// # Errors
    /// When the kernel refuses, or has no nftables: everything is as it was.
    pub fn set(&mut self, interfaces: &BTreeSet<LinkName>) -> Result<(), Error> {
        let nftables = self.nftables.as_mut().map_err(|e| e.clone());
        let (operation, object) = match interfaces.len() {
            0 => ("delete", format!("table inet {TABLE}")),
            1 => ("set", format!("table inet {TABLE} (1 interface)")),
            n => ("set", format!("table inet {TABLE} ({n} interfaces)")),
        };
        let done = nftables.and_then(|n| match interfaces.is_empty() {
            true => n.remove(TABLE),
            false => n.replace(TABLE, |batch| {
                wire::set(batch, TABLE, SET, Keys::Names);
                wire::names(batch, TABLE, SET, interfaces);
                for (chain, rule) in chains() {
                    wire::chain(batch, TABLE, &chain);
                    wire::rule(batch, TABLE, &chain.name, &rule);
                }
            }),
        });
        done.map_err(|e| e.during(operation, object))
    }
}

impl Nftables {
    fn read_cutoff(&mut self) -> Result<Option<BTreeSet<LinkName>>, Refusal> {
        if !self.exists(TABLE)? {
            return Ok(None);
        }
        let foreign = Ok(Some(BTreeSet::new()));
        let (wanted, rules): (Vec<_>, Vec<_>) = chains().into_iter().unzip();
        let mut found = self.chains(TABLE)?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        if found != wanted || self.sets(TABLE)? != [SET] {
            return foreign;
        }
        for (chain, rule) in wanted.iter().zip(rules) {
            if uncounted(self.rules(TABLE, &chain.name)?) != [rule] {
                return foreign;
            }
        }
        let names = self.read_names(TABLE, SET)?;
        let names: Result<_, _> = names.iter().map(|name| name.parse()).collect();
        Ok(Some(names.unwrap_or_default()))
    }
}
