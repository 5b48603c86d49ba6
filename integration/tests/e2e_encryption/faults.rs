//! What breaks, one at a time and thirty in a row, under traffic.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Dice, Mesh, MeshSpec};
use integration::scenario;
use model::marks;
use nix::sys::signal::{Signal, kill};

use super::*;

const FAULTS: u64 = 30;

/// What can be done to a node, or to the store.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL of the daemon, and a start.
    Daemon,
    /// SIGTERM of the daemon, and a start.
    Restart,
    /// SIGKILL of the process that serves the tunnel.
    Holder,
    /// The tunnel's interface is deleted by hand.
    Device,
    /// It is set down by hand.
    Down,
    /// All our routes are deleted by hand.
    Routes,
    /// A peer is taken away by hand.
    Peer,
    /// The store is away for a second.
    Store,
    /// The wire is.
    Wire,
    /// Somebody routes the pools to the wire.
    Detour,
}

const ALL: [Fault; 10] = [
    Fault::Daemon,
    Fault::Restart,
    Fault::Holder,
    Fault::Device,
    Fault::Down,
    Fault::Routes,
    Fault::Peer,
    Fault::Store,
    Fault::Wire,
    Fault::Detour,
];

/// The span of a fault is what is tested.
const SECOND: Duration = Duration::from_secs(1);

fn inflict(mesh: &mut Mesh, at: usize, fault: Fault) -> Result<()> {
    let ip = |mesh: &Mesh, args: &str| mesh.node(at)?.ns.output("ip", args).map(drop);
    match fault {
        Fault::Daemon => {
            mesh.node_mut(at)?.kill()?;
            mesh.node_mut(at)?.start()
        }
        Fault::Restart => {
            mesh.node_mut(at)?.stop()?;
            mesh.node_mut(at)?.start()
        }
        Fault::Holder => match mesh.node(at)?.holder() {
            Ok(holder) => Ok(kill(holder, Signal::SIGKILL)?),
            // It is being started again.
            Err(_) => Ok(()),
        },
        // Where it is being made again there is nothing to delete.
        Fault::Device => ip(mesh, "link del rtd.wg").or(Ok(())),
        Fault::Down => ip(mesh, "link set rtd.wg down").or(Ok(())),
        Fault::Routes => {
            for family in ["-4", "-6"] {
                // Some may go by themselves meanwhile.
                let _ = ip(mesh, &format!("{family} route flush proto 82"));
            }
            Ok(())
        }
        Fault::Peer => {
            let node = mesh.node(at)?;
            let Ok(peers) = node.wg_show("peers") else {
                return Ok(());
            };
            if let Some(peer) = peers.lines().next() {
                let mut wg = node.command(lab::binaries::system("wg")?);
                wg.args(["set", "rtd.wg", "peer", peer, "remove"])
                    .status()?;
            }
            Ok(())
        }
        Fault::Store => {
            mesh.etcd.stop()?;
            std::thread::sleep(SECOND);
            mesh.etcd.up()
        }
        Fault::Wire => {
            let gateways = mesh.node(at)?.ns.output("ip", "-6 route show default")?;
            ip(mesh, "link set eth0 down")?;
            std::thread::sleep(SECOND);
            ip(mesh, "link set eth0 up")?;
            restore(mesh, at, &gateways)
        }
        Fault::Detour => {
            let ns = &mesh.node(at)?.ns;
            let gateway = |family: &str| -> Result<String> {
                let shown = ns.output("ip", &format!("{family} route show default"))?;
                let via = shown.split_whitespace().skip_while(|w| *w != "via").nth(1);
                Ok(via.context("no default route")?.to_owned())
            };
            let (v4, v6) = (gateway("-4")?, gateway("-6")?);
            // More exact than any of ours, so that they win.
            let detours = [
                format!("-4 route replace 10.65.0.0/27 via {v4} dev eth0 proto static"),
                format!("-4 route replace 10.65.0.64/27 via {v4} dev eth0 proto static"),
                format!("-6 route replace fd65:1::/123 via {v6} dev eth0 proto static"),
                format!("-6 route replace fd65:1::40/123 via {v6} dev eth0 proto static"),
            ];
            detours.iter().try_for_each(|d| ip(mesh, d))?;
            std::thread::sleep(SECOND);
            for detour in &detours {
                ip(mesh, &detour.replace("replace", "del"))?;
            }
            Ok(())
        }
    }
}

