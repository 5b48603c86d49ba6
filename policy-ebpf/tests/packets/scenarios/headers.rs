//! Fragments, extension headers, and frames that nobody should send.

use crate::frame::{MAC, Path, SYN, TCP, UDP, extensions, frame};
use crate::world::{Judge, OWN4, OWN6, PEER4, PEER6, Sent, close, into, out};
use policy_common::reason::Reason;

use super::{FAMILIES, https};

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
