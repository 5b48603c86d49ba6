//! The compiler at 100,000 endpoints of other nodes, 100 of this one and 2,000 policies; and large policies.
//!
//! `cargo bench -p policy-ebpf`; with `--check` it fails above the limits.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use model::object::ObjectId;
use model::resources::workload_endpoint::Protocol;
use model::resources::{Action, EntityRule, Order, PolicyPort, PolicySpec, PolicyType, Rule};
use model::{Cidr, Kind};
use policy_ebpf::mirror::Mirror;
use policy_ebpf::{Change, Engine, Labels, Op, Party, Role, Settings, Update};

const REMOTE: u32 = 100_000;
const LOCAL: u32 = 100;
const POLICIES: u32 = 2_000;
const NAMESPACES: u32 = 50;
const APPS: u32 = 20;
const RUNS: usize = 201;
const POD_LIMIT_MS: f64 = 1.0;
const POLICY_LIMIT_MS: f64 = 50.0;

fn id(kind: Kind, namespace: Option<String>, name: String) -> ObjectId {
    ObjectId {
        kind,
        namespace,
        name,
    }
}

fn namespace(n: u32) -> String {
    format!("team{}", n % NAMESPACES)
}

/// Labels as a deployment's pods have them: every `n` below 1,000 is another set.
fn labels(n: u32) -> Arc<Labels> {
    let app = n / NAMESPACES % APPS;
    Arc::new(BTreeMap::from([
        ("app".to_owned(), format!("app{app}")),
        ("tier".to_owned(), format!("tier{}", app % 4)),
        (
            "pod-template-hash".to_owned(),
            format!("{:08x}", n % (NAMESPACES * APPS)),
        ),
        ("projectcalico.org/namespace".to_owned(), namespace(n)),
        (
            "projectcalico.org/orchestrator".to_owned(),
            "k8s".to_owned(),
        ),
    ]))
}

fn pod(n: u32, role: Role) -> Change {
    pod_with(n, labels(n), role)
}

fn pod_with(n: u32, labels: Arc<Labels>, role: Role) -> Change {
    let [_, a, b, c] = n.to_be_bytes();
    let base = if role == Role::Workload { 10 } else { 20 };
    let nets = [
        format!("{base}.{a}.{b}.{c}"),
        format!("fd00:{base}::{:x}:{:x}", n >> 16, n & 0xffff),
    ];
    let party = Party {
        labels,
        namespace: Some(namespace(n).into()),
        nets: nets.map(|net| net.parse::<Cidr>().unwrap()).to_vec(),
        ports: [].into(),
        role,
    };
    Change::Party(pod_id(n, role), Some(party))
}

fn pod_id(n: u32, role: Role) -> ObjectId {
    let name = match role {
        Role::Workload => format!("local{n}"),
        _ => format!("pod{n}"),
    };
    id(Kind::WorkloadEndpoint, Some(namespace(n)), name)
}

fn entity(selector: Option<String>, nets: &[&str]) -> EntityRule {
    EntityRule {
        selector,
        nets: nets.iter().map(|n| n.parse().unwrap()).collect(),
        ..EntityRule::default()
    }
}

fn tcp(action: Action, source: EntityRule, port: u16) -> Rule {
    Rule {
        protocol: Some(Protocol::Name("TCP".to_owned())),
        source,
        destination: EntityRule {
            ports: vec![PolicyPort::single(port)],
            ..EntityRule::default()
        },
        ..Rule::any(action)
    }
}

/// Forty policies in each namespace: two for each app. Names count up so that every rule is another one.
fn policy(n: u32) -> Change {
    let app = n / NAMESPACES % APPS;
    let peer = format!("app == 'app{}'", (app + 1 + n % 3) % APPS);
    let port = |k: u32| u16::try_from(8_000 + (n + k) % 100).unwrap();
    let spec = PolicySpec {
        order: Some(Order::from(i32::try_from(n).unwrap())),
        selector: Some(format!("app == 'app{app}'")),
        types: vec![PolicyType::Ingress, PolicyType::Egress],
        ingress: vec![
            tcp(Action::Allow, entity(Some(peer), &[]), port(0)),
            tcp(Action::Allow, entity(None, &["192.168.0.0/16"]), port(1)),
            tcp(
                Action::Deny,
                entity(Some("tier == 'tier3'".to_owned()), &[]),
                port(2),
            ),
        ],
        egress: vec![Rule::any(Action::Allow)],
        ..PolicySpec::default()
    };
    let id = id(
        Kind::NetworkPolicy,
        Some(namespace(n)),
        format!("policy{n}"),
    );
    Change::Policy(id, Some(spec))
}

/// A policy for all endpoints.
fn for_all(selector: &str, port: u16) -> Change {
    let spec = PolicySpec {
        order: Some(Order::from(-1)),
        ingress: vec![tcp(
            Action::Deny,
            entity(Some(selector.to_owned()), &[]),
            port,
        )],
        ..PolicySpec::default()
    };
    Change::Policy(
        id(Kind::GlobalNetworkPolicy, None, "all".to_owned()),
        Some(spec),
    )
}

/// One of many rules, each for a prefix and a port of its own.
fn large(rules: u32) -> Change {
    let rule = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        let net = format!("100.{a}.{b}.{c}");
        tcp(
            Action::Allow,
            entity(None, &[&net]),
            u16::try_from(1 + n % 1_000).unwrap(),
        )
    };
    let spec = PolicySpec {
        order: Some(Order::from(-2)),
        selector: Some("app == 'app0'".to_owned()),
        ingress: (0..rules).map(rule).collect(),
        ..PolicySpec::default()
    };
    Change::Policy(
        id(Kind::GlobalNetworkPolicy, None, "large".to_owned()),
        Some(spec),
    )
}

fn gone(change: &Change) -> Change {
    match change {
        Change::Policy(id, _) => Change::Policy(id.clone(), None),
        Change::Party(id, _) => Change::Party(id.clone(), None),
        other => other.clone(),
    }
}

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

/// Each with another label than everybody.
fn novel(n: u32) -> Change {
    let mut labels = (*labels(n)).clone();
    labels.insert("pod-name".to_owned(), format!("pod{n}"));
    pod_with(REMOTE + n, labels.into(), Role::Elsewhere)
}

fn main() -> ExitCode {
    let before = resident();
    let mut engine = Engine::new(Settings::default());
    let start = Instant::now();
    let remote = (0..REMOTE).map(|n| pod(n, Role::Elsewhere));
    let local = (0..LOCAL).map(|n| pod(n * 7, Role::Workload));
    let update = engine.apply(remote.chain((0..POLICIES).map(policy)).chain(local));
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
