//! The simplest store that behaves as etcd does: the model that the others are measured by.

use std::collections::{BTreeMap, BTreeSet};

use model::kv::{Compare, KeyValue, Op, Revision, Txn, TxnOutcome};

use super::TestStore;
use crate::Failure;

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    pairs: BTreeMap<String, KeyValue>,
    revision: Revision,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.pairs.contains_key(key),
            Compare::Present(key) => self.pairs.contains_key(key),
            Compare::ModRevision(key, rev) => self
                .pairs
                .get(key)
                .is_some_and(|kv| kv.mod_revision == *rev),
        }
    }

    fn run(&mut self, ops: &[Op]) -> Vec<Option<KeyValue>> {
        let (next, mut changed, mut gets) = (self.revision + 1, false, Vec::new());
        for op in ops {
            match op {
                Op::Get(key) => gets.push(self.pairs.get(key).cloned()),
                Op::Delete(key) => changed |= self.pairs.remove(key).is_some(),
                Op::Put { key, value, lease } => {
                    let create_revision = self.pairs.get(key).map_or(next, |kv| kv.create_revision);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision,
                        mod_revision: next,
                        lease: *lease,
                    };
                    self.pairs.insert(key.clone(), kv);
                    changed = true;
                }
            }
        }
        if changed {
            self.revision = next;
        }
        gets
    }
}

/// etcd's limits on a transaction.
fn refused(txn: &Txn) -> Option<String> {
    let longest = txn
        .compares
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    if longest > Txn::MAX_OPS {
        return Some(format!("too many operations in txn request: {longest}"));
    }
    for branch in [&txn.success, &txn.failure] {
        let mut written = BTreeSet::new();
        for op in branch {
            if let Op::Put { key, .. } | Op::Delete(key) = op
                && !written.insert(key)
            {
                return Some(format!("duplicate key given in txn request: {key}"));
            }
        }
    }
    None
}

impl TestStore for MemoryStore {
    fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, Failure> {
        if let Some(why) = refused(txn) {
            return Err(Failure::Refused(why));
        }
        let succeeded = txn.compares.iter().all(|c| self.holds(c));
        let ops = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let gets = self.run(ops);
        Ok(TxnOutcome {
            succeeded,
            revision: self.revision,
            gets,
        })
    }

    fn list(&mut self, prefix: &str) -> Vec<KeyValue> {
        let from = self.pairs.range(prefix.to_owned()..);
        let inside = from.take_while(|(key, _)| key.starts_with(prefix));
        inside.map(|(_, kv)| kv.clone()).collect()
    }
}
