//! The real kernel.

use std::collections::{BTreeMap, BTreeSet};

use model::kernel::{ClearText, LinkName, NextHop, Observed, Op};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::LinkAttribute;

use crate::nft::Nftables;
use crate::plan::hops;
use crate::socket::{BATCH, Batch, Socket};
use crate::workload::source_check;
use crate::{Error, Kernel, Refusal, describe, encode, observe, sysctl};

/// The kernel, in the network namespace of the thread that opened it.
///
/// Use it from that thread, or from one in the same namespace: kernel switches are found by the
/// namespace of the thread that asks.
pub struct Netlink {
    socket: Socket,
    /// Nothing when the kernel has no nftables: then there is no table of ours either.
    nftables: Result<Nftables, Refusal>,
    /// Indexes as last seen. One that is wrong by now is refused by the kernel: indexes are not
    /// used twice.
    indexes: BTreeMap<LinkName, u32>,
    /// Switches to observe: those named at the start and those written since.
    sysctls: BTreeSet<String>,
}

/// Requests on their way, and the operations that they stand for.
#[derive(Default)]
struct Pending {
    batch: Batch,
    ops: Vec<usize>,
}

impl Pending {
    fn push(&mut self, op: usize, (message, flags): (Message, u16)) {
        self.batch.push(&message, flags);
        self.ops.push(op);
    }
}

impl Netlink {
    /// Opens the kernel. `sysctls` are the switches that observation reads, as paths below
    /// `/proc/sys`.
    ///
    /// # Errors
    /// When there is no rtnetlink, or not the privilege.
    pub fn open(sysctls: impl IntoIterator<Item = String>) -> Result<Netlink, Error> {
        let socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE)
            .map_err(|e| e.during("open", "rtnetlink"))?;
        let sysctls = sysctls.into_iter().collect();
        Ok(Netlink {
            socket,
            nftables: Nftables::open(),
            indexes: BTreeMap::new(),
            sysctls,
        })
    }

    /// The netlink ports: notifications of what this made carry one of them, so that a
    /// [`Monitor`](crate::monitor::Monitor) can leave them out.
    pub fn ports(&self) -> Vec<u32> {
        let nftables = self.nftables.as_ref().ok().map(Nftables::port);
        std::iter::once(self.socket.port())
            .chain(nftables)
            .collect()
    }

    /// The index of a link, asked of the kernel where it is not known.
    fn index(&mut self, name: LinkName) -> Result<u32, Refusal> {
        if let Some(&index) = self.indexes.get(&name) {
            return Ok(index);
        }
        let mut request = Batch::of(&encode::get_link(name.as_str()), 0);
        let found = self
            .socket
            .get(&mut request, |_, payload| observe::link(payload))?;
        let index = found.ok_or(Refusal::errno(libc::ENODEV))?.link.index;
        self.indexes.insert(name, index);
        Ok(index)
    }

    /// The request that carries out an operation; `None` for what rtnetlink has no part in.
    fn request(&mut self, op: &Op) -> Result<Option<(Message, u16)>, Refusal> {
        Ok(Some(match op {
            Op::CreateVxlan(v) => encode::create_vxlan(v, self.index(v.parent)?),
            Op::SetMtu(dev, mtu) => {
                let mut m = encode::link_message(self.index(*dev)?);
                m.attributes.push(LinkAttribute::Mtu(*mtu));
                encode::set_link(m)
            }
            Op::SetMac(dev, mac) => {
                let mut m = encode::link_message(self.index(*dev)?);
                m.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
                encode::set_link(m)
            }
            Op::SetUp(dev) => {
                let mut m = encode::link_message(self.index(*dev)?);
                encode::set_up(&mut m);
                encode::set_link(m)
            }
            Op::DeleteLink(dev) => encode::delete_link(dev.as_str()),
            Op::AddAddress(dev, a) => encode::add_address(self.index(*dev)?, *a),
            Op::DeleteAddress(dev, a) => encode::delete_address(self.index(*dev)?, *a),
            Op::AddRoute(key, route) => {
                let indexes = self.hop_indexes(hops(&route.target))?;
                let m = encode::route(key, route, &|hop| index_in(&indexes, hop));
                (Message::NewRoute(m), encode::flags::ADD)
            }
            Op::ReplaceRoute(key, route) => {
                let indexes = self.hop_indexes(hops(&route.target))?;
                let m = encode::route(key, route, &|hop| index_in(&indexes, hop));
                (Message::NewRoute(m), encode::flags::REPLACE)
            }
            // By key: an interface that is gone does not matter.
            Op::DeleteRoute(key, route) => encode::delete_route(key, route, &|_| 0),
            Op::SetNeighbour(n) => encode::set_neighbour(self.index(n.dev)?, n.ip, n.mac),
            Op::DeleteNeighbour(n) => encode::delete_neighbour(self.index(n.dev)?, n.ip, n.mac),
            Op::SetFdb(e) => encode::set_fdb(self.index(e.dev)?, e),
            Op::DeleteFdb(e) => encode::delete_fdb(self.index(e.dev)?, e),
            Op::SetNat(_)
            | Op::DeleteNat
            | Op::SetGuard(_)
            | Op::DeleteGuard
            | Op::SetSysctl(..) => return Ok(None),
        }))
    }

    fn hop_indexes(&mut self, hops: &[NextHop]) -> Result<Vec<(LinkName, u32)>, Refusal> {
        hops.iter()
            .map(|h| Ok((h.dev, self.index(h.dev)?)))
            .collect()
    }

    /// Sends what is pending and files the answers.
    fn flush(&mut self, pending: &mut Pending, ops: &[Op], results: &mut [Result<(), Error>]) {
        let Pending {
            mut batch,
            ops: sent,
        } = std::mem::take(pending);
        for (at, answer) in sent.into_iter().zip(self.socket.send(&mut batch)) {
            if let (Some(op), Some(result)) = (ops.get(at), results.get_mut(at)) {
                // The first failure is the one to report.
                if result.is_ok() {
                    *result = verdict(op, answer);
                }
            }
        }
    }

    fn other(&mut self, op: &Op) -> Result<(), Error> {
        match op {
            Op::SetSysctl(path, value) => {
                sysctl::write(path, value)?;
                self.sysctls.insert(path.clone());
                Ok(())
            }
            Op::SetNat(nat) => verdict(op, self.nftables().and_then(|n| n.set(nat))),
            Op::DeleteNat => verdict(op, self.nftables().and_then(Nftables::delete)),
            Op::SetGuard(guard) => verdict(op, self.nftables().and_then(|n| n.set_guard(guard))),
            Op::DeleteGuard => verdict(op, self.nftables().and_then(Nftables::delete_guard)),
            _ => Ok(()),
        }
    }

    fn nftables(&mut self) -> Result<&mut Nftables, Refusal> {
        self.nftables.as_mut().map_err(|e| e.clone())
    }
}

