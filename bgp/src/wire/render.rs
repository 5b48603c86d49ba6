//! Writing UPDATEs: as many prefixes of one attribute block in a message as fit.

use bytes::Bytes;
use model::Family;

use super::{Context, HEADER_LEN, MessageType, block, frame, nlri};
use crate::attributes::{NextHop, code, flag};
use crate::family;
use crate::prefix::PrefixKey;

/// Bytes of a path identifier, a length and the longest prefix.
const LONGEST: usize = 4 + 1 + 16;

/// A prefix that did not go out: the attributes leave no room for it in a message of this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Appends the next hop as MP_REACH_NLRI has it, its length first.
fn put_next_hop(out: &mut Vec<u8>, hop: &NextHop) {
    match hop {
        NextHop::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        NextHop::LinkLocal(ip) => {
            // Twice, as neighbours without a global address do (RFC 2545 has no shorter form).
            out.push(32);
            out.extend(ip.octets());
            out.extend(ip.octets());
        }
        NextHop::V6 {
            global,
            link_local: None,
        } => {
            out.push(16);
            out.extend(global.octets());
        }
        NextHop::V6 {
            global,
            link_local: Some(link_local),
        } => {
            out.push(32);
            out.extend(global.octets());
            out.extend(link_local.octets());
        }
    }
}

