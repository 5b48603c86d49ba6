//! A table of BGP on its way into the kernel, beside BIRD.

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::session::{self, update};
use crate::bench::{Row, Section, median_f64, spread};
use crate::lab::{Lab, Netns, Node, Process, wait};

/// Prefixes of the feed.
const PREFIXES: u32 = 100_000;
const ROUNDS: usize = 5;
/// Prefixes in one UPDATE of at most 4096 bytes, each a /24 of four bytes.
const EACH: u32 = 1000;
const FEEDER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const AS: u32 = 65001;
/// What BIRD's time may be multiplied with.
const GOAL: f64 = 0.7;
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at the kernel's table: a look at a large one takes milliseconds itself.
const LOOK: Duration = Duration::from_millis(20);

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Routerd,
    Bird,
}

/// What a turn took, seconds.
struct Turn {
    time: f64,
    cpu: f64,
}

/// Feeds both in turn.
///
/// # Errors
/// When one does not come to have the table.
pub fn run() -> Result<Section> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(turn(Who::Routerd)?);
        theirs.push(turn(Who::Bird)?);
    }
    let times = |turns: &[Turn]| -> Vec<f64> { turns.iter().map(|t| t.time).collect() };
    let cpu = |turns: &[Turn]| -> Vec<f64> { turns.iter().map(|t| t.cpu).collect() };
    let seconds = |s: f64| format!("{s:.2} s");
    let mut ratios: Vec<f64> = (ours.iter().zip(&theirs))
        .map(|(a, b)| a.time / b.time)
        .collect();
    let ratio = median_f64(&mut ratios);
    Ok(Section {
        title: "BGP into the kernel",
        how: "100,000 IPv4 prefixes in UPDATEs that were made before, sent to the daemon, which has a store of its own and one \
              `BGPPeer`, and to BIRD 2; five rounds in turn, each in new namespaces. From the first byte to the last route in the kernel; \
              medians and extremes, the ratio that of each round. CPU time is that of the whole process until then.",
        rows: vec![
            Row::shown(
                "100,000 routes, routerd",
                spread(&mut times(&ours), seconds),
            ),
            Row::shown("100,000 routes, BIRD", spread(&mut times(&theirs), seconds)),
            Row::goal(
                "time against BIRD",
                spread(&mut ratios, |r| format!("{r:.2} ×")),
                "≤ 0.7 ×",
                ratio <= GOAL,
            ),
            Row::shown("CPU time, routerd", spread(&mut cpu(&ours), seconds)),
            Row::shown("CPU time, BIRD", spread(&mut cpu(&theirs), seconds)),
        ],
    })
}

fn turn(who: Who) -> Result<Turn> {
    let lab = Lab::new()?;
    let (own, feeder) = (lab.netns("dut")?, lab.netns("feeder")?);
    lab.veth((&own, "eth0"), (&feeder, "eth0"), 1500)?;
    own.ip("addr add 10.99.0.1/24 dev eth0")?;
    feeder.ip("addr add 10.99.0.2/24 dev eth0")?;
    match who {
        Who::Bird => {
            let config = "protocol kernel { ipv4 { import none; export all; }; }\n\
                 protocol bgp feed { local 10.99.0.1 as 64512; neighbor 10.99.0.2 as 65001; passive on;\n\
                 ipv4 { import all; export none; }; }\n";
            let bird = bird(&lab, &own, "dut", "10.99.0.1", config)?;
            fed(&own, &feeder, &bird)
        }
        Who::Routerd => {
            let ips = vec!["10.99.0.1".parse()?];
            let mut node = Node::new(&lab, "n1", &own, ips, None)?;
            node.start_ready()?;
            node.apply(
                "apiVersion: routerd/v1\nkind: BGPPeer\nmetadata: { name: feed }\n\
                 spec: { peerIP: 10.99.0.2, asNumber: 65001 }\n",
            )?;
            fed(&own, &feeder, node.daemon().context("no daemon")?)
        }
    }
}

fn bird(lab: &Lab, ns: &Netns, name: &str, id: &str, config: &str) -> Result<Process> {
    let dir = lab.subdir(name)?;
    let head = format!("log stderr all;\nrouter id {id};\nprotocol device {{ }}\n");
    std::fs::write(dir.join("bird.conf"), format!("{head}{config}"))?;
    let mut command = ns.command("bird");
    command.arg("-f").current_dir(&dir);
    command.args(["-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid"]);
    Process::start(name, command, &dir.join("bird.log"))
}

/// Feeds a speaker and waits until all of it is in the kernel.
fn fed(own: &Netns, feeder: &Netns, speaker: &Process) -> Result<Turn> {
    let mut session = wait("a session", LIMIT, || session::open(feeder, FEEDER, AS))?;
    let updates = updates(PREFIXES);
    let (before, cpu) = (prefixes(own)?, speaker.cpu_time()?);
    let start = Instant::now();
    session.write_all(&updates)?;
    while prefixes(own)? < before + u64::from(PREFIXES) {
        ensure!(start.elapsed() < LIMIT, "{} of {PREFIXES}", prefixes(own)?);
        std::thread::sleep(LOOK);
    }
    Ok(Turn {
        time: start.elapsed().as_secs_f64(),
        cpu: (speaker.cpu_time()? - cpu).as_secs_f64(),
    })
}

/// Prefixes in the larger of the kernel's tables.
fn prefixes(ns: &Netns) -> Result<u64> {
    let text = ns.run(|| {
        Ok(std::fs::read_to_string(
            "/proc/thread-self/net/fib_triestat",
        )?)
    })?;
    let counts = text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("Prefixes:"));
    let most = counts.filter_map(|n| n.trim().parse().ok()).max();
    most.context("no tables in fib_triestat")
}

/// So many prefixes from 20.0.0.0 on.
fn updates(prefixes: u32) -> Vec<u8> {
    // ORIGIN, AS_PATH, NEXT_HOP.
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(AS.to_be_bytes());
    attributes.extend([0x40, 3, 4]);
    attributes.extend(FEEDER.octets());
    let len = u16::try_from(attributes.len()).unwrap_or(u16::MAX);
    let mut all = Vec::new();
    for start in (0..prefixes).step_by(usize::try_from(EACH).unwrap_or(1)) {
        let mut body = vec![0, 0];
        body.extend(len.to_be_bytes());
        body.extend(&attributes);
        for n in start..(start + EACH).min(prefixes) {
            let [_, a, b, c] = n.to_be_bytes();
            body.extend([24, 20 + a, b, c]);
        }
        all.extend(update(&body));
    }
    all
}
