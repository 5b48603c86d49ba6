//! What has to become of packets, whoever judges.

use policy_common::endpoint::{FailsafeKey, setting};
use policy_common::event::{CounterKey, kind};
use policy_common::reason::Reason;

use crate::frame::{ACK, FIN, MAC, Path, RST, SYN, TCP, UDP, arp, ethernet, extensions, frame, ip};
use crate::world::{
    ANY_UDP, HOST, HTTPS, Judge, LOGGED, NO_INGRESS, OWN4, OWN6, PEER4, PEER6, STAGED_DENY,
    STRANGER, Sent, WEB, close, into, know, open, out,
};

/// Makes a test of each for a judge.
#[macro_export]
macro_rules! for_judge {
    ($judge:ty: $($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { $crate::scenarios::$name(&mut <$judge as $crate::world::Judge>::new()); })+
    };
}

/// Every scenario that follows.
#[macro_export]
macro_rules! all_scenarios {
    ($judge:ty) => {
        $crate::for_judge!($judge:
            a_connection_begins_by_the_rules, answers_need_no_rule, what_no_rule_names_is_dropped,
            unknown_interfaces_are_closed, a_new_deny_cuts, a_new_deny_may_let_live, a_cut_one_comes_back,
            a_new_world_is_asked_again, sources_are_checked, arp_is_for_itself, neighbours_are_themselves,
            fragments_follow_the_first, fragments_grow_old, extension_headers_are_walked, tcp_has_states, udp_grows_old,
            ping_has_two_directions, errors_belong_to_connections, sctp_begins_with_init, the_host_reaches_its_workload,
            the_host_is_reached_by_setting, failsafe_ports_stay_open, what_is_forwarded_is_no_business_of_the_host,
            grace_lets_old_connections_live, odd_frames_are_refused, rules_count, a_closed_connection_is_judged_anew,
        );
    };
}

const FAMILIES: [(&str, &str); 2] = [(OWN4, PEER4), (OWN6, PEER6)];

fn web(own: &str, peer: &str) -> Path {
    Path::new(peer, 40_000, own, 80)
}

fn https(own: &str, peer: &str) -> Path {
    Path::new(own, 40_000, peer, 443)
}

pub fn a_connection_begins_by_the_rules(j: &mut impl Judge) {
    j.passes(&into(&web(OWN4, PEER4).tcp(SYN)));
    let (key, connection) = j.connection();
    assert_eq!(
        (key.local_port, key.remote_port, key.protocol),
        (80, 40_000, TCP)
    );
    assert!(!connection.is_outbound());
    assert_eq!(connection.decided().rule, WEB);
    assert_eq!(connection.decided().staged, STAGED_DENY);
    for (own, peer) in FAMILIES {
        j.passes(&out(&https(own, peer).tcp(SYN)));
        j.passes(&into(&web(own, peer).tcp(SYN)));
    }
}

pub fn answers_need_no_rule(j: &mut impl Judge) {
    for (own, peer) in FAMILIES {
        let path = web(own, peer);
        j.passes(&into(&path.tcp(SYN)));
        j.passes(&out(&path.back().tcp(SYN | ACK)));
        j.passes(&into(&path.tcp(ACK)));
        j.passes(&out(&path.back().tcp(ACK)));
    }
    assert_eq!(j.connections(), 2);
}

pub fn what_no_rule_names_is_dropped(j: &mut impl Judge) {
    for (own, peer) in FAMILIES {
        j.drops(
            Reason::Policy,
            &into(&Path::new(peer, 40_000, own, 81).tcp(SYN)),
        );
        j.drops(
            Reason::Policy,
            &out(&Path::new(own, 40_000, peer, 80).tcp(SYN)),
        );
        j.drops(
            Reason::Policy,
            &out(&Path::new(own, 4, peer, 0).packet(47, &[0; 8])),
        );
    }
    j.drops(Reason::Policy, &into(&web(OWN4, "10.0.0.10").tcp(SYN)));
    j.drops(Reason::Policy, &into(&web(OWN6, "fd00::10").tcp(SYN)));
    assert_eq!(j.connections(), 0);
}

