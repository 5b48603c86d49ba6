//! Several daemons' allocators, their watches and transactions under way, over one store.

mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::kv::{KeyValue, Op as KvOp, Txn, TxnOutcome};
use model::resources::{IpPoolSpec, IpamConfigurationSpec};
use model::{Cidr, Kind, keys};

use super::TestStore;
use super::oracle::{Certain, Oracle};
use crate::allocator::{Allocator, Options, Seen, TxnId};
use crate::{Failure, IpamView, PoolView, Reply, RequestId};

/// The shape of a history.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes.
    pub nodes: usize,
    /// How many containers come and go.
    pub containers: usize,
    /// Settings at the start.
    pub config: IpamConfigurationSpec,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            nodes: 3,
            containers: 14,
            config: IpamConfigurationSpec::default(),
        }
    }
}

/// What happened in a history, so that a test can tell that it was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Assignments answered with addresses.
    pub assigned: u64,
    /// Releases answered.
    pub released: u64,
    /// Requests refused.
    pub refused: u64,
    /// Transactions carried out.
    pub committed: u64,
    /// Transactions that lost a compare.
    pub lost: u64,
    /// Answers lost.
    pub doubts: u64,
    /// Daemons that died.
    pub crashes: u64,
    /// Addresses on another node than their block's, over all revisions.
    pub borrowed: u64,
    /// Nodes reclaimed.
    pub reclaimed: u64,
    /// Listings that a daemon needed because of what its predecessor left on the way.
    pub listings: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.assigned += other.assigned;
        self.released += other.released;
        self.refused += other.refused;
        self.committed += other.committed;
        self.lost += other.lost;
        self.doubts += other.doubts;
        self.crashes += other.crashes;
        self.borrowed += other.borrowed;
        self.reclaimed += other.reclaimed;
        self.listings += other.listings;
    }
}

/// A daemon, as far as addresses go.
struct Node {
    name: String,
    /// `None` while it is down.
    allocator: Option<Allocator>,
    /// Its transaction on the way.
    flight: Option<(TxnId, Txn)>,
    /// How much of the log it has seen.
    seen: usize,
    pools: BTreeMap<String, IpPoolSpec>,
    guard: Option<i64>,
    cordoned: bool,
    /// Counts deletions of the node.
    epoch: u32,
}

/// What a request was for.
#[derive(Clone, Debug)]
enum Purpose {
    Add(usize),
    Del(usize),
    Reclaim,
    Other,
}

struct Asked {
    node: usize,
    epoch: u32,
    purpose: Purpose,
}

/// What is known of a container beside the oracle's certainty.
#[derive(Clone, Default)]
struct Container {
    /// Newest request of any sort.
    last: u64,
    /// Newest request that takes its addresses.
    last_taking: u64,
    /// Requests of other nodes that may take its addresses at any time.
    threats: u32,
}

/// Key, value and revision of the changes of one transaction.
type Change = (Vec<(String, Option<Vec<u8>>)>, i64);

/// A history under way.
pub struct Simulation<S> {
    setup: Setup,
    store: S,
    oracle: Oracle,
    nodes: Vec<Node>,
    containers: Vec<Container>,
    asked: BTreeMap<u64, Asked>,
    log: Vec<Change>,
    /// Transactions that may still be carried out though nobody waits for them.
    late: Vec<Txn>,
    config: IpamConfigurationSpec,
    now: u64,
    next_request: u64,
    incarnations: u64,
    stats: Stats,
    last_refusal: String,
}

impl<S: TestStore> Simulation<S> {
    /// Nodes and pools over an empty store.
    ///
    /// # Errors
    /// A broken invariant, in words, as everywhere here.
    pub fn new(store: S, setup: Setup) -> Result<Simulation<S>, String> {
        let mut simulation = Simulation {
            config: setup.config.clone(),
            containers: vec![Container::default(); setup.containers],
            store,
            oracle: Oracle::default(),
            nodes: Vec::new(),
            asked: BTreeMap::new(),
            log: Vec::new(),
            late: Vec::new(),
            now: 1_000_000,
            next_request: 1,
            incarnations: 0,
            stats: Stats::default(),
            last_refusal: String::new(),
            setup,
        };
        for (name, spec) in default_pools() {
            simulation.put_pool(name, Some(spec))?;
        }
        for i in 0..simulation.setup.nodes {
            simulation.nodes.push(Node {
                name: format!("n{i}"),
                allocator: None,
                flight: None,
                seen: 0,
                pools: BTreeMap::new(),
                guard: None,
                cordoned: false,
                epoch: 0,
            });
            simulation.put_node(i)?;
        }
        Ok(simulation)
    }

