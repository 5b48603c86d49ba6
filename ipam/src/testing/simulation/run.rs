//! Carries a history's actions out, and at its end brings everything to rest.

use std::collections::{BTreeMap, BTreeSet};

use model::kv::{Compare, Op as KvOp, Txn};
use model::{Family, Kind, keys};

use super::super::action::{Action, Op};
use super::super::oracle::Certain;
use super::{Asked, Purpose, Simulation, Stats, default_pools, handle, open_of};
use crate::testing::TestStore;
use crate::{Allocator, Assign, Attach, Cleanup, Extra, Failure, Release, Request, RequestId};

impl<S: TestStore> Simulation<S> {
    /// Runs a history to its end and to rest.
    ///
    /// # Errors
    /// The invariant that broke, by its number, and how.
    pub fn run(mut self, actions: &[Action]) -> Result<Stats, String> {
        for (i, action) in actions.iter().enumerate() {
            self.act(*action)
                .map_err(|e| format!("action {i} {action:?}: {e}"))?;
        }
        self.rest()?;
        Ok(self.stats)
    }

    fn act(&mut self, Action { op, a, b }: Action) -> Result<(), String> {
        let (a, b) = (usize::from(a), usize::from(b));
        let i = a % self.nodes.len();
        let c = a % self.containers.len();
        match op {
            Op::Add => self.add(c, |_| {}),
            Op::AddSticky => self.add(c, |add| {
                add.identity = Some(format!("sticky.default.s{}", b % 3));
            }),
            Op::AddRequested => {
                let (_, pool) = &default_pools()[b % 3];
                let ip = pool.cidr.nth(b as u128 % pool.cidr.size());
                self.add(c, |add| add.addresses.extend(ip));
            }
            Op::Del => self.del(self.home(c), c),
            Op::Gc => self.gc(c)?,
            Op::Step => {
                self.send(i)?;
                self.land(i)?;
            }
            Op::Send => self.send(i)?,
            Op::Land => self.land(i)?,
            Op::LoseReply => {
                if let Some((_, txn)) = &self.nodes[i].flight {
                    let txn = txn.clone();
                    self.apply(&txn)?;
                    self.fail(i, Failure::Ambiguous("reset by peer".into()));
                }
            }
            Op::Delay => {
                if let Some((_, txn)) = &self.nodes[i].flight {
                    self.late.push(txn.clone());
                    self.fail(i, Failure::Ambiguous("timed out".into()));
                }
            }
            Op::Unavailable => self.fail(i, Failure::Unavailable("connection refused".into())),
            Op::Late => {
                if !self.late.is_empty() {
                    let txn = self.late.swap_remove(b % self.late.len());
                    self.apply(&txn)?;
                }
            }
            Op::Watch => self.watch(i, 1 + b % 12)?,
            Op::Crash => self.crash(i, b)?,
            Op::Tick => {
                self.now += if b % 16 == 0 {
                    400_000
                } else {
                    b as u64 % 3_000
                }
            }
            Op::Pool => self.change_pool(a, b)?,
            Op::Config => self.change_config(i, b),
            Op::Node => self.change_node(i, b)?,
            Op::Operator => {
                let c = b % self.containers.len();
                self.del(i, c);
            }
        }
        for i in 0..self.nodes.len() {
            self.replies(i)?;
        }
        Ok(())
    }

    fn ask(&mut self, i: usize, purpose: Purpose, request: Request) -> Option<u64> {
        let id = self.next_request;
        let node = &mut self.nodes[i];
        let allocator = node.allocator.as_mut()?;
        self.next_request += 1;
        allocator.submit(self.now, RequestId(id), request);
        let (node, epoch) = (i, node.epoch);
        let asked = Asked {
            node,
            epoch,
            purpose,
        };
        self.asked.insert(id, asked);
        Some(id)
    }

    fn add(&mut self, c: usize, change: impl FnOnce(&mut Assign)) {
        let key = endpoint(c);
        let mut add = Assign::workload(handle(c), "default", &format!("c{c}"));
        add.extra = Attach::new(move |assigned| Extra {
            compares: Vec::new(),
            ops: serde_json::to_vec(&assigned.addresses)
                .map(|value| KvOp::put(key.clone(), value))
                .into_iter()
                .collect(),
        });
        change(&mut add);
        let id = self.ask(self.home(c), Purpose::Add(c), Request::Assign(add));
        if let Some(id) = id {
            self.containers[c].last = id;
            let certain = self.oracle.containers.entry(handle(c)).or_default();
            if *certain == Certain::Free {
                *certain = Certain::Nothing;
            }
        }
    }