pub fn unknown_interfaces_are_closed(j: &mut impl Judge) {
    let path = web(OWN4, PEER4);
    j.drops(Reason::UnknownEndpoint, &into(&path.tcp(SYN)).on(STRANGER));
    j.drops(
        Reason::UnknownEndpoint,
        &out(&path.back().tcp(SYN)).on(STRANGER),
    );
    j.change(|m| {
        m.tables.chains.clear();
    });
    j.drops(Reason::NotProgrammed, &into(&path.tcp(SYN)));
    j.drops(Reason::NotProgrammed, &out(&https(OWN4, PEER4).tcp(SYN)));
}

pub fn a_new_deny_cuts(j: &mut impl Judge) {
    let path = web(OWN4, PEER4);
    j.passes(&into(&path.tcp(SYN)));
    j.passes(&out(&path.back().tcp(SYN | ACK)));
    j.change(close);
    // An answer is judged as what began it.
    j.drops(Reason::Policy, &out(&path.back().tcp(ACK)));
    j.drops(Reason::Policy, &into(&path.tcp(ACK)));
    j.drops(Reason::Policy, &into(&path.tcp(SYN)));
    let (_, connection) = j.connection();
    assert!(connection.is_cut());
    assert_eq!(connection.decided().rule, NO_INGRESS);
    let told = j.memory().events.borrow();
    let kinds: Vec<u8> = told.iter().map(|e| e.kind).collect();
    assert_eq!(
        kinds,
        [kind::LOG, kind::CUT, kind::DROP, kind::DROP, kind::DROP]
    );
    assert!(
        told.iter().skip(1).all(|e| e.rule == NO_INGRESS),
        "{told:?}"
    );
}

pub fn a_new_deny_may_let_live(j: &mut impl Judge) {
    let path = web(OWN4, PEER4);
    j.passes(&into(&path.tcp(SYN)));
    j.change(|m| {
        m.settings.flags |= setting::KEEP_CONNECTIONS;
        close(m);
    });
    j.passes(&out(&path.back().tcp(SYN | ACK)));
    j.passes(&into(&path.tcp(ACK)));
    j.drops(
        Reason::Policy,
        &into(&Path::new(PEER4, 40_001, OWN4, 80).tcp(SYN)),
    );
}

pub fn a_cut_one_comes_back(j: &mut impl Judge) {
    let path = web(OWN4, PEER4);
    j.passes(&into(&path.tcp(SYN)));
    j.change(close);
    j.drops(Reason::Policy, &into(&path.tcp(ACK)));
    j.change(open);
    j.passes(&into(&path.tcp(ACK)));
    j.passes(&out(&path.back().tcp(ACK)));
}

pub fn a_new_world_is_asked_again(j: &mut impl Judge) {
    let path = web(OWN4, PEER4);
    j.passes(&into(&path.tcp(SYN)));
    j.change(|m| know(m, PEER4, None));
    // Nobody said that the world is another.
    j.passes(&into(&path.tcp(ACK)));
    j.change(|m| m.settings.world += 1);
    j.drops(Reason::Policy, &into(&path.tcp(ACK)));
}

