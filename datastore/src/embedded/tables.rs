//! How keys, leases and the revision lie in the database, and one transaction applied to them.

use std::ops::Bound;

use model::kv::{Compare, Event, KeyValue, LeaseId, Op, Revision, Txn, TxnOutcome};
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

/// Create revision, mod revision, lease (0 = none), value.
type Row<'a> = (i64, i64, i64, &'a [u8]);

pub(super) const KV: TableDefinition<&str, Row<'static>> = TableDefinition::new("kv");
/// Lease to its time to live in milliseconds.
pub(super) const LEASES: TableDefinition<i64, u64> = TableDefinition::new("leases");
/// The keys that hang on a lease.
pub(super) const LEASE_KEYS: TableDefinition<(i64, &str), ()> = TableDefinition::new("lease_keys");
pub(super) const META: TableDefinition<&str, i64> = TableDefinition::new("meta");

/// Latest revision; an empty store is at 1, as etcd is.
pub(super) const REVISION: &str = "revision";
/// Last lease id given out.
pub(super) const LAST_LEASE: &str = "last_lease";
/// Random identity of this store.
pub(super) const STORE_ID: &str = "store_id";

/// Why a transaction was not applied. Nothing was changed unless it is `Storage`.
pub(super) enum Refused {
    NoLease(LeaseId),
    Storage(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Refused {
    fn from(e: E) -> Self {
        Refused::Storage(e.into())
    }
}

/// The open tables of one database transaction, which carries many of ours.
pub(super) struct Tables<'t> {
    kv: Table<'t, &'static str, Row<'static>>,
    leases: Table<'t, i64, u64>,
    lease_keys: Table<'t, (i64, &'static str), ()>,
    meta: Table<'t, &'static str, i64>,
    pub(super) revision: Revision,
    /// Whether anything was written, so that a commit is due.
    pub(super) dirty: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn open(db: &'t WriteTransaction) -> Result<Tables<'t>, redb::Error> {
        let meta = db.open_table(META)?;
        let revision = meta.get(REVISION)?.map_or(1, |v| v.value());
        Ok(Tables {
            kv: db.open_table(KV)?,
            leases: db.open_table(LEASES)?,
            lease_keys: db.open_table(LEASE_KEYS)?,
            meta,
            revision,
            dirty: false,
        })
    }

    /// Applies one of our transactions as a whole or not at all.
    pub(super) fn txn(&mut self, txn: &Txn) -> Result<(TxnOutcome, Vec<Event>), Refused> {
        let mut succeeded = true;
        for compare in &txn.compares {
            succeeded &= self.holds(compare)?;
        }
        let branch = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        for op in branch {
            if let Op::Put { lease: Some(l), .. } = op
                && self.leases.get(l.0)?.is_none()
            {
                return Err(Refused::NoLease(*l));
            }
        }
        let next = self.revision + 1;
        let mut gets = Vec::new();
        let mut events = Vec::new();
        for op in branch {
            match op {
                Op::Get(key) => gets.push(self.get(key)?),
                Op::Put { key, value, lease } => {
                    self.put(key, value, *lease, next)?;
                    events.push(Event {
                        key: key.clone(),
                        value: Some(value.clone()),
                        revision: next,
                    });
                }
                Op::Delete(key) => events.extend(self.delete(key, next)?),
            }
        }
        self.written(&events)?;
        let outcome = TxnOutcome {
            succeeded,
            revision: self.revision,
            gets,
        };
        Ok((outcome, events))
    }

    pub(super) fn grant(&mut self, ttl_ms: u64) -> Result<LeaseId, redb::Error> {
        let id = self.meta.get(LAST_LEASE)?.map_or(0, |v| v.value()) + 1;
        self.meta.insert(LAST_LEASE, id)?;
        self.leases.insert(id, ttl_ms)?;
        self.dirty = true;
        Ok(LeaseId(id))
    }

    /// Ends a lease and deletes what hangs on it, at one revision.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> Result<Vec<Event>, redb::Error> {
        if self.leases.remove(lease.0)?.is_none() {
            return Ok(Vec::new());
        }
        self.dirty = true;
        let mut keys = Vec::new();
        for entry in self.lease_keys.range((lease.0, "")..)? {
            let (k, _) = entry?;
            let (id, key) = k.value();
            if id != lease.0 {
                break;
            }
            keys.push(key.to_owned());
        }
        let next = self.revision + 1;
        let mut events = Vec::new();
        for key in &keys {
            events.extend(self.delete(key, next)?);
        }
        self.written(&events)?;
        Ok(events)
    }

