//! A tunnel with many peers: what its process takes of memory, and a packet to any of them of its time.
//!
//! The peers are devices without I/O in this process. All are behind one address, so that what differs is the
//! number of peers alone.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use model::{Cidr, marks};
use nix::sys::socket::{setsockopt, sockopt};
use wireguard::control::{AllowedIpChange, PeerChange, PeerRequest, SetRequest};
use wireguard::device::{Device, DeviceConfig};
use wireguard::keys::PublicKey;
use wireguard::lane::Outgoing;
use wireguard::message::{TRANSPORT_HEADER_LEN, TRANSPORT_OVERHEAD};
use wireguard::uapi::client;
use wireguard::userspace::random_key;
use wireguard::{Now, PeerConfig, Time};

use super::super::{Row, Section, median_f64, spread};
use crate::lab::flood::Random;
use crate::lab::{Lab, Netns, Process, binaries, wait_for};

const PEERS: u32 = 1000;
const ROUNDS: usize = 5;
/// Packets of a round, in bursts that fit into the interface's queue.
const PACKETS: u32 = 100_000;
const BURST: u32 = 500;
/// With IP and UDP headers 128 bytes.
const PAYLOAD: [u8; 100] = [0; 100];
const PORT: u16 = 51820;
const HUB: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const SPOKES: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);
/// Between two handshakes: with more of one address a second, it would want to be sure of that address.
const PAUSE: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(10);
const MOST_MEMORY: f64 = 30e6;
const MOST_COST: f64 = 1.25;

/// Measures it.
///
/// # Errors
/// When the tunnel does not work.
pub fn run() -> Result<Section> {
    let lab = Lab::new()?;
    let hub = Hub::start(&lab)?;
    let empty = hub.process.resident()?;
    hub.meet_all().context("sessions with all peers")?;
    #[allow(clippy::cast_precision_loss)] // megabytes
    let (empty, full) = (empty as f64, hub.process.resident()? as f64);
    let (mut one, mut all) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(hub.cost(1)?);
        all.push(hub.cost(PEERS)?);
    }
    let ratio = median_f64(&mut all.clone()) / median_f64(&mut one.clone()).max(1e-12);
    let mb = |bytes: f64| format!("{:.1} MB", bytes / 1e6);
    let nanos = |n: f64| format!("{n:.0} ns");
    let rows = vec![
        Row::shown("memory of a tunnel without peers", mb(empty)),
        Row::goal(
            format!("memory with {PEERS} peers and a session with each"),
            mb(full),
            "≤ 30 MB",
            full <= MOST_MEMORY,
        ),
        Row::shown(
            "CPU per packet of 128 bytes, all to one peer",
            spread(&mut one, nanos),
        ),
        Row::shown(
            format!("CPU per packet of 128 bytes, each to another of {PEERS} peers"),
            spread(&mut all, nanos),
        ),
        Row::goal(
            format!("CPU per packet, {PEERS} peers against one"),
            format!("{ratio:.2} ×"),
            &format!("≤ {MOST_COST} ×"),
            ratio <= MOST_COST,
        ),
    ];
    Ok(Section {
        title: "WireGuard with 1,000 peers",
        how: "The daemon's own tunnel process. Its peers are all behind one address, so that what differs is their number alone. Resident memory; \
              CPU time of the process for 100,000 packets from its host, in bursts of 500, medians and extremes of five rounds in turn.",
        rows,
    })
}

/// The tunnel, as the daemon starts it.
struct Hub {
    process: Process,
    socket: PathBuf,
    ns: Netns,
    outside: UdpSocket,
}

impl Hub {
    fn start(lab: &Lab) -> Result<Hub> {
        let (ns, far) = (lab.netns("hub")?, lab.netns("spokes")?);
        lab.veth((&ns, "eth0"), (&far, "eth0"), 1500)?;
        ns.ip(&format!("addr add {HUB}/24 dev eth0"))?;
        far.ip(&format!("addr add {SPOKES}/24 dev eth0"))?;
        let dir = lab.subdir("hub")?;
        let binds = [(dir.clone(), "/run/wireguard".into())];
        let mut command = ns.command_with_binds(binaries::find("routerd-tunnel")?, &binds);
        command.args(["--port", &PORT.to_string(), "--fwmark", "0"]);
        let socket = dir.join(format!("{}.sock", marks::WIREGUARD));
        let mut process = Process::start("routerd-tunnel", command, &dir.join("hub.log"))?;
        wait_for(&mut process, "the tunnel to be ready", LIMIT, || {
            Ok(client::get(&socket, LIMIT)?)
        })?;
        let device = marks::WIREGUARD;
        ns.ip(&format!(
            "addr add 10.0.0.1/8 dev {device}\nlink set {device} mtu 1420 up"
        ))?;
        let outside = far.run(|| Ok(UdpSocket::bind((SPOKES, PORT))?))?;
        outside.set_read_timeout(Some(LIMIT))?;
        setsockopt(&outside, sockopt::RcvBufForce, &(8 << 20))?;
        Ok(Hub {
            process,
            socket,
            ns,
            outside,
        })
    }

