//! Who pretends to be another.

use crate::frame::{ACK, MAC, Path, SYN, arp, ethernet, extensions, ip};
use crate::world::{HOST, Judge, OWN6, PEER4, PEER6, Sent, out};
use policy_common::reason::Reason;

use super::{FAMILIES, https};

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