fn len16(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// Appends the header of an MP attribute whose value has `len` bytes.
fn put_mp(out: &mut Vec<u8>, code: u8, len: usize) {
    out.extend([flag::OPTIONAL | flag::EXTENDED, code]);
    out.extend(len16(len));
}

fn put_family(out: &mut Vec<u8>, of: Family) {
    out.extend(family::afi(of).to_be_bytes());
    out.push(family::UNICAST);
}

/// Groups prefixes into fields of at most `room` bytes.
fn fields<K: PrefixKey>(
    prefixes: impl Iterator<Item = (u32, K)>,
    add_path: bool,
    room: usize,
    mut each: impl FnMut(&[u8]),
) {
    let mut field = Vec::with_capacity(room.min(super::MAX_LEN));
    for (id, key) in prefixes {
        let before = field.len();
        nlri::put(&mut field, add_path.then_some(id), key);
        if field.len() > room {
            let last = field.split_off(before);
            each(&field);
            field = last;
        }
    }
    if !field.is_empty() {
        each(&field);
    }
}

fn message(withdrawn: &[u8], attributes: &[&[u8]], announced: &[u8]) -> Bytes {
    let attributes_len: usize = attributes.iter().map(|a| a.len()).sum();
    let len = 4 + withdrawn.len() + attributes_len + announced.len();
    let mut body = Vec::with_capacity(len);
    body.extend(len16(withdrawn.len()));
    body.extend_from_slice(withdrawn);
    body.extend(len16(attributes_len));
    for part in attributes {
        body.extend_from_slice(part);
    }
    body.extend_from_slice(announced);
    let mut out = Vec::with_capacity(HEADER_LEN + len);
    frame::put(&mut out, MessageType::Update, &body);
    out.into()
}

/// Announces `prefixes` (with path identifiers, used where agreed) with the canonical `block` and `hop`.
///
/// # Errors
///
/// Nothing was given to `send` when not even one prefix fits beside the attributes.
pub fn announce<K: PrefixKey>(
    context: &Context,
    block: &[u8],
    hop: &NextHop,
    prefixes: impl Iterator<Item = (u32, K)>,
    mut send: impl FnMut(Bytes),
) -> Result<(), TooLong> {
    let converted = if context.as4 {
        None
    } else {
        Some(block::to_as2(block).ok_or(TooLong)?)
    };
    let block = converted.as_deref().unwrap_or(block);
    let add_path = *context.add_path_out.get(K::FAMILY);
    let room = |taken: usize| {
        let room = context
            .max_len()
            .checked_sub(HEADER_LEN + 4 + block.len() + taken);
        room.filter(|room| *room >= LONGEST).ok_or(TooLong)
    };
    if let (NextHop::V4(ip), Family::V4) = (hop, K::FAMILY) {
        let [a, b, c, d] = ip.octets();
        let hop = [flag::TRANSITIVE, code::NEXT_HOP, 4, a, b, c, d];
        let room = room(hop.len())?;
        fields(prefixes, add_path, room, |field| {
            send(message(&[], &[block, &hop], field));
        });
    } else {
        let mut head = Vec::with_capacity(64);
        put_family(&mut head, K::FAMILY);
        put_next_hop(&mut head, hop);
        head.push(0);
        let room = room(4 + head.len())?;
        fields(prefixes, add_path, room, |field| {
            let mut mp = Vec::with_capacity(4);
            put_mp(&mut mp, code::MP_REACH, head.len() + field.len());
            // First, as RFC 7606 §5.1 asks.
            send(message(&[], &[&mp, &head, field, block], &[]));
        });
    }
    Ok(())
}

/// Withdraws `prefixes`.
pub fn withdraw<K: PrefixKey>(
    context: &Context,
    prefixes: impl Iterator<Item = (u32, K)>,
    mut send: impl FnMut(Bytes),
) {
    let add_path = *context.add_path_out.get(K::FAMILY);
    let room = context.max_len() - HEADER_LEN - 4 - 7;
    fields(prefixes, add_path, room, |field| match K::FAMILY {
        Family::V4 => send(message(field, &[], &[])),
        Family::V6 => {
            let mut mp = Vec::with_capacity(7);
            put_mp(&mut mp, code::MP_UNREACH, 3 + field.len());
            put_family(&mut mp, K::FAMILY);
            send(message(&[], &[&mp, field], &[]));
        }
    });
}

/// The mark that a family's initial routes were all sent (RFC 4724 §2).
pub fn end_of_rib(of: Family) -> Bytes {
    match of {
        Family::V4 => message(&[], &[], &[]),
        Family::V6 => {
            let mut mp = Vec::with_capacity(7);
            put_mp(&mut mp, code::MP_UNREACH, 3);
            put_family(&mut mp, of);
            message(&[], &[&mp], &[])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::attributes::Attributes;
    use crate::family::PerFamily;
    use crate::prefix::{V4, V6};
    use crate::wire::update::{self, MpNlri};

    fn context(add_path: bool, as4: bool) -> Context {
        let add_path = PerFamily::from_fn(|_| add_path);
        Context {
            as4,
            add_path_in: add_path,
            add_path_out: add_path,
            extended_next_hop: true,
            ..Context::default()
        }
    }

    fn attributes() -> Attributes {
        Attributes {
            as_path: vec![4_200_000_000, 64512],
            communities: vec![1, 2],
            ..Attributes::default()
        }
    }

    /// Sends `count` prefixes and reads them again.
    fn through<K: PrefixKey>(context: &Context, hop: NextHop, count: u32) -> Vec<(u32, K)> {
        let block = attributes().block().unwrap();
        let prefixes = (0..count).map(|i| (i + 1, K::from_bits(32, &i.to_be_bytes()).unwrap()));
        let mut heard = Vec::new();
        announce(context, &block, &hop, prefixes, |message| {
            assert!(message.len() <= context.max_len());
            let frame = frame::next(&message, context.max_len()).unwrap().unwrap();
            let mut scratch = Vec::new();
            let update = update::split(frame.body, context, &mut scratch).unwrap();
            assert_eq!(update.faults, []);
            let inspected = block::inspect(update.block, false, context.as4).unwrap();
            let canonical = inspected.canonical.as_deref().unwrap_or(update.block);
            let view = crate::AttrView::new(canonical);
            assert_eq!(Attributes::from(view), attributes());
            let keys = |list: Vec<(u32, [u8; 16], u8)>| {
                list.into_iter()
                    .map(|(id, bits, len)| (id, K::from_bits(len, &bits).unwrap()))
                    .collect::<Vec<_>>()
            };
            heard.extend(match update.mp_announced {
                Some((nlri, heard_hop)) => {
                    assert_eq!(heard_hop, hop);
                    keys(match nlri {
                        MpNlri::V4(n) => n.iter().map(|(i, k)| (i, k.octets(), k.len())).collect(),
                        MpNlri::V6(n) => n.iter().map(|(i, k)| (i, k.octets(), k.len())).collect(),
                    })
                }
                None => {
                    assert_eq!(update.next_hop.map(NextHop::V4), Some(hop));
                    let list = update.announced.iter();
                    keys(list.map(|(i, k)| (i, k.octets(), k.len())).collect())
                }
            });
        })
        .unwrap();
        heard
    }

    #[test]
    fn prefixes_with_every_kind_of_next_hop_arrive() {
        let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let hops = [
            NextHop::V4(Ipv4Addr::new(10, 0, 0, 1)),
            NextHop::LinkLocal(link_local),
            NextHop::V6 {
                global,
                link_local: None,
            },
            NextHop::V6 {
                global,
                link_local: Some(link_local),
            },
        ];
        for hop in hops {
            for (add_path, as4) in [(false, true), (true, true), (false, false)] {
                let context = context(add_path, as4);
                let expected = |id| if add_path { id } else { 0 };
                let v4: Vec<_> = through::<V4>(&context, hop, 3000);
                assert_eq!(v4.len(), 3000);
                assert_eq!(v4[2999].0, expected(3000));
                if !matches!(hop, NextHop::V4(_)) {
                    assert_eq!(through::<V6>(&context, hop, 3000).len(), 3000);
                }
            }
        }
    }

    #[test]
    fn withdrawals_arrive_and_ends_of_rib_are_known() {
        let context = context(false, true);
        let mut heard = 0;
        let keys = (0..5000u32).map(|i| (0, V6::from_bits(64, &i.to_be_bytes()).unwrap()));
        withdraw(&context, keys, |message| {
            let mut scratch = Vec::new();
            let update = update::split(&message[HEADER_LEN..], &context, &mut scratch).unwrap();
            assert!(update.end_of_rib.is_none());
            let Some(MpNlri::V6(nlri)) = update.mp_withdrawn else {
                panic!("{update:?}");
            };
            heard += nlri.iter().count();
        });
        assert_eq!(heard, 5000);
        for family in Family::ALL {
            let mut scratch = Vec::new();
            let end = end_of_rib(family);
            let update = update::split(&end[HEADER_LEN..], &context, &mut scratch).unwrap();
            assert_eq!(update.end_of_rib, Some(family));
        }
    }

    #[test]
    fn attributes_that_leave_no_room_are_refused() {
        let block = Attributes {
            communities: vec![7; 1015],
            ..Attributes::default()
        };
        let block = block.block().unwrap();
        let hop = NextHop::V4(Ipv4Addr::new(10, 0, 0, 1));
        let one = || std::iter::once((0, V4::default()));
        let sent = announce(&Context::default(), &block, &hop, one(), |_| panic!("sent"));
        assert_eq!(sent, Err(TooLong));
        let long = Context {
            extended_message: true,
            ..Context::default()
        };
        assert_eq!(announce(&long, &block, &hop, one(), |_| {}), Ok(()));
    }
}
