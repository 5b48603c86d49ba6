//! Throughput, round trips and new connections between two workloads of a node.

use std::fmt::Write;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use crate::bench::{Row, median_f64, spread};
use crate::lab::probe::tcp;
use crate::lab::{Cni, Lab, Mesh, MeshSpec, Node, Workload, wait};
use crate::scenario::{self, CONVERGE};
use serde_json::json;

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(2);
const PINGS: usize = 20_000;
const DIALS: Duration = Duration::from_secs(1);
const DIAL_PORT: u16 = 7010;
const RULES: usize = 10_000;
/// What a policy may take of the path without one.
const GOAL: f64 = 0.97;

/// Two workloads, and what is between them.
struct Pair {
    name: String,
    from: Workload,
    to: Workload,
}

/// One number of each pair in a round.
type Measured = Vec<Vec<f64>>;

/// The rows of all of it.
pub(super) fn rows() -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let mut mesh = Mesh::build(&lab, &MeshSpec::flat(4))?;
    for node in mesh.nodes.iter().skip(1) {
        node.lacks_bpf()?;
    }
    scenario::start(&mut mesh, "Never")?;
    let n1 = mesh.node(0)?;
    let pairs = vec![
        pair(&lab, mesh.node(1)?, "no policy", "none")?,
        pair(&lab, n1, "programs, no policy", "free")?,
        pair(&lab, n1, "1 rule", "one")?,
        pair(&lab, n1, "10,000 rules", "many")?,
        pair(&lab, mesh.node(2)?, "nftables, 1 rule", "nft-one")?,
        pair(&lab, mesh.node(3)?, "nftables, 10,000 rules", "nft-many")?,
    ];
    n1.apply(&policies("one", 1))?;
    n1.apply(&policies("many", RULES))?;
    nftables(mesh.node(2)?, 1)?;
    nftables(mesh.node(3)?, RULES)?;
    for pair in &pairs {
        wait(&format!("{} to be in force", pair.name), CONVERGE, || {
            round_trips(pair, 1).map(drop)
        })?;
    }
    scenario::enforces_policy(n1)?;

    let (mut rates, mut trips, mut dials) = (Measured::new(), Measured::new(), Measured::new());
    for _ in 0..ROUNDS {
        rates.push(each(&pairs, |p| {
            tcp::throughput(&p.from.ns, &p.to.ns, p.to.ip(false)?, TIME)
        })?);
        trips.push(each(&pairs, |p| round_trips(p, PINGS))?);
        dials.push(each(&pairs, connections)?);
    }
    let mut rows = Vec::new();
    for (what, unit, numbers) in [
        ("TCP throughput", Unit::Bits, &rates),
        ("round trips of UDP a second", Unit::Count, &trips),
        ("new TCP connections a second", Unit::Count, &dials),
    ] {
        table(&mut rows, what, unit, &pairs, numbers)?;
    }
    Ok(rows)
}

#[derive(Clone, Copy)]
enum Unit {
    Bits,
    Count,
}

impl Unit {
    fn show(self, number: f64) -> String {
        match self {
            Unit::Bits => format!("{:.1} Gbit/s", number / 1e9),
            Unit::Count => format!("{number:.0}"),
        }
    }
}

/// The first pair's number, and the ratio of every other to it.
fn table(
    rows: &mut Vec<Row>,
    what: &str,
    unit: Unit,
    pairs: &[Pair],
    numbers: &Measured,
) -> Result<()> {
    let column = |i: usize| {
        numbers
            .iter()
            .filter_map(move |round| round.get(i).copied())
    };
    let mut base: Vec<f64> = column(0).collect();
    rows.push(Row::shown(
        format!("{what}, no policy"),
        spread(&mut base, |n| unit.show(n)),
    ));
    let ratio = |i: usize, to: usize| column(i).zip(column(to)).map(|(a, b)| a / b);
    for (i, pair) in pairs.iter().enumerate().skip(1) {
        let mut ratios: Vec<f64> = ratio(i, 0).collect();
        ensure!(ratios.len() == ROUNDS, "a round is missing");
        let shown = spread(&mut ratios, |r| format!("{r:.2} ×"));
        let middle = median_f64(&mut ratios);
        let (what, is_many) = (
            format!("{what}, {}", pair.name),
            pair.name == "10,000 rules",
        );
        rows.push(match is_many && !what.contains("new") {
            true => Row::goal(what, shown, "≥ 0.97 × no policy", middle >= GOAL),
            false => Row::shown(what, shown),
        });
    }
    let place = |name: &str| {
        let found = pairs.iter().position(|p| p.name == name);
        found.with_context(|| format!("no pair {name}"))
    };
    let (many, one) = (place("10,000 rules")?, place("1 rule")?);
    let mut flat: Vec<f64> = ratio(many, one).collect();
    let shown = spread(&mut flat, |r| format!("{r:.2} ×"));
    let met = median_f64(&mut flat) >= GOAL;
    rows.push(Row::goal(
        format!("{what}, 10,000 rules against 1"),
        shown,
        "≥ 0.97 ×",
        met,
    ));
    Ok(())
}

