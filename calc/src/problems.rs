//! Collects what is wrong, one line a cause: a thousand nodes with one mend make one problem.

use std::collections::{BTreeMap, BTreeSet};

use model::Cidr;
use model::state::Problem;

use crate::path::{Blame, Unreachable};

/// Problems found so far.
#[derive(Default)]
pub(crate) struct Problems<'a> {
    list: Vec<Problem>,
    /// Pool (none: the pool is deleted) and cause to the nodes concerned.
    unreachable: BTreeMap<(Option<&'a str>, Unreachable), BTreeSet<&'a str>>,
    /// Nodes that have blocks or addresses but no `Node` object.
    unknown: BTreeMap<&'a str, Vec<Cidr>>,
    /// Blocks in use that no pool covers.
    orphans: Vec<Cidr>,
}

/// How many names of a list are written out.
const SHOWN: usize = 3;

impl<'a> Problems<'a> {
    /// Notes a problem of one object.
    pub(crate) fn add(&mut self, object: String, message: String) {
        self.list.push(Problem { object, message });
    }

    /// Notes that addresses of a pool on a node have no route from here.
    pub(crate) fn unreachable(&mut self, pool: Option<&'a str>, node: &'a str, why: Unreachable) {
        let nodes = self.unreachable.entry((pool, why)).or_default();
        nodes.insert(node);
    }

    /// Notes that a node which does not exist has a block or borrows an address.
    pub(crate) fn unknown_node(&mut self, node: &'a str, what: Cidr) {
        self.unknown.entry(node).or_default().push(what);
    }

    /// Notes a block in use of a deleted pool.
    pub(crate) fn orphan(&mut self, block: Cidr) {
        self.orphans.push(block);
    }

    /// All of them, sorted.
    pub(crate) fn finish(mut self, own: &str) -> Vec<Problem> {
        for ((pool, why), nodes) in &self.unreachable {
            match why.blame() {
                Blame::Pool => {
                    let nodes = some_of(nodes.iter());
                    let (object, mend) = match pool {
                        Some(p) => (format!("IPPool/{p}"), why.mend()),
                        None => ("IPPool".to_owned(), "create the pool anew"),
                    };
                    let message = format!("no route to the addresses on {nodes}: {why}; {mend}");
                    self.list.push(Problem { object, message });
                }
                Blame::Peer => self.list.extend(nodes.iter().map(|n| Problem {
                    object: format!("Node/{n}"),
                    message: format!("it is not reached from here: {why}; {}", why.mend()),
                })),
                Blame::Own => self.list.push(Problem {
                    object: format!("Node/{own}"),
                    message: format!("other nodes are not reached: {why}; {}", why.mend()),
                }),
            }
        }
        for (node, what) in &self.unknown {
            self.list.push(Problem {
                object: format!("Node/{node}"),
                message: format!(
                    "does not exist but has {}: start routerd on it, or free them with `routerctl ipam release --node {node}`",
                    some_of(what.iter())
                ),
            });
        }
        if !self.orphans.is_empty() {
            self.list.push(Problem {
                object: "IPPool".to_owned(),
                message: format!(
                    "no pool covers {}, which have addresses in use: create the pool anew, or delete the workloads",
                    some_of(self.orphans.iter())
                ),
            });
        }
        self.list.sort();
        self.list.dedup();
        self.list
    }
}

/// The first few of many, and how many more.
pub(crate) fn some_of<T: std::fmt::Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(SHOWN);
    let shown: Vec<_> = items.take(SHOWN).map(|i| i.to_string()).collect();
    let shown = shown.join(", ");
    match more {
        0 => shown,
        _ => format!("{shown} and {more} more"),
    }
}
