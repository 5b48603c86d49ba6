//! VXLAN between two workloads, beside the same path built by hand with `ip`.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Row, Section, median, median_f64, ms};
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

    fn round_trip(&self) -> Result<Duration> {
        let mut times = tcp::round_trips(
            (&self.from.0, self.from.1),
            (&self.to.0, self.to.1),
            PACKETS,
        )?;
        Ok(median(&mut times))
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
    let (ours_bits, hand_bits) = (median_f64(&mut ours_bits), median_f64(&mut hand_bits));
    let (ours_rtt, hand_rtt) = (median(&mut ours_rtt), median(&mut hand_rtt));
    let bits = ours_bits / hand_bits.max(1.0);
    let rtt = hand_rtt.as_secs_f64() / ours_rtt.as_secs_f64().max(1e-9);
    let gbits = |b: f64| format!("{:.2} Gbit/s", b / 1e9);
    Ok(Section {
        title: "VXLAN, workload to workload",
        how: "Medians of seven rounds in turn. By hand: the same veth pairs, routes, VXLAN device, neighbours and \
              forwarding entries, made with `ip`.",
        rows: vec![
            Row::shown("TCP throughput", gbits(ours_bits)),
            Row::shown("TCP throughput by hand", gbits(hand_bits)),
            Row::goal(
                "throughput against by hand",
                format!("{bits:.3} ×"),
                "≥ 0.98 ×",
                bits >= 0.98,
            ),
            Row::shown("UDP round trip, p50", ms(ours_rtt)),
            Row::shown("UDP round trip by hand, p50", ms(hand_rtt)),
            Row::goal(
                "speed of the round trip against by hand",
                format!("{rtt:.3} ×"),
                "≥ 0.98 ×",
                rtt >= 0.98,
            ),
        ],
    })
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
        assert!(path.round_trip()? > Duration::ZERO);
        assert!(path.throughput()? > 1e7);
        Ok(())
    }
}
