//! Plans the end of a deleted node: its handles, then its blocks, then what is left of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::kv::{Compare, Op};
use model::{Cidr, keys};

use super::draft::Why;
use super::pending::{Reclaim, Work};
use super::plan::{Halt, Planned, Planner, node_key};
use super::release::empty_step;
use super::world::HandleState;
use crate::error::AllocError;
use crate::request::{Release, Reply};

/// Rounds after which a reclaim that does not come to an end is given up.
const MAX_ROUNDS: u32 = 16;

/// Handles of live workloads and their addresses.
type Live<'a> = BTreeMap<&'a str, Vec<IpAddr>>;

impl Planner<'_> {
    /// The work of the next round; each round looks again at what stands.
    pub(crate) fn reclaim(&self, wanted: &Reclaim) -> Planned {
        let node = wanted.node.as_str();
        if wanted.rounds > MAX_ROUNDS {
            let (handle, attempts) = (format!("reclaim of Node/{node}"), wanted.rounds);
            return Err(Halt::refuse(
                AllocError::Contended { handle, attempts },
                vec![],
            ));
        }
        let (handles, blocks) = self.parts_of(node)?;
        if !handles.is_empty() {
            return Err(Halt::Spawn(self.release_all(wanted, handles)?));
        }
        if !blocks.is_empty() {
            return Err(Halt::Spawn(
                blocks.into_iter().map(Work::ReleaseBlock).collect(),
            ));
        }
        let mut step = empty_step();
        step.compares
            .push((Compare::Absent(node_key(node)), Why::NodeGone));
        if node != self.node {
            step.writes.push(Op::Delete(keys::fence(node)));
        }
        step.reply = Reply::Released(wanted.released.clone());
        Ok(step)
    }

    /// The handles that live on a node with their addresses, and the blocks that are its.
    fn parts_of(&self, node: &str) -> Result<(Live<'_>, Vec<Cidr>), Halt> {
        let (mut unread, mut blocks) = (Vec::new(), Vec::new());
        let mut handles = Live::new();
        for (cidr, known) in &self.world.blocks {
            let owns = known.node.as_deref() == Some(node);
            if !owns && !known.borrowers.iter().any(|n| **n == *node) {
                continue;
            }
            if owns {
                blocks.push(*cidr);
            }
            let block = match self.block(cidr) {
                Ok(Some(block)) => block,
                Ok(None) => continue,
                Err(Halt::Read(keys)) => {
                    unread.extend(keys);
                    continue;
                }
                Err(other) => return Err(other),
            };
            let used = block.used.iter();
            for (place, allocation) in used.filter(|(_, a)| a.node.as_deref() == Some(node)) {
                if let Some(live) = allocation.live() {
                    let ip = cidr.nth(u128::from(*place));
                    handles.entry(live).or_default().extend(ip);
                }
            }
        }
        match unread.is_empty() {
            true => Ok((handles, blocks)),
            false => Err(Halt::Read(unread)),
        }
    }

    /// Releases by handle. What a round before left behind without a handle is freed by number.
    fn release_all(&self, wanted: &Reclaim, handles: Live<'_>) -> Result<Vec<Work>, Halt> {
        let (mut work, mut unread) = (Vec::new(), Vec::new());
        for (id, addresses) in handles {
            let known = self.world.handles.get(id);
            match known {
                None if wanted.rounds > 0 => unread.push(keys::handle(id)),
                Some(HandleState::Absent) => {
                    work.extend(addresses.into_iter().map(Work::ReleaseAddress));
                }
                _ => {
                    let (handle, extra) = (id.to_owned(), wanted.cleanup.make(id));
                    work.push(Work::Release(Release { handle, extra }));
                }
            }
        }
        match unread.is_empty() {
            true => Ok(work),
            false => Err(Halt::Read(unread)),
        }
    }
}
