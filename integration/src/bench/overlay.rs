//! VXLAN between two workloads, beside the same path built by hand with `ip`.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Row, Section, median, median_f64, spread};
use crate::lab::probe::tcp;
use crate::lab::{Lab, Mesh, MeshSpec, Netns};
use crate::scenario;

const ROUNDS: usize = 7;
const SECONDS: Duration = Duration::from_secs(2);
const PACKETS: usize = 5000;

/// Two ends of a path.
struct Path {
    from: (Netns, IpAddr),
    to: (Netns, IpAddr),
}

impl Path {
    fn throughput(&self) -> Result<f64> {
        tcp::throughput(&self.from.0, &self.to.0, self.to.1, SECONDS)
    }

    /// Seconds.
    fn round_trip(&self) -> Result<f64> {
        let mut times = tcp::round_trips(
            (&self.from.0, self.from.1),
            (&self.to.0, self.to.1),
            PACKETS,
        )?;
        Ok(median(&mut times).as_secs_f64())
    }
}

/// Measures both paths in turn.
///
/// # Errors
/// When a path does not work.
pub fn run() -> Result<Section> {
    let lab = Lab::new()?;
    let mut mesh = Mesh::build(&lab, &MeshSpec::flat(2))?;
    scenario::start(&mut mesh, "Always")?;
    let workloads = scenario::populate(&lab, &mesh, 1)?;
    scenario::everyone_reaches_everyone(&workloads)?;
    let end = |i: usize| -> Result<_> {
        let w = workloads.get(i).context("no workload")?;
        Ok((w.ns.clone(), w.ip(false)?))
    };
    let ours = Path {
        from: end(0)?,
        to: end(1)?,
    };
    let hand = by_hand(&lab)?;

    let (mut ours_bits, mut hand_bits) = (Vec::new(), Vec::new());
    let (mut ours_rtt, mut hand_rtt) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours_bits.push(ours.throughput()?);
        hand_bits.push(hand.throughput()?);
        ours_rtt.push(ours.round_trip()?);
        hand_rtt.push(hand.round_trip()?);
    }
    let mut bits = ratios(&ours_bits, &hand_bits);
    let mut rtt = ratios(&hand_rtt, &ours_rtt);
    let (bits_median, rtt_median) = (median_f64(&mut bits), median_f64(&mut rtt));
    let gbits = |b: f64| format!("{:.2} Gbit/s", b / 1e9);
    let micros = |s: f64| format!("{:.1} µs", s * 1e6);
    let ratio = |r: f64| format!("{r:.3} ×");
    Ok(Section {
        title: "VXLAN, workload to workload",
        how: "Medians and extremes of seven rounds in turn, ratios of each round: 2 s of one TCP stream, then 5,000 UDP \
              round trips, of which the median counts. By hand: the same veth pairs, routes, VXLAN device, neighbours \
              and forwarding entries, made with `ip`.",
        rows: vec![
            Row::shown("TCP throughput", spread(&mut ours_bits, gbits)),
            Row::shown("TCP throughput by hand", spread(&mut hand_bits, gbits)),
            Row::goal(
                "throughput against by hand",
                spread(&mut bits, ratio),
                "≥ 0.98 ×",
                bits_median >= 0.98,
            ),
            Row::shown("UDP round trip", spread(&mut ours_rtt, micros)),
            Row::shown("UDP round trip by hand", spread(&mut hand_rtt, micros)),
            Row::goal(
                "speed of the round trip against by hand",
                spread(&mut rtt, ratio),
                "≥ 0.98 ×",
                rtt_median >= 0.98,
            ),
        ],
    })
}

fn ratios(these: &[f64], those: &[f64]) -> Vec<f64> {
    let pairs = these.iter().zip(those);
    pairs.map(|(this, that)| this / that.max(1e-9)).collect()
}

/// Two hosts and a workload on each, 10.99.HOST.2 in block 10.99.HOST.0/26.
fn by_hand(lab: &Lab) -> Result<Path> {
    let hosts = Mesh::bare(lab, &MeshSpec::flat(2))?;
    let mut ends = Vec::new();
    for (here, host) in (1u8..).zip(&hosts) {
        let there = 3 - here;
        host.sysctl("net/ipv4/ip_forward", "1")?;
        host.ip(&format!(
            "link add vx0 mtu 1450 address 02:00:00:00:00:0{here} type vxlan id 4096 dstport 4789 local 172.31.1.1{here} dev eth0 nolearning\n\
             link set vx0 up\n\
             addr add 10.99.{here}.0/32 dev vx0\n\
             neigh add 10.99.{there}.0 lladdr 02:00:00:00:00:0{there} dev vx0 nud permanent\n\
             route add 10.99.{there}.0/26 via 10.99.{there}.0 dev vx0 onlink"
        ))?;
        host.output(
            "bridge",
            &format!(
                "fdb add 02:00:00:00:00:0{there} dev vx0 dst 172.31.1.1{there} self permanent"
            ),
        )?;
        let ns = lab.netns(&format!("hand{here}"))?;
        lab.veth((host, "w0"), (&ns, "eth0"), 1450)?;
        let mac = host.ip_json("link show dev w0")?;
        let mac = mac
            .pointer("/0/address")
            .and_then(|m| m.as_str())
            .context("w0 has no MAC")?
            .to_owned();
        ns.ip(&format!(
            "addr add 10.99.{here}.2/32 dev eth0\nroute add 169.254.1.1 dev eth0 scope link\n\
             route add default via 169.254.1.1 dev eth0\n\
             neigh add 169.254.1.1 lladdr {mac} dev eth0 nud permanent"
        ))?;
        host.ip(&format!("route add 10.99.{here}.2 dev w0 scope link"))?;
        ends.push((ns, format!("10.99.{here}.2").parse()?));
    }
    let to = ends.pop().context("no end")?;
    Ok(Path {
        from: ends.pop().context("no end")?,
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_by_hand_works() -> Result<()> {
        let lab = Lab::new()?;
        let path = by_hand(&lab)?;
        assert!(path.round_trip()? > 0.0);
        assert!(path.throughput()? > 1e7);
        Ok(())
    }
}