    /// Adds every peer, each of which begins a session.
    fn meet_all(&self) -> Result<()> {
        let key = random_key()?;
        let mut spokes = (0..PEERS)
            .map(|n| Spoke::new(n, key.public()))
            .collect::<Result<Vec<_>>>()?;
        let peers = spokes.iter().zip(0..).map(|(spoke, n)| {
            PeerRequest::Set(PeerChange {
                allowed_ips: vec![AllowedIpChange::Add(Cidr::host(inner(n).into()))],
                ..PeerChange::new(spoke.0.public_key())
            })
        });
        let request = SetRequest {
            private_key: Some(Some(key)),
            peers: peers.collect(),
            ..SetRequest::default()
        };
        client::set(&self.socket, request)?;
        for spoke in &mut spokes {
            spoke.meet(&self.outside)?;
            std::thread::sleep(PAUSE);
        }
        let state = client::get(&self.socket, LIMIT)?;
        let met = state.peers.values().filter(|p| p.last_handshake.is_some());
        ensure!(met.count() == spokes.len(), "some peers have no session");
        Ok(())
    }

    /// Nanoseconds of the process for each packet, in turn to the first of its peers.
    fn cost(&self, peers: u32) -> Result<f64> {
        let socket = self.ns.run(|| Ok(UdpSocket::bind("10.0.0.1:0")?))?;
        let path = "/proc/thread-self/net/dev";
        let counters = self.ns.run(|| Ok(File::open(path)?))?;
        let (before, cpu) = (taken(&counters)?, self.process.cpu_time()?);
        let mut sent = 0;
        while sent < PACKETS {
            for n in sent..sent + BURST {
                socket.send_to(&PAYLOAD, (inner(n % peers), 9))?;
            }
            sent += BURST;
            // Not faster than it takes them: none is dropped.
            let begun = Instant::now();
            while taken(&counters)? < before + u64::from(sent) {
                ensure!(begun.elapsed() < LIMIT, "packets were not taken");
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        let cpu = self.process.cpu_time()?.saturating_sub(cpu);
        Ok(cpu.as_secs_f64() * 1e9 / f64::from(sent))
    }
}

/// Packets that the process has read from the interface, of a namespace's counters.
fn taken(counters: &File) -> Result<u64> {
    let mut text = [0; 4096];
    let len = counters.read_at(&mut text, 0)?;
    let text = std::str::from_utf8(text.get(..len).unwrap_or_default())?;
    let mut lines = text.lines().map(str::trim);
    let line = lines.find_map(|l| l.strip_prefix(marks::WIREGUARD)?.strip_prefix(':'));
    let sent = line.and_then(|l| l.split_whitespace().nth(9));
    Ok(sent.context("no counter")?.parse()?)
}

/// What a peer owns.
fn inner(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a01_0000 + n * 64)
}

/// A peer of the tunnel.
struct Spoke(Device);

fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let unix = unix.unwrap_or_default();
    Now {
        mono: Time::from_duration(unix),
        unix,
    }
}

impl Spoke {
    fn new(n: u32, hub: PublicKey) -> Result<Spoke> {
        let mut device = Device::new(DeviceConfig::new(random_key()?), Box::new(Random));
        let mut peer = PeerConfig::new(hub);
        peer.endpoint = Some(SocketAddr::from((HUB, PORT)));
        let id = device.set_peer(now(), peer).context("no peer")?;
        device.set_allowed_ips(&[("0.0.0.0/0".parse()?, Some(id))]);
        // Something to send, so that it begins.
        let len = 28;
        let mut buffer = vec![0; TRANSPORT_OVERHEAD + len + 15];
        let packet = buffer.get_mut(TRANSPORT_HEADER_LEN..).context("no room")?;
        packet[0] = 0x45;
        packet[3] = 28;
        packet[12..16].copy_from_slice(&inner(n).octets());
        packet[16..20].copy_from_slice(&[10, 0, 0, 1]);
        device.handle_packets(now(), &mut [Outgoing::new(&mut buffer, len)]);
        Ok(Spoke(device))
    }

    /// Initiation, response, and the first packet.
    fn meet(&mut self, socket: &UdpSocket) -> Result<()> {
        let say = |device: &mut Device| -> Result<()> {
            let said = device.poll_transmit().context("nothing to send")?;
            socket.send_to(&said.datagram, said.destination)?;
            Ok(())
        };
        say(&mut self.0)?;
        let mut buffer = [0; 2048];
        let (len, from) = socket.recv_from(&mut buffer)?;
        let response = buffer.get(..len).unwrap_or_default();
        self.0.handle_handshake(now(), from, response, false);
        say(&mut self.0)
    }
}
