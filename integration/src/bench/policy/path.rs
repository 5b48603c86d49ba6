//! Throughput, round trips and new connections between two workloads of a node.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::traffic::{Ends, Processors};
use crate::bench::{Row, median_f64};
use crate::lab::{Cni, Lab, Mesh, MeshSpec, Node, Workload, wait};
use crate::scenario::{self, CONVERGE};

/// Many and short, so that what else the machine does hits few of them, and both of what is compared.
const ROUNDS: usize = 31;
const STREAM: Duration = Duration::from_millis(200);
const TRIPS: Duration = Duration::from_millis(120);
const DIALS: Duration = Duration::from_millis(120);
const RULES: usize = 10_000;
/// What a policy may take of the path without one.
const GOAL: f64 = 0.97;

/// Two workloads, and what is between them.
struct Pair {
    name: String,
    from: Workload,
    to: Workload,
}

impl Pair {
    fn ends(&self) -> Result<Ends<'_>> {
        Ok(Ends {
            from: &self.from.ns,
            to: &self.to.ns,
            ip: self.to.ip(false)?,
        })
    }
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
            let trips = pair
                .ends()?
                .round_trips(Processors::Two, Duration::from_millis(1));
            trips.map(drop)
        })?;
    }
    scenario::enforces_policy(n1)?;

    let mut found = [const { Measured::new() }; 5];
    let (two, one) = (Processors::Two, Processors::One);
    for round in 0..ROUNDS {
        let [streams, streams_of_one, trips, trips_of_one, dials] = &mut found;
        streams.push(each(&pairs, round, |e| e.stream(two, STREAM))?);
        streams_of_one.push(each(&pairs, round, |e| e.stream(one, STREAM))?);
        trips.push(each(&pairs, round, |e| e.round_trips(two, TRIPS))?);
        trips_of_one.push(each(&pairs, round, |e| e.round_trips(one, TRIPS))?);
        dials.push(each(&pairs, round, |e| e.connections(DIALS))?);
    }
    let mut rows = Vec::new();
    for ((what, unit), numbers) in WHAT.iter().zip(&found) {
        table(&mut rows, what, *unit, &pairs, numbers)?;
    }
    Ok(rows)
}

const CONNECTIONS: &str = "new TCP connections a second";
/// What is measured, in this order.
const WHAT: [(&str, Unit); 5] = [
    ("TCP throughput", Unit::Bits),
    ("TCP throughput on one processor", Unit::Bits),
    ("round trips of UDP a second", Unit::Count),
    ("round trips of UDP a second on one processor", Unit::Count),
    (CONNECTIONS, Unit::Count),
];

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
    let goal = what != CONNECTIONS;
    let mut base: Vec<f64> = column(0).collect();
    rows.push(Row::shown(
        format!("{what}, no policy"),
        quartiles(&mut base, |n| unit.show(n)),
    ));
    let ratio = |i: usize, to: usize| column(i).zip(column(to)).map(|(a, b)| a / b);
    for (i, pair) in pairs.iter().enumerate().skip(1) {
        let mut ratios: Vec<f64> = ratio(i, 0).collect();
        ensure!(ratios.len() == ROUNDS, "a round is missing");
        let shown = quartiles(&mut ratios, |r| format!("{r:.2} ×"));
        let middle = median_f64(&mut ratios);
        let (what, is_many) = (
            format!("{what}, {}", pair.name),
            pair.name == "10,000 rules",
        );
        rows.push(match is_many && goal {
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
    let shown = quartiles(&mut flat, |r| format!("{r:.2} ×"));
    let met = median_f64(&mut flat) >= GOAL;
    rows.push(Row::goal(
        format!("{what}, 10,000 rules against 1"),
        shown,
        "≥ 0.97 ×",
        met,
    ));
    Ok(())
}

/// Each pair's number, beginning with another in each round.
fn each(
    pairs: &[Pair],
    round: usize,
    measure: impl Fn(&Ends<'_>) -> Result<f64>,
) -> Result<Vec<f64>> {
    let mut numbers = vec![0.0; pairs.len()];
    let places = (0..pairs.len()).cycle().skip(round % pairs.len());
    for (place, _) in places.zip(pairs) {
        if let (Some(pair), Some(number)) = (pairs.get(place), numbers.get_mut(place)) {
            *number = measure(&pair.ends()?).with_context(|| pair.name.clone())?;
        }
    }
    Ok(numbers)
}

/// Median with the quartiles: of many short rounds the extremes say more about the machine.
fn quartiles(numbers: &mut [f64], show: impl Fn(f64) -> String) -> String {
    let middle = show(median_f64(numbers));
    let quarter = |n: usize| {
        numbers
            .get(numbers.len() * n / 4)
            .copied()
            .unwrap_or_default()
    };
    format!("{middle} ({} – {})", show(quarter(1)), show(quarter(3)))
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