    fn written(&mut self, events: &[Event]) -> Result<(), redb::Error> {
        if !events.is_empty() {
            self.revision += 1;
            self.meta.insert(REVISION, self.revision)?;
            self.dirty = true;
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> Result<bool, redb::Error> {
        Ok(match compare {
            Compare::Absent(key) => self.kv.get(key.as_str())?.is_none(),
            Compare::Present(key) => self.kv.get(key.as_str())?.is_some(),
            Compare::ModRevision(key, revision) => self
                .kv
                .get(key.as_str())?
                .map_or(*revision == 0, |row| row.value().1 == *revision),
        })
    }

    fn get(&self, key: &str) -> Result<Option<KeyValue>, redb::Error> {
        Ok(self.kv.get(key)?.map(|row| key_value(key, row.value())))
    }

    fn put(
        &mut self,
        key: &str,
        value: &[u8],
        lease: Option<LeaseId>,
        revision: Revision,
    ) -> Result<(), redb::Error> {
        let old = self.kv.get(key)?.map(|row| {
            let (created, _, lease, _) = row.value();
            (created, lease)
        });
        let lease = lease.map_or(0, |l| l.0);
        let (created, old_lease) = old.unwrap_or((revision, 0));
        if old_lease != lease {
            if old_lease != 0 {
                self.lease_keys.remove((old_lease, key))?;
            }
            if lease != 0 {
                self.lease_keys.insert((lease, key), ())?;
            }
        }
        self.kv.insert(key, (created, revision, lease, value))?;
        Ok(())
    }

    fn delete(&mut self, key: &str, revision: Revision) -> Result<Option<Event>, redb::Error> {
        let Some(lease) = self.kv.remove(key)?.map(|row| row.value().2) else {
            return Ok(None);
        };
        if lease != 0 {
            self.lease_keys.remove((lease, key))?;
        }
        Ok(Some(Event {
            key: key.to_owned(),
            value: None,
            revision,
        }))
    }
}

/// All leases and their time to live in milliseconds.
pub(super) fn leases(db: &WriteTransaction) -> Result<Vec<(LeaseId, u64)>, redb::Error> {
    let table = db.open_table(LEASES)?;
    let mut found = Vec::new();
    for entry in table.iter()? {
        let (id, ttl) = entry?;
        found.push((LeaseId(id.value()), ttl.value()));
    }
    Ok(found)
}

pub(super) fn key_value(key: &str, row: Row<'_>) -> KeyValue {
    let (create_revision, mod_revision, lease, value) = row;
    KeyValue {
        key: key.to_owned(),
        value: value.to_vec(),
        create_revision,
        mod_revision,
        lease: (lease != 0).then_some(LeaseId(lease)),
    }
}

/// Reads up to `limit` pairs under `prefix`, after `after` when given.
pub(super) fn page(
    kv: &impl ReadableTable<&'static str, Row<'static>>,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<KeyValue>, redb::Error> {
    let start = match after {
        Some(key) => Bound::Excluded(key),
        None => Bound::Included(prefix),
    };
    let mut items = Vec::new();
    for entry in kv.range::<&str>((start, Bound::Unbounded))? {
        let (key, row) = entry?;
        if !key.value().starts_with(prefix) || items.len() == limit {
            break;
        }
        items.push(key_value(key.value(), row.value()));
    }
    Ok(items)
}
