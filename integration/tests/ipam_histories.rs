//! The six invariants of address management over the stores that the daemon really uses: the
//! histories of `ipam::testing`, with crashes, lost answers and transactions that arrive late.
//!
//! Memory runs thousands of them; here it matters that a store compares, counts revisions and
//! refuses as the model of it does.

use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use datastore::testing::EtcdCluster;
use datastore::{DEFAULT_DEADLINE, Datastore, Embedded, Etcd};
use ipam::Failure;
use ipam::testing::{Setup, Simulation, Stats, TestStore, random_actions};
use model::kv::{KeyValue, Txn, TxnOutcome};
use model::resources::IpamConfigurationSpec;
use tokio::runtime::Runtime;

/// Histories for each store, and actions in each.
const HISTORIES: u64 = 12;
const ACTIONS: usize = 300;

/// A store of the daemon, for a simulation that waits.
struct Real<'a> {
    store: Arc<dyn Datastore>,
    runtime: &'a Runtime,
}

impl TestStore for Real<'_> {
    fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, Failure> {
        // Losses are the simulation's to make: a store that fails by itself fails the test.
        let outcome = self.runtime.block_on(self.store.txn(txn.clone()));
        outcome.map_err(|e| Failure::Refused(e.to_string()))
    }

    fn list(&mut self, prefix: &str) -> Vec<KeyValue> {
        let listing = self.runtime.block_on(self.store.list(prefix));
        listing.map(|l| l.items).unwrap_or_default()
    }
}

/// Runs the histories, each over an empty store of its own; a failure names the seed that repeats it.
fn histories(
    runtime: &Runtime,
    mut empty: impl FnMut(u64) -> Result<Arc<dyn Datastore>>,
) -> Result<()> {
    let mut total = Stats::default();
    for seed in 0..HISTORIES {
        let store = empty(seed)?;
        let setup = Setup {
            config: IpamConfigurationSpec {
                strict_affinity: seed % 5 == 0,
                max_blocks_per_host: u32::try_from(seed % 3)?,
                ..IpamConfigurationSpec::default()
            },
            ..Setup::default()
        };
        let real = Real {
            store: Arc::clone(&store),
            runtime,
        };
        let stats = Simulation::new(real, setup)
            .and_then(|s| s.run(&random_actions(seed, ACTIONS)))
            .map_err(|broken| anyhow!("seed {seed}: {broken}"))?;
        // What the simulation wrote went there and nowhere else.
        ensure!(!runtime.block_on(store.list(""))?.items.is_empty());
        total += stats;
    }
    println!("{HISTORIES} histories: {total:?}");
    // Histories in which nothing happens prove nothing.
    for (what, count, least) in [
        ("assigned", total.assigned, 70),
        ("released", total.released, 60),
        ("committed", total.committed, 500),
        ("lost a compare", total.lost, 15),
        ("lost an answer", total.doubts, 6),
        ("crashes", total.crashes, 12),
        ("borrowed", total.borrowed, 20),
        ("reclaimed", total.reclaimed, 1),
    ] {
        ensure!(count >= least, "only {count} {what}: {total:?}");
    }
    Ok(())
}

#[test]
fn histories_over_the_embedded_store_keep_the_invariants() -> Result<()> {
    let (runtime, dir) = (Runtime::new()?, tempfile::tempdir()?);
    histories(&runtime, |seed| {
        let path = dir.path().join(format!("{seed}.redb"));
        let store = runtime.block_on(Embedded::open(&path, DEFAULT_DEADLINE))?;
        Ok(Arc::new(store))
    })
}

#[test]
fn histories_over_etcd_keep_the_invariants() -> Result<()> {
    let etcd = EtcdCluster::single().map_err(|e| anyhow!(e))?;
    let runtime = Runtime::new()?;
    histories(&runtime, |seed| {
        let config = etcd.config(&format!("/history-{seed}"));
        Ok(Arc::new(
            runtime.block_on(Etcd::new(&config, DEFAULT_DEADLINE))?,
        ))
    })
}
