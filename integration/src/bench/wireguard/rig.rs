//! One program on both ends of a wire, and what is measured through it.

use std::net::{IpAddr, SocketAddrV4, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::flood::Flood;
use crate::lab::probe::tcp;
use crate::lab::{Lab, Netns, Process, binaries, wait, wait_for};

/// Key pairs of RFC 7748, section 6.1: known to everybody.
const KEYS: [(&str, &str); 2] = [
    (
        "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=",
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
    ),
    (
        "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=",
        "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",
    ),
];
const PORT: u16 = 51820;
const LIMIT: Duration = Duration::from_secs(10);
/// With IP and UDP headers 128 bytes.
const PAYLOAD: usize = 100;
const FLOOD: Duration = Duration::from_secs(1);
const ROUND_TRIPS: usize = 3000;
const BUFFER: usize = 8 << 20;

/// What is measured.
#[derive(Clone, Copy)]
pub(super) enum Program {
    /// The example of our crate.
    Ours,
    /// A command line that an interface name is added to, configured by `wg`.
    Other(&'static str),
}

/// What the wire does for UDP.
#[derive(Clone, Copy)]
pub(super) enum Wire {
    /// Carries units of many datagrams whole.
    Offloads,
    /// Carries single datagrams, which the receiver joins.
    NoSegmentation,
    /// Carries single datagrams.
    Plain,
}

pub(super) struct Rig {
    ends: [Netns; 2],
    processes: [Process; 2],
    sockets: [PathBuf; 2],
}

impl Rig {
    /// Two ends that reach each other.
    pub(super) fn start(lab: &Lab, program: Program, name: &str) -> Result<Rig> {
        let ends = [
            lab.netns(&format!("{name}-a"))?,
            lab.netns(&format!("{name}-b"))?,
        ];
        lab.veth((&ends[0], "eth0"), (&ends[1], "eth0"), 1500)?;
        for (n, ns) in (1..).zip(&ends) {
            ns.ip(&format!("addr add 172.30.0.{n}/24 dev eth0"))?;
        }
        let dir = lab.subdir(name)?;
        let start = |n: usize| start_end(&ends[n], program, &dir, (n, &interface(name, n)));
        let rig = Rig {
            processes: [start(0)?, start(1)?],
            sockets: [0, 1].map(|n| uapi(&interface(name, n))),
            ends,
        };
        for n in 0..2 {
            let (here, interface) = (n + 1, interface(name, n));
            rig.ends[n].ip(&format!(
                "addr add 10.9.0.{here}/24 dev {interface}\nlink set {interface} mtu 1420 up"
            ))?;
        }
        wait("the tunnel to work", LIMIT, || {
            tcp::round_trips(rig.end(0), rig.end(1), 10)
        })?;
        Ok(rig)
    }

    fn end(&self, n: usize) -> (&Netns, IpAddr) {
        (&self.ends[n], inner(n))
    }

    /// Bits a second, and nanoseconds of both processes for each byte that arrived.
    pub(super) fn tcp(&self, streams: usize, time: Duration) -> Result<(f64, f64)> {
        let before = self.cpu()?;
        let [from, to] = &self.ends;
        let done = tcp::transfer(from, to, inner(1), streams, time)?;
        let cpu = self.cpu()?.saturating_sub(before);
        Ok((done.rate, cpu.as_secs_f64() * 1e9 / done.bytes.max(1.0)))
    }

    fn cpu(&self) -> Result<Duration> {
        let [a, b] = &self.processes;
        Ok(a.cpu_time()? + b.cpu_time()?)
    }

    /// Small packets that arrive a second when somebody sends as fast as it goes.
    pub(super) fn packets(&self) -> Result<f64> {
        let bind = |n: usize| self.ends[n].run(|| Ok(UdpSocket::bind((inner(n), 7010))?));
        let (from, to) = (bind(0)?, bind(1)?);
        setsockopt(&to, sockopt::RcvBufForce, &BUFFER)?;
        to.set_read_timeout(Some(Duration::from_millis(200)))?;
        from.connect((inner(1), 7010))?;
        let start = Instant::now();
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let (mut count, mut last) = (0u32, start);
                let mut buffer = [0; 2 * PAYLOAD];
                while to.recv(&mut buffer).is_ok() {
                    count += 1;
                    last = Instant::now();
                }
                f64::from(count) / last.duration_since(start).as_secs_f64().max(1e-3)
            });
            while start.elapsed() < FLOOD {
                for _ in 0..64 {
                    // A full queue is part of going as fast as it goes.
                    let _ = from.send(&[0; PAYLOAD]);
                }
            }
            let joined = receiver.join();
            joined.map_err(|_| anyhow::anyhow!("the counting thread panicked"))
        })
    }

    /// The median and the 99th percentile in seconds.
    pub(super) fn round_trips(&self) -> Result<(f64, f64)> {
        let times = tcp::round_trips(self.end(0), self.end(1), ROUND_TRIPS)?;
        let at = |percent: usize| {
            let time = times.get(times.len() * percent / 100).copied();
            time.unwrap_or_default().as_secs_f64()
        };
        Ok((at(50), at(99)))
    }

    /// Has a stranger on the wire send handshakes to the far end, which answers over the wire.
    pub(super) fn flood(&self, rate: u32) -> Result<Flood> {
        let [near, far] = &self.ends;
        far.ip("route replace 198.18.0.0/15 via 172.30.0.1")?;
        let target = SocketAddrV4::new([172, 30, 0, 2].into(), PORT);
        Flood::start(near, target, KEYS[1].1, rate)
    }

    /// Changes what the wire does.
    pub(super) fn wire(&self, wire: Wire) -> Result<()> {
        let (segmentation, gro) = match wire {
            Wire::Offloads => ("on", "off"),
            Wire::NoSegmentation => ("off", "on"),
            Wire::Plain => ("off", "off"),
        };
        for ns in &self.ends {
            let features = format!("-K eth0 tx-udp-segmentation {segmentation} gro {gro}");
            ns.output("ethtool", &features)?;
        }
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // The processes are killed and leave it behind.
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn start_end(
    ns: &Netns,
    program: Program,
    dir: &Path,
    (n, interface): (usize, &str),
) -> Result<Process> {
    let there = 2 - n;
    let (private, public) = (KEYS[n].0, KEYS[1 - n].1);
    let log = dir.join(format!("{n}.log"));
    let file = dir.join(format!("{n}.conf"));
    let line = match program {
        Program::Ours => {
            std::fs::write(&file, private)?;
            let example = binaries::find("examples/tunnel")
                .context("run `cargo build --release -p wireguard --example tunnel` first")?;
            let (example, file) = (example.display(), file.display());
            format!(
                "{example} {interface} {PORT} {file} {public} 172.30.0.{there}:{PORT} 10.9.0.{there}/32"
            )
        }
        Program::Other(line) => {
            let config = format!(
                "[Interface]\nPrivateKey = {private}\nListenPort = {PORT}\n\
                 [Peer]\nPublicKey = {public}\nAllowedIPs = 10.9.0.{there}/32\n\
                 Endpoint = 172.30.0.{there}:{PORT}\n"
            );
            std::fs::write(&file, config)?;
            format!("{line} {interface}")
        }
    };
    let mut words = line.split_whitespace();
    let name = words.next().context("an empty command")?;
    let path = if name.starts_with('/') {
        name.into()
    } else {
        binaries::system(name)?
    };
    let mut command = ns.command(path);
    command.args(words);
    let mut process = Process::start(name, command, &log)?;
    let uapi = uapi(interface);
    let is_ours = matches!(program, Program::Ours);
    wait_for(&mut process, &format!("{name} to be ready"), LIMIT, || {
        if is_ours {
            let said = std::fs::read_to_string(&log)?;
            if !said.contains("ready") {
                bail!("it says only {said:?}");
            }
        } else {
            UnixStream::connect(&uapi).with_context(|| uapi.display().to_string())?;
        }
        Ok(())
    })?;
    if !is_ours {
        ns.output("wg", &format!("setconf {interface} {}", file.display()))?;
    }
    Ok(process)
}

/// Interfaces have names of their own, because their sockets share a directory.
fn interface(program: &str, n: usize) -> String {
    let letter = program.get(..1).unwrap_or_default();
    format!("rlwg{}{letter}{n}", std::process::id() % 10_000_000)
}

/// Where `wg` finds it.
fn uapi(interface: &str) -> PathBuf {
    format!("/var/run/wireguard/{interface}.sock").into()
}

fn inner(n: usize) -> IpAddr {
    [10, 9, 0, if n == 0 { 1 } else { 2 }].into()
}
