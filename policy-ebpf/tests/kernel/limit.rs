//! The table of connections at its limit.

use policy_ebpf::kernel::{Programs, Sizes, Test};

use crate::frame::{ACK, Path, SYN};
use crate::tables::write;
use crate::world::{OWN4, PEER4, Sent, into, out, world};

const ROOM: u32 = 1024;

fn passes(programs: &Programs, sent: &Sent) -> bool {
    let test = Test {
        hook: sent.hook,
        frame: &sent.bytes,
        ifindex: sent.ifindex,
        came_from: sent.came_from,
        for_host: sent.for_host,
        ahead: 0,
        repeat: 1,
    };
    programs.run(&test).expect("a run").0
}

/// A flood of new connections neither ends one that is in use, nor is refused itself.
#[test]
fn a_flood_ends_no_connection_in_use() {
    let sizes = Sizes {
        endpoints: 64,
        prefixes: 64,
        rows: 64,
        connections: ROOM,
    };
    let programs = Programs::load_for_tests(&sizes).expect("programs that the kernel takes");
    write(&programs, &world());
    let living = Path::new(OWN4, 50_000, PEER4, 443);
    assert!(passes(&programs, &out(&living.tcp(SYN))));
    assert!(passes(&programs, &into(&living.back().tcp(SYN | ACK))));
    for number in 0..20 * ROOM {
        let port = u16::try_from(1 + number % 40_000).expect("a port");
        let other = Path::new(OWN4, port, PEER4, 7);
        assert!(passes(&programs, &out(&other.udp())), "flow {number}");
        if number % 50 == 0 {
            assert!(passes(&programs, &out(&living.tcp(ACK))), "after {number}");
        }
    }
    let entries = programs.maps.connections.entries().expect("connections");
    assert!(entries.len() <= ROOM as usize, "{}", entries.len());
}