pub fn sources_are_checked(j: &mut impl Judge) {
    for (own, peer) in FAMILIES {
        let path = https(own, peer);
        let mut forged = out(&path.tcp(SYN));
        forged.bytes = ethernet([2, 0, 0, 0, 0, 8], &path.tcp(SYN));
        j.drops(Reason::SpoofedMac, &forged);
        j.drops(Reason::SpoofedAddress, &out(&https(peer, own).tcp(SYN)));
        j.drops(Reason::SpoofedAddress, &out(&https(peer, own).udp()));
    }
    j.change(|m| m.own.push((crate::world::WORKLOAD, ip("192.168.4.0"), 22)));
    j.passes(&out(&https("192.168.7.255", PEER4).tcp(SYN)));
    j.drops(
        Reason::SpoofedAddress,
        &out(&https("192.168.8.0", PEER4).tcp(SYN)),
    );
    // The host is asked by addresses of the link, but not as if by itself.
    j.passes(&out(&https("fe80::7", PEER6).tcp(SYN)));
    j.drops(
        Reason::SpoofedAddress,
        &out(&https("fe80::1", PEER6).tcp(SYN)),
    );
    // An address that is taken away ends what it began.
    j.change(|m| {
        m.own.pop();
        m.settings.world += 1;
    });
    j.drops(
        Reason::Policy,
        &out(&https("192.168.7.255", PEER4).tcp(ACK)),
    );
}

pub fn arp_is_for_itself(j: &mut impl Judge) {
    let sent = |bytes| Sent { bytes, ..out(&[]) };
    let (own, other, gateway) = ([10, 0, 0, 7], [10, 0, 0, 8], [169, 254, 1, 1]);
    j.passes(&sent(arp(1, MAC, own, gateway)));
    j.passes(&sent(arp(2, MAC, own, gateway)));
    j.passes(&sent(arp(1, MAC, [0; 4], own)));
    j.drops(Reason::SpoofedNeighbour, &sent(arp(1, MAC, other, gateway)));
    j.drops(Reason::SpoofedNeighbour, &sent(arp(2, MAC, gateway, own)));
    j.drops(Reason::SpoofedNeighbour, &sent(arp(2, MAC, [0; 4], own)));
    j.drops(
        Reason::SpoofedNeighbour,
        &sent(arp(1, MAC, [0; 4], gateway)),
    );
    j.drops(
        Reason::SpoofedNeighbour,
        &sent(arp(2, [2; 6], own, gateway)),
    );
    j.drops(Reason::SpoofedNeighbour, &sent(arp(3, MAC, own, gateway)));
    let mut short = sent(arp(1, MAC, own, gateway));
    short.bytes.truncate(30);
    j.drops(Reason::Malformed, &short);
    j.passes(&sent(arp(1, [0xee; 6], gateway, own)).turned());
}

pub fn neighbours_are_themselves(j: &mut impl Judge) {
    let target = |text: &str| match ip(text) {
        std::net::IpAddr::V6(v6) => v6.octets(),
        std::net::IpAddr::V4(_) => [0; 16],
    };
    let message = |from: &str, kind: u8, hops: u8, about: &str, mac: [u8; 6]| {
        let mut m = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        m.extend(target(about));
        m.extend([if kind == 136 { 2 } else { 1 }, 1]);
        m.extend(mac);
        out(&Path::new(from, 0, "ff02::1", 0).v6(58, hops, &m))
    };
    let local = "fe80::42";
    for from in [OWN6, local] {
        j.passes(&message(from, 135, 255, "fe80::1", MAC));
    }
    j.passes(&message(OWN6, 136, 255, OWN6, MAC));
    j.passes(&message(local, 136, 255, local, MAC));
    j.passes(&message("::", 135, 255, OWN6, MAC));
    for forged in [
        message(PEER6, 135, 255, "fe80::1", MAC),
        message(OWN6, 136, 255, PEER6, MAC),
        message(OWN6, 136, 255, "fe80::1", MAC),
        message("fe80::1", 136, 255, OWN6, MAC),
        message("fe80::1", 135, 255, OWN6, MAC),
        message("::", 135, 255, PEER6, MAC),
        message(OWN6, 136, 255, OWN6, [2; 6]),
        message(OWN6, 136, 64, OWN6, MAC),
        message(OWN6, 134, 255, OWN6, MAC),
        message(local, 137, 255, OWN6, MAC),
    ] {
        j.drops(Reason::SpoofedNeighbour, &forged);
    }
    let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
    j.passes(&out(&Path::new(local, 0, "ff02::2", 0).v6(
        58,
        255,
        &solicitation,
    )));
    // Reports of groups come with a router alert before them; questions are a router's.
    let (next, report) = extensions(&[0], 58, &[143, 0, 0, 0, 0, 0, 0, 0]);
    j.passes(&out(
        &Path::new(local, 0, "ff02::16", 0).v6(next, 1, &report)
    ));
    let (next, query) = extensions(&[0], 58, &[130, 0, 0, 0, 0, 0, 0, 0]);
    j.drops(
        Reason::SpoofedNeighbour,
        &out(&Path::new(local, 0, "ff02::1", 0).v6(next, 1, &query)),
    );
    // To the workload: from the link, or else by its policy.
    j.passes(&message("fe80::1", 135, 255, OWN6, MAC).turned());
    let mut routed = message("2001:db8::1", 136, 64, OWN6, MAC).turned();
    routed.came_from = HOST;
    j.drops(Reason::Policy, &routed);
}

