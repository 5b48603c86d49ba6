//! From one workload of the host to another, past routing.

use crate::frame::{ACK, FIN, Path, SYN};
use crate::world::{
    CLOSED, HOST, Judge, OTHER, OWN4, PEER4, WORKLOAD, close, into, into_other, open, out,
    out_of_other,
};
use policy_common::endpoint::setting;
use policy_common::reason::Reason;

use super::{FAMILIES, https};

/// Begins a connection of the workload to the other one, up to where the first one has heard of it.
fn shake_hands(j: &mut impl Judge, path: Path) {
    j.passes(&out(&path.tcp(SYN)));
    j.passes(&into_other(&path.tcp(SYN)));
    j.goes_straight(&out_of_other(&path.back().tcp(SYN | ACK)), WORKLOAD);
}

/// The largest packet that the other one takes from here on.
fn takes(j: &mut impl Judge, mtu: u16) {
    j.change(|m| {
        if let Some(endpoint) = m.endpoints.get_mut(&OTHER) {
            endpoint.mtu = mtu;
        }
    });
}

/// What the other one lets in from here on, by chain.
fn let_in(j: &mut impl Judge, ingress: u32) {
    j.change(|m| {
        if let Some(endpoint) = m.endpoints.get_mut(&OTHER) {
            endpoint.generation += 1;
            endpoint.ingress = ingress;
        }
    });
}

pub fn what_both_ends_know_goes_straight(j: &mut impl Judge) {
    for (own, peer) in FAMILIES {
        let path = https(own, peer);
        shake_hands(j, path);
        for flags in [ACK, ACK, ACK | FIN] {
            j.goes_straight(&out(&path.tcp(flags)), OTHER);
            j.goes_straight(&out_of_other(&path.back().tcp(flags)), WORKLOAD);
        }
        let path = Path::new(own, 53, peer, 99);
        j.passes(&out(&path.udp()));
        // Nobody knows yet that it can.
        j.passes(&out(&path.udp()));
        j.passes(&into_other(&path.udp()));
        j.goes_straight(&out_of_other(&path.back().udp()), WORKLOAD);
        j.goes_straight(&out(&path.udp()), OTHER);
    }
    // Each end has written down all that came and went.
    let connections = j.memory().connections.borrow();
    let of = |ifindex| {
        connections
            .iter()
            .filter(move |(key, _)| key.ifindex == ifindex)
    };
    let sent = |ifindex| {
        of(ifindex)
            .map(|(_, c)| c.sides[0].packets.get())
            .sum::<u64>()
    };
    let got = |ifindex| {
        of(ifindex)
            .map(|(_, c)| c.sides[1].packets.get())
            .sum::<u64>()
    };
    assert_eq!((sent(WORKLOAD), got(WORKLOAD)), (2 * (4 + 3), 2 * (4 + 1)));
    // One datagram never got there.
    assert_eq!((sent(OTHER), got(OTHER)), (2 * (4 + 2), 2 * (4 + 1)));
}

pub fn a_straight_way_ends_with_a_deny(j: &mut impl Judge) {
    let path = https(OWN4, PEER4);
    shake_hands(j, path);
    j.goes_straight(&out(&path.tcp(ACK)), OTHER);
    let ingress = j.memory().endpoints[&OTHER].ingress;
    let_in(j, CLOSED);
    j.drops(Reason::Policy, &out(&path.tcp(ACK)));
    j.drops(Reason::Policy, &out_of_other(&path.back().tcp(ACK)));
    let_in(j, ingress);
    j.goes_straight(&out(&path.tcp(ACK)), OTHER);
    j.goes_straight(&out_of_other(&path.back().tcp(ACK)), WORKLOAD);
}

pub fn a_straight_way_ends_with_a_deny_of_the_sender(j: &mut impl Judge) {
    let path = https(OWN4, PEER4);
    shake_hands(j, path);
    j.change(close);
    j.drops(Reason::Policy, &out(&path.tcp(ACK)));
    // What the other one sends is judged where it would come to.
    j.drops(Reason::Policy, &out_of_other(&path.back().tcp(ACK)));
    j.change(open);
    j.goes_straight(&out_of_other(&path.back().tcp(ACK)), WORKLOAD);
    j.goes_straight(&out(&path.tcp(ACK)), OTHER);
}

pub fn some_frames_are_routed_all_the_same(j: &mut impl Judge) {
    let path = https(OWN4, PEER4);
    shake_hands(j, path);
    let ack = out(&path.tcp(ACK));
    j.goes_straight(&ack, OTHER);
    // The last hop: the sender is told.
    let mut last = ack.clone();
    last.bytes[22] = 1;
    j.passes(&last);
    j.change(|m| m.settings.flags &= !setting::STRAIGHT);
    j.passes(&ack);
    j.change(|m| m.settings.flags |= setting::STRAIGHT);
    j.goes_straight(&ack, OTHER);
    // For somebody else of the link.
    let mut others = ack.clone();
    others.bytes[0] = 0xff;
    j.passes(&others);
    // Larger than what the other one takes.
    takes(j, 39);
    j.passes(&ack);
    takes(j, 40);
    j.goes_straight(&ack, OTHER);
    // What is no pair neither gets nor sends so.
    takes(j, 0);
    j.passes(&ack);
    j.passes(&out_of_other(&path.back().tcp(ACK)));
    takes(j, 1500);
    // It leaves, and somebody may come with its address.
    j.change(|m| m.endpoints.retain(|ifindex, _| *ifindex != OTHER));
    j.passes(&ack);
}

pub fn an_end_that_was_lost_for_a_moment_is_found_again(j: &mut impl Judge) {
    let path = https(OWN4, PEER4);
    shake_hands(j, path);
    let (there, back) = (out(&path.tcp(ACK)), out_of_other(&path.back().tcp(ACK)));
    j.goes_straight(&there, OTHER);
    let other = j.memory().endpoints[&OTHER];
    j.change(|m| m.endpoints.retain(|ifindex, _| *ifindex != OTHER));
    j.passes(&there);
    j.change(|m| {
        m.endpoints.insert(OTHER, other);
    });
    j.passes(&there);
    j.goes_straight(&back, WORKLOAD);
    j.goes_straight(&there, OTHER);
}

pub fn what_is_changed_between_the_ends_is_routed(j: &mut impl Judge) {
    // To the address of a service, which is that of the other one behind it.
    let (asked, given) = (https(OWN4, "10.9.9.9"), https(OWN4, PEER4));
    j.passes(&out(&asked.tcp(SYN)));
    j.passes(&into_other(&given.tcp(SYN)));
    j.passes(&out_of_other(&given.back().tcp(SYN | ACK)));
    j.passes(&into(&asked.back().tcp(SYN | ACK)).from(OTHER));
    for _ in 0..2 {
        j.passes(&out(&asked.tcp(ACK)));
        j.passes(&into_other(&given.tcp(ACK)));
        j.passes(&out_of_other(&given.back().tcp(ACK)));
    }
    // And from elsewhere.
    let path = https(OWN4, "10.1.1.1");
    j.passes(&out(&path.tcp(SYN)));
    j.passes(&into(&path.back().tcp(SYN | ACK)).from(HOST));
    j.passes(&out(&path.tcp(ACK)));
}
