//! A full table goes through the core: 1 M IPv4 prefixes in 142,377 UPDATEs, as one peer would send them.
//!
//! `cargo bench -p bgp`. Each case runs in a process of its own, so that its peak memory is its own: the feed
//! is made once, in a file that is read in pieces as from a socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod feed;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Instant;

use bgp::rib::{Export, Import, NextHopMode, PeerConfig, PeerId, PeerKind, Rib, RibConfig};
use bgp::wire::{Context, MessageType, frame, update};
use bgp::{Family, NextHop, PerFamily};
use feed::{PREFIXES, UPDATES};

const PEERS: u16 = 100;

fn write_feed(path: &str) {
    let mut file = std::io::BufWriter::new(File::create(path).unwrap());
    let hop = NextHop::V4(Ipv4Addr::new(10, 0, 0, 1));
    let mut messages = 0;
    for part in feed::table() {
        let send = |message: bytes::Bytes| {
            messages += 1;
            file.write_all(&message).unwrap();
        };
        feed::announce(&part, &hop, send).unwrap();
    }
    assert_eq!(messages, UPDATES);
    file.flush().unwrap();
}

fn peer(asn: u32, address: IpAddr) -> PeerConfig {
    PeerConfig {
        address,
        router_id: Ipv4Addr::from_bits(asn),
        asn,
        import: Import::default(),
        export: Export {
            kind: PeerKind::External,
            local_as: 64512,
            context: Context {
                families: PerFamily {
                    v4: true,
                    v6: false,
                },
                ..Context::default()
            },
            role: None,
            filter: None,
            next_hop: NextHopMode::Auto,
            own_v4: Some(Ipv4Addr::new(10, 0, 0, 254)),
            own_v6: None,
            max_paths: 1,
        },
    }
}

/// What is done with an UPDATE, in the order of the daemon.
enum Step {
    Expect,
    Apply,
    /// After each piece.
    Settle,
}

/// Reads the feed in pieces and hands each UPDATE on.
fn each_update(path: &str, mut each: impl FnMut(&[u8], Step)) {
    let mut file = File::open(path).unwrap();
    let mut buffer = Vec::with_capacity(1 << 17);
    let mut piece = vec![0; 1 << 16];
    loop {
        let got = file.read(&mut piece).unwrap();
        if got == 0 {
            break;
        }
        buffer.extend_from_slice(&piece[..got]);
        let mut ahead = 0;
        while let Some(frame) = frame::next(&buffer[ahead..], 4096).unwrap() {
            each(frame.body, Step::Expect);
            ahead += frame.len;
        }
        let mut at = 0;
        while let Some(frame) = frame::next(&buffer[at..], 4096).unwrap() {
            assert_eq!(frame.kind, MessageType::Update);
            each(frame.body, Step::Apply);
            at += frame.len;
        }
        buffer.drain(..at);
        each(&[], Step::Settle);
    }
    assert!(buffer.is_empty());
}

struct Out {
    bytes: u64,
    messages: u64,
}

/// Decides and sends until nothing is left.
fn settle(rib: &mut Rib, out: &mut Out) {
    rib.decide();
    while rib.transmit(
        |_| true,
        |_, message| {
            out.bytes += message.len() as u64;
            out.messages += 1;
        },
    ) {}
    while !rib.kernel_changes(Family::V4, 4096).is_empty() {}
}

/// One table through `peers`, each with its share; the first `listeners` of them are there to listen.
fn run(case: &str, path: &str) {
    let mut rib = Rib::new(RibConfig::new(Ipv4Addr::new(10, 0, 0, 254)));
    let source = |n: u16| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + u32::from(n)));
    let feeders = if case == "100 peers" { PEERS } else { 1 };
    for n in 1..=feeders {
        rib.peer_up(PeerId(n), peer(65000 + u32::from(n), source(n)));
    }
    if case == "in and out" {
        rib.peer_up(PeerId(200), peer(65200, source(200)));
    }
    let context = Context::default();
    let mut scratch = Vec::new();
    let (mut out, mut prefixes, mut turn) = (
        Out {
            bytes: 0,
            messages: 0,
        },
        0,
        0u16,
    );
    let start = Instant::now();
    each_update(path, |body, step| {
        match step {
            Step::Expect => return rib.expect(body, &context),
            Step::Settle => return settle(&mut rib, &mut out),
            Step::Apply => {}
        }
        let update = update::split(body, &context, &mut scratch).unwrap();
        prefixes += update.announced.iter().count();
        turn = turn % feeders + 1;
        let applied = rib.apply(PeerId(turn), &update);
        assert_eq!(applied, bgp::rib::Applied::default());
    });
    settle(&mut rib, &mut out);
    let loaded = start.elapsed();
    assert_eq!((prefixes, rib.len(Family::V4)), (PREFIXES, PREFIXES));
    let sets = rib.attributes().len();
    let mut more = String::new();
    if case == "withdraw" {
        let start = Instant::now();
        rib.peer_down(PeerId(1), PerFamily::default());
        settle(&mut rib, &mut out);
        assert!(rib.is_empty() && rib.attributes().is_empty());
        more = format!(", then all gone in {:.3} s", start.elapsed().as_secs_f64());
    }
    println!(
        "{case:12} {:6.3} s  {:5.2} CPU-s  {:6.1} MB peak  {:.2} M routes/s  {sets} attribute sets, {} messages and {:.1} MB out{more}",
        loaded.as_secs_f64(),
        cpu_seconds(),
        peak_mb(),
        PREFIXES as f64 / loaded.as_secs_f64() / 1e6,
        out.messages,
        out.bytes as f64 / 1e6,
    );
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after.split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, case, path] = arguments.as_slice()
        && flag == "--run"
    {
        return run(case, path);
    }
    let path = std::env::temp_dir().join(format!("bgp-feed-{}", std::process::id()));
    let path = path.to_str().unwrap();
    write_feed(path);
    let size = std::fs::metadata(path).unwrap().len();
    println!(
        "{PREFIXES} prefixes in {UPDATES} UPDATEs, {:.1} MB",
        size as f64 / 1e6
    );
    for case in ["in", "in and out", "100 peers", "withdraw"] {
        let run = Command::new(&arguments[0])
            .args(["--run", case, path])
            .status();
        assert!(run.unwrap().success(), "{case}");
    }
    std::fs::remove_file(path).unwrap();
}