    /// Carries a transaction out, tells the oracle, and keeps it for the watches.
    fn apply(&mut self, txn: &Txn) -> Result<TxnOutcome, String> {
        let outcome = match self.store.txn(txn) {
            Ok(outcome) => outcome,
            Err(Failure::Refused(why)) => return Err(format!("the store refused: {why}: {txn:?}")),
            Err(other) => return Err(format!("the store failed: {other:?}")),
        };
        if !outcome.succeeded {
            self.stats.lost += 1;
            return Ok(outcome);
        }
        self.stats.committed += 1;
        let mut changes = Vec::new();
        for op in &txn.success {
            match op {
                KvOp::Get(_) => {}
                KvOp::Delete(key) => {
                    if self.oracle.pairs.remove(key).is_some() {
                        self.oracle.learn(key, None)?;
                        changes.push((key.clone(), None));
                    }
                }
                KvOp::Put { key, value, .. } => {
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: 0,
                        mod_revision: outcome.revision,
                        lease: None,
                    };
                    self.oracle.pairs.insert(key.clone(), kv);
                    self.oracle.learn(key, Some(value))?;
                    changes.push((key.clone(), Some(value.clone())));
                }
            }
        }
        if !changes.is_empty() {
            self.log.push((changes, outcome.revision));
            self.oracle.look()?;
            self.stats.borrowed += self.oracle.borrowed();
        }
        Ok(outcome)
    }

    fn put_pool(&mut self, name: &str, spec: Option<IpPoolSpec>) -> Result<(), String> {
        let key = format!("{}{name}", keys::resources_of(Kind::IPPool));
        let write = match &spec {
            Some(spec) => KvOp::put(key, serde_json::to_vec(spec).map_err(|e| e.to_string())?),
            None => KvOp::Delete(key),
        };
        let pools = &mut self.oracle.records.pools;
        pools.retain(|(n, _)| n != name);
        pools.extend(spec.map(|spec| (name.to_owned(), spec.cidr)));
        let txn = Txn::new().then(write);
        self.apply(&txn.then(KvOp::put(keys::POOLS_GUARD, "1")))?;
        Ok(())
    }

    fn node_key(&self, i: usize) -> String {
        format!("{}{}", keys::resources_of(Kind::Node), self.nodes[i].name)
    }

    fn put_node(&mut self, i: usize) -> Result<(), String> {
        self.oracle.records.nodes.insert(self.nodes[i].name.clone());
        let key = self.node_key(i);
        self.apply(&Txn::new().then(KvOp::put(key, "{}")))?;
        self.start(i)
    }

    /// Starts a node's daemon from what the store has.
    fn start(&mut self, i: usize) -> Result<(), String> {
        self.incarnations += 1;
        let options = Options {
            patience_ms: 20_000,
            ..Options::new(self.nodes[i].name.clone(), self.incarnations)
        };
        let mut allocator = Allocator::new(options);
        let node = &mut self.nodes[i];
        node.seen = self.log.len();
        node.pools.clear();
        let pools = keys::resources_of(Kind::IPPool);
        for kv in self.store.list("") {
            if self.oracle.pairs.get(&kv.key).map(|p| &p.value) != Some(&kv.value) {
                return Err(format!("the store and its history differ in {}", kv.key));
            }
            if let Some(cidr) = keys::parse_block(&kv.key) {
                let block = serde_json::from_slice(&kv.value).map_err(|e| e.to_string())?;
                allocator.block_event(cidr, Seen::Is(&block), kv.mod_revision);
            } else if let Some(name) = kv.key.strip_prefix(&pools) {
                let spec = serde_json::from_slice(&kv.value).map_err(|e| e.to_string())?;
                node.pools.insert(name.to_owned(), spec);
            } else if kv.key == keys::POOLS_GUARD {
                node.guard = Some(kv.mod_revision);
            }
        }
        allocator.listed(self.log.last().map_or(0, |(_, revision)| *revision));
        node.allocator = Some(allocator);
        self.refresh_view(i);
        Ok(())
    }

    /// Hands every block that stands to a node, ahead of its watch.
    fn list_blocks(&mut self, i: usize) -> Result<(), String> {
        let Some(allocator) = &mut self.nodes[i].allocator else {
            return Ok(());
        };
        for kv in self.store.list(keys::BLOCKS) {
            let cidr = keys::parse_block(&kv.key).ok_or("no block's key")?;
            let block = serde_json::from_slice(&kv.value).map_err(|e| e.to_string())?;
            allocator.block_event(cidr, Seen::Is(&block), kv.mod_revision);
        }
        allocator.listed(self.log.last().map_or(0, |(_, revision)| *revision));
        Ok(())
    }

    fn refresh_view(&mut self, i: usize) {
        let config = self.config.clone();
        let node = &mut self.nodes[i];
        let pools = node.pools.iter();
        let view = IpamView {
            pools: pools
                .map(|(name, spec)| PoolView::new(name, spec.clone()))
                .collect(),
            reservations: reserved(),
            config,
            cordoned: node.cordoned,
            pools_guard: node.guard,
        };
        if let Some(allocator) = &mut node.allocator {
            allocator.set_view(view);
        }
    }

    /// Hands up to `count` changes to a node.
    fn watch(&mut self, i: usize, count: usize) -> Result<(), String> {
        let prefix = keys::resources_of(Kind::IPPool);
        let node = &mut self.nodes[i];
        let Some(allocator) = &mut node.allocator else {
            return Ok(());
        };
        let mut pools = false;
        let end = self.log.len().min(node.seen.saturating_add(count));
        for (changes, revision) in self.log.get(node.seen..end).unwrap_or_default() {
            for (key, value) in changes {
                if let Some(cidr) = keys::parse_block(key) {
                    let block = value
                        .as_ref()
                        .map(|v| serde_json::from_slice(v))
                        .transpose();
                    let block = block.map_err(|e| e.to_string())?;
                    let seen = block.as_ref().map_or(Seen::Gone, Seen::Is);
                    allocator.block_event(cidr, seen, *revision);
                } else if let Some(name) = key.strip_prefix(&prefix) {
                    pools = true;
                    match value {
                        None => node.pools.remove(name),
                        Some(v) => {
                            let spec = serde_json::from_slice(v).map_err(|e| e.to_string())?;
                            node.pools.insert(name.to_owned(), spec)
                        }
                    };
                } else if key == keys::POOLS_GUARD {
                    node.guard = Some(*revision);
                }
            }
        }
        node.seen = end;
        if pools {
            self.refresh_view(i);
        }
        Ok(())
    }

    /// Takes the replies of a node's allocator.
    fn replies(&mut self, i: usize) -> Result<(), String> {
        let mut answered = false;
        while let Some((RequestId(id), result)) = self.nodes[i]
            .allocator
            .as_mut()
            .and_then(Allocator::poll_reply)
        {
            let asked = self.asked.remove(&id).ok_or(format!("reply {id} twice"))?;
            let since_deleted = asked.epoch != self.nodes[asked.node].epoch;
            if let Err(error) = &result {
                self.stats.refused += 1;
                self.last_refusal = error.to_string();
            }
            let (container, assigned) = match (asked.purpose, result) {
                (Purpose::Reclaim, Ok(_)) => {
                    self.stats.reclaimed += 1;
                    continue;
                }
                (Purpose::Add(c), Ok(Reply::Assigned(mut assigned))) => {
                    // A container may ask in another order than before.
                    assigned.addresses.sort_unstable();
                    (c, Some(assigned.addresses))
                }
                (Purpose::Del(c), result) => {
                    if i != self.home(c) {
                        // Whatever was asked before this answer may have been undone by it.
                        let container = &mut self.containers[c];
                        container.threats = container.threats.saturating_sub(1);
                        container.last_taking = self.next_request;
                    }
                    if result.is_err() {
                        continue;
                    }
                    (c, None)
                }
                _ => continue,
            };
            let (handle, home) = (handle(container), self.home(container));
            let known = &self.containers[container];
            let certain = self.oracle.containers.entry(handle.clone()).or_default();
            match assigned {
                Some(ips) => {
                    self.stats.assigned += 1;
                    if ips.is_empty() {
                        return Err(format!("6: {handle} was given nothing"));
                    }
                    match certain {
                        Certain::Owns(before) if *before != ips => {
                            return Err(format!("6: {handle} had {before:?} and got {ips:?}"));
                        }
                        _ if known.last_taking > id || known.threats > 0 || since_deleted => {}
                        certain => *certain = Certain::Owns(ips),
                    }
                }
                None => {
                    self.stats.released += 1;
                    // Another node's release says nothing of what its own node still does.
                    if known.last == id && home == i {
                        *certain = Certain::Free;
                    }
                }
            }
            answered = true;
        }
        if answered {
            self.oracle.certain()
        } else {
            Ok(())
        }
    }

    /// The node that a container lives on.
    fn home(&self, container: usize) -> usize {
        container % self.nodes.len()
    }
}