    fn del(&mut self, i: usize, c: usize) {
        let mut release = Release {
            handle: handle(c),
            ..Release::default()
        };
        let mut extra = Extra {
            compares: Vec::new(),
            ops: vec![KvOp::Delete(endpoint(c))],
        };
        if i != self.home(c) {
            // Another node's daemon has to be told where to look; that this was not outdated is told
            // by the endpoint, which is written together with the addresses.
            release.blocks = self.oracle.blocks_of(&release.handle);
            extra.compares = vec![match self.oracle.pairs.get(&endpoint(c)) {
                Some(kv) => Compare::ModRevision(endpoint(c), kv.mod_revision),
                None => Compare::Absent(endpoint(c)),
            }];
        }
        release.cleanup = extra.into();
        if let Some(id) = self.ask(i, Purpose::Del(c), Request::Release(release)) {
            let home = self.home(c);
            let container = &mut self.containers[c];
            container.last = id;
            container.last_taking = id;
            if i != home {
                container.threats += 1;
            }
            self.uncertain(c);
        }
    }

    fn uncertain(&mut self, c: usize) {
        self.oracle.containers.insert(handle(c), Certain::Nothing);
    }

    fn gc(&mut self, forgotten: usize) -> Result<(), String> {
        let i = self.home(forgotten);
        let others = (0..self.containers.len()).filter(|c| *c != forgotten);
        let valid: BTreeSet<String> = others.map(handle).collect();
        let Some(allocator) = &self.nodes[i].allocator else {
            return Ok(());
        };
        let stale = allocator.stale("cni.net.", &valid);
        if let Some(wrong) = stale.iter().find(|s| s.handle != handle(forgotten)) {
            return Err(format!("GC would release {}", wrong.handle));
        }
        if !stale.is_empty() {
            self.del(i, forgotten);
        }
        Ok(())
    }

    fn send(&mut self, i: usize) -> Result<(), String> {
        let now = self.now;
        if self.nodes[i]
            .allocator
            .as_ref()
            .is_some_and(Allocator::wants_listing)
        {
            self.stats.listings += 1;
            self.list_blocks(i)?;
        }
        let node = &mut self.nodes[i];
        if node.flight.is_none() {
            node.flight = node.allocator.as_mut().and_then(|a| a.poll_txn(now));
        }
        Ok(())
    }

    fn land(&mut self, i: usize) -> Result<(), String> {
        if let Some((id, txn)) = self.nodes[i].flight.take() {
            let outcome = self.apply(&txn)?;
            if let Some(allocator) = &mut self.nodes[i].allocator {
                allocator.handle_outcome(self.now, id, Ok(outcome));
            }
        }
        Ok(())
    }

    fn fail(&mut self, i: usize, failure: Failure) {
        let node = &mut self.nodes[i];
        if let (Some((id, _)), Some(allocator)) = (node.flight.take(), &mut node.allocator) {
            self.stats.doubts += 1;
            allocator.handle_outcome(self.now, id, Err(failure));
        }
    }

    /// The daemon dies; what it asked for is answered to nobody.
    fn die(&mut self, i: usize, how: usize) -> Result<(), String> {
        if self.nodes[i].allocator.take().is_some() {
            self.stats.crashes += 1;
        }
        if let Some((_, txn)) = self.nodes[i].flight.take() {
            match how % 3 {
                0 => {
                    self.apply(&txn)?;
                }
                1 => self.late.push(txn),
                _ => {}
            }
        }
        for id in open_of(&self.asked, i) {
            self.asked.remove(&id);
        }
        Ok(())
    }

    fn crash(&mut self, i: usize, how: usize) -> Result<(), String> {
        if self.nodes[i].allocator.is_none() {
            return Ok(());
        }
        self.die(i, how)?;
        self.start(i)
    }

    fn change_pool(&mut self, a: usize, b: usize) -> Result<(), String> {
        let (name, mut spec) = default_pools().swap_remove(a % 3);
        match b % 6 {
            0 => return self.put_pool(name, None),
            1 => spec.disabled = true,
            // Larger and smaller blocks than those that stand.
            2 => spec.block_size = spec.block_size.map(|s| s - 1),
            3 => spec.block_size = spec.block_size.map(|s| s + 1),
            _ => {}
        }
        self.put_pool(name, Some(spec))
    }

    fn change_config(&mut self, i: usize, b: usize) {
        self.config.strict_affinity = b.is_multiple_of(5);
        self.config.max_blocks_per_host = [0, 1, 2, 0][b % 4];
        self.nodes[i].cordoned = b.is_multiple_of(7);
        for i in 0..self.nodes.len() {
            self.refresh_view(i);
        }
    }

