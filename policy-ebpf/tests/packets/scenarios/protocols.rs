//! What a connection is to each protocol.

use crate::frame::{ACK, FIN, Path, RST, SYN};
use crate::world::{Judge, OWN4, OWN6, PEER4, PEER6, close, into, out};
use policy_common::reason::Reason;

use super::{FAMILIES, https};

pub fn tcp_has_states(j: &mut impl Judge) {
    for (own, peer) in FAMILIES {
        let path = https(own, peer);
        for flags in [ACK, SYN | ACK, RST, FIN | ACK, RST | ACK] {
            j.drops(Reason::OutOfState, &out(&path.tcp(flags)));
        }
        for flags in [0, FIN, SYN | FIN, SYN | RST, SYN | FIN | ACK, 0x3f, 0x29] {
            j.drops(Reason::TcpFlags, &out(&path.tcp(flags)));
        }
        j.passes(&out(&path.tcp(SYN)));
        j.drops(Reason::TcpFlags, &into(&path.back().tcp(SYN | FIN)));
        j.passes(&into(&path.back().tcp(SYN | ACK)));
        j.passes(&out(&path.tcp(ACK)));
    }
    // Silent for hours is fine, for a week is not.
    j.pass(86_400);
    j.passes(&out(&https(OWN4, PEER4).tcp(ACK)));
    j.pass(7 * 86_400);
    j.drops(Reason::OutOfState, &out(&https(OWN4, PEER4).tcp(ACK)));
    // Nobody answered.
    let path = Path::new(OWN4, 40_005, PEER4, 443);
    j.passes(&out(&path.tcp(SYN)));
    j.pass(61);
    j.drops(Reason::OutOfState, &into(&path.back().tcp(SYN | ACK)));
    // Whoever calls back on the same ports is asked.
    j.passes(&out(&path.tcp(SYN)));
    j.drops(Reason::Policy, &into(&path.back().tcp(SYN)));
    // The first SYN once more.
    j.passes(&out(&path.tcp(SYN)));
}

pub fn a_closed_connection_is_judged_anew(j: &mut impl Judge) {
    let path = https(OWN4, PEER4);
    j.passes(&out(&path.tcp(SYN)));
    j.passes(&into(&path.back().tcp(SYN | ACK)));
    j.passes(&out(&path.tcp(FIN | ACK)));
    j.passes(&into(&path.back().tcp(FIN | ACK)));
    j.passes(&out(&path.tcp(ACK)));
    let (_, connection) = j.connection();
    assert!(connection.is_closed());
    j.passes(&out(&path.tcp(SYN)));
    let (_, connection) = j.connection();
    assert!(!connection.is_closed());
    j.passes(&out(&path.tcp(RST | ACK)));
    j.pass(11);
    j.drops(Reason::OutOfState, &out(&path.tcp(ACK)));
}

pub fn udp_grows_old(j: &mut impl Judge) {
    let path = Path::new(OWN4, 4000, PEER4, 5000);
    j.drops(Reason::Policy, &into(&path.back().udp()));
    j.passes(&out(&path.udp()));
    j.passes(&into(&path.back().udp()));
    j.pass(170);
    j.passes(&into(&path.back().udp()));
    j.pass(181);
    j.drops(Reason::Policy, &into(&path.back().udp()));
    j.passes(&out(&path.udp()));
    j.pass(31);
    j.drops(Reason::Policy, &into(&path.back().udp()));
}

pub fn ping_has_two_directions(j: &mut impl Judge) {
    for (own, peer) in FAMILIES {
        let path = Path::new(own, 0, peer, 0);
        j.drops(Reason::OutOfState, &into(&path.back().echo(false, 7)));
        j.passes(&out(&path.echo(true, 7)));
        j.passes(&into(&path.back().echo(false, 7)));
        j.drops(Reason::OutOfState, &into(&path.back().echo(false, 8)));
        // An answer of the workload that nobody asked for.
        j.drops(Reason::OutOfState, &out(&path.echo(false, 7)));
        j.passes(&into(&path.back().echo(true, 7)));
        j.passes(&out(&path.echo(false, 7)));
    }
    assert_eq!(j.connections(), 4);
    j.drops(
        Reason::Policy,
        &into(&Path::new("10.0.0.10", 0, OWN4, 0).echo(true, 7)),
    );
}

pub fn errors_belong_to_connections(j: &mut impl Judge) {
    for (own, peer, router) in [(OWN4, PEER4, "10.9.9.9"), (OWN6, PEER6, "fd00:9::9")] {
        let path = https(own, peer);
        let from_router = Path::new(router, 0, own, 0);
        j.drops(
            Reason::UnrelatedError,
            &into(&from_router.unreachable(&path.tcp(SYN))),
        );
        j.passes(&out(&path.tcp(SYN)));
        j.passes(&into(&from_router.unreachable(&path.tcp(SYN))));
        // About what the workload did not send, to somebody else than who did, of nothing at all.
        j.drops(
            Reason::UnrelatedError,
            &into(&from_router.unreachable(&path.back().tcp(SYN))),
        );
        j.drops(
            Reason::UnrelatedError,
            &into(&Path::new(router, 0, peer, 0).unreachable(&path.tcp(SYN))),
        );
        j.drops(Reason::UnrelatedError, &into(&from_router.unreachable(&[])));
        // The workload about what it got.
        let asked = Path::new(peer, 4000, own, 53);
        j.passes(&into(&asked.udp()));
        j.passes(&out(&asked.back().unreachable(&asked.udp())));
        j.drops(
            Reason::UnrelatedError,
            &out(&asked.back().unreachable(&asked.back().udp())),
        );
        // About a question.
        let ping = Path::new(own, 0, peer, 0);
        j.passes(&out(&ping.echo(true, 3)));
        j.passes(&into(&from_router.unreachable(&ping.echo(true, 3))));
    }
    j.change(close);
    let path = https(OWN4, PEER4);
    j.drops(
        Reason::Policy,
        &into(&Path::new("10.9.9.9", 0, OWN4, 0).unreachable(&path.tcp(SYN))),
    );
}

pub fn sctp_begins_with_init(j: &mut impl Judge) {
    const INIT: u8 = 1;
    const DATA: u8 = 0;
    const ABORT: u8 = 6;
    let path = Path::new(PEER4, 5, OWN4, 99);
    j.drops(Reason::OutOfState, &into(&path.sctp(DATA)));
    j.passes(&into(&path.sctp(INIT)));
    j.passes(&out(&path.back().sctp(2)));
    j.passes(&into(&path.sctp(DATA)));
    j.passes(&into(&path.sctp(ABORT)));
    j.pass(11);
    j.drops(Reason::OutOfState, &out(&path.back().sctp(DATA)));
}

pub fn grace_lets_old_connections_live(j: &mut impl Judge) {
    let path = https(OWN4, PEER4);
    j.change(|m| m.settings.grace_until = u64::MAX);
    // The server speaks first, and is not taken for who began.
    j.passes(&into(&path.back().tcp(ACK)));
    assert!(j.connection().1.is_outbound());
    j.passes(&out(&path.tcp(ACK)));
    j.drops(
        Reason::Policy,
        &out(&Path::new(OWN4, 40_000, PEER4, 22).tcp(ACK)),
    );
    j.drops(
        Reason::OutOfState,
        &out(&Path::new(OWN4, 40_001, PEER4, 443).tcp(RST | ACK)),
    );
}