/// The handle of a container.
fn handle(container: usize) -> String {
    format!("cni.net.c{container}.eth0")
}

fn cidr(network: [u8; 4], len: u8) -> Cidr {
    let ip = IpAddr::from(network);
    Cidr::containing(ip, len).unwrap_or(Cidr::host(ip))
}

/// Small pools, so that they fill: 32 + 16 IPv4 addresses in blocks of 4, 64 IPv6 ones in blocks of 8.
fn default_pools() -> Vec<(&'static str, IpPoolSpec)> {
    let six = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0]);
    let six = Cidr::containing(six, 122).unwrap_or(Cidr::host(six));
    let pool = |cidr, size| IpPoolSpec {
        block_size: Some(size),
        ..IpPoolSpec::new(cidr)
    };
    vec![
        ("a", pool(cidr([10, 0, 0, 0], 27), 30)),
        ("b", pool(cidr([10, 0, 1, 0], 28), 30)),
        ("c", pool(six, 125)),
    ]
}

fn reserved() -> Vec<Cidr> {
    vec![cidr([10, 0, 0, 5], 32), cidr([10, 0, 0, 24], 30)]
}

/// Requests that may be open at a node's death.
fn open_of(asked: &BTreeMap<u64, Asked>, node: usize) -> BTreeSet<u64> {
    let of = asked.iter().filter(|(_, a)| a.node == node);
    of.map(|(id, _)| *id).collect()
}
