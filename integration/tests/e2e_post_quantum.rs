//! Post-quantum preshared keys between nodes: agreed on, replaced and lost, and the packets meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::probe::Stream;
use integration::lab::{self, Lab, Mesh, MeshSpec, Node, Workload, wait};
use integration::scenario::{self, CONVERGE, list};

/// Packets a second of a stream.
const RATE: u32 = 1000;

/// Three nodes that encrypt everything and reach each other.
fn encrypted(lab: &Lab, per_node: usize) -> Result<(Mesh, Vec<Workload>)> {
    let mut mesh = Mesh::build(lab, &MeshSpec::flat(3))?;
    mesh.nodes.iter().try_for_each(configure)?;
    scenario::start(&mut mesh, "Never")?;
    scenario::require_encryption(&mesh)?;
    let workloads = scenario::populate(lab, &mesh, per_node)?;
    scenario::everyone_reaches_everyone(&workloads)?;
    Ok((mesh, workloads))
}

fn configure(node: &Node) -> Result<()> {
    node.configure("[wireguard]\nbackend = \"userspace\"\npreshared_rotate_every = \"60s\"")
}

fn want(mesh: &Mesh, post_quantum: &str) -> Result<()> {
    let spec = format!("encryption: Required, postQuantum: {post_quantum}");
    mesh.node(0)?.apply(&scenario::mesh_configuration(&spec))
}