/// Gives an interface that was down its IPv6 address and the default routes back, as a host's network
/// configuration does.
fn restore(mesh: &Mesh, at: usize, v6_default: &str) -> Result<()> {
    let node = mesh.node(at)?;
    for address in &node.ips {
        let len = if address.is_ipv6() { "64 nodad" } else { "24" };
        let (len, flag) = len.split_once(' ').unwrap_or((len, ""));
        let args = format!("addr replace {address}/{len} dev eth0 {flag}");
        node.ns.output("ip", &args)?;
    }
    let v4 = node
        .ips
        .iter()
        .find(|ip| ip.is_ipv4())
        .context("no IPv4 address")?;
    let subnet = v4.to_string();
    let (net, _) = subnet.rsplit_once('.').context("no dot")?;
    node.ns
        .output("ip", &format!("route replace default via {net}.1 dev eth0"))?;
    let via = v6_default
        .split_whitespace()
        .skip_while(|w| *w != "via")
        .nth(1);
    let via = via.context("no IPv6 default route")?;
    node.ns.output(
        "ip",
        &format!("-6 route replace default via {via} dev eth0"),
    )?;
    Ok(())
}

#[test]
fn every_fault_by_itself_leaks_nothing_and_passes() -> Result<()> {
    lab::run("each fault", |lab| {
        let (mut mesh, workloads, capture) = encrypted(lab, &MeshSpec::routed(&[1, 1]))?;
        let (from, to) = ends(&workloads)?;
        let streams = streams(from, to)?;
        for fault in ALL {
            println!("{fault:?}");
            inflict(&mut mesh, 0, fault)?;
            flow(&streams).with_context(|| format!("after {fault:?}"))?;
            ensure!(capture.clear() == 0, "{fault:?}: {}", capture.stop()?);
        }
        for node in &mut mesh.nodes {
            node.wait_ready()?;
        }
        none_counts_clear_text(&mesh)?;
        let dropped = mesh.node(0)?.json(&["tunnels"])?;
        ensure!(
            dropped["clearTextDroppedBytes"].as_u64() > Some(0),
            "no detour met the guard: {dropped}"
        );
        scenario::everyone_reaches_everyone(&workloads)?;
        capture.stop()?.must_be_encrypted()
    })
}

#[test]
fn thirty_faults_in_a_row_leak_nothing() -> Result<()> {
    lab::run("thirty faults", |lab| {
        let mut dice = Dice::new()?;
        let (mut mesh, workloads, capture) = encrypted(lab, &MeshSpec::routed(&[2, 1]))?;
        let (from, to) = ends(&workloads)?;
        let streams = streams(from, to)?;
        for n in 0..FAULTS {
            let fault = ALL[usize::try_from(dice.below(ALL.len() as u64))?];
            let at = usize::try_from(dice.below(3))?;
            println!("{n}: {fault:?} on n{}", at + 1);
            inflict(&mut mesh, at, fault).with_context(|| format!("{fault:?}"))?;
            // Some meet what the one before has not recovered from.
            std::thread::sleep(Duration::from_millis(dice.below(1500)));
            ensure!(capture.clear() == 0, "{fault:?}: {}", capture.stop()?);
        }
        for node in &mut mesh.nodes {
            node.wait_ready()?;
        }
        flow(&streams)?;
        none_counts_clear_text(&mesh)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        capture.stop()?.must_be_encrypted()
    })
}

