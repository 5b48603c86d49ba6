//! ARP and neighbour discovery: a workload speaks for itself only, and never as a router.

use crate::endpoint::{Endpoint, OwnKey};
use crate::packet::{Bytes, Packet, Piece, mapped};
use crate::reason::Reason;
use crate::tables::Address;
use crate::world::World;

/// The gateway of every workload, whom none may pretend to be.
pub const GATEWAY: Address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Its MAC address, which workloads see every frame come from.
pub const GATEWAY_MAC: [u8; 6] = [0xee; 6];
/// Most options of a message that are walked.
const MAX_OPTIONS: usize = 4;
/// What a message has that came from no router (RFC 4861 6.1).
const HOP_LIMIT: u8 = 255;

/// Types of ICMPv6 (RFC 4861 4).
mod message {
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const SOLICITATION: u8 = 135;
    pub(super) const ADVERTISEMENT: u8 = 136;
}

/// Whether an address is one of the endpoint's: of a workload, that it may send from it.
#[inline(always)]
pub(super) fn is_own<W: World>(world: &W, ifindex: u32, address: &Address) -> bool {
    world.is_own(&OwnKey {
        prefix_len: OwnKey::BITS,
        ifindex: ifindex.to_be_bytes(),
        address: *address,
    })
}

/// An ARP message from a workload (RFC 826, RFC 5227).
#[inline(always)]
pub(super) fn arp<W: World, B: Bytes>(
    world: &W,
    endpoint: &Endpoint,
    ifindex: u32,
    bytes: &B,
    at: u32,
) -> Result<(), Reason> {
    let Some(arp) = bytes.load::<28>(at) else {
        return Err(Reason::Malformed);
    };
    // Ethernet and IPv4, a question or an answer.
    if [arp[0], arp[1], arp[2], arp[3], arp[4], arp[5], arp[6]] != [0, 1, 8, 0, 6, 4, 0] {
        return Err(Reason::SpoofedNeighbour);
    }
    let from = [arp[14], arp[15], arp[16], arp[17]];
    let about = [arp[24], arp[25], arp[26], arp[27]];
    let hardware = [arp[8], arp[9], arp[10], arp[11], arp[12], arp[13]];
    let claimed = match arp[7] {
        // A probe: it asks whether somebody has the address that it wants for itself.
        1 if from == [0; 4] => about,
        1 | 2 => from,
        _ => return Err(Reason::SpoofedNeighbour),
    };
    match endpoint.has_mac(hardware) && is_own(world, ifindex, &mapped(claimed)) {
        true => Ok(()),
        false => Err(Reason::SpoofedNeighbour),
    }
}

/// Whether neighbour discovery comes from the link itself; nobody forwards such a packet.
#[inline(always)]
pub(super) fn is_of_link(packet: &Packet) -> bool {
    packet.hop_limit == HOP_LIMIT && packet.piece == Piece::Whole as u8
}

/// A message of neighbour discovery from a workload.
#[inline(always)]
pub(super) fn discovery<W: World, B: Bytes>(
    world: &W,
    endpoint: &Endpoint,
    ifindex: u32,
    bytes: &B,
    packet: &Packet,
) -> Result<(), Reason> {
    // RFC 6980: never in fragments.
    if !is_of_link(packet) {
        return Err(Reason::SpoofedNeighbour);
    }
    let nobody = packet.source == [0; 16];
    let (claimed, options) = match packet.icmp[0] {
        message::ROUTER_SOLICITATION => (packet.source, packet.transport + 8),
        message::SOLICITATION if !nobody => (packet.source, packet.transport + 24),
        // Of an advertisement, and of a question whether an address is free, what it is about.
        message::SOLICITATION | message::ADVERTISEMENT => {
            let Some(target) = bytes.load::<16>(packet.transport + 8) else {
                return Err(Reason::Malformed);
            };
            (target, packet.transport + 24)
        }
        _ => return Err(Reason::SpoofedNeighbour),
    };
    if claimed != [0; 16] && !may_claim(world, ifindex, &claimed)
        || !nobody && !may_claim(world, ifindex, &packet.source)
    {
        return Err(Reason::SpoofedNeighbour);
    }
    link_layer_options(endpoint, bytes, options)
}

/// Own addresses, and those of the link, of which guests make new ones as they like (RFC 7217), and which no
/// router forwards (RFC 4291 2.5.6).
#[inline(always)]
pub(super) fn may_claim<W: World>(world: &W, ifindex: u32, address: &Address) -> bool {
    is_of_the_link(address) || is_own(world, ifindex, address)
}

#[inline(always)]
fn is_of_the_link(address: &Address) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80 && *address != GATEWAY
}

/// Link-layer addresses that a message tells have to be the workload's (RFC 4861 4.6.1).
#[inline(always)]
fn link_layer_options<B: Bytes>(endpoint: &Endpoint, bytes: &B, at: u32) -> Result<(), Reason> {
    let mut at = at;
    for _ in 0..MAX_OPTIONS {
        let Some(option) = bytes.load::<8>(at) else {
            return Ok(());
        };
        let told = [
            option[2], option[3], option[4], option[5], option[6], option[7],
        ];
        if matches!(option[0], 1 | 2) && !endpoint.has_mac(told) {
            return Err(Reason::SpoofedNeighbour);
        }
        if option[1] == 0 {
            return Err(Reason::Malformed);
        }
        at += u32::from(option[1]) * 8;
    }
    Err(Reason::SpoofedNeighbour)
}

/// A report about membership of groups from a workload; the question is a router's (RFC 3810 5).
#[inline(always)]
pub(super) fn membership<W: World>(world: &W, ifindex: u32, packet: &Packet) -> Result<(), Reason> {
    const QUERY: u8 = 130;
    let from_itself = packet.source == [0; 16] || may_claim(world, ifindex, &packet.source);
    match packet.icmp[0] != QUERY && packet.hop_limit == 1 && from_itself {
        true => Ok(()),
        false => Err(Reason::SpoofedNeighbour),
    }
}
