//! Every prefix that parties have or rules name, by who has it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use model::{Cidr, Family};

/// The prefixes. Those of both roots are always there.
#[derive(Debug)]
pub(super) struct Prefixes {
    nodes: BTreeMap<Cidr, Node>,
    /// How many prefixes there are of each length: looking for what covers an address skips the others.
    lengths: [BTreeMap<u8, usize>; 2],
}

/// One prefix.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Groups of the parties that have exactly this prefix, sorted, once for each party.
    pub(super) owners: Vec<u32>,
    /// Whether a rule names it.
    pub(super) is_net: bool,
    /// Its origin; 0 before it has one.
    pub(super) origin: u32,
    /// The identity that the tables have for it; 0 before they have one.
    pub(super) identity: u32,
}

impl Default for Prefixes {
    fn default() -> Prefixes {
        let mut prefixes = Prefixes {
            nodes: BTreeMap::new(),
            lengths: Default::default(),
        };
        for root in Family::ALL.map(root) {
            prefixes.node(root).is_net = true;
        }
        prefixes
    }
}

/// All addresses of a family.
pub(in crate::engine) fn root(family: Family) -> Cidr {
    let any = match family {
        Family::V4 => Cidr::containing(Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::V6 => Cidr::containing(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    // Length 0 suits every family.
    any.unwrap_or_else(|| Cidr::host(Ipv4Addr::UNSPECIFIED.into()))
}

impl Prefixes {
    pub(super) fn get(&self, prefix: &Cidr) -> Option<&Node> {
        self.nodes.get(prefix)
    }

    pub(super) fn get_mut(&mut self, prefix: &Cidr) -> Option<&mut Node> {
        self.nodes.get_mut(prefix)
    }

    /// The node of a prefix, made if need be.
    pub(super) fn node(&mut self, prefix: Cidr) -> &mut Node {
        let lengths = &mut self.lengths[usize::from(prefix.family() == Family::V6)];
        self.nodes.entry(prefix).or_insert_with(|| {
            *lengths.entry(prefix.prefix_len()).or_default() += 1;
            Node::default()
        })
    }

    /// Takes out a node that nobody has and no rule names; what it was.
    pub(super) fn prune(&mut self, prefix: &Cidr) -> Option<Node> {
        let node = self.nodes.get(prefix)?;
        if node.is_net || !node.owners.is_empty() {
            return None;
        }
        let lengths = &mut self.lengths[usize::from(prefix.family() == Family::V6)];
        if let Some(count) = lengths.get_mut(&prefix.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&prefix.prefix_len());
            }
        }
        self.nodes.remove(prefix)
    }

    /// What holds all of a prefix, the shortest first and itself last.
    pub(super) fn covering(&self, prefix: Cidr) -> impl Iterator<Item = (Cidr, &Node)> {
        let lengths = &self.lengths[usize::from(prefix.family() == Family::V6)];
        let shorter = lengths
            .keys()
            .take_while(move |l| **l <= prefix.prefix_len());
        shorter.filter_map(move |length| {
            let cover = Cidr::containing(prefix.network(), *length)?;
            self.nodes.get(&cover).map(|node| (cover, node))
        })
    }

    /// What lies in a prefix, itself included.
    pub(super) fn inside(&self, prefix: Cidr) -> impl Iterator<Item = (Cidr, &Node)> {
        let from = self.nodes.range(prefix..).map(|(k, node)| (*k, node));
        from.take_while(move |(k, _)| prefix.covers(k))
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}