fn index_in(indexes: &[(LinkName, u32)], hop: &NextHop) -> u32 {
    indexes
        .iter()
        .find(|(dev, _)| *dev == hop.dev)
        .map_or(0, |(_, index)| *index)
}

/// The result of an operation: deleting what is gone is done.
fn verdict(op: &Op, answer: Result<(), Refusal>) -> Result<(), Error> {
    let gone: &[i32] = match op {
        Op::DeleteLink(_) => &[libc::ENODEV],
        // Without IPv6 there are no addresses of the kernel's making to be kept from.
        Op::CreateVxlan(v) if v.settings.local.is_ipv4() => &[libc::EAFNOSUPPORT],
        Op::DeleteAddress(..) => &[libc::ENODEV, libc::EADDRNOTAVAIL],
        Op::DeleteRoute(..) => &[libc::ESRCH],
        Op::DeleteNeighbour(_) | Op::DeleteFdb(_) => &[libc::ENODEV, libc::ENOENT],
        _ => &[],
    };
    match answer {
        Err(e) if !gone.contains(&e.errno) => {
            Err(e.during(describe::operation(op), describe::object(op)))
        }
        _ => Ok(()),
    }
}

impl Kernel for Netlink {
    fn observe(&mut self) -> Result<Observed, Error> {
        let mut observed = observe::everything(&mut self.socket)?;
        self.indexes = observed.links.values().map(|l| (l.name, l.index)).collect();
        if let Ok(nftables) = &mut self.nftables {
            observed.ours.nat = nftables.observe()?;
            observed.ours.guard = nftables.observe_guard()?;
        }
        // Attaching a workload wrote this one, so nobody has to write it again.
        let links = observed.ours.workload_links.iter();
        self.sysctls.extend(links.map(|link| source_check(*link)));
        for path in std::mem::take(&mut self.sysctls) {
            // One that is gone went with its link.
            if let Some(value) = sysctl::read(&path)? {
                observed.ours.sysctls.insert(path.clone(), value);
                self.sysctls.insert(path);
            }
        }
        Ok(observed)
    }

    fn clear_text(&mut self) -> Result<Option<ClearText>, Error> {
        let what = || format!("table inet {}", model::marks::NFT_GUARD);
        let counted = self.nftables().and_then(Nftables::clear_text);
        counted.map_err(|e| e.during("read the counters of", what()))
    }

    fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), Error>> {
        let mut results: Vec<Result<(), Error>> = vec![Ok(()); ops.len()];
        let mut pending = Pending::default();
        for (at, op) in ops.iter().enumerate() {
            // Changes what later operations need to know, or needs to know what earlier ones did.
            let alone = matches!(
                op,
                Op::CreateVxlan(_)
                    | Op::DeleteLink(_)
                    | Op::SetSysctl(..)
                    | Op::SetNat(_)
                    | Op::SetGuard(_)
            );
            if alone || pending.batch.len() >= BATCH {
                self.flush(&mut pending, ops, &mut results);
            }
            let outcome = match self.request(op) {
                Ok(Some(request)) => {
                    pending.push(at, request);
                    if let Op::CreateVxlan(v) = op {
                        for request in encode::bring_up_by_name(v.name.as_str()) {
                            pending.push(at, request);
                        }
                    }
                    Ok(())
                }
                Ok(None) => self.other(op),
                Err(refusal) => verdict(op, Err(refusal)),
            };
            if let Some(result) = results.get_mut(at) {
                *result = outcome;
            }
            if let Op::CreateVxlan(model::kernel::Vxlan { name, .. }) | Op::DeleteLink(name) = op {
                self.flush(&mut pending, ops, &mut results);
                self.indexes.remove(name);
            }
        }
        self.flush(&mut pending, ops, &mut results);
        results
    }
}
