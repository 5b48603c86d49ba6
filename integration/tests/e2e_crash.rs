//! The daemon is killed at random points, many times, and nobody notices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::lab::cni::Call;
use integration::lab::probe::Stream;
use integration::lab::{self, Cni, Dice, Mesh, MeshSpec, Netns, wait};
use integration::scenario::{self, CONVERGE, text};
use serde_json::Value;

const KILLS: u32 = 50;
const CHURNERS: usize = 4;
/// A runtime that is told to try again does so for this long.
const RETRY: Duration = Duration::from_secs(20);

/// Calls the plugin until it succeeds, as a runtime does while the error says "try again".
fn persist(cni: &Cni, verb: &str, call: &Call) -> Result<Value> {
    wait(&format!("{verb} of {}", call.id), RETRY, || {
        let answer = cni.call(verb, call)?;
        if answer.ok {
            return Ok(Ok(answer.value));
        }
        ensure!(answer.code() != Some(11), "try again: {}", answer.value);
        // Anything else is final: no use in waiting.
        Ok(Err(answer.value))
    })?
    .map_err(|value| anyhow::anyhow!("{verb} of {}: {value}", call.id))
}

/// Who lives where; two owners of one address are found at once.
#[derive(Default)]
struct Living(Mutex<BTreeMap<IpAddr, String>>);

impl Living {
    fn born(&self, ips: &[IpAddr], id: &str) -> Result<()> {
        let mut map = self
            .0
            .lock()
            .map_err(|_| anyhow::anyhow!("a churner panicked"))?;
        for ip in ips {
            if let Some(other) = map.insert(*ip, id.to_owned()) {
                bail!("{ip} was given to {id} while {other} has it");
            }
        }
        Ok(())
    }

    fn dies(&self, ips: &[IpAddr]) -> Result<()> {
        let mut map = self
            .0
            .lock()
            .map_err(|_| anyhow::anyhow!("a churner panicked"))?;
        for ip in ips {
            map.remove(ip);
        }
        Ok(())
    }
}

/// Adds and deletes one workload over and over.
fn churn(cni: &Cni, ns: &Netns, name: &str, living: &Living, stop: &AtomicBool) -> Result<u32> {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let call = Call {
            id: format!("{name}-{rounds}"),
            netns: ns.path().to_string_lossy().into_owned(),
            args: format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}-{rounds}"),
            extra: Value::Null,
        };
        let result = persist(cni, "ADD", &call)?;
        let ips: Vec<IpAddr> = scenario::list(&result, "ips")?
            .iter()
            .map(|ip| {
                Ok(text(ip, "address")?
                    .split('/')
                    .next()
                    .unwrap_or_default()
                    .parse()?)
            })
            .collect::<Result<_>>()?;
        living.born(&ips, &call.id)?;
        living.dies(&ips)?;
        persist(cni, "DEL", &call)?;
        rounds += 1;
    }
    Ok(rounds)
}

