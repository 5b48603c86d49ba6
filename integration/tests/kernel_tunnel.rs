//! The whole daemon with the kernel's WireGuard. Needs a kernel that has it: `make test-kernels` runs this in
//! virtual machines, where `routerd-tunnel` is not installed, and nothing else does.

use anyhow::{Context, Result, ensure};
use integration::lab::probe::{Report, Stream};
use integration::lab::{self, Capture, Lab, Mesh, MeshSpec, Node, Workload, wait};
use integration::scenario::{self, CONVERGE, POOL_V4, POOL_V6};
use serde_json::Value;

/// Packets a second of a stream: a machine without hardware help carries no more.
const RATE: u32 = 50;
/// A rotation announces its key for ten seconds.
const ROTATION: u32 = 3;

/// Two nodes that encrypt everything, and what passes between them.
struct Bench {
    mesh: Mesh,
    workloads: Vec<Workload>,
    capture: Capture,
}

impl Bench {
    fn new(lab: &Lab) -> Result<Bench> {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        // Verifying its programs takes an emulated processor a minute, and is tested by itself.
        mesh.nodes.iter().try_for_each(Node::lacks_bpf)?;
        let capture = Capture::start(&mesh.router, &[POOL_V4, POOL_V6])?;
        scenario::start(&mut mesh, "Never")?;
        scenario::require_encryption(&mesh)?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        let bench = Bench {
            mesh,
            workloads,
            capture,
        };
        // The kernel passes over both of two handshakes that meet, which are long here: let one end begin.
        flow(&bench.streams()?)?;
        scenario::everyone_reaches_everyone(&bench.workloads)?;
        bench.mesh.nodes.iter().try_for_each(is_of_the_kernel)?;
        Ok(bench)
    }

    /// A stream in each family.
    fn streams(&self) -> Result<Vec<Stream>> {
        let ends = self.workloads.first().zip(self.workloads.last());
        let (from, to) = ends.context("no workloads")?;
        let each = [false, true].map(|v6| Stream::start(from, to, v6, RATE));
        each.into_iter().collect()
    }

    /// Nothing has left in clear, whoever is asked.
    fn end(self) -> Result<()> {
        for node in &self.mesh.nodes {
            let shown = node.json(&["tunnels"])?;
            ensure!(shown["clearTextBytes"] == 0, "{}: {shown}", node.name);
        }
        self.capture.stop()?.must_be_encrypted()
    }
}

fn is_of_the_kernel(node: &Node) -> Result<()> {
    let shown = node.ns.ip_json("-d link show rtd.wg")?;
    let kind = shown.pointer("/0/linkinfo/info_kind");
    ensure!(kind == Some(&Value::from("wireguard")), "{shown}");
    Ok(())
}

/// Waits until packets of every stream come back.
fn flow(streams: &[Stream]) -> Result<()> {
    for stream in streams {
        let before = stream.returned();
        lab::wait_until("packets to come back", CONVERGE, || {
            Ok(stream.returned() > before + 10)
        })?;
    }
    Ok(())
}

fn stop(streams: Vec<Stream>) -> Result<Vec<Report>> {
    let reports: Result<Vec<Report>> = streams.into_iter().map(Stream::stop).collect();
    let reports = reports?;
    reports.iter().for_each(|report| println!("{report}"));
    Ok(reports)
}

/// Number of the interface, and when each peer was heard last: what a session hangs on.
fn session(node: &Node) -> Result<(Value, String)> {
    let link = node.ns.ip_json("link show rtd.wg")?;
    let number = link.pointer("/0/ifindex").context("no number")?.clone();
    Ok((number, node.wg_show("latest-handshakes")?))
}

fn peers(node: &Node) -> Result<Vec<String>> {
    let shown = node.wg_show("peers")?;
    Ok(shown.lines().map(str::to_owned).collect())
}

#[test]
fn restarts_of_the_daemon_lose_no_packet_and_no_session() -> Result<()> {
    lab::run("restarts", |lab| {
        let mut bench = Bench::new(lab)?;
        let streams = bench.streams()?;
        flow(&streams)?;
        let before = session(bench.mesh.node(0)?)?;
        let node = bench.mesh.node_mut(0)?;
        node.kill()?;
        node.start_ready()?;
        node.stop()?;
        node.start_ready()?;
        flow(&streams)?;
        let after = session(bench.mesh.node(0)?)?;
        ensure!(after == before, "{before:?} and then {after:?}");
        for report in stop(streams)? {
            ensure!(report.lost() == 0, "packets were lost: {report}");
        }
        bench.end()
    })
}

