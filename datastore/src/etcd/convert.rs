//! Our keys, pairs and transactions in etcd's terms and back.

use etcd_client as pb;
use model::kv::{Compare, Event, KeyValue, LeaseId, Op, Txn, TxnOutcome};

/// The configured prefix, put before every key.
#[derive(Clone, Debug)]
pub(super) struct Keyspace {
    /// Ends with a slash, or is empty.
    prefix: String,
}

impl Keyspace {
    pub(super) fn new(prefix: &str) -> Keyspace {
        let trimmed = prefix.trim_end_matches('/');
        let slash = if trimmed.is_empty() { "" } else { "/" };
        Keyspace {
            prefix: format!("{trimmed}{slash}"),
        }
    }

    pub(super) fn full(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    /// Our key of a stored one; `None` when it is not UTF-8 (or not below the prefix).
    pub(super) fn relative(&self, key: &[u8]) -> Option<String> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?;
        match std::str::from_utf8(rest) {
            Ok(key) => Some(key.to_owned()),
            Err(_) => {
                let key = String::from_utf8_lossy(rest);
                tracing::warn!(%key, "skipping a stored key that is not UTF-8; delete it");
                None
            }
        }
    }

    pub(super) fn pair(&self, kv: pb::KeyValue) -> Option<KeyValue> {
        let (create_revision, mod_revision) = (kv.create_revision(), kv.mod_revision());
        let lease = (kv.lease() != 0).then(|| LeaseId(kv.lease()));
        let (key, value) = kv.into_key_value();
        Some(KeyValue {
            key: self.relative(&key)?,
            value,
            create_revision,
            mod_revision,
            lease,
        })
    }

    pub(super) fn event(&self, event: &pb::Event) -> Option<Event> {
        let kv = event.kv()?;
        // Matching on `event_type()` would panic on a type that does not exist yet; only deletions
        // come without a version.
        let deleted = kv.version() == 0;
        Some(Event {
            key: self.relative(kv.key())?,
            value: (!deleted).then(|| kv.value().to_vec()),
            revision: kv.mod_revision(),
        })
    }

    pub(super) fn txn(&self, txn: &Txn) -> pb::Txn {
        let compares: Vec<_> = txn.compares.iter().map(|c| self.compare(c)).collect();
        let ops = |ops: &[Op]| ops.iter().map(|op| self.op(op)).collect::<Vec<_>>();
        let mut out = pb::Txn::new();
        // The client panics on an empty list.
        if !compares.is_empty() {
            out = out.when(compares);
        }
        if !txn.success.is_empty() {
            out = out.and_then(ops(&txn.success));
        }
        if !txn.failure.is_empty() {
            out = out.or_else(ops(&txn.failure));
        }
        out
    }

    fn compare(&self, compare: &Compare) -> pb::Compare {
        use pb::CompareOp::{Equal, Greater};
        match compare {
            Compare::Absent(key) => pb::Compare::create_revision(self.full(key), Equal, 0),
            Compare::Present(key) => pb::Compare::create_revision(self.full(key), Greater, 0),
            Compare::ModRevision(key, revision) => {
                pb::Compare::mod_revision(self.full(key), Equal, *revision)
            }
        }
    }

    fn op(&self, op: &Op) -> pb::TxnOp {
        match op {
            Op::Put { key, value, lease } => {
                let options = lease.map(|l| pb::PutOptions::new().with_lease(l.0));
                pb::TxnOp::put(self.full(key), value.clone(), options)
            }
            Op::Delete(key) => pb::TxnOp::delete(self.full(key), None),
            Op::Get(key) => pb::TxnOp::get(self.full(key), None),
        }
    }

    pub(super) fn outcome(&self, response: &pb::TxnResponse) -> TxnOutcome {
        let gets = response
            .op_responses()
            .into_iter()
            .filter_map(|r| match r {
                pb::TxnOpResponse::Get(mut get) => {
                    let first = get.take_kvs().into_iter().next();
                    Some(first.and_then(|kv| self.pair(kv)))
                }
                _ => None,
            })
            .collect();
        TxnOutcome {
            succeeded: response.succeeded(),
            revision: response.header().map_or(0, pb::ResponseHeader::revision),
            gets,
        }
    }
}

/// The first key after all that begin with `prefix`; one zero byte means "no end".
pub(super) fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_below_the_prefix() {
        for prefix in ["/routerd/v1", "/routerd/v1/"] {
            let keys = Keyspace::new(prefix);
            assert_eq!(keys.full("a/b"), b"/routerd/v1/a/b");
            assert_eq!(keys.relative(b"/routerd/v1/a/b").as_deref(), Some("a/b"));
            assert_eq!(keys.relative(b"/routerd/v1x"), None);
            assert_eq!(keys.relative(b"/routerd/v1/\xff"), None);
        }
        assert_eq!(Keyspace::new("").full("a"), b"a");
    }

    #[test]
    fn a_range_ends_after_its_prefix() {
        assert_eq!(range_end(b"a/"), b"a0");
        assert_eq!(range_end(b"a\xff\xff"), b"b");
        assert_eq!(range_end(b"\xff"), [0]);
        assert_eq!(range_end(b""), [0]);
    }
}
