//! Units and packets of the tunnel in userspace: no unit panics when it is cut, and packets that were joined
//! are the same when the unit is cut again, in order and none missing.
#![no_main]
#![allow(dead_code)] // of modules that are more than what is called here

use libfuzzer_sys::fuzz_target;

// Private to their crate, and pure: taken as they are.
#[path = "../../wireguard/src/userspace/checksum.rs"]
mod checksum;
#[path = "../../wireguard/src/userspace/coalesce.rs"]
mod coalesce;
#[path = "../../wireguard/src/userspace/offload.rs"]
mod offload;
#[path = "../../wireguard/src/userspace/segment.rs"]
mod segment;

use checksum::{Sum, pseudo_header};
use coalesce::{Allowed, Coalescer, MAX_PACKETS, Unit};
use offload::{Gso, OFFLOAD_LEN, Offload};
use segment::Segments;

/// What a unit becomes; `None` when its header does not fit it.
fn cut(offload: Offload, unit: &mut [u8]) -> Option<Vec<Vec<u8>>> {
    let mut segments = Segments::new(offload, unit)?;
    let mut packets = Vec::new();
    while let Some(len) = segments.next_len() {
        let mut packet = vec![0; len];
        assert!(segments.write_next(&mut packet));
        packets.push(packet);
    }
    Some(packets)
}

/// Where the transport header starts, its protocol, and the addresses.
fn transport(packet: &[u8]) -> Option<(usize, u8, &[u8])> {
    match packet.first()? >> 4 {
        4 => Some((20, *packet.get(9)?, packet.get(12..20)?)),
        _ => Some((40, *packet.get(6)?, packet.get(8..40)?)),
    }
}

/// Where the checksum of the transport header is, for TCP and UDP.
fn checksum_at(packet: &[u8]) -> Option<usize> {
    let (start, protocol, _) = transport(packet)?;
    let at = start + if protocol == 6 { 16 } else { 6 };
    (matches!(protocol, 6 | 17) && packet.len() >= at + 2).then_some(at)
}

/// Gives a packet the lengths and checksums that nobody guesses.
fn complete(packet: &mut [u8]) -> Option<()> {
    let (start, protocol, _) = transport(packet)?;
    let (len, l4_len) = (packet.len(), packet.len().checked_sub(start)?);
    let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&short(len));
        packet[10..12].fill(0);
        let mut sum = Sum::default();
        sum.add(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.checksum());
    } else {
        packet[4..6].copy_from_slice(&short(len - 40));
    }
    let at = checksum_at(packet)?;
    if protocol == 17 {
        packet[start + 4..start + 6].copy_from_slice(&short(l4_len));
    }
    packet[at..at + 2].fill(0);
    let mut sum = pseudo_header(transport(packet)?.2, protocol);
    sum.add_number(u16::from_be_bytes(short(l4_len)));
    sum.add(&packet[start..]);
    packet[at..at + 2].copy_from_slice(&sum.checksum());
    Some(())
}

/// The first packet of a flow: of either family, TCP or UDP.
fn begin(is_v4: bool, is_tcp: bool, payload: &[u8]) -> Vec<u8> {
    let protocol = if is_tcp { 6 } else { 17 };
    let mut packet = if is_v4 {
        let mut ip = vec![0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, protocol, 0, 0];
        ip.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        ip
    } else {
        let mut ip = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        ip.extend([0xfd; 32]);
        ip
    };
    packet.extend([0x1f, 0x90, 0, 80]);
    match is_tcp {
        true => packet.extend([0, 0, 0, 9, 0, 0, 0, 5, 0x50, 0x10, 1, 0, 0, 0, 0, 0]),
        false => packet.extend([0; 4]),
    }
    packet.extend_from_slice(payload);
    packet
}

