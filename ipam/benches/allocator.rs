//! How fast requests become transactions, without a store: 5,000 foreign blocks known, 64 requests
//! waiting at a time, each with an endpoint of 300 bytes to write along.
#![allow(clippy::expect_used, reason = "a broken bench is to stop")]

use std::time::{Duration, Instant};

use ipam::{
    Allocator, Assign, Attach, Extra, IpamView, Options, PoolView, Release, Request, RequestId,
    Seen,
};
use model::Cidr;
use model::block::Block;
use model::kv::{Op, TxnOutcome};
use model::resources::IpPoolSpec;

const IN_FLIGHT: u64 = 64;
const FOREIGN: u128 = 5_000;

fn main() {
    let pool: Cidr = "10.0.0.0/11".parse().expect("a prefix");
    let view = IpamView {
        pools: vec![PoolView::new("default", IpPoolSpec::new(pool))],
        ..IpamView::default()
    };
    for foreign in [0, FOREIGN] {
        let mut allocator = Allocator::new(Options::new("bench", 1));
        for i in 0..foreign {
            let cidr = ipam::blocks::nth_block(&pool, 26, i * 3).expect("a block");
            let block = Block::new(cidr, Some(format!("node-{i}")));
            allocator.block_event(cidr, Seen::Is(&block), 1);
        }
        allocator.set_view(view.clone());
        report(foreign, &mut allocator);
    }
}

/// Assigns for a second, then releases all.
fn report(foreign: u128, allocator: &mut Allocator) {
    let (mut revision, mut next, mut served, mut txns) = (1, 0, 0_u64, 0_u64);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        for _ in 0..IN_FLIGHT {
            allocator.submit(0, RequestId(next), Request::Assign(wanted(next)));
            next += 1;
        }
        let (s, t) = drain(allocator, &mut revision);
        (served, txns) = (served + s, txns + t);
    }
    let rate = per_second(served, start.elapsed());
    println!(
        "{foreign:>5} foreign blocks: {rate:>8} assignments/s, {} a transaction",
        served / txns.max(1)
    );
    let start = Instant::now();
    for id in 0..next {
        let handle = handle(id);
        let release = Release {
            handle,
            ..Release::default()
        };
        allocator.submit(0, RequestId(id), Request::Release(release));
        if id % IN_FLIGHT == IN_FLIGHT - 1 {
            drain(allocator, &mut revision);
        }
    }
    let rate = per_second(next, start.elapsed());
    println!("{foreign:>5} foreign blocks: {rate:>8} releases/s");
}

/// Every transaction succeeds at once.
fn drain(allocator: &mut Allocator, revision: &mut i64) -> (u64, u64) {
    let (mut served, mut txns) = (0, 0);
    while let Some((id, txn)) = allocator.poll_txn(0) {
        *revision += 1;
        txns += 1;
        let gets = txn.success.iter().filter(|op| matches!(op, Op::Get(_)));
        let outcome = TxnOutcome {
            succeeded: true,
            revision: *revision,
            gets: vec![None; gets.count()],
        };
        allocator.handle_outcome(0, id, Ok(outcome));
        while let Some((_, result)) = allocator.poll_reply() {
            result.expect("an address");
            served += 1;
        }
    }
    (served, txns)
}

fn wanted(id: u64) -> Assign {
    let key = format!("resources/workloadendpoints/default/w{id}");
    let extra = Attach::new(move |_| Extra {
        compares: Vec::new(),
        ops: vec![Op::put(key.clone(), vec![b'x'; 300])],
    });
    Assign {
        extra,
        ..Assign::workload(handle(id), "default", "w")
    }
}

fn handle(id: u64) -> String {
    format!("cni.mesh.{id:064x}.eth0")
}

fn per_second(count: u64, elapsed: Duration) -> u128 {
    u128::from(count) * 1_000_000 / elapsed.as_micros().max(1)
}