#[test]
fn a_device_that_is_removed_or_replaced_by_hand_is_made_again() -> Result<()> {
    lab::run("by hand", |lab| {
        let mut bench = Bench::new(lab)?;
        let streams = bench.streams()?;
        flow(&streams)?;
        let node = bench.mesh.node(0)?;
        node.ns.ip("link del rtd.wg")?;
        wait("the loss to be named", CONVERGE, || {
            let status = node.status()?;
            let drift = scenario::list(&status, "drift")?;
            let is = |d: &Value| d["object"] == "link rtd.wg" && d["found"] == "missing";
            ensure!(drift.iter().any(is), "{drift:?}");
            Ok(())
        })?;
        flow(&streams)?;
        is_of_the_kernel(node)?;

        // With nobody to mend it, packets have nowhere to go.
        bench.mesh.node_mut(0)?.kill()?;
        let node = bench.mesh.node(0)?;
        node.ns.ip("link del rtd.wg\nlink add rtd.wg type bridge")?;
        let sent = || streams.iter().map(|s| s.counter()().0).sum::<u64>();
        let before = sent();
        lab::wait_until("packets to be sent", CONVERGE, || Ok(sent() > before + 50))?;
        bench.mesh.node_mut(0)?.start_ready()?;
        flow(&streams)?;
        is_of_the_kernel(bench.mesh.node(0)?)?;
        drop(streams);
        bench.end()
    })
}

#[test]
fn a_key_is_replaced_under_traffic() -> Result<()> {
    lab::run("rotation", |lab| {
        let bench = Bench::new(lab)?;
        let streams = bench.streams()?;
        flow(&streams)?;
        let ([a, b], link) = (bench.mesh.nodes.as_slice(), session(bench.mesh.node(0)?)?.0) else {
            anyhow::bail!("not two nodes");
        };
        let old = a.wg_show("public-key")?.trim().to_owned();
        let begun = a.json(&["tunnels", "rotate"])?;
        let new = scenario::text(&begun, "publicKey")?;
        ensure!(new != old && peers(b)? == [old.clone()]);
        wait("both keys to be peers", CONVERGE, || {
            let peers = peers(b)?;
            let has = |key: &str| peers.iter().any(|p| p == key);
            ensure!(peers.len() == 2 && has(&old) && has(new), "{peers:?}");
            Ok(())
        })?;
        wait(
            "the new key to be the only one",
            CONVERGE * ROTATION,
            || {
                ensure!(a.wg_show("public-key")?.trim() == new);
                ensure!(peers(b)? == [new], "{:?}", peers(b)?);
                Ok(())
            },
        )?;
        flow(&streams)?;
        // The session is of the new key, and the device the same.
        let heard = session(b)?.1;
        ensure!(heard.contains(new) && !heard.contains("\t0\n"), "{heard}");
        ensure!(session(a)?.0 == link, "the device was made again");
        for report in stop(streams)? {
            // Of what the rotating node sends, until the other has seen which key is used: a twentieth of
            // a second where machines are not emulated.
            ensure!(report.lost() <= 3 * u64::from(RATE), "{report}");
        }
        scenario::everyone_reaches_everyone(&bench.workloads)?;
        for node in [a, b] {
            let status = node.status()?;
            ensure!(scenario::list(&status, "drift")?.is_empty(), "{status}");
        }
        bench.end()
    })
}

/// Both devices are given the same key, and the packets go on: the exchange runs inside the tunnel that it changes.
#[test]
fn post_quantum_keys_are_agreed_on_under_traffic() -> Result<()> {
    lab::run("preshared keys", |lab| {
        let bench = Bench::new(lab)?;
        let streams = bench.streams()?;
        flow(&streams)?;
        let spec = "encryption: Required, postQuantum: Preferred";
        let node = bench.mesh.node(0)?;
        node.apply(&scenario::mesh_configuration(spec))?;
        wait("a preshared key on both ends", CONVERGE * 2, || {
            let keys = |node: &Node| -> Result<String> {
                let shown = node.wg_show("preshared-keys")?;
                let (_, key) = shown.trim().split_once('\t').context("no peer")?;
                Ok(key.to_owned())
            };
            let (ours, theirs) = (keys(node)?, keys(bench.mesh.node(1)?)?);
            ensure!(
                ours == theirs && ours != "(none)",
                "one has a key, or another"
            );
            Ok(())
        })?;
        flow(&streams)?;
        drop(streams);
        scenario::everyone_reaches_everyone(&bench.workloads)?;
        bench.end()
    })
}