/// The preshared keys that a node's device has, by the peer's public key; none: `(none)`.
fn keys(node: &Node) -> Result<BTreeMap<String, String>> {
    let shown = node.wg_show("preshared-keys")?;
    let pair = |line: &str| {
        line.split_once('\t')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    Ok(shown.lines().filter_map(pair).collect())
}

fn public_key(node: &Node) -> Result<String> {
    Ok(node.wg_show("public-key")?.trim().to_owned())
}

/// Of every pair the same on both ends; by places.
fn agreed(nodes: &[Node]) -> Result<BTreeMap<(usize, usize), String>> {
    let public = nodes.iter().map(public_key).collect::<Result<Vec<_>>>()?;
    let all = nodes.iter().map(keys).collect::<Result<Vec<_>>>()?;
    let mut agreed = BTreeMap::new();
    for a in 0..nodes.len() {
        for b in a + 1..nodes.len() {
            let key = |at: usize, of: usize| -> Result<&String> {
                all[at]
                    .get(&public[of])
                    .with_context(|| format!("{at} does not know {of}"))
            };
            let (ours, theirs) = (key(a, b)?, key(b, a)?);
            ensure!(ours == theirs, "{a} and {b} differ");
            ensure!(ours != "(none)", "{a} and {b} have none");
            agreed.insert((a, b), ours.clone());
        }
    }
    Ok(agreed)
}

fn agree(nodes: &[Node]) -> Result<BTreeMap<(usize, usize), String>> {
    let mut found = BTreeMap::new();
    wait("every pair to have a preshared key", CONVERGE * 2, || {
        found = agreed(nodes)?;
        Ok(())
    })?;
    Ok(found)
}

/// What `routerctl tunnels` says of the sessions of a node.
fn is_quantum(node: &Node) -> Result<()> {
    let shown = node.json(&["tunnels"])?;
    for row in list(&shown, "tunnels")? {
        ensure!(row["postQuantum"] == true, "{}: {row}", node.name);
    }
    Ok(())
}

fn subsystem(node: &Node) -> Result<Option<(String, String)>> {
    let status = node.status()?;
    let found = list(&status, "subsystems")?
        .iter()
        .find(|s| s["name"] == "preshared-keys");
    let text = |value: &serde_json::Value, field| scenario::text(value, field).map(str::to_owned);
    found
        .map(|s| Ok((text(s, "state")?, text(s, "message")?)))
        .transpose()
}

fn no_drift(mesh: &Mesh) -> Result<()> {
    for node in &mesh.nodes {
        let status = node.status()?;
        ensure!(list(&status, "drift")?.is_empty(), "{status}");
    }
    Ok(())
}

/// Under 1,000 packets a second in each direction, one family each: from none to preferred to required, over a
/// replacement of every key and the handshake that uses it, and back to none.
#[test]
fn keys_come_change_and_go_without_losing_a_packet() -> Result<()> {
    lab::run("preshared keys", |lab| {
        let (mesh, workloads) = encrypted(lab, 2)?;
        let [a1, a2, .., b1, b2] = workloads.as_slice() else {
            anyhow::bail!("not two workloads of a node");
        };
        let streams = [
            Stream::start(a1, b1, false, RATE)?,
            Stream::start(b2, a2, true, RATE)?,
        ];
        ensure!(subsystem(mesh.node(0)?)?.is_none());
        want(&mesh, "Preferred")?;
        let before = agree(&mesh.nodes)?;
        want(&mesh, "Required")?;
        // Long before the sessions that there are have to be renewed.
        wait("every session to be of such a key", CONVERGE, || {
            mesh.nodes.iter().try_for_each(is_quantum)
        })?;
        wait("every key to be replaced", Duration::from_secs(75), || {
            for (pair, key) in &agreed(&mesh.nodes)? {
                ensure!(before.get(pair) != Some(key), "{pair:?} has the old one");
            }
            Ok(())
        })?;
        // The session with the key before is about a minute old.
        wait("a session of the new key", CONVERGE, || {
            let shown = mesh.node(0)?.json(&["tunnels"])?;
            let rows = list(&shown, "tunnels")?;
            let row = rows.iter().find(|row| row["node"] == *mesh.nodes[2].name);
            let age = row.and_then(|row| row["lastHandshakeSeconds"].as_u64());
            let age = age.with_context(|| shown.to_string())?;
            ensure!(age < CONVERGE.as_secs(), "{age} s old");
            Ok(())
        })?;
        mesh.nodes.iter().try_for_each(is_quantum)?;
        for node in &mesh.nodes {
            let (state, message) = subsystem(node)?.context("no word in status")?;
            ensure!(state == "Ok" && message.starts_with("2 of 2"), "{message}");
            let seed = node.dir().join("state/wireguard.seed");
            let mode = std::os::unix::fs::PermissionsExt::mode(&seed.metadata()?.permissions());
            ensure!(mode & 0o777 == 0o600, "{mode:o}");
        }
        want(&mesh, "Off")?;
        wait("no preshared keys", CONVERGE, || {
            for node in &mesh.nodes {
                let keys = keys(node)?;
                ensure!(keys.values().all(|key| key == "(none)"), "{}", node.name);
            }
            Ok(())
        })?;
        for stream in streams {
            let report = stream.stop()?;
            println!("{report}");
            ensure!(report.sent > 10_000 && report.lost() == 0, "{report}");
        }
        no_drift(&mesh)
    })
}

/// Whoever keeps its keys changes nothing when it starts anew, and whoever lost them gets others; a node that
/// joins gets some, and so does one that changes its own key.
#[test]
fn keys_outlive_daemons_and_are_made_anew_where_they_were_lost() -> Result<()> {
    lab::run("lost keys", |lab| {
        let (mut mesh, mut workloads) = encrypted(lab, 1)?;
        want(&mesh, "Preferred")?;
        agree(&mesh.nodes)?;
        want(&mesh, "Required")?;
        // A daemon: the tunnel goes on, and so does its key.
        let of = |all: &BTreeMap<(usize, usize), String>| all.get(&(0, 1)).cloned();
        let stream = Stream::start(&workloads[0], &workloads[1], false, RATE)?;
        let before = agree(&mesh.nodes)?;
        mesh.node_mut(1)?.kill()?;
        ensure!(of(&agreed(&mesh.nodes)?) == of(&before));
        mesh.node_mut(1)?.start_ready()?;
        agree(&mesh.nodes)?;
        let report = stream.stop()?;
        ensure!(report.lost() == 0, "{report}");
        // The tunnel: its successor is given the same.
        mesh.node(1)?.ns.output("ip", "link del rtd.wg")?;
        agree(&mesh.nodes)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        // Both, as when the host starts anew; first the one that leads, then the one that follows.
        for n in [0, 2] {
            let before = agree(&mesh.nodes)?;
            mesh.node_mut(n)?.kill()?;
            mesh.node(n)?.ns.output("ip", "link del rtd.wg")?;
            mesh.node_mut(n)?.start_ready()?;
            let mut after = BTreeMap::new();
            wait("other keys", CONVERGE * 2, || {
                after = agreed(&mesh.nodes)?;
                ensure!(after.get(&(0, 2)) != before.get(&(0, 2)));
                Ok(())
            })?;
            scenario::everyone_reaches_everyone(&workloads)?;
        }
        let node = mesh.add_node(lab, 0)?;
        configure(node)?;
        node.start_ready()?;
        let joined = mesh.nodes.last().context("no node")?;
        scenario::encrypts(joined)?;
        workloads.extend(scenario::populate_node(lab, joined, 1)?);
        agree(&mesh.nodes)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        // Both keys of a node, the one of its tunnel and the one to encapsulate to.
        let seed = || std::fs::read(mesh.nodes[3].dir().join("state/wireguard.seed"));
        let (old, published) = (public_key(joined)?, seed()?);
        joined.json(&["tunnels", "rotate"])?;
        wait("the new key to be used", CONVERGE * 2, || {
            ensure!(public_key(joined)? != old && seed()? != published);
            Ok(())
        })?;
        agree(&mesh.nodes)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        Ok(())
    })
}

/// Whoever keeps two nodes from agreeing keeps them from talking, and from nothing else; and is told of.
#[test]
fn no_key_is_no_traffic_where_it_is_required() -> Result<()> {
    lab::run("no preshared key", |lab| {
        let (mut mesh, workloads) = encrypted(lab, 1)?;
        want(&mesh, "Preferred")?;
        agree(&mesh.nodes)?;
        want(&mesh, "Required")?;
        let ns = &mesh.node(2)?.ns;
        ns.output("nft", "add table inet mute")?;
        ns.output(
            "nft",
            "add chain inet mute in { type filter hook input priority 0; }",
        )?;
        ns.output("nft", "add rule inet mute in udp dport 51821 drop")?;
        ns.output(
            "nft",
            "add chain inet mute out { type filter hook output priority 0; }",
        )?;
        ns.output("nft", "add rule inet mute out udp dport 51821 drop")?;
        mesh.node_mut(2)?.kill()?;
        mesh.node(2)?.ns.output("ip", "link del rtd.wg")?;
        mesh.node_mut(2)?.start_ready()?;
        wait("the silence to be told of", CONVERGE * 3, || {
            let (state, message) = subsystem(mesh.node(2)?)?.context("no word in status")?;
            ensure!(
                state == "Degraded" && message.contains("51821"),
                "{message}"
            );
            Ok(())
        })?;
        let (near, far) = (&workloads[0], &workloads[2]);
        let pings = |to: &Workload| -> Result<bool> {
            let to = to.ip(false)?;
            Ok(near.ns.output("ping", &format!("-c2 -W1 {to}")).is_ok())
        };
        ensure!(pings(&workloads[1])?, "others are to be reached");
        ensure!(!pings(far)?, "a packet went without a key");
        ensure!(agreed(&mesh.nodes).is_err());
        mesh.node(2)?.ns.output("nft", "delete table inet mute")?;
        wait("both to agree", Duration::from_secs(90), || {
            agreed(&mesh.nodes).map(drop)
        })?;
        scenario::everyone_reaches_everyone(&workloads)?;
        Ok(())
    })
}