pub fn fragments_follow_the_first(j: &mut impl Judge) {
    for (own, peer) in FAMILIES {
        let path = Path::new(own, 4000, peer, 5000);
        let header = path.udp_header();
        let piece = |id, offset, more| out(&path.piece(UDP, &header, id, offset, more));
        j.drops(Reason::Fragment, &piece(5, 2, false));
        j.passes(&piece(5, 0, true));
        j.passes(&piece(5, 2, true));
        j.passes(&piece(5, 4, false));
        j.drops(Reason::Fragment, &piece(6, 2, false));
        // Of the same number, and the other way.
        j.drops(
            Reason::Fragment,
            &into(&path.back().piece(UDP, &header, 5, 2, false)),
        );
        // Over the flags of TCP.
        let flags = https(own, peer).tcp_header(SYN);
        j.passes(&out(&https(own, peer).piece(TCP, &flags, 8, 0, true)));
        j.drops(
            Reason::Fragment,
            &out(&https(own, peer).piece(TCP, &flags, 8, 1, false)),
        );
        j.passes(&out(&https(own, peer).piece(TCP, &flags, 8, 3, false)));
    }
    j.change(close);
    let path = Path::new(OWN4, 4000, PEER4, 5000);
    j.drops(
        Reason::Policy,
        &out(&path.piece(UDP, &path.udp_header(), 5, 4, false)),
    );
}

pub fn fragments_grow_old(j: &mut impl Judge) {
    let path = Path::new(OWN4, 4000, PEER4, 5000);
    let header = path.udp_header();
    j.passes(&out(&path.piece(UDP, &header, 5, 0, true)));
    j.pass(61);
    j.drops(
        Reason::Fragment,
        &out(&path.piece(UDP, &header, 5, 4, false)),
    );
}

pub fn extension_headers_are_walked(j: &mut impl Judge) {
    let path = https(OWN6, PEER6);
    let send = |kinds: &[u8]| {
        let (next, payload) = extensions(kinds, TCP, &path.tcp_header(SYN));
        out(&path.v6(next, 64, &payload))
    };
    j.passes(&send(&[0, 60, 43, 60]));
    j.passes(&send(&[60; 6]));
    j.drops(Reason::ExtensionHeaders, &send(&[60; 7]));
    let (next, mut payload) = extensions(&[43], TCP, &path.tcp_header(SYN));
    if let Some(left) = payload.get_mut(3) {
        *left = 1;
    }
    j.drops(Reason::RoutingHeader, &out(&path.v6(next, 64, &payload)));
    // Cut off in the middle, and reaching beyond the end.
    j.drops(Reason::Malformed, &out(&path.v6(60, 64, &[TCP, 0, 0])));
    j.drops(
        Reason::Malformed,
        &out(&path.v6(60, 64, &[TCP, 200, 0, 0, 0, 0, 0, 0])),
    );
    // Two headers of fragments.
    let twice = [
        44, 0, 0, 1, 0, 0, 0, 9, UDP, 0, 0, 1, 0, 0, 0, 9, 0, 1, 0, 2, 0, 8, 0, 0,
    ];
    j.drops(Reason::Malformed, &out(&path.v6(44, 64, &twice)));
    // A whole one with a header of fragments (RFC 6946).
    let mut atomic = vec![TCP, 0, 0, 0, 0, 0, 0, 9];
    atomic.extend(path.tcp_header(SYN));
    j.passes(&out(&path.v6(44, 64, &atomic)));
    assert_eq!(j.connections(), 1);
    // Nothing behind the header: a protocol that no rule names.
    j.drops(Reason::Policy, &out(&path.v6(59, 64, &[])));
}

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

