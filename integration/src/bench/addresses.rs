//! The daemon's owner of addresses against a real etcd, beside what that etcd can do by itself.

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use datastore::{DEFAULT_DEADLINE, Datastore, EtcdConfig};
use ipam::{Assign, Attach, Extra, IpamView, PoolView, Release};
use model::kv::{Op, Txn};
use model::manifest::encode_stored;
use model::resources::{IpPoolSpec, NodeSpec};
use model::{Cidr, Object, Resource, keys};
use routerd::ipam::{Ipam, IpamInput};

use super::{Row, Section, spread};
use crate::lab::{Etcd, Lab};

const NODE: &str = "bench";
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
/// Bytes of a value.
const VALUE: usize = 300;

/// Rates of one round, in operations a second.
struct Round {
    puts: f64,
    assigned: f64,
    released: f64,
    attached: f64,
    detached: f64,
}

/// Measures in turn: puts by themselves, addresses alone, addresses with an endpoint.
///
/// # Errors
/// When etcd or an allocation fails.
pub fn run() -> Result<Section> {
    let lab = Lab::new()?;
    let ns = lab.netns("store")?;
    ns.ip("link set lo up")?;
    let etcd = Etcd::start(&lab, &ns, Ipv4Addr::LOCALHOST.into())?;
    let rounds = ns.run(|| {
        // Its threads start from this one, so they are in the namespace as well.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(rounds(&etcd))
    })?;
    let of = |pick: fn(&Round) -> f64| rounds.iter().map(pick).collect::<Vec<_>>();
    let rate = |pick| spread(&mut of(pick), |r| format!("{r:.0}/s"));
    let against_puts = |pick: fn(&Round) -> f64| {
        let mut ratios: Vec<f64> = rounds.iter().map(|r| pick(r) / r.puts.max(1.0)).collect();
        let shown = spread(&mut ratios, |r| format!("{r:.2} ×"));
        let met = super::median_f64(&mut ratios) >= 2.0;
        (shown, met)
    };
    let goal = |what: &str, pick| {
        let (shown, met) = against_puts(pick);
        Row::goal(what, shown, "≥ 2 ×", met)
    };
    Ok(Section {
        title: "Addresses",
        how: "The daemon's owner of addresses over one connection to a real etcd on the same machine, 64 requests in \
              flight; seven rounds in turn, 2 s of each. A put is etcd's own: one key with a value of 300 bytes. An \
              allocation is durable in etcd; with an endpoint, its 300 bytes ride in the same \
              transaction, as they do in an ADD.",
        rows: vec![
            Row::shown("etcd's own puts", rate(|r| r.puts)),
            Row::shown("allocations", rate(|r| r.assigned)),
            goal("allocations against puts", |r| r.assigned),
            Row::shown("releases", rate(|r| r.released)),
            goal("releases against puts", |r| r.released),
            Row::shown("allocations with an endpoint", rate(|r| r.attached)),
            Row::shown("the same against puts", against_puts(|r| r.attached).0),
            Row::shown("releases with an endpoint", rate(|r| r.detached)),
            Row::shown("the same against puts", against_puts(|r| r.detached).0),
        ],
    })
}

async fn rounds(etcd: &Etcd) -> Result<Vec<Round>> {
    let config = EtcdConfig {
        endpoints: vec![etcd.url()],
        prefix: "/routerd/v1".to_owned(),
        ..EtcdConfig::default()
    };
    let store: Arc<dyn Datastore> =
        Arc::new(datastore::Etcd::new(&config, DEFAULT_DEADLINE).await?);
    let node = Object::Node(Resource::named(NODE, NodeSpec::default()));
    let put = Op::put(keys::resource(&node.id()), encode_stored(&node));
    store.txn(Txn::new().then(put)).await?;
    let ipam = owner(Arc::clone(&store)).await?;
    let raw = etcd_client::Client::connect([etcd.url()], None).await?;

    let mut rounds = Vec::new();
    // The first warms up.
    for round in 0..=ROUNDS {
        let puts = puts(&raw, round).await?;
        let (assigned, released) = addresses(&ipam, round, false).await?;
        let (attached, detached) = addresses(&ipam, round, true).await?;
        if round > 0 {
            rounds.push(Round {
                puts,
                assigned,
                released,
                attached,
                detached,
            });
        }
    }
    Ok(rounds)
}

/// The daemon's own actor, with one pool.
async fn owner(store: Arc<dyn Datastore>) -> Result<Ipam> {
    let (ipam, inbox) = Ipam::new();
    tokio::spawn(routerd::ipam::run(NODE, store, inbox));
    let pool = Cidr::containing(Ipv4Addr::new(10, 0, 0, 0).into(), 8).context("the pool")?;
    let view = IpamView {
        pools: vec![PoolView::new("bench", IpPoolSpec::new(pool))],
        ..IpamView::default()
    };
    ipam.input(IpamInput::View(Box::new(view))).await;
    Ok(ipam)
}

async fn puts(raw: &etcd_client::Client, round: usize) -> Result<f64> {
    let end = Instant::now() + ROUND;
    let (_, rate) = in_flight(|n| {
        let mut kv = raw.kv_client();
        async move {
            if Instant::now() >= end {
                return Ok(false);
            }
            let key = format!("/puts/{round}/{n}");
            kv.put(key, vec![b'x'; VALUE], None).await?;
            Ok(true)
        }
    })
    .await?;
    Ok(rate)
}

/// Allocates for a while, then releases all; both rates.
async fn addresses(ipam: &Ipam, round: usize, with_endpoint: bool) -> Result<(f64, f64)> {
    let handle = move |n: u64| format!("cni:bench:{round}-{with_endpoint}-{n:032x}:eth0");
    let key = move |n: u64| format!("resources/workloadendpoints/bench/{round}-{n}");
    let end = Instant::now() + ROUND;
    let (count, assigned) = in_flight(|n| async move {
        if Instant::now() >= end {
            return Ok(false);
        }
        let mut assign = Assign::workload(handle(n), "default", "w");
        if with_endpoint {
            assign.extra = Attach::new(move |_| Extra {
                compares: Vec::new(),
                ops: vec![Op::put(key(n), vec![b'x'; VALUE])],
            });
        }
        ipam.assign(assign).await?;
        Ok(true)
    })
    .await?;
    let (_, released) = in_flight(|n| async move {
        if n >= count {
            return Ok(false);
        }
        let ops = with_endpoint.then(|| Op::Delete(key(n)));
        let extra = Extra {
            compares: Vec::new(),
            ops: ops.into_iter().collect(),
        };
        let release = Release {
            handle: handle(n),
            cleanup: extra.into(),
            ..Release::default()
        };
        ipam.release(release).await?;
        Ok(true)
    })
    .await?;
    Ok((assigned, released))
}

/// Does `one` for 0, 1, 2 … with 64 at a time until it says no; how many were done, and how many a second.
async fn in_flight<F: Future<Output = Result<bool>>>(one: impl Fn(u64) -> F) -> Result<(u64, f64)> {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    let worker = || async {
        while one(next.fetch_add(1, Ordering::Relaxed)).await? {
            done.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    futures::future::try_join_all((0..IN_FLIGHT).map(|_| worker())).await?;
    let done = done.into_inner();
    // A rate does not need all 64 bits.
    #[allow(clippy::cast_precision_loss)]
    let rate = done as f64 / start.elapsed().as_secs_f64();
    Ok((done, rate))
}