/// The packet that a sender sends after `last`, with another payload, of the same length if so wanted.
fn follow(last: &[u8], payload: &[u8], is_same_length: bool) -> Option<Vec<u8>> {
    let (start, protocol, _) = transport(last)?;
    let headers = match protocol {
        6 => start + usize::from(last.get(start + 12)? >> 4).max(5) * 4,
        _ => start + 8,
    };
    let (headers, before) = last.split_at_checked(headers)?;
    let mut packet = [headers, payload].concat();
    if is_same_length {
        packet.resize(last.len(), 0);
    }
    if packet[0] >> 4 == 4 {
        let id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(1);
        packet[4..6].copy_from_slice(&id.to_be_bytes());
    }
    if protocol == 6 {
        let number = u32::from_be_bytes(*packet[start + 4..].first_chunk()?);
        let number = number.wrapping_add(u32::try_from(before.len()).ok()?);
        packet[start + 4..start + 8].copy_from_slice(&number.to_be_bytes());
    }
    Some(packet)
}

/// A packet without what may differ: one that is never fragmented has no use for its number, and sums have
/// two zeros.
fn canonical(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 20 && packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    if let Some(at) = checksum_at(&packet)
        && packet[at..at + 2] == [0, 0]
    {
        packet[at..at + 2].fill(0xff);
    }
    if packet.len() >= 20 && packet[0] >> 4 == 4 && packet[10..12] == [0, 0] {
        packet[10..12].fill(0xff);
    }
    packet
}

/// Joins packets; what is joined must come apart again.
fn round_trip(allowed: Allowed, packets: &[Vec<u8>]) {
    let mut seen = 0;
    let mut check = |unit: Unit<'_, '_>| {
        assert!((1..=MAX_PACKETS).contains(&unit.packets.len()));
        let mut whole = unit.headers.to_vec();
        unit.packets.iter().for_each(|p| whole.extend_from_slice(&p[unit.skip..]));
        let is_allowed = match unit.offload.gso {
            Gso::None => unit.packets.len() == 1,
            Gso::Udp => allowed.udp,
            Gso::TcpV4 | Gso::TcpV6 => allowed.tcp,
        };
        assert!(is_allowed && whole.len() <= 65_535);
        let apart = cut(unit.offload, &mut whole).expect("what we join can be cut");
        assert_eq!(apart.len(), unit.packets.len());
        for (apart, packet) in apart.iter().zip(unit.packets) {
            assert_eq!(**packet, packets[seen]);
            assert_eq!(canonical(apart), canonical(packet));
            seen += 1;
        }
    };
    let mut coalescer = Coalescer::new(allowed);
    packets.iter().for_each(|packet| coalescer.push(packet, &mut check));
    coalescer.finish(&mut check);
    assert_eq!(seen, packets.len());
}

/// How a packet is made: in bits; with which bytes of its headers changed; and its payload.
type Step = (u8, Vec<(u8, u8)>, Vec<u8>);
type Input = (u8, [u8; OFFLOAD_LEN], Vec<u8>, Vec<Step>);

fuzz_target!(|input: Input| {
    let (allowed, header, mut unit, steps) = input;
    let whole = unit.len();
    if let Some(packets) = Offload::decode(header).and_then(|o| cut(o, &mut unit)) {
        assert!(packets.iter().all(|p| p.len() <= whole));
    }
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for (how, changes, payload) in steps {
        let is = |bit: u8| how & 1 << bit == 0;
        let last = packets.last().filter(|_| is(0));
        let followed = last.and_then(|last| follow(last, &payload, is(1)));
        let mut packet = match followed {
            Some(packet) => packet,
            None if is(2) => begin(is(3), is(4), &payload),
            None => payload,
        };
        for (at, byte) in changes {
            packet.get_mut(usize::from(at)).into_iter().for_each(|place| *place = byte);
        }
        if is(5) {
            let _ = complete(&mut packet);
        }
        // The kernel makes no packet longer.
        packet.truncate(65_535);
        packets.push(packet);
    }
    let allowed = Allowed { tcp: allowed & 1 == 0, udp: allowed & 2 == 0 };
    round_trip(allowed, &packets);
});
