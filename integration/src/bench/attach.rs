//! CNI ADD and DEL, beside `bridge` with `host-local`.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Row, Section, median_f64, ms, spread};
use crate::lab::cni::Call;
use crate::lab::{Cni, Lab, Mesh, MeshSpec, Netns};
use crate::scenario;

const SINGLE: usize = 100;
const AT_ONCE: usize = 200;
/// Times that 200 are started at once, with each plugin.
const BURSTS: usize = 3;

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

    let (mut our_adds, mut their_adds) = (Vec::new(), Vec::new());
    let (mut our_dels, mut their_dels) = (Vec::new(), Vec::new());
    for i in 0..SINGLE {
        let ns = spaces.get(i % spaces.len()).context("no namespace")?;
        for (cni, adds, dels) in [
            (&ours, &mut our_adds, &mut our_dels),
            (&theirs, &mut their_adds, &mut their_dels),
        ] {
            let (add, del) = single(cni, &call(ns, &format!("single-{i}")))?;
            adds.push(add);
            dels.push(del);
        }
    }
    let (mut our_bursts, mut their_bursts) = (Vec::new(), Vec::new());
    for _ in 0..BURSTS {
        our_bursts.push(burst(&ours, &spaces)?);
        their_bursts.push(burst(&theirs, &spaces)?);
    }
    let mut singles = ratios(&our_adds, &their_adds);
    let mut bursts = ratios(&our_bursts, &their_bursts);
    let (single, at_once) = (median_f64(&mut singles), median_f64(&mut bursts));
    let shown = |what: &str, times: &mut [Duration]| Row::shown(what, percentiles(times));
    let ratio = |r| format!("{r:.2} ×");
    Ok(Section {
        title: "CNI",
        how: "From before the plugin's process starts to its end; the address is durable in etcd and the routes are in. \
              The reference is `bridge` with `host-local`, both families. One at a time: median and, in brackets, p10 \
              and p90 of 100 ADDs of each in turn, the ratio likewise of each pair. At once: 200 processes started \
              together, median and extremes of three rounds in turn.",
        rows: vec![
            shown("ADD", &mut our_adds),
            shown("ADD of the reference", &mut their_adds),
            Row::goal(
                "ADD against the reference",
                format!(
                    "{} ({} – {})",
                    ratio(single),
                    ratio(quantile(&singles, 10)),
                    ratio(quantile(&singles, 90))
                ),
                "≤ 0.35 ×",
                single <= 0.35,
            ),
            shown("DEL", &mut our_dels),
            shown("DEL of the reference", &mut their_dels),
            Row::shown("200 ADDs at once", spread(&mut seconds(&our_bursts), s)),
            Row::shown(
                "200 ADDs at once of the reference",
                spread(&mut seconds(&their_bursts), s),
            ),
            Row::goal(
                "200 at once against the reference",
                spread(&mut bursts, ratio),
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

/// Of a thread inside the host's namespace.
fn timed(cni: &Cni, verb: &str, call: &Call) -> Result<(Duration, Value)> {
    let answer = cni.call_inside(verb, call)?;
    let took = answer.took;
    Ok((took, answer.must_succeed(verb, &call.id)?))
}

/// ADD and DEL of one workload.
fn single(cni: &Cni, call: &Call) -> Result<(Duration, Duration)> {
    cni.host.run(|| {
        let (add, result) = timed(cni, "ADD", call)?;
        let call = Call {
            extra: previous(&result),
            ..call.clone()
        };
        let (del, _) = timed(cni, "DEL", &call)?;
        Ok((add, del))
    })
}

/// Wall clock of one ADD for each namespace, all started at once. Deletes them again.
fn burst(cni: &Cni, spaces: &[Netns]) -> Result<Duration> {
    cni.host.run(|| {
        // Everybody is ready before the clock starts.
        let ready = Barrier::new(spaces.len() + 1);
        let (took, results) = std::thread::scope(|scope| {
            let threads: Vec<_> = spaces
                .iter()
                .enumerate()
                .map(|(i, ns)| {
                    let ready = &ready;
                    scope.spawn(move || -> Result<_> {
                        let call = call(ns, &format!("burst-{i}"));
                        ready.wait();
                        let (_, result) = timed(cni, "ADD", &call)?;
                        Ok((call, result))
                    })
                })
                .collect();
            ready.wait();
            let start = Instant::now();
            let results: Vec<_> = threads.into_iter().map(joined).collect::<Result<_>>()?;
            anyhow::Ok((start.elapsed(), results))
        })?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = results
                .into_iter()
                .map(|(call, result): (Call, Value)| {
                    let extra = previous(&result);
                    scope.spawn(move || timed(cni, "DEL", &Call { extra, ..call }))
                })
                .collect();
            threads.into_iter().try_for_each(|t| joined(t).map(drop))
        })?;
        Ok(took)
    })
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("a thread panicked"))?
}

/// Of each pair.
fn ratios(ours: &[Duration], theirs: &[Duration]) -> Vec<f64> {
    let pairs = ours.iter().zip(theirs);
    pairs
        .map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9))
        .collect()
}

fn seconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(Duration::as_secs_f64).collect()
}

fn s(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let [low, middle, high] = [10, 50, 90].map(|percent| ms(quantile(times, percent)));
    format!("{middle} ({low} – {high})")
}

fn quantile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    sorted
        .get(sorted.len() * percent / 100)
        .copied()
        .unwrap_or_default()
}
