//! Nanoseconds of the programs for a packet (`BPF_PROG_TEST_RUN`), and how long a look at connections takes. Needs root.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
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
use policy_common::connection::{Connection, Key};
use policy_common::word::Word;
use policy_ebpf::flows::{Limits, Recorder};
use policy_ebpf::kernel::{Programs, Sizes};
use std::time::Instant;
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
    look(&programs);
}

/// How long a look at a table of many connections takes: to read it, to make records, and to go on with them.
fn look(programs: &Programs) {
    const MANY: u16 = 50_000;
    let now = 1_000_000_000_000;
    let connection = |packets: u64| {
        let connection = Connection {
            began: Word::new(now),
            last: Word::new(now),
            ..Connection::default()
        };
        connection.sides[0].packets.set(packets);
        connection
    };
    let keys = (0..2 * u32::from(MANY)).map(|n| Key {
        ifindex: n / u32::from(MANY) + 1,
        local_port: (n % u32::from(MANY)) as u16,
        protocol: 17,
        ..Key::default()
    });
    let keys: Vec<Key> = keys.collect();
    let values: Vec<Connection> = keys.iter().map(|_| connection(1)).collect();
    let table = &programs.maps.connections;
    table.put_all(&keys, &values).expect("room");
    let interfaces = [(1, 0), (2, 0)].into();
    let mut recorder = Recorder::new(Limits::default());
    for what in ["new", "known"] {
        let began = Instant::now();
        let entries = table.entries().expect("connections");
        let (read, count) = (began.elapsed(), entries.len());
        recorder.look(now, &interfaces, entries);
        println!(
            "{count} {what} connections: read in {read:?}, recorded in {:?}",
            began.elapsed() - read
        );
    }
}

fn run(programs: &Programs, sent: &Sent, repeat: u32) -> u32 {
    let test = tables::test(sent, 0, repeat);
    programs.run(&test).expect("a run").nanoseconds
}
