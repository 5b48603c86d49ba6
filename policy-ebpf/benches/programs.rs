//! Nanoseconds of the programs for a packet (`BPF_PROG_TEST_RUN`). Needs root.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code
)]

#[path = "../tests/packets/frame.rs"]
mod frame;
#[path = "../tests/kernel/tables.rs"]
mod tables;
#[path = "../tests/packets/world.rs"]
mod world;

use frame::{ACK, Path, SYN};
use policy_ebpf::kernel::{Programs, Sizes};
use world::{OWN4, OWN6, PEER4, PEER6, Sent, into, out};

const REPEAT: u32 = 1_000_000;

fn main() {
    let programs = Programs::load_for_tests(&Sizes::default()).expect("programs");
    tables::write(&programs, &world::world());
    for (version, own, peer) in [("IPv4", OWN4, PEER4), ("IPv6", OWN6, PEER6)] {
        let path = Path::new(peer, 40_000, own, 80);
        run(&programs, &into(&path.tcp(SYN)), 1);
        let known = run(&programs, &into(&path.tcp(ACK)), REPEAT);
        let answer = run(&programs, &out(&path.back().tcp(ACK)), REPEAT);
        let denied = Path::new(peer, 40_000, own, 81);
        let denied = run(&programs, &into(&denied.tcp(SYN)), REPEAT);
        println!(
            "{version}: {known} ns of a connection, {answer} ns of its answers, {denied} ns judged and dropped"
        );
    }
}

fn run(programs: &Programs, sent: &Sent, repeat: u32) -> u32 {
    let test = tables::test(sent, 0, repeat);
    programs.run(&test).expect("a run").1
}