/// `Preferred` means that: with the tunnel away, and nobody there to make another, packets take the way that
/// the network has for them; that is counted, and over as soon as the daemon is back.
#[test]
fn preferred_goes_in_clear_while_the_tunnel_is_away() -> Result<()> {
    lab::run("preferred", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 1]))?;
        for node in &mesh.nodes {
            node.configure("[wireguard]\nbackend = \"userspace\"")?;
        }
        scenario::start(&mut mesh, "Never")?;
        set_encryption(&mesh, "Preferred")?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        // The network knows where workloads are.
        for (node, workload) in mesh.nodes.iter().zip(&workloads) {
            for v6 in [false, true] {
                let via = node.ips.iter().find(|ip| ip.is_ipv6() == v6);
                let (to, via) = (workload.ip(v6)?, via.context("no address")?);
                mesh.router.ip(&format!("route add {to} via {via}"))?;
            }
        }
        let (from, to) = ends(&workloads)?;
        let streams = streams(from, to)?;
        let by_tunnel = |mesh: &Mesh| -> Result<()> {
            flow(&streams)?;
            path_is(mesh.node(0)?, mesh.node(1)?, "WireGuard")?;
            path_is(mesh.node(1)?, mesh.node(0)?, "WireGuard")?;
            wait("all to be encrypted again", CONVERGE, || {
                let capture = capture(mesh)?;
                flow(&streams)?;
                capture.stop()?.must_be_encrypted()
            })
        };
        by_tunnel(&mesh)?;
        mesh.node(0)?.ns.output("ip", "link del rtd.wg")?;
        by_tunnel(&mesh)?;

        for node in &mut mesh.nodes {
            node.kill()?;
            node.ns.output("ip", "link del rtd.wg")?;
        }
        let seen = capture(&mesh)?;
        flow(&streams)?;
        let seen = seen.stop()?;
        ensure!(seen.clear > 0 && seen.encrypted == 0, "{seen}");
        for node in &mut mesh.nodes {
            node.start_ready()?;
        }
        by_tunnel(&mesh)?;
        for node in &mesh.nodes {
            let bytes = clear_bytes(node)?;
            ensure!(
                bytes > 50 * 36,
                "{} counts {bytes} bytes in clear",
                node.name
            );
        }
        Ok(())
    })
}

/// What others do to the tunnel is undone within seconds, and named.
#[test]
fn what_is_changed_by_hand_is_named() -> Result<()> {
    lab::run("by hand", |lab| {
        let (mesh, workloads, capture) = encrypted(lab, &MeshSpec::flat(2))?;
        let node = mesh.node(0)?;
        let peer = node.wg_show("peers")?.trim().to_owned();
        let wg = |args: &[&str]| -> Result<()> {
            let mut wg = node.command(lab::binaries::system("wg")?);
            ensure!(wg.args(["set", "rtd.wg"]).args(args).status()?.success());
            Ok(())
        };
        let named = |object: &str, found: &str| {
            wait(
                &format!("{object} to be named as {found}"),
                CONVERGE,
                || {
                    let status = node.status()?;
                    let drift = scenario::list(&status, "drift")?;
                    let first = drift.first().with_context(|| status.to_string())?;
                    let text = |f| scenario::text(first, f);
                    let is = text("object")?.contains(object) && text("found")? == found;
                    ensure!(is, "{drift:?}");
                    Ok(())
                },
            )
        };
        wg(&["peer", &peer, "remove"])?;
        named(&peer, "missing")?;
        wg(&["peer", &peer, "allowed-ips", "10.65.200.0/24"])?;
        named(&peer, "changed")?;
        node.ns.output("ip", "link del rtd.wg")?;
        named("link rtd.wg", "missing")?;
        let guard = format!("table inet {}", marks::NFT_GUARD);
        let chain = format!("flush chain inet {} clear_text", marks::NFT_GUARD);
        node.ns.output("nft", &chain)?;
        named(&guard, "changed")?;
        node.ns.output("nft", &format!("delete {guard}"))?;
        named(&guard, "missing")?;
        scenario::everyone_reaches_everyone(&workloads)?;
        capture.stop()?.must_be_encrypted()
    })
}
