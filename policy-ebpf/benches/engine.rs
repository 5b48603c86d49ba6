//! The compiler at 100,000 endpoints of other nodes, 100 of this one and 2,000 policies; and large policies.
//!
//! `cargo bench -p policy-ebpf`; with `--check` it fails above the limits.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

#[path = "engine/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::Instant;

use model::Kind;
use model::resources::{Action, Order, PolicySpec};
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Change, Engine, Op, Role, Settings, Update};

use world::{
    APPS, LOCAL, NAMESPACES, POLICIES, REMOTE, entity, everything, for_all, gone, id, large, novel,
    pod, tcp,
};

const RUNS: usize = 201;
const POD_LIMIT_MS: f64 = 1.0;
const POLICY_LIMIT_MS: f64 = 50.0;

fn timed(engine: &mut Engine, change: Change) -> (f64, Update) {
    let start = Instant::now();
    let update = engine.apply([change]);
    (start.elapsed().as_secs_f64() * 1e3, update)
}

/// Prints what a change takes, milliseconds, coming and going in turn; the median.
fn measure(
    what: &str,
    engine: &mut Engine,
    mirror: &mut Mirror,
    runs: usize,
    mut change: impl FnMut(u32) -> Change,
) -> f64 {
    let (mut times, mut writes) = (Vec::new(), 0);
    for n in 0..u32::try_from(runs).unwrap() {
        let comes = change(n);
        let goes = gone(&comes);
        for change in [comes, goes] {
            let (took, update) = timed(engine, change);
            mirror.update(&update);
            times.push(took);
            writes = writes.max(update.ops().count());
        }
    }
    assert_eq!(engine.problems().next(), None);
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "policy: {what}: median {median:.3} ms (best {:.3}, 99 % {:.3}, worst {:.3}), at most {writes} writes",
        times[0],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
    );
    median
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / f64::from(1 << 20)
}

/// What tables take in the kernel: entries with their overhead there, in MiB.
fn tables(mirror: &Mirror) -> String {
    // An element of a hash has 48 bytes beside key and value, a node of a trie 40; both are rounded up by
    // the allocator. A trie has as many inner nodes as leaves at most.
    let hash = |rows: usize, bytes: usize| rows * (48 + bytes).next_multiple_of(64);
    let trie = |rows: usize, bytes: usize| 2 * rows * (40 + bytes).next_multiple_of(64);
    let bytes = trie(mirror.identities.len(), 20)
        + hash(mirror.classes.len(), 16)
        + trie(mirror.ports.len(), 12)
        + hash(mirror.cells.len(), 32)
        + hash(mirror.chains.len(), 332);
    format!(
        "{} prefixes, {} classes, {} ports, {} cells, {} chains: about {:.1} MiB in the kernel",
        mirror.identities.len(),
        mirror.classes.len(),
        mirror.ports.len(),
        mirror.cells.len(),
        mirror.chains.len(),
        bytes as f64 / f64::from(1 << 20)
    )
}

/// Endpoints here for each of the policies, so that all of them are in force: the most that a pod can meet.
fn everybody_here(engine: &mut Engine, mirror: &mut Mirror) -> f64 {
    let local = || (0..NAMESPACES * APPS).map(|n| pod(10_000 + n, Role::Workload));
    let start = Instant::now();
    let update = engine.apply(local());
    println!(
        "policy: {} more endpoints here: {:.2} s, {} writes; {:?}",
        NAMESPACES * APPS,
        start.elapsed().as_secs_f64(),
        update.ops().count(),
        engine.size()
    );
    mirror.update(&update);
    let known = measure(
        "pod with known labels, all policies in force here",
        engine,
        mirror,
        RUNS,
        |n| pod(REMOTE + n, Role::Elsewhere),
    );
    let novel = measure(
        "pod with labels nobody had, all policies in force here",
        engine,
        mirror,
        RUNS,
        novel,
    );
    mirror.update(&engine.apply(local().map(|c| gone(&c))));
    known.max(novel)
}

fn main() -> ExitCode {
    let before = resident();
    let mut engine = Engine::new(Settings::default());
    let start = Instant::now();
    let update = engine.apply(everything());
    let took = start.elapsed().as_secs_f64();
    let daemon = resident() - before;
    assert_eq!(engine.problems().next(), None);
    println!(
        "policy: {REMOTE} endpoints elsewhere, {LOCAL} here, {POLICIES} policies: compiled in {took:.2} s, {} writes",
        update.ops().count()
    );
    let size = engine.size();
    println!("policy: {size:?}, about {daemon:.0} MiB in the daemon, its writes included");
    let mut mirror = Mirror::default();
    mirror.update(&update);
    println!("policy: {}", tables(&mirror));
    drop(update);

    let known = measure(
        "pod with known labels",
        &mut engine,
        &mut mirror,
        RUNS,
        |n| pod(REMOTE + n, Role::Elsewhere),
    );
    let unheard = measure(
        "pod with labels nobody had",
        &mut engine,
        &mut mirror,
        RUNS,
        novel,
    );
    let here = measure("pod of this node", &mut engine, &mut mirror, RUNS, |n| {
        pod(REMOTE + n, Role::Workload)
    });
    let policy = measure(
        "policy for all 100 endpoints, looking at labels that others look at",
        &mut engine,
        &mut mirror,
        25,
        |n| for_all("tier == 'tier2'", u16::try_from(9_000 + n).unwrap()),
    );
    measure(
        "policy for all 100 endpoints, the first to look at a label that a quarter of all have",
        &mut engine,
        &mut mirror,
        5,
        |n| {
            for_all(
                "pod-template-hash starts with '000001'",
                u16::try_from(9_000 + n).unwrap(),
            )
        },
    );
    measure(
        "policy for all 100 endpoints, the first to name a prefix that all others lie in",
        &mut engine,
        &mut mirror,
        5,
        |_| {
            let spec = PolicySpec {
                order: Some(Order::from(-1)),
                ingress: vec![tcp(Action::Deny, entity(None, &["20.0.0.0/8"]), 9_000)],
                ..PolicySpec::default()
            };
            let id = id(Kind::GlobalNetworkPolicy, None, "all".to_owned());
            Change::Policy(id, Some(spec))
        },
    );
    for rules in [10_000, 100_000] {
        measure(
            &format!("policy of {rules} rules for 5 endpoints"),
            &mut engine,
            &mut mirror,
            3,
            |_| large(rules),
        );
    }
    let crowded = everybody_here(&mut engine, &mut mirror);
    let (_, update) = timed(&mut engine, large(100_000));
    let cells = update
        .puts
        .iter()
        .filter(|op| matches!(op, Op::Cell(..)))
        .count();
    mirror.update(&update);
    println!(
        "policy: with one of 100000 rules ({cells} cells): {}",
        tables(&mirror)
    );

    if std::env::args().any(|a| a == "--check") {
        let slow = known.max(crowded) > POD_LIMIT_MS
            || unheard > POD_LIMIT_MS
            || here > 2.0 * POD_LIMIT_MS
            || policy > POLICY_LIMIT_MS;
        if slow {
            eprintln!(
                "policy: slower than {POD_LIMIT_MS} ms for a pod or {POLICY_LIMIT_MS} ms for a policy"
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