pub fn the_host_reaches_its_workload(j: &mut impl Judge) {
    j.change(close);
    for (own, host) in [(OWN4, "10.1.1.1"), (OWN6, "fd00:1::1")] {
        let path = Path::new(host, 40_000, own, 8080);
        j.passes(&into(&path.tcp(SYN)).of_host());
        j.passes(&out(&path.back().tcp(SYN | ACK)).for_the_host());
        j.passes(&into(&Path::new(host, 0, own, 0).echo(true, 1)).of_host());
        j.passes(&out(&Path::new(own, 0, host, 0).echo(false, 1)).for_the_host());
        // Under way already, and nothing of IP's business.
        j.passes(&into(&Path::new(host, 1, own, 2).tcp(ACK)).of_host());
        j.drops(
            Reason::Policy,
            &into(&Path::new(host, 3, own, 8080).tcp(SYN)),
        );
    }
    j.change(close);
    j.passes(&out(&Path::new(OWN4, 8080, "10.1.1.1", 40_000).tcp(ACK)).for_the_host());
}

pub fn the_host_is_reached_by_setting(j: &mut impl Judge) {
    let path = https(OWN4, "10.1.1.1");
    j.drops(Reason::EndpointToHost, &out(&path.tcp(SYN)).for_the_host());
    j.change(|m| m.settings.flags |= setting::ENDPOINT_TO_HOST);
    j.passes(&out(&path.tcp(SYN)).for_the_host());
    j.passes(&into(&path.back().tcp(SYN | ACK)).of_host());
    j.drops(
        Reason::Policy,
        &out(&Path::new(OWN4, 1, "10.1.1.1", 22).tcp(SYN)).for_the_host(),
    );
    j.change(|m| {
        m.settings.flags = 0;
        m.settings.world += 1;
    });
    j.drops(Reason::Policy, &out(&path.tcp(ACK)).for_the_host());
}

pub fn failsafe_ports_stay_open(j: &mut impl Judge) {
    let host = "10.1.1.1";
    let arrives = |packet: &[u8]| into(packet).turned().on(HOST).for_the_host();
    let leaves = |packet: &[u8]| out(packet).turned().on(HOST).of_host();
    let ssh = Path::new("10.2.2.2", 40_000, host, 22);
    j.drops(Reason::Policy, &arrives(&ssh.tcp(SYN)));
    j.change(|m| {
        let key = |outbound, protocol, port| FailsafeKey {
            outbound,
            protocol,
            port,
        };
        m.failsafe = vec![key(0, TCP, 22), key(1, TCP, 2379)];
    });
    j.passes(&arrives(&ssh.tcp(SYN)));
    j.passes(&leaves(&ssh.back().tcp(SYN | ACK)));
    // One that is older than all policy, and speaks first.
    let old = Path::new("10.2.2.3", 40_000, host, 22);
    j.passes(&leaves(&old.back().tcp(ACK)));
    j.passes(&arrives(&old.tcp(ACK)));
    let store = Path::new(host, 40_000, "10.2.2.4", 2379);
    j.passes(&leaves(&store.tcp(SYN)));
    j.passes(&arrives(&store.back().tcp(SYN | ACK)));
    // Not the other way round.
    j.drops(
        Reason::Policy,
        &leaves(&Path::new(host, 40_000, "10.2.2.4", 22).tcp(SYN)),
    );
    j.drops(
        Reason::Policy,
        &arrives(&Path::new("10.2.2.4", 22, host, 2379).tcp(SYN)),
    );
    // A closed port is cut, an open one is not, whatever policy says.
    j.change(|m| {
        m.failsafe.remove(0);
        m.settings.world += 1;
    });
    j.drops(Reason::Policy, &arrives(&ssh.tcp(ACK)));
    j.passes(&leaves(&store.tcp(ACK)));
}

