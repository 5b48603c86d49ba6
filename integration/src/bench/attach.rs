//! CNI ADD and DEL, beside `bridge` with `host-local`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Row, Section, median, ms};
use crate::lab::cni::Call;
use crate::lab::{Cni, Lab, Mesh, MeshSpec, Netns};
use crate::scenario;

const SINGLE: usize = 100;
const AT_ONCE: usize = 200;

/// Runs both plugins in turn: one at a time, then 200 at once.
///
/// # Errors
/// When a plugin fails.
pub fn run() -> Result<Section> {
    let lab = Lab::new()?;
    let mut mesh = Mesh::build(&lab, &MeshSpec::flat(1))?;
    scenario::start(&mut mesh, "Never")?;
    let ours = Cni::of(mesh.node(0)?)?;
    let theirs = reference(&lab)?;
    let spaces: Vec<Netns> = (0..AT_ONCE)
        .map(|i| lab.workload_netns(&format!("w{i}")))
        .collect::<Result<_>>()?;

    let (mut our_adds, mut their_adds, mut our_dels) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..SINGLE {
        let ns = spaces.get(i % spaces.len()).context("no namespace")?;
        for (cni, adds) in [(&ours, &mut our_adds), (&theirs, &mut their_adds)] {
            let call = call(ns, &format!("single-{i}"));
            let (took, result) = timed(cni, "ADD", &call)?;
            adds.push(took);
            let (took, _) = timed(
                cni,
                "DEL",
                &Call {
                    extra: previous(&result),
                    ..call
                },
            )?;
            if std::ptr::eq(cni, &raw const ours) {
                our_dels.push(took);
            }
        }
    }
    let (ours_p50, theirs_p50) = (median(&mut our_adds), median(&mut their_adds));
    let ours_burst = burst(&ours, &spaces)?;
    let theirs_burst = burst(&theirs, &spaces)?;
    let single = ratio(ours_p50, theirs_p50);
    let at_once = ratio(ours_burst, theirs_burst);
    Ok(Section {
        title: "CNI",
        how: "From before the plugin's process starts to its end; the address is durable in etcd and the routes are in. \
              The reference is `bridge` with `host-local`, both families.",
        rows: vec![
            Row::shown("ADD, p50", ms(ours_p50)),
            Row::shown("ADD, p90", ms(quantile(&our_adds, 90))),
            Row::shown("ADD of the reference, p50", ms(theirs_p50)),
            Row::goal(
                "ADD against the reference, p50",
                format!("{single:.2} ×"),
                "≤ 0.35 ×",
                single <= 0.35,
            ),
            Row::shown("DEL, p50", ms(median(&mut our_dels))),
            Row::shown("200 ADDs at once", ms(ours_burst)),
            Row::shown("200 ADDs at once of the reference", ms(theirs_burst)),
            Row::goal(
                "200 at once against the reference",
                format!("{at_once:.2} ×"),
                "≤ 0.2 ×",
                at_once <= 0.2,
            ),
        ],
    })
}

fn reference(lab: &Lab) -> Result<Cni> {
    let host = lab.netns("reference")?;
    let conf = json!({
        "cniVersion": "1.0.0", "name": "reference", "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipam": { "type": "host-local", "dataDir": lab.subdir("host-local")?,
            "ranges": [[{ "subnet": "10.244.0.0/16" }], [{ "subnet": "fd44::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] },
    });
    Cni::reference(&host, conf)
}

fn call(ns: &Netns, id: &str) -> Call {
    Call {
        id: id.to_owned(),
        netns: ns.path().to_string_lossy().into_owned(),
        ..Call::default()
    }
}

fn previous(result: &Value) -> Value {
    json!({ "prevResult": result })
}

fn timed(cni: &Cni, verb: &str, call: &Call) -> Result<(Duration, Value)> {
    let answer = cni.call(verb, call)?;
    let took = answer.took;
    Ok((took, answer.must_succeed(verb, &call.id)?))
}

/// Wall clock of one ADD for each namespace, all started at once. Deletes them again.
fn burst(cni: &Cni, spaces: &[Netns]) -> Result<Duration> {
    let start = Instant::now();
    let results: Vec<(Call, Value)> = std::thread::scope(|scope| {
        let threads: Vec<_> = spaces
            .iter()
            .enumerate()
            .map(|(i, ns)| {
                scope.spawn(move || -> Result<_> {
                    let call = call(ns, &format!("burst-{i}"));
                    let result = cni.call("ADD", &call)?.must_succeed("ADD", &call.id)?;
                    Ok((call, result))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .collect::<Result<_>>()
    })?;
    let took = start.elapsed();
    for (call, result) in results {
        timed(
            cni,
            "DEL",
            &Call {
                extra: previous(&result),
                ..call
            },
        )?;
    }
    Ok(took)
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9)
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    sorted
        .get(sorted.len() * percent / 100)
        .copied()
        .unwrap_or_default()
}
