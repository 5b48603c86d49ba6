//! Our userspace tunnel beside wireguard-go, boringtun-cli and gotatun-cli, in turn in one run.

pub mod peers;
mod rig;

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Row, Section, median_f64, spread};
use crate::lab::Lab;
use rig::{Program, Rig, Wire};

const ROUNDS: usize = 4;
/// One of them says little: where the threads of both ends run, and so how they wake, lasts for a while.
const ROUND_TRIP_ROUNDS: usize = 16;
const SECONDS: Duration = Duration::from_secs(2);

/// Handshakes a second from addresses that are nobody's.
const SPOOFED: u32 = 20_000;

const OURS: usize = 0;
const GO: usize = 1;
const BORINGTUN: usize = 2;
const GOTATUN: usize = 3;
const PROGRAMS: [Program; 4] = [
    Program::Ours,
    Program::Other("wireguard-go --foreground"),
    Program::Other("boringtun-cli --foreground --disable-drop-privileges"),
    Program::Other("gotatun --foreground --disable-drop-privileges"),
];
const NAMES: [&str; 4] = ["routerd", "wireguard-go", "boringtun-cli", "gotatun-cli"];

/// One number of every program, a round each.
#[derive(Default)]
struct Series([Vec<f64>; PROGRAMS.len()]);

impl Series {
    fn push(&mut self, program: usize, number: f64) {
        self.0[program].push(number);
    }

    /// «ours (extremes)» and the medians of the others.
    fn shown(&mut self, what: &str, show: impl Fn(f64) -> String + Copy) -> Vec<Row> {
        let rows = NAMES.iter().zip(&mut self.0);
        rows.filter(|(_, numbers)| !numbers.is_empty())
            .map(|(name, numbers)| Row::shown(format!("{what}, {name}"), spread(numbers, show)))
            .collect()
    }

    /// Our median over another one's.
    fn ratio(&self, other: usize) -> f64 {
        let median = |n: usize| median_f64(&mut self.0[n].clone());
        median(OURS) / median(other).max(1e-12)
    }

    fn at_least(&self, what: &str, other: usize, times: f64) -> Row {
        let ratio = self.ratio(other);
        let what = format!("{what} against {}", NAMES[other]);
        Row::goal(
            what,
            format!("{ratio:.2} ×"),
            &format!("≥ {times} ×"),
            ratio >= times,
        )
    }

    /// The median of the rounds' ratios.
    fn at_most(&self, what: &str, other: usize) -> Row {
        let rounds = self.0[OURS].iter().zip(&self.0[other]);
        let mut ratios: Vec<f64> = rounds
            .map(|(ours, theirs)| ours / theirs.max(1e-12))
            .collect();
        let ratio = median_f64(&mut ratios);
        let what = format!("{what} against {}", NAMES[other]);
        let shown = spread(&mut ratios, |ratio| format!("{ratio:.2} ×"));
        Row::goal(what, shown, "≤ 1 ×", ratio <= 1.0)
    }
}