#[test]
fn killed_fifty_times_while_workloads_come_and_go() -> Result<()> {
    lab::run("50 kills", |lab| {
        let mut dice = Dice::new()?;
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        scenario::start(&mut mesh, "Always")?;
        let standing = scenario::populate(lab, &mesh, 3)?;
        scenario::everyone_reaches_everyone(&standing)?;
        let used = scenario::addresses_used(mesh.node(1)?)?;
        let (Some(a), Some(b)) = (standing.first(), standing.last()) else {
            bail!("no workloads");
        };
        let streams = [
            Stream::start(a, b, false, 1000)?,
            Stream::start(a, b, true, 1000)?,
        ];

        let cni = Cni::of(mesh.node(0)?)?;
        let spaces: Vec<Netns> = (0..CHURNERS)
            .map(|i| lab.workload_netns(&format!("churn{i}")))
            .collect::<Result<_>>()?;
        let (living, stop, rounds) = (Living::default(), AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| -> Result<()> {
            let churners: Vec<_> = spaces
                .iter()
                .enumerate()
                .map(|(i, ns)| {
                    let (cni, living, stop, rounds) = (&cni, &living, &stop, &rounds);
                    let name = format!("{}-churn{i}", lab.tag());
                    scope.spawn(move || -> Result<()> {
                        let done = churn(cni, ns, &name, living, stop);
                        // One that failed ends the test early.
                        stop.store(true, Ordering::Relaxed);
                        rounds.fetch_add(done?, Ordering::Relaxed);
                        Ok(())
                    })
                })
                .collect();
            let killed = kill_again_and_again(&mut mesh, &mut dice, &stop);
            stop.store(true, Ordering::Relaxed);
            for churner in churners {
                churner
                    .join()
                    .map_err(|_| anyhow::anyhow!("a churner panicked"))??;
            }
            killed
        })?;

        let rounds = rounds.load(Ordering::Relaxed);
        println!("{KILLS} kills, {rounds} workloads came and went");
        ensure!(rounds >= 20, "only {rounds} workloads came and went");
        for stream in streams {
            let report = stream.stop()?;
            println!("{report}");
            ensure!(report.lost() == 0, "packets were lost: {report}");
        }
        mesh.node_mut(0)?.wait_ready()?;
        scenario::ipam_is_clean(mesh.node(0)?)?;
        let now = scenario::addresses_used(mesh.node(1)?)?;
        ensure!(now == used, "{} addresses leaked", now.abs_diff(used));
        let links = scenario::our_links(mesh.node(0)?)?;
        let workload_links = links.iter().filter(|l| !l.contains('.')).count();
        ensure!(workload_links == 3, "interfaces leaked: {links:?}");
        scenario::everyone_reaches_everyone(&standing).map(drop)
    })
}

fn kill_again_and_again(mesh: &mut Mesh, dice: &mut Dice, stop: &AtomicBool) -> Result<()> {
    for kill in 0..KILLS {
        // Half of the kills meet the start, half the daemon at work.
        let alive = if kill % 2 == 0 {
            dice.below(60)
        } else {
            // Policy is in force, and ADDs are answered, some 0.3 s after a start, later where others want the processors.
            500 + dice.below(700)
        };
        std::thread::sleep(Duration::from_millis(alive));
        if stop.load(Ordering::Relaxed) {
            bail!("a workload could not come or go, after {kill} kills");
        }
        let node = mesh.node_mut(0)?;
        node.daemon().context("not started")?.must_run()?;
        node.kill()?;
        node.start()?;
    }
    Ok(())
}

#[test]
fn an_add_that_was_cut_off_can_be_repeated() -> Result<()> {
    lab::run("cut off", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
        scenario::start(&mut mesh, "Never")?;
        let cni = Cni::of(mesh.node(0)?)?;
        let mut cut = 0;
        // Killed later and later into the ADD, until one is through before the kill.
        for step in 0..40u64 {
            let ns = lab.workload_netns(&format!("w{step}"))?;
            let call = Call {
                id: format!("{}-w{step}", lab.tag()),
                netns: ns.path().to_string_lossy().into_owned(),
                ..Call::default()
            };
            let first = std::thread::scope(|scope| -> Result<_> {
                let add = scope.spawn(|| cni.call("ADD", &call));
                std::thread::sleep(Duration::from_micros(step * 250));
                mesh.node_mut(0)?.kill()?;
                add.join()
                    .map_err(|_| anyhow::anyhow!("the ADD panicked"))?
            })?;
            if !first.ok {
                ensure!(first.code() == Some(11), "{}", first.value);
                cut += 1;
            }
            mesh.node_mut(0)?.start()?;
            let again = persist(&cni, "ADD", &call)?;
            if first.ok {
                ensure!(
                    first.value.get("ips") == again.get("ips"),
                    "what ADD returned was lost"
                );
            }
            ensure!(scenario::list(&again, "ips")?.len() == 2, "{again}");
            persist(&cni, "DEL", &call)?;
        }
        ensure!(cut > 0, "no ADD was cut off: the test tested nothing");
        println!("{cut} of 40 ADDs were cut off");
        mesh.node_mut(0)?.wait_ready()?;
        ensure!(scenario::addresses_used(mesh.node(0)?)? == 0);
        wait("no interface to be left", CONVERGE, || {
            let links = scenario::our_links(mesh.node(0)?)?;
            ensure!(links.is_empty(), "{links:?}");
            Ok(())
        })?;
        scenario::ipam_is_clean(mesh.node(0)?)
    })
}
