//! Programs on a kernel where none can go on with another: what would have to be asked at the other end is routed.

use policy_ebpf::kernel::{Answer, Programs, Sizes};

use crate::frame::{ACK, Path, SYN};
use crate::tables::{test, write};
use crate::world::{OTHER, OWN4, PEER4, Sent, into, into_other, out, out_of_other, world};

const SIZES: Sizes = Sizes {
    endpoints: 64,
    prefixes: 64,
    rows: 64,
    connections: 64,
};

#[test]
fn what_cannot_be_asked_is_routed() {
    let programs = Programs::load_for_tests_apart(&SIZES).expect("programs that the kernel takes");
    write(&programs, &world());
    let answer = |sent: &Sent| programs.run(&test(sent, 0, 1)).expect("a run").answer;
    let path = Path::new(OWN4, 40_000, PEER4, 443);
    let back = path.back().tcp(SYN | ACK);
    assert_eq!(answer(&out(&path.tcp(SYN))), Answer::Routed);
    assert_eq!(answer(&into_other(&path.tcp(SYN))), Answer::Routed);
    assert_eq!(answer(&out_of_other(&back)), Answer::Routed);
    assert_eq!(answer(&into(&back).from(OTHER)), Answer::Routed);
    // Nothing is to be asked about it.
    assert_eq!(answer(&out(&path.tcp(ACK))), Answer::Straight);
}