    fn change_node(&mut self, i: usize, b: usize) -> Result<(), String> {
        let key = self.node_key(i);
        if !self.oracle.pairs.contains_key(&key) {
            self.die(i, b)?;
            return self.put_node(i);
        }
        self.oracle.records.nodes.remove(&self.nodes[i].name);
        self.nodes[i].epoch += 1;
        let nodes = self.nodes.len();
        for c in (i..self.containers.len()).step_by(nodes) {
            self.uncertain(c);
        }
        self.apply(&Txn::new().then(KvOp::Delete(key)))?;
        // Half the time the daemon lives on and must get nothing any more.
        if b.is_multiple_of(2) {
            self.die(i, b / 2)?;
        }
        let by = (i + 1) % self.nodes.len();
        self.watch(by, usize::MAX)?;
        let node = self.nodes[i].name.clone();
        let keys: BTreeMap<String, String> = (0..self.containers.len())
            .map(|c| (handle(c), endpoint(c)))
            .collect();
        let cleanup = Cleanup::new(move |holder| Extra {
            compares: Vec::new(),
            ops: keys
                .get(&holder.handle)
                .cloned()
                .map(KvOp::Delete)
                .into_iter()
                .collect(),
        });
        self.ask(by, Purpose::Reclaim, Request::ReclaimNode(node, cleanup));
        Ok(())
    }

    /// Lets everything come to an end, and looks whether anything was left behind.
    fn rest(&mut self) -> Result<(), String> {
        for i in 0..self.nodes.len() {
            self.land(i)?;
        }
        while let Some(txn) = self.late.pop() {
            self.apply(&txn)?;
        }
        self.config = self.setup.config.clone();
        for (name, spec) in default_pools() {
            self.put_pool(name, Some(spec))?;
        }
        for i in 0..self.nodes.len() {
            self.nodes[i].cordoned = false;
            if !self.oracle.pairs.contains_key(&self.node_key(i)) {
                self.die(i, 2)?;
                self.put_node(i)?;
            }
            self.refresh_view(i);
        }
        self.settle()?;
        self.clean("at rest")?;
        for c in 0..self.containers.len() {
            self.del(self.home(c), c);
        }
        self.settle()?;
        self.clean("after all are gone")?;
        for k in 0..3 {
            let handle = format!("sticky.default.s{k}");
            let release = Release {
                handle,
                ..Release::default()
            };
            self.ask(0, Purpose::Other, Request::Release(release));
        }
        self.settle()?;
        self.clean("after the identities are gone")?;
        if let Some(key) = self.standing(keys::IDENTITIES).next() {
            return Err(format!("leaked {key}"));
        }
        // Empty blocks go back, all but one of each family and node.
        for _ in 0..12 {
            self.now += 100_000;
            self.settle()?;
        }
        self.clean("after the grace")?;
        for node in &self.nodes {
            for family in Family::ALL {
                let prefix = keys::affinities_of(&node.name);
                let of = self
                    .standing(&prefix)
                    .filter_map(|k| k.strip_prefix(&prefix));
                let cidrs = of.filter_map(|c| c.parse::<model::Cidr>().ok());
                let count = cidrs.filter(|c| c.family() == family).count();
                if count > 1 {
                    return Err(format!("{} keeps {count} empty {family} blocks", node.name));
                }
            }
        }
        let (blocks, claims) = (self.standing(keys::BLOCKS), self.standing(keys::AFFINITY));
        if blocks.count() != claims.count() {
            return Err("an ownerless empty block stays".to_owned());
        }
        // And everything can be had again.
        let before = self.stats.assigned;
        for c in 0..self.nodes.len() {
            self.add(c, |_| {});
        }
        self.settle()?;
        let fresh = self.stats.assigned - before;
        if fresh != self.nodes.len() as u64 {
            let why = &self.last_refusal;
            return Err(format!(
                "only {fresh} nodes get addresses after all were freed: {why}"
            ));
        }
        self.clean("at the end")
    }

    fn standing<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let keys = self.oracle.pairs.keys().map(String::as_str);
        keys.filter(move |k| k.starts_with(prefix))
    }

    /// Runs every node until none has anything to do.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..3_000 {
            let mut busy = false;
            for i in 0..self.nodes.len() {
                self.watch(i, usize::MAX)?;
                self.send(i)?;
                busy |= self.nodes[i].flight.is_some();
                self.land(i)?;
                self.replies(i)?;
                let allocator = self.nodes[i].allocator.as_ref();
                busy |= allocator.is_some_and(|a| !a.is_idle());
            }
            if !busy {
                return Ok(());
            }
            self.now += 5;
        }
        Err("never comes to rest".to_owned())
    }

    fn clean(&self, when: &str) -> Result<(), String> {
        match self.oracle.problems().first() {
            None => Ok(()),
            Some(p) => Err(format!("5 {when}: {} {}: {}", p.kind, p.object, p.message)),
        }
    }
}

fn endpoint(c: usize) -> String {
    format!("{}default/c{c}", keys::resources_of(Kind::WorkloadEndpoint))
}
