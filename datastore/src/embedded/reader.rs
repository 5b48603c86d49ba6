//! Opening a database, and reading it without waiting for writers.

use model::kv::{KeyValue, LeaseId, Revision};
use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::mpsc;

use super::tables::{self, KV, META, REVISION, STORE_ID, Tables};

/// Pairs in a page of a listing.
const PAGE: usize = 1000;

/// What a store begins with.
pub(super) struct Start {
    pub(super) revision: Revision,
    /// Identity of the store.
    pub(super) id: u64,
    /// Leases and their time to live in milliseconds.
    pub(super) leases: Vec<(LeaseId, u64)>,
}

/// Makes the tables and the store's identity on first use; reads what the engine starts from.
pub(super) fn prepare(db: &Database) -> Result<Start, redb::Error> {
    let txn = db.begin_write()?;
    let (revision, id) = {
        let tables = Tables::open(&txn)?;
        let revision = tables.revision;
        drop(tables);
        let mut meta = txn.open_table(META)?;
        let known = meta.get(STORE_ID)?.map(|v| v.value());
        let id = match known {
            Some(id) => id,
            None => {
                let id = random_id();
                meta.insert(STORE_ID, id)?;
                id
            }
        };
        (revision, id)
    };
    let leases = tables::leases(&txn)?;
    txn.commit()?;
    Ok(Start {
        revision,
        id: id.unsigned_abs(),
        leases,
    })
}

/// Unlike that of any other store; need not be secret.
fn random_id() -> i64 {
    use std::hash::{BuildHasher, RandomState};
    i64::from_ne_bytes(
        RandomState::new()
            .hash_one(std::process::id())
            .to_ne_bytes(),
    ) | 1
}

pub(super) fn revision(db: &Database) -> Result<Revision, redb::Error> {
    let meta = db.begin_read()?.open_table(META)?;
    Ok(meta.get(REVISION)?.map_or(1, |v| v.value()))
}

pub(super) fn read_key(db: &Database, key: &str) -> Result<Option<KeyValue>, redb::Error> {
    let kv = db.begin_read()?.open_table(KV)?;
    Ok(kv.get(key)?.map(|row| tables::key_value(key, row.value())))
}

/// Reads a prefix in pages from one read transaction; ends early when nobody takes them.
pub(super) fn read_pages(
    db: &Database,
    prefix: &str,
    pages: &mpsc::Sender<Vec<KeyValue>>,
) -> Result<Revision, redb::Error> {
    let txn = db.begin_read()?;
    let kv = txn.open_table(KV)?;
    let meta = txn.open_table(META)?;
    let revision = meta.get(REVISION)?.map_or(1, |v| v.value());
    let mut after: Option<String> = None;
    loop {
        let page = tables::page(&kv, prefix, after.as_deref(), PAGE)?;
        after = page.last().map(|kv| kv.key.clone());
        let last = page.len() < PAGE;
        if !page.is_empty() && pages.blocking_send(page).is_err() {
            return Ok(revision);
        }
        if last {
            return Ok(revision);
        }
    }
}