pub fn what_is_forwarded_is_no_business_of_the_host(j: &mut impl Judge) {
    let path = Path::new("10.2.2.2", 40_000, OWN4, 22);
    let mut arrives = into(&path.tcp(ACK)).turned().on(HOST);
    j.passes(&arrives);
    arrives.for_host = true;
    j.drops(Reason::OutOfState, &arrives);
    let mut leaves = out(&path.back().tcp(ACK)).turned().on(HOST);
    j.passes(&leaves);
    leaves.came_from = 0;
    j.drops(Reason::OutOfState, &leaves);
    assert_eq!(j.connections(), 0);
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

pub fn odd_frames_are_refused(j: &mut impl Judge) {
    let packet = https(OWN4, PEER4).tcp(SYN);
    let sent = |ether_type, payload: &[u8]| Sent {
        bytes: frame(MAC, ether_type, payload),
        ..out(&[])
    };
    j.drops(Reason::Vlan, &sent([0x81, 0], &packet));
    j.drops(Reason::Vlan, &sent([0x88, 0xa8], &packet));
    j.drops(Reason::EtherType, &sent([0x88, 0x47], &packet));
    // Not what the frame says that it is, too short a header, cut off.
    j.drops(Reason::Malformed, &sent([0x86, 0xdd], &packet));
    let mut options = packet.clone();
    options[0] = 0x44;
    j.drops(Reason::Malformed, &out(&options));
    for length in [19, 20, 30, 39] {
        j.drops(Reason::Malformed, &out(&packet[..length]));
    }
    // Options are fine.
    let mut options = packet.clone();
    options[0] = 0x46;
    options.splice(20..20, [7, 4, 4, 0]);
    j.passes(&out(&options));
}

pub fn rules_count(j: &mut impl Judge) {
    let path = web(OWN4, PEER4);
    j.passes(&into(&path.tcp(SYN)));
    j.passes(&out(&path.back().tcp(SYN | ACK)));
    j.drops(
        Reason::Policy,
        &into(&Path::new(PEER4, 1, OWN4, 81).tcp(SYN)),
    );
    j.passes(&out(&Path::new(OWN4, 4000, PEER4, 5000).udp()));
    // The first rule has nothing more to do with it.
    j.change(close);
    for _ in 0..2 {
        j.drops(Reason::Policy, &into(&path.tcp(ACK)));
    }
    let counters = j.memory().counters.borrow();
    let counted = |rule, staged| {
        let counter = counters.get(&CounterKey { rule, staged });
        counter.map(|c| (c.packets, c.connections))
    };
    assert_eq!(counted(WEB, 0), Some((1, 1)));
    assert_eq!(counted(NO_INGRESS, 0), Some((1 + 2, 1)));
    assert_eq!(counted(ANY_UDP, 0), Some((1, 1)));
    assert_eq!(counted(HTTPS, 0), None);
    assert_eq!(counted(LOGGED, 0), Some((1, 1)));
    assert_eq!(counted(STAGED_DENY, 1), Some((4, 1)));
    assert_eq!(j.memory().admitted.get(), 2);
    let bytes = counters.values().map(|c| c.bytes).sum::<u64>();
    assert!(bytes > 0);
    let told = j.memory().events.borrow();
    assert!(
        told.iter().any(|e| e.kind == kind::LOG && e.rule == LOGGED),
        "{told:?}"
    );
}
