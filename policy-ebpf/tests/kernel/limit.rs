//! The table of connections at its limit.

use policy_common::connection::Key;
use policy_ebpf::kernel::{Answer, Programs, Sizes};

use crate::frame::{ACK, Path, SYN};
use crate::tables::{test, write};
use crate::world::{OWN4, PEER4, Sent, into, out, world};

const ROOM: u32 = 1024;
/// Connections that are in use during a flood, and how many new ones come between two packets of theirs.
const LIVING: u16 = 16;
const BETWEEN: u32 = 50;

fn passes(programs: &Programs, sent: &Sent) -> bool {
    programs.run(&test(sent, 0, 1)).expect("a run").answer != Answer::Dropped
}

fn small() -> Programs {
    let sizes = Sizes {
        endpoints: 64,
        prefixes: 64,
        rows: 64,
        connections: ROOM,
    };
    let programs = Programs::load_for_tests(&sizes).expect("programs that the kernel takes");
    write(&programs, &world());
    programs
}

/// Begins connections of the workload, which the peer answers.
fn living(programs: &Programs) -> Vec<Path> {
    let paths = (0..LIVING).map(|n| Path::new(OWN4, 50_000 + n, PEER4, 443));
    let paths: Vec<Path> = paths.collect();
    for path in &paths {
        assert!(passes(programs, &out(&path.tcp(SYN))));
        assert!(passes(programs, &into(&path.back().tcp(SYN | ACK))));
    }
    paths
}

fn go_on(programs: &Programs, paths: &[Path], when: u32) {
    for path in paths {
        assert!(
            passes(programs, &out(&path.tcp(ACK))),
            "after {when}: {path:?}"
        );
        assert!(
            passes(programs, &into(&path.back().tcp(ACK))),
            "after {when}: {path:?}"
        );
    }
}

fn keys(programs: &Programs) -> Vec<Key> {
    programs.maps.connections.keys().expect("connections")
}

/// A flood of new connections neither ends those that are in use, nor is refused itself.
#[test]
fn a_flood_ends_no_connection_in_use() {
    let programs = small();
    let living = living(&programs);
    for number in 0..20 * ROOM {
        let port = u16::try_from(1 + number % 40_000).expect("a port");
        let other = Path::new(OWN4, port, PEER4, 7);
        assert!(passes(&programs, &out(&other.udp())), "flow {number}");
        if number % BETWEEN == 0 {
            go_on(&programs, &living, number);
        }
    }
    assert!(keys(&programs).len() <= ROOM as usize);
}

/// What policy denies is not remembered: however much of it comes, it takes no room from others.
#[test]
fn a_flood_of_what_is_denied_takes_no_room() {
    let programs = small();
    let living = living(&programs);
    let mut before = keys(&programs);
    before.sort();
    for number in 0..20 * ROOM {
        let port = u16::try_from(1 + number % 40_000).expect("a port");
        let (denied_in, denied_out) = (
            Path::new(PEER4, port, OWN4, 81),
            Path::new(OWN4, port, PEER4, 81),
        );
        assert!(!passes(&programs, &into(&denied_in.tcp(SYN))), "{number}");
        assert!(!passes(&programs, &out(&denied_out.tcp(SYN))), "{number}");
    }
    let mut after = keys(&programs);
    after.sort();
    assert_eq!(before, after);
    // Not a packet of theirs came meanwhile.
    go_on(&programs, &living, 20 * ROOM);
}

/// When it is full, what is forgotten is closed: no answer passes that belongs to nothing, and nothing that policy denies.
#[test]
fn a_full_table_opens_nothing() {
    let programs = small();
    let path = |port| Path::new(OWN4, port, PEER4, 443);
    let ports = 10_000..10_000 + 4 * u16::try_from(ROOM).expect("few");
    for port in ports.clone() {
        assert!(passes(&programs, &out(&path(port).tcp(SYN))), "{port}");
    }
    let known: Vec<u16> = keys(&programs).iter().map(|key| key.local_port).collect();
    assert!(
        !known.is_empty() && known.len() <= ROOM as usize,
        "{}",
        known.len()
    );
    for port in ports {
        let answer = into(&path(port).back().tcp(SYN | ACK));
        assert_eq!(passes(&programs, &answer), known.contains(&port), "{port}");
        let denied = Path::new(PEER4, port, OWN4, 81);
        assert!(!passes(&programs, &into(&denied.tcp(SYN))), "{port}");
    }
    // Whoever was forgotten may begin anew.
    assert!(passes(&programs, &out(&path(10_000).tcp(SYN))));
    assert!(passes(
        &programs,
        &into(&path(10_000).back().tcp(SYN | ACK))
    ));
}