/// Measures all programs in turn.
///
/// # Errors
/// When one does not work.
pub fn run() -> Result<Section> {
    let lab = Lab::new()?;
    let rigs: Vec<Rig> = PROGRAMS
        .into_iter()
        .zip(NAMES)
        .map(|(program, name)| Rig::start(&lab, program, name).with_context(|| name.to_owned()))
        .collect::<Result<_>>()?;

    let [mut one, mut four, mut cpu_one, mut cpu_four] = [const { Series(EMPTY) }; 4];
    let [mut packets, mut p50, mut p99] = [const { Series(EMPTY) }; 3];
    let [mut without_uso, mut without_both] = [const { Series(EMPTY) }; 2];
    for _ in 0..ROUNDS {
        for (nth, rig) in rigs.iter().enumerate() {
            eprintln!("  {}", NAMES[nth]);
            let (rate, cpu) = rig.tcp(1, SECONDS)?;
            one.push(nth, rate);
            cpu_one.push(nth, cpu);
            let (rate, cpu) = rig.tcp(4, SECONDS)?;
            four.push(nth, rate);
            cpu_four.push(nth, cpu);
            packets.push(nth, rig.packets()?);
        }
        for nth in [OURS, BORINGTUN] {
            let rig = rigs.get(nth).context("no such rig")?;
            rig.wire(Wire::NoSegmentation)?;
            without_uso.push(nth, rig.tcp(1, SECONDS)?.0);
            rig.wire(Wire::Plain)?;
            without_both.push(nth, rig.tcp(1, SECONDS)?.0);
            rig.wire(Wire::Offloads)?;
        }
    }

    for _ in 0..ROUND_TRIP_ROUNDS {
        for (nth, rig) in rigs.iter().enumerate() {
            let (median, slow) = rig.round_trips()?;
            p50.push(nth, median);
            p99.push(nth, slow);
        }
    }

    let gbits = |b: f64| format!("{:.2} Gbit/s", b / 1e9);
    let nanos = |n: f64| format!("{n:.2} ns");
    let micros = |s: f64| format!("{:.0} µs", s * 1e6);
    let kilo = |n: f64| format!("{:.0} k/s", n / 1e3);
    let mut rows = Vec::new();
    rows.extend(one.shown("TCP, 1 stream", gbits));
    rows.extend(four.shown("TCP, 4 streams", gbits));
    rows.extend(cpu_one.shown("CPU per byte, both ends, 1 stream", nanos));
    rows.extend(cpu_four.shown("CPU per byte, both ends, 4 streams", nanos));
    rows.extend(packets.shown("UDP packets of 128 bytes", kilo));
    rows.extend(p50.shown("round trip, p50", micros));
    rows.extend(p99.shown("round trip, p99", micros));
    rows.extend(without_uso.shown("TCP, no UDP segmentation on the wire", gbits));
    rows.extend(without_both.shown("TCP, neither segmentation nor GRO", gbits));
    rows.push(one.at_least("TCP, 1 stream,", GO, 8.0));
    rows.push(four.at_least("TCP, 4 streams,", GO, 8.0));
    rows.push(one.at_least("TCP, 1 stream,", GOTATUN, 5.0));
    rows.push(four.at_least("TCP, 4 streams,", GOTATUN, 5.0));
    for (what, series) in [("1 stream", &cpu_one), ("4 streams", &cpu_four)] {
        let cost = median_f64(&mut series.0[OURS].clone());
        let what = format!("CPU per byte, both ends, {what}");
        rows.push(Row::goal(what, nanos(cost), "≤ 2.5 ns", cost <= 2.5));
    }
    rows.push(packets.at_least("UDP packets", BORINGTUN, 2.0));
    rows.push(p50.at_most("round trip p50", BORINGTUN));
    rows.push(p99.at_most("round trip p99", BORINGTUN));
    rows.push(without_uso.at_least("TCP without UDP segmentation", BORINGTUN, 4.0));
    rows.push(without_both.at_least("TCP with neither", BORINGTUN, 1.5));
    rows.extend(under_flood(rigs.get(OURS).context("no such rig")?)?);
    Ok(Section {
        title: "WireGuard in userspace",
        how: "Medians and extremes of four rounds in turn, of round trips sixteen; ratios of medians, of round trips the \
              median and extremes of each round's. Two namespaces and a veth pair for each \
              program, MTU 1,500 and 1,420 inside, both ends and both ends of the load on this machine. TCP by iperf3 \
              with CUBIC for 2 s; CPU time of both tunnel processes; one UDP sender as fast as it goes for 1 s, what \
              arrives counts; 3,000 UDP round trips. Handshakes from nobody: well-formed initiations of unknown keys from spoofed \
              addresses, made on this machine.",
        rows,
    })
}

/// What handshakes from nobody leave of the throughput of a session that stands.
fn under_flood(ours: &Rig) -> Result<[Row; 2]> {
    let (mut calm, mut flooded, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        calm.push(ours.tcp(1, SECONDS)?.0);
        let flood = ours.flood(SPOOFED)?;
        flooded.push(ours.tcp(1, SECONDS)?.0);
        rates.push(flood.stop());
    }
    let left = median_f64(&mut flooded) / median_f64(&mut calm).max(1e-12);
    let rate = median_f64(&mut rates) / 1e3;
    let gbits = |b: f64| format!("{:.2} Gbit/s", b / 1e9);
    let what = format!("TCP under {rate:.0} k/s handshakes from nobody");
    Ok([
        Row::shown(&what, spread(&mut flooded, gbits)),
        Row::goal(
            format!("{what}, against calm"),
            format!("{left:.2} ×"),
            "≥ 0.8 ×",
            left >= 0.8,
        ),
    ])
}

const EMPTY: [Vec<f64>; PROGRAMS.len()] = [const { Vec::new() }; PROGRAMS.len()];
