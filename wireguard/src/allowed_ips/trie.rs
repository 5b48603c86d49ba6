//! An immutable longest-prefix trie over 128-bit keys: six bits a node, single paths skipped.

use crate::peer_id::PeerId;

/// Bits that one node decides.
const STRIDE: u8 = 6;
/// The last depth at which a node can still take its six bits.
const DEEPEST: u8 = 128 - STRIDE;
const NOBODY: u32 = u32::MAX;

/// A prefix: left-aligned bits, length, owner.
type Entry = (u128, u8, PeerId);

#[derive(Debug, Default)]
pub(super) struct Trie {
    /// The root is first; children of one node lie side by side.
    nodes: Vec<Node>,
    /// Owners. Neighbouring slots of a node with one owner share an entry.
    leaves: Vec<u32>,
}

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Node {
    /// What all keys below have in common, and which of its bits count.
    path: u128,
    mask: u128,
    /// Slots that lead to a child.
    children: u64,
    /// Slots where another owner begins.
    starts: u64,
    first_child: u32,
    first_leaf: u32,
    /// The owner of keys off the path: the longest prefix seen on the way here.
    off_path: u32,
    /// Length of the path.
    len: u8,
}

impl Node {
    fn slot(&self, key: u128) -> u32 {
        // Six bits: the cast cannot cut anything.
        #[allow(clippy::cast_possible_truncation)]
        let slot = ((key << self.len) >> DEEPEST) as u32;
        slot
    }
}

impl Trie {
    /// A trie of `entries`, which come sorted by key, then length, without two of one prefix.
    pub(super) fn build(entries: impl Iterator<Item = Entry>) -> Trie {
        let entries: Vec<Entry> = entries.collect();
        let mut trie = Trie::default();
        if !entries.is_empty() {
            trie.nodes.push(Node::default());
            trie.fill(0, &entries, NOBODY);
        }
        trie
    }

    #[inline]
    pub(super) fn lookup(&self, key: u128) -> Option<PeerId> {
        let mut node = self.nodes.first()?;
        loop {
            if key & node.mask != node.path {
                return owner(node.off_path);
            }
            let bit = 1u64 << node.slot(key);
            if node.children & bit == 0 {
                // At least slot 0 starts an owner, so the count is one or more.
                let nth = (node.starts & (bit | (bit - 1))).count_ones() - 1;
                return owner(*self.leaves.get(node.first_leaf as usize + nth as usize)?);
            }
            let nth = (node.children & (bit - 1)).count_ones();
            node = self.nodes.get(node.first_child as usize + nth as usize)?;
        }
    }

    /// Writes the node at `at` for `entries`, all inside its parent's slot, where `above` owns the rest.
    fn fill(&mut self, at: usize, entries: &[Entry], above: u32) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let shortest = entries.iter().map(|e| e.1).min().unwrap_or(0);
        let common = (first.0 ^ last.0).leading_zeros().min(u32::from(DEEPEST));
        let len = shortest.min(u8::try_from(common).unwrap_or(DEEPEST));
        let mask = mask(len);

        // Owners of the 64 slots by the prefixes that end in this node, shorter ones first.
        let mut owners = [above; 64];
        let mut here: Vec<&Entry> = entries.iter().filter(|e| e.1 <= len + STRIDE).collect();
        here.sort_by_key(|e| e.1);
        for (key, length, peer) in here {
            #[allow(clippy::cast_possible_truncation)] // six bits
            let from = ((key << len) >> DEEPEST) as usize;
            let wide = 1usize << (STRIDE - (length - len));
            for owner in owners.iter_mut().skip(from).take(wide) {
                *owner = peer.get();
            }
        }

        let mut node = Node {
            path: first.0 & mask,
            mask,
            first_child: narrow(self.nodes.len()),
            first_leaf: narrow(self.leaves.len()),
            off_path: above,
            len,
            ..Node::default()
        };
        let deeper: Vec<Entry> = entries
            .iter()
            .filter(|e| e.1 > len + STRIDE)
            .copied()
            .collect();
        for (key, _, _) in &deeper {
            node.children |= 1 << node.slot(*key);
        }
        let mut before = None;
        for (slot, owner) in owners.iter().enumerate() {
            if before != Some(owner) {
                node.starts |= 1 << slot;
                self.leaves.push(*owner);
                before = Some(owner);
            }
        }
        let groups: Vec<&[Entry]> = deeper
            .chunk_by(|a, b| node.slot(a.0) == node.slot(b.0))
            .collect();
        let first_child = self.nodes.len();
        self.nodes.extend(groups.iter().map(|_| Node::default()));
        let slots: Vec<usize> = groups
            .iter()
            .filter_map(|group| group.first().map(|e| node.slot(e.0) as usize))
            .collect();
        if let Some(place) = self.nodes.get_mut(at) {
            *place = node;
        }
        for (nth, (group, slot)) in groups.into_iter().zip(slots).enumerate() {
            self.fill(
                first_child + nth,
                group,
                owners.get(slot).copied().unwrap_or(above),
            );
        }
    }

    /// Memory of the tables.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + self.leaves.len() * size_of::<u32>()
    }

    /// Nodes that a lookup of `key` visits.
    #[cfg(test)]
    pub(super) fn depth(&self, key: u128) -> usize {
        let mut at = 0;
        for depth in 1.. {
            let node = &self.nodes[at];
            let bit = 1u64 << node.slot(key);
            if key & node.mask != node.path || node.children & bit == 0 {
                return depth;
            }
            at = (node.first_child + (node.children & (bit - 1)).count_ones()) as usize;
        }
        unreachable!()
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

fn owner(n: u32) -> Option<PeerId> {
    (n != NOBODY).then(|| PeerId::new(n))
}

/// Table positions are 32 bits; a table of four thousand million prefixes does not fit memory anyway.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
