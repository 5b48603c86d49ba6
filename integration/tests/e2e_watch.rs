//! `routerctl get --watch` over what the store goes through: every event once, in order.

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Mesh, MeshSpec, Process, binaries, wait};
use integration::scenario::CONVERGE;
use serde_json::Value;

#[test]
fn a_watch_goes_on_over_an_outage_of_the_store() -> Result<()> {
    lab::run("watch", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(1))?;
        mesh.start()?;
        let label = |name: &str, value: u8| {
            format!(
                "apiVersion: routerd/v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {{ v: \"{value}\" }} }}\n"
            )
        };
        mesh.node(0)?.apply(&label("old", 1))?;
        let node = mesh.node(0)?;
        let mut command = node.ns.command(binaries::find("routerctl")?);
        command
            .args(["get", "namespaces", "--watch", "-o", "json"])
            .env("ROUTERD_SOCKET", node.socket());
        let log = lab.subdir("watch")?.join("events");
        let mut watch = Process::start("routerctl get --watch", command, &log)?;
        let mut expected = vec!["ADDED old 1".to_owned()];
        told(&mut watch, &expected)?;
        for (round, kill) in [false, true].into_iter().enumerate() {
            let value = u8::try_from(round)?;
            let fresh = format!("new-{round}");
            if kill {
                mesh.etcd.kill()?;
            } else {
                mesh.etcd.stop()?;
            }
            wait("the store to be away", CONVERGE, || {
                let status = mesh.node(0)?.status()?.to_string();
                ensure!(!status.contains("in sync at revision"), "{status}");
                Ok(())
            })?;
            watch.must_run()?;
            mesh.etcd.up()?;
            let node = mesh.node(0)?;
            wait("a write to be taken again", CONVERGE, || {
                node.apply(&label(&fresh, value))
            })?;
            node.apply(&label(&fresh, value + 7))?;
            let args = ["delete", "namespace", &fresh];
            node.ctl(&args)?.must_succeed(&args)?;
            expected.push(format!("ADDED {fresh} {value}"));
            expected.push(format!("MODIFIED {fresh} {}", value + 7));
            expected.push(format!("DELETED {fresh} "));
            told(&mut watch, &expected)?;
        }
        Ok(())
    })
}

/// Waits until a watch has printed exactly these events.
fn told(watch: &mut Process, expected: &[String]) -> Result<()> {
    let log = watch.log().to_owned();
    lab::wait_for(watch, "the watch to tell all", CONVERGE, || {
        let text = std::fs::read_to_string(&log)?;
        let events: Vec<String> = text
            .lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).context(line.to_owned())?;
                let field = |p| event.pointer(p).and_then(Value::as_str).unwrap_or_default();
                let (name, label) = (
                    field("/object/metadata/name"),
                    field("/object/metadata/labels/v"),
                );
                Ok(format!("{} {name} {label}", field("/type")))
            })
            .collect::<Result<_>>()?;
        ensure!(events == expected, "{events:?}, not {expected:?}");
        Ok(())
    })
}
