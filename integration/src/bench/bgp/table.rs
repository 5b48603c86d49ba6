//! A full table through a speaker, beside BIRD; FRR and GoBGP are shown.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bgp::NextHop;
use bgp::wire::render;

use super::session::{self, Heard};
use super::subject::{Neighbour, Program, Subject};
use super::tables::{self, PREFIXES};
use crate::bench::{Row, Section, median_f64, spread};
use crate::lab::{Lab, Netns, wait};

const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks at what a subject holds.
const LOOK: Duration = Duration::from_millis(10);
/// Peers of the case with many.
const PEERS: u8 = 100;
const LISTENER: Neighbour = Neighbour {
    address: Ipv4Addr::new(10, 99, 0, 250),
    asn: 65200,
    hears: true,
};

/// The nth peer that announces.
fn feeder(n: u8) -> Neighbour {
    Neighbour {
        address: Ipv4Addr::new(10, 99, 0, 10 + n),
        asn: tables::AS,
        hears: false,
    }
}

/// What one step took.
#[derive(Clone, Copy, Default)]
struct Cost {
    seconds: f64,
    cpu: f64,
    /// Bytes.
    peak: f64,
}

/// The steps of one round with one program.
#[derive(Clone, Copy)]
enum Step {
    /// One peer announces everything.
    In,
    /// It does, and another hears it.
    InOut,
    /// After that it withdraws everything, and the other hears that.
    Withdraw,
    /// A hundred peers announce a part each.
    Many,
    /// After that all of their sessions end.
    Gone,
}

const STEPS: [(Step, &str); 5] = [
    (Step::In, "1 M in"),
    (Step::InOut, "1 M in and out"),
    (Step::Withdraw, "1 M withdrawn, in and out"),
    (Step::Many, "100 peers with 10,000 each"),
    (Step::Gone, "the end of those 100 sessions"),
];

/// What goes over the wire, made before.
struct Feed {
    announce: Vec<u8>,
    withdraw: Vec<u8>,
    shares: Vec<Vec<u8>>,
}

impl Feed {
    fn new() -> Result<Feed> {
        let hop = NextHop::V4(feeder(0).address);
        let mut feed = Feed {
            announce: Vec::new(),
            withdraw: Vec::new(),
            shares: vec![Vec::new(); usize::from(PEERS)],
        };
        for (part, share) in tables::table().iter().zip((0..usize::from(PEERS)).cycle()) {
            let keys = part.prefixes.iter().map(|key| (0, *key));
            render::withdraw(&Default::default(), keys, |m| {
                feed.withdraw.extend_from_slice(&m);
            });
            let both = |m: bytes::Bytes| {
                feed.announce.extend_from_slice(&m);
                if let Some(share) = feed.shares.get_mut(share) {
                    share.extend_from_slice(&m);
                }
            };
            tables::announce(part, &hop, both).map_err(anyhow::Error::msg)?;
        }
        Ok(feed)
    }
}

/// Measures.
///
/// # Errors
/// When a speaker does not come to have the table.
pub fn run() -> Result<Section> {
    let feed = Feed::new()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(round(Program::Routerd, &feed)?);
        theirs.push(round(Program::Bird, &feed)?);
    }
    let mut rows = Vec::new();
    for (at, (step, what)) in STEPS.into_iter().enumerate() {
        let of = |rounds: &[[Cost; STEPS.len()]]| -> Vec<Cost> {
            rounds.iter().filter_map(|r| r.get(at).copied()).collect()
        };
        rows_of(step, what, &of(&ours), &of(&theirs), &mut rows);
    }
    for program in [Program::Frr, Program::Gobgp] {
        let [cost, _] = pair(program, &feed)?;
        let seen = format!(
            "{:.1} s, {:.1} s of CPU, {:.0} MB",
            cost.seconds,
            cost.cpu,
            cost.peak / 1e6
        );
        rows.push(Row::shown(
            format!("1 M in and out, {}", program.name()),
            seen,
        ));
    }
    Ok(Section {
        title: "BGP, a full table",
        how: "1,000,000 IPv4 prefixes in 142,377 UPDATEs that were made before, with attributes about as varied as the Internet's. \
              Speakers that write nothing into the kernel: routerd's in a process of its own, BIRD 2; three rounds in turn, medians and extremes, \
              ratios of each round. Time is until all is held, or until the last prefix has arrived at the peer that hears it; CPU time until there is nothing \
              left to do; memory is the most that the process ever had. FRR and GoBGP once.",
        rows,
    })
}

fn rows_of(step: Step, what: &str, ours: &[Cost], theirs: &[Cost], rows: &mut Vec<Row>) {
    let seconds = |s: f64| format!("{s:.2} s");
    let mb = |b: f64| format!("{:.0} MB", b / 1e6);
    let times = |n: f64| format!("{n:.2} ×");
    let list = |costs: &[Cost], of: fn(&Cost) -> f64| costs.iter().map(of).collect::<Vec<f64>>();
    let mut compare =
        |name: &str, of: fn(&Cost) -> f64, show: &dyn Fn(f64) -> String, goal: Option<f64>| {
            for (who, costs) in [(Program::Routerd, ours), (Program::Bird, theirs)] {
                let shown = spread(&mut list(costs, of), show);
                rows.push(Row::shown(format!("{what}, {name}, {}", who.name()), shown));
            }
            let Some(goal) = goal else { return };
            let ratios = ours.iter().zip(theirs).map(|(a, b)| of(a) / of(b));
            let mut ratios: Vec<f64> = ratios.collect();
            let met = median_f64(&mut ratios) <= goal;
            rows.push(Row::goal(
                format!("{what}, {name} against BIRD"),
                spread(&mut ratios, times),
                &format!("≤ {goal} ×"),
                met,
            ));
        };
    let (time, cpu, peak) = match step {
        Step::In => (None, Some(0.8), Some(1.0)),
        Step::InOut => (Some(0.8), None, None),
        Step::Withdraw | Step::Many | Step::Gone => (Some(1.0), None, None),
    };
    compare("time", |c| c.seconds, &seconds, time);
    compare("CPU", |c| c.cpu, &seconds, cpu);
    if peak.is_some() {
        compare("memory", |c| c.peak, &mb, peak);
    }
}

