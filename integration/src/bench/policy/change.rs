//! How long until a change of policy is in force at every workload of a node.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::bench::{Row, median_f64, spread};
use crate::lab::{Cni, Lab, Mesh, MeshSpec, Node};
use crate::scenario;

const WORKLOADS: usize = 100;
const ROUNDS: usize = 9;
const PORT: u16 = 7011;
/// So long without a datagram, and none comes any more.
const QUIET: Duration = Duration::from_millis(300);
const GOAL: f64 = 50.0;

const DENY: &str = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: shut }\n\
                    spec: { ingress: [{ action: Deny, protocol: UDP, destination: { ports: [7011] } }, { action: Allow }] }\n";

pub(super) fn rows() -> Result<Vec<Row>> {
    let lab = Lab::new()?;
    let mut mesh = Mesh::build(&lab, &MeshSpec::flat(1))?;
    scenario::start(&mut mesh, "Never")?;
    let node = mesh.node(0)?;
    scenario::enforces_policy(node)?;
    let cni = Cni::of(node)?;
    let from = cni.add(&lab, "from")?;
    let mut sockets = Vec::new();
    let mut places = Vec::new();
    for i in 0..WORKLOADS {
        let workload = cni.add(&lab, &format!("w{i}"))?;
        let at = SocketAddr::new(workload.ip(false)?, PORT);
        sockets.push(workload.ns.run(|| Ok(UdpSocket::bind(at)?))?);
        places.push(at);
    }
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let any = SocketAddr::new([0, 0, 0, 0].into(), 0);
    let sender = from.ns.run(|| Ok(UdpSocket::bind(any)?))?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let took = round(node, &sender, &sockets, &places)?;
        times.push(took.as_secs_f64() * 1e3);
        node.ctl(&["delete", "globalnetworkpolicy", "shut"])?
            .must_succeed(&["delete"])?;
        scenario::enforces_policy(node)?;
    }
    let shown = spread(&mut times, |t| format!("{t:.1} ms"));
    let middle = median_f64(&mut times);
    Ok(vec![Row::goal(
        format!("a new deny, until it is in force at {WORKLOADS} workloads"),
        shown,
        "≤ 50 ms",
        middle <= GOAL,
    )])
}

/// From the request until the last datagram that came through.
fn round(
    node: &Node,
    sender: &UdpSocket,
    sockets: &[UdpSocket],
    places: &[SocketAddr],
) -> Result<Duration> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for at in places {
                    // What a policy drops is no error of the sender's.
                    let _ = sender.send_to(b"?", at);
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        let measured = measure(node, sockets);
        stop.store(true, Ordering::Relaxed);
        (sending.join()).map_err(|_| anyhow!("the sender panicked"))?;
        measured
    })
}

fn measure(node: &Node, sockets: &[UdpSocket]) -> Result<Duration> {
    // Everybody is reached before.
    let mut reached = vec![false; sockets.len()];
    while reached.iter().any(|r| !r) {
        for i in drained(sockets, QUIET)? {
            *reached.get_mut(i).context("no such workload")? = true;
        }
    }
    let path = "/v1/resources/globalnetworkpolicies/shut";
    let (asked, last) = std::thread::scope(|scope| -> Result<_> {
        let asking = scope.spawn(|| {
            let start = Instant::now();
            let answer = node.http("PUT", path, DENY.as_bytes())?;
            ensure!(
                answer.status == 200,
                "{}",
                String::from_utf8_lossy(&answer.body)
            );
            Ok(start)
        });
        let mut last = Instant::now();
        while !drained(sockets, QUIET)?.is_empty() {
            last = Instant::now();
        }
        let asked = asking.join().map_err(|_| anyhow!("a request panicked"))??;
        Ok((asked, last))
    })?;
    Ok(last.saturating_duration_since(asked))
}

/// Whose socket had anything; waits for the first.
fn drained(sockets: &[UdpSocket], patience: Duration) -> Result<Vec<usize>> {
    let mut polled: Vec<PollFd<'_>> = (sockets.iter())
        .map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN))
        .collect();
    poll(&mut polled, PollTimeout::try_from(patience)?)?;
    let ready = polled.iter().map(|p| p.any().unwrap_or_default());
    let ready: Vec<usize> = ready
        .enumerate()
        .filter(|(_, r)| *r)
        .map(|(i, _)| i)
        .collect();
    for socket in ready.iter().filter_map(|i| sockets.get(*i)) {
        let mut buffer = [0; 8];
        while socket.recv(&mut buffer).is_ok() {}
    }
    Ok(ready)
}
