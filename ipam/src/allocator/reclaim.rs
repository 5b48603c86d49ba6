//! Plans the end of a deleted node: its handles, then its blocks, then what is left of it.

use std::collections::{BTreeMap, BTreeSet};

use model::kv::{Compare, Op};
use model::{Cidr, keys};

use super::draft::{Step, Why};
use super::pending::{Reclaim, Work};
use super::plan::{Halt, Planned, Planner, node_key};
use crate::error::AllocError;
use crate::request::{Release, Reply};

/// Rounds after which a reclaim that does not come to an end is given up.
const MAX_ROUNDS: u32 = 16;

/// Handles of live workloads and the blocks that they have addresses in.
type Live<'a> = BTreeMap<&'a str, BTreeSet<Cidr>>;

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
            let release = |(handle, blocks): (&str, BTreeSet<Cidr>)| {
                Work::Release(Release {
                    handle: handle.to_owned(),
                    node: Some(node.to_owned()),
                    blocks: blocks.into_iter().collect(),
                    cleanup: wanted.cleanup.clone(),
                })
            };
            return Err(Halt::Spawn(handles.into_iter().map(release).collect()));
        }
        if !blocks.is_empty() {
            return Err(Halt::Spawn(
                blocks.into_iter().map(Work::ReleaseBlock).collect(),
            ));
        }
        let mut step = Step::answering(Reply::Released(wanted.released.clone()));
        step.compares
            .push((Compare::Absent(node_key(node)), Why::NodeGone));
        if node != self.node {
            step.writes.push(Op::Delete(keys::fence(node)));
        }
        Ok(step)
    }

    /// The handles that live on a node and where, and the blocks that are its.
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
            let its = used.filter(|(_, a)| a.node.as_deref() == Some(node));
            for live in its.filter_map(|(_, a)| a.live()) {
                handles.entry(live).or_default().insert(*cidr);
            }
        }
        match unread.is_empty() {
            true => Ok((handles, blocks)),
            false => Err(Halt::Read(unread)),
        }
    }
}