/// All steps with one program.
fn round(program: Program, feed: &Feed) -> Result<[Cost; STEPS.len()]> {
    let alone = alone(program, feed)?;
    let [in_out, withdraw] = pair(program, feed)?;
    let [many, gone] = many(program, feed)?;
    Ok([alone, in_out, withdraw, many, gone])
}

/// Two namespaces and a subject.
struct Bench {
    subject: Subject,
    feeders: Netns,
    _lab: Lab,
}

impl Bench {
    fn new(program: Program, neighbours: &[Neighbour]) -> Result<Bench> {
        let lab = Lab::new()?;
        let (own, feeders) = (lab.netns("dut")?, lab.netns("feeders")?);
        lab.veth((&own, "eth0"), (&feeders, "eth0"), 1500)?;
        own.ip(&format!("addr add {}/24 dev eth0", session::SUBJECT))?;
        for n in neighbours {
            feeders.ip(&format!("addr add {}/24 dev eth0", n.address))?;
        }
        Ok(Bench {
            subject: Subject::start(&lab, &own, program, neighbours)?,
            feeders,
            _lab: lab,
        })
    }

    fn open(&self, n: Neighbour) -> Result<TcpStream> {
        wait("a session", LIMIT, || {
            session::open(&self.feeders, n.address, n.asn)
        })
    }

    /// Does something and waits for what comes of it.
    fn step(
        &self,
        start: impl FnOnce() -> Result<()>,
        end: impl FnOnce() -> Result<()>,
    ) -> Result<Cost> {
        let (before, _) = self.subject.spent()?;
        let begun = Instant::now();
        start()?;
        end()?;
        let seconds = begun.elapsed().as_secs_f64();
        let (cpu, peak) = self.subject.spent()?;
        Ok(Cost {
            seconds,
            cpu: (cpu - before).as_secs_f64(),
            #[allow(
                clippy::cast_precision_loss,
                reason = "bytes of memory, to be shown in MB"
            )]
            peak: peak as f64,
        })
    }

    fn holds(&self, paths: usize) -> Result<()> {
        let begun = Instant::now();
        while self.subject.held()? != paths {
            ensure!(
                begun.elapsed() < LIMIT,
                "{} of {paths} paths",
                self.subject.held()?
            );
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Says something on a thread of its own, which ends when it is said or the session ended.
fn say(mut session: TcpStream, what: &[u8]) {
    let what = what.to_vec();
    thread::spawn(move || session.write_all(&what));
}

fn heard(from: &Receiver<Heard>, enough: impl Fn(Heard) -> bool) -> Result<()> {
    let mut so_far = Heard::default();
    while !enough(so_far) {
        so_far = from
            .recv_timeout(LIMIT)
            .with_context(|| format!("nothing more is heard after {so_far:?}"))?;
    }
    Ok(())
}

fn alone(program: Program, feed: &Feed) -> Result<Cost> {
    let bench = Bench::new(program, &[feeder(0)])?;
    let session = bench.open(feeder(0))?;
    let writer = session.try_clone()?;
    bench.step(
        || {
            say(writer, &feed.announce);
            Ok(())
        },
        || bench.holds(PREFIXES),
    )
}

fn pair(program: Program, feed: &Feed) -> Result<[Cost; 2]> {
    let bench = Bench::new(program, &[feeder(0), LISTENER])?;
    let listener = session::listen(bench.open(LISTENER)?)?;
    let session = bench.open(feeder(0))?;
    let (first, second) = (session.try_clone()?, session.try_clone()?);
    let start = || {
        say(first, &feed.announce);
        Ok(())
    };
    let all = || heard(&listener, |h| h.announced >= PREFIXES);
    let announced = bench.step(start, all)?;
    let start = || {
        say(second, &feed.withdraw);
        Ok(())
    };
    let all = || heard(&listener, |h| h.withdrawn >= PREFIXES);
    Ok([announced, bench.step(start, all)?])
}

fn many(program: Program, feed: &Feed) -> Result<[Cost; 2]> {
    let neighbours: Vec<Neighbour> = (0..PEERS).map(feeder).collect();
    let bench = Bench::new(program, &neighbours)?;
    let sessions = neighbours.iter().map(|n| bench.open(*n));
    let sessions = sessions.collect::<Result<Vec<TcpStream>>>()?;
    let start = || {
        for (session, share) in sessions.iter().zip(&feed.shares) {
            say(session.try_clone()?, share);
        }
        Ok(())
    };
    let announced = bench.step(start, || bench.holds(PREFIXES))?;
    let end = || {
        for session in &sessions {
            session.shutdown(std::net::Shutdown::Both)?;
        }
        Ok(())
    };
    Ok([announced, bench.step(end, || bench.holds(0))?])
}