fn each(pairs: &[Pair], measure: impl Fn(&Pair) -> Result<f64>) -> Result<Vec<f64>> {
    let of = |pair: &Pair| measure(pair).with_context(|| pair.name.clone());
    pairs.iter().map(of).collect()
}

fn pair(lab: &Lab, node: &Node, name: &str, label: &str) -> Result<Pair> {
    let cni = Cni::of(node)?;
    let labelled = json!({ "args": { "cni": { "labels": { "rules": label } } } });
    Ok(Pair {
        name: name.to_owned(),
        from: cni.add(lab, &format!("{label}-a"))?,
        to: cni.add_with(lab, &format!("{label}-b"), &labelled)?,
    })
}

/// Rules that match nothing here, each for a prefix and a port of its own, and one at the end that does.
fn rules(count: usize) -> impl Iterator<Item = Option<(Ipv4Addr, usize)>> {
    let others = (1..count).map(|n| {
        let [_, a, b, c] = u32::try_from(n).unwrap_or_default().to_be_bytes();
        Some((Ipv4Addr::new(100, a, b, c), 20_000 + n % 1000))
    });
    others.chain([None])
}

/// As many rules as a policy can have and be stored.
const OF_A_POLICY: usize = 5_000;

/// As many policies as that takes, in the order of their names.
fn policies(label: &str, count: usize) -> String {
    let all: Vec<_> = rules(count).collect();
    let each = all.chunks(OF_A_POLICY).enumerate();
    each.map(|(n, rules)| policy(label, n, rules)).collect()
}

fn policy(label: &str, n: usize, rules: &[Option<(Ipv4Addr, usize)>]) -> String {
    let mut text = format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{ name: {label}-{n} }}\n\
         spec:\n  order: {n}\n  selector: rules == '{label}'\n  types: [Ingress]\n  ingress:\n"
    );
    for rule in rules {
        // Writing into a String cannot fail.
        let _ = match rule {
            Some((net, port)) => writeln!(
                text,
                "  - {{action: Allow, protocol: TCP, source: {{nets: [{net}/32]}}, destination: {{ports: [{port}]}}}}"
            ),
            None => writeln!(text, "  - {{action: Allow}}"),
        };
    }
    text
}

/// The same for the kernel's own filter.
fn nftables(node: &Node, count: usize) -> Result<()> {
    let mut text = "table inet filter {\n chain forward {\n  type filter hook forward priority 0; policy drop;\n  \
                    ct state established,related accept\n"
        .to_owned();
    for rule in rules(count) {
        let _ = match rule {
            Some((net, port)) => writeln!(text, "  ip saddr {net} tcp dport {port} accept"),
            None => writeln!(text, "  accept"),
        };
    }
    text.push_str(" }\n}\n");
    let file = node.dir().join("bench.nft");
    std::fs::write(&file, text)?;
    (node.ns.output("nft", &format!("-f {}", file.display()))).map(drop)
}

fn round_trips(pair: &Pair, count: usize) -> Result<f64> {
    let (from, to) = (pair.from.ip(false)?, pair.to.ip(false)?);
    let times = tcp::round_trips((&pair.from.ns, from), (&pair.to.ns, to), count)?;
    let sum: Duration = times.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a few thousands")]
    let count = times.len() as f64;
    Ok(count / sum.as_secs_f64())
}

/// Connections that are made and reset, one after the other, in a second.
fn connections(pair: &Pair) -> Result<f64> {
    let to = SocketAddr::new(pair.to.ip(false)?, DIAL_PORT);
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DIAL_PORT);
    let listener = pair.to.ns.run(|| Ok(TcpListener::bind(any)?))?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            while let Ok((mut stream, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // The client resets it.
                let _ = stream.read(&mut [0]);
            }
        });
        let dialled = pair.from.ns.run(|| dial(to));
        stop.store(true, Ordering::Relaxed);
        // Wakes the server.
        let last = pair.from.ns.run(|| Ok(TcpStream::connect(to)?));
        last.context("the last connection")?;
        (server.join()).map_err(|_| anyhow!("the server panicked"))?;
        dialled
    })
}

fn dial(to: SocketAddr) -> Result<f64> {
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < DIALS {
        let stream = TcpStream::connect(to)?;
        // Reset: a port that waits cannot be used again for a minute.
        let reset = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, sockopt::Linger, &reset)?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}
