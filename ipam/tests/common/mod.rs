//! A node's allocator over a shared store, everything delivered at once.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::net::IpAddr;

use ipam::check::Records;
use ipam::testing::{MemoryStore, TestStore};
use ipam::{
    AllocError, Allocator, Assign, Assigned, Failure, IpamView, Options, PoolView, Release,
    Released, Reply, Request, RequestId, Seen,
};
use model::block::Block;
use model::kv::{Op, Txn};
use model::resources::IpPoolSpec;
use model::{Cidr, Kind, keys};

pub(crate) fn c(s: &str) -> Cidr {
    s.parse().unwrap()
}

pub(crate) fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

pub(crate) fn pool(name: &str, cidr: &str, block_size: u8) -> PoolView {
    let spec = IpPoolSpec {
        block_size: Some(block_size),
        ..IpPoolSpec::new(c(cidr))
    };
    PoolView::new(name, spec)
}

/// The store, its clock, and how many transactions it saw.
pub(crate) struct Lab {
    pub store: MemoryStore,
    pub now: u64,
    pub txns: Vec<Txn>,
    /// A transaction that writes a key with this in its name is refused.
    pub refuses: Option<&'static str>,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab {
            store: MemoryStore::new(),
            now: 1_000_000,
            txns: Vec::new(),
            refuses: None,
        }
    }

    /// A node that exists, with its allocator.
    pub(crate) fn node(&mut self, name: &str, view: &IpamView) -> Allocator {
        self.put(&node_key(name), "{}");
        self.daemon(name, view)
    }

    /// A daemon that starts from what the store has.
    pub(crate) fn daemon(&mut self, name: &str, view: &IpamView) -> Allocator {
        let mut allocator = Allocator::new(Options::new(name, 7));
        self.tell(&mut allocator);
        allocator.set_view(view.clone());
        allocator
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) {
        let txn = Txn::new().then(Op::put(key, value));
        assert!(self.store.txn(&txn).unwrap().succeeded);
    }

    pub(crate) fn delete(&mut self, key: &str) {
        self.store
            .txn(&Txn::new().then(Op::Delete(key.into())))
            .unwrap();
    }

    /// All blocks as events, as of now.
    pub(crate) fn tell(&mut self, allocator: &mut Allocator) {
        let all = self.store.list("");
        let newest = all.iter().map(|kv| kv.mod_revision).max().unwrap_or(0);
        for kv in self.store.list(keys::BLOCKS) {
            let cidr = keys::parse_block(&kv.key).unwrap();
            match serde_json::from_slice::<Block>(&kv.value) {
                Ok(block) => allocator.block_event(cidr, Seen::Is(&block), kv.mod_revision),
                Err(e) => {
                    let why = e.to_string();
                    allocator.block_event(cidr, Seen::Unreadable(&why), kv.mod_revision);
                }
            }
        }
        allocator.listed(newest);
    }

    /// Carries out one transaction; false when there is none.
    pub(crate) fn step(&mut self, allocator: &mut Allocator) -> bool {
        if allocator.wants_listing() {
            self.tell(allocator);
        }
        let Some((id, txn)) = allocator.poll_txn(self.now) else {
            return false;
        };
        self.txns.push(txn.clone());
        let bad = |op: &Op| match (op, self.refuses) {
            (Op::Put { key, .. }, Some(bad)) => key.contains(bad),
            _ => false,
        };
        let outcome = if txn.success.iter().any(bad) {
            Err(Failure::Refused("request is too large".into()))
        } else {
            self.store.txn(&txn)
        };
        allocator.handle_outcome(self.now, id, outcome);
        true
    }

    pub(crate) fn run(&mut self, allocator: &mut Allocator) {
        for _ in 0..1_000 {
            if !self.step(allocator) {
                return;
            }
        }
        panic!("never comes to rest");
    }

    pub(crate) fn ask(
        &mut self,
        allocator: &mut Allocator,
        request: Request,
    ) -> Result<Reply, AllocError> {
        allocator.submit(self.now, RequestId(99), request);
        self.run(allocator);
        let (id, result) = allocator.poll_reply().expect("a reply");
        assert_eq!((id, allocator.poll_reply()), (RequestId(99), None));
        result
    }

    pub(crate) fn assign(
        &mut self,
        a: &mut Allocator,
        wanted: Assign,
    ) -> Result<Assigned, AllocError> {
        match self.ask(a, Request::Assign(wanted))? {
            Reply::Assigned(assigned) => Ok(assigned),
            Reply::Released(_) => panic!("released"),
        }
    }

    pub(crate) fn add(
        &mut self,
        a: &mut Allocator,
        handle: &str,
    ) -> Result<Vec<IpAddr>, AllocError> {
        Ok(self.assign(a, workload(handle))?.addresses)
    }

    pub(crate) fn add_ip(
        &mut self,
        a: &mut Allocator,
        handle: &str,
        s: &str,
    ) -> Result<Vec<IpAddr>, AllocError> {
        let addresses = vec![ip(s)];
        let wanted = Assign {
            addresses,
            ..workload(handle)
        };
        Ok(self.assign(a, wanted)?.addresses)
    }

    pub(crate) fn release(
        &mut self,
        a: &mut Allocator,
        request: Request,
    ) -> Result<Released, AllocError> {
        match self.ask(a, request)? {
            Reply::Released(released) => Ok(released),
            Reply::Assigned(_) => panic!("assigned"),
        }
    }

    pub(crate) fn del(&mut self, a: &mut Allocator, handle: &str) -> Released {
        self.release(a, release(handle)).unwrap()
    }

    pub(crate) fn block(&mut self, cidr: &str) -> Option<Block> {
        let kv = self.store.list(&keys::block(&c(cidr))).pop()?;
        Some(serde_json::from_slice(&kv.value).unwrap())
    }

    /// What the blocks say that a handle holds.
    pub(crate) fn held(&mut self, handle: &str) -> Vec<IpAddr> {
        let records = Records::from_pairs(&self.store.list("ipam/"));
        let all = records.allocations();
        let its = all.filter(|(_, a)| a.live() == Some(handle));
        its.map(|(ip, _)| ip).collect()
    }

    /// How many addresses are handed out or kept.
    pub(crate) fn used(&mut self) -> usize {
        let records = Records::from_pairs(&self.store.list("ipam/"));
        records.allocations().count()
    }

    pub(crate) fn count(&mut self, prefix: &str) -> usize {
        self.store.list(prefix).len()
    }
}

pub(crate) fn node_key(name: &str) -> String {
    format!("{}{name}", keys::resources_of(Kind::Node))
}

pub(crate) fn workload(handle: &str) -> Assign {
    Assign::workload(handle, "default", handle)
}

pub(crate) fn release(handle: &str) -> Request {
    Request::Release(Release {
        handle: handle.into(),
        ..Release::default()
    })
}

/// One IPv4 pool of four blocks of four.
pub(crate) fn small() -> IpamView {
    IpamView {
        pools: vec![pool("a", "10.0.0.0/28", 30)],
        ..IpamView::default()
    }
}
