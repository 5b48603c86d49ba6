//! What has to become of packets, whoever judges.

use crate::frame::{ACK, Path, SYN, TCP, UDP};
use crate::world::{
    ALSO_LOGGED, ANY_UDP, HTTPS, Judge, LOGGED, LOGS, NO_INGRESS, NOT_LOGGED, OWN4, OWN6, PASSED,
    PEER4, PEER6, STAGED_DENY, STRANGER, WEB, close, counted, into, know, open, out,
};
use policy_common::endpoint::setting;
use policy_common::event::kind;
use policy_common::reason::Reason;

pub use headers::*;
pub use host::*;
pub use protocols::*;
pub use spoofed::*;
pub use straight::*;

// Others take this file by its path, and then find the modules no other way.
#[path = "scenarios/headers.rs"]
mod headers;
#[path = "scenarios/host.rs"]
mod host;
#[path = "scenarios/protocols.rs"]
mod protocols;
#[path = "scenarios/spoofed.rs"]
mod spoofed;
#[path = "scenarios/straight.rs"]
mod straight;

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
            what_both_ends_know_goes_straight, a_straight_way_ends_with_a_deny, a_straight_way_ends_with_a_deny_of_the_sender,
            some_frames_are_routed_all_the_same, what_is_changed_between_the_ends_is_routed,
            an_end_that_was_lost_for_a_moment_is_found_again,
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
    let counters = counted(j.memory());
    let counted = |rule, staged| {
        let counter = counters.get(&(rule, staged));
        counter.map(|c| (c.packets, c.connections))
    };
    assert_eq!(counted(WEB, 0), Some((1, 1)));
    assert_eq!(counted(NO_INGRESS, 0), Some((1 + 2, 1)));
    assert_eq!(counted(ANY_UDP, 0), Some((1, 1)));
    assert_eq!(counted(HTTPS, 0), None);
    for logged in [LOGGED, ALSO_LOGGED] {
        assert_eq!(counted(logged, 0), Some((1, 1)));
    }
    assert_eq!(counted(NOT_LOGGED, 0), None);
    assert_eq!(counted(PASSED, 0), Some((1, 1)));
    assert_eq!(counted(STAGED_DENY, 1), Some((4, 1)));
    assert_eq!(j.memory().admitted.get(), 2);
    // The connection that goes on says by what it came: so will its packets count.
    let connections = j.memory().connections.borrow();
    let udp = connections.iter().find(|(key, _)| key.protocol == UDP);
    let decided = udp.map(|(_, connection)| connection.decided());
    let key = decided.and_then(|d| d.counters()[0]);
    let trails = j.memory().trails.borrow();
    let trail = key.and_then(|key| trails.get(&key));
    let steps = trail.map(|t| (t.length, t.steps[0].rule));
    assert_eq!(steps, Some((1, PASSED)));
    let bytes = counters.values().map(|c| c.bytes).sum::<u64>();
    assert!(bytes > 0);
    let told = j.memory().events.borrow();
    assert!(
        told.iter().any(|e| e.kind == kind::LOG && e.rule == LOGS),
        "{told:?}"
    );
}
