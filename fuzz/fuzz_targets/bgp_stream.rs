//! What a BGP peer sends: no bytes panic in framing, decoding or the RIB; what two others are told of it is well-formed;
//! and when the peer is gone, nothing of it is left.
#![no_main]

use std::net::Ipv4Addr;

use bgp::fsm::{SessionConfig, negotiate};
use bgp::rib::{Export, Import, NextHopMode, PeerConfig, PeerId, PeerKind, Rib, RibConfig};
use bgp::wire::{Context, MessageType, Notification, block, frame, open, refresh, update};
use bgp::{Family, NextHop, PerFamily};
use libfuzzer_sys::fuzz_target;

const SENDER: PeerId = PeerId(1);

fn peer(number: u8, context: Context) -> PeerConfig {
    let address = Ipv4Addr::new(10, 0, 0, number);
    PeerConfig {
        address: address.into(),
        router_id: address,
        asn: 64512 + u32::from(number),
        import: Import {
            max_prefixes: PerFamily {
                v4: Some(1000),
                v6: Some(1000),
            },
            ..Import::default()
        },
        export: Export {
            kind: match context.ibgp {
                true => PeerKind::Client,
                false => PeerKind::External,
            },
            local_as: 64512,
            context,
            role: None,
            filter: None,
            next_hop: NextHopMode::Auto,
            own_v4: Some(Ipv4Addr::new(10, 0, 0, 254)),
            own_v6: Some(NextHop::LinkLocal("fe80::1".parse().expect("an address"))),
            max_paths: 2,
        },
    }
}

/// What a neighbour is sent has no faults.
fn heard(bytes: &[u8], context: &Context) {
    let mut scratch = Vec::new();
    let mut at = 0;
    while let Some(frame) = frame::next(&bytes[at..], context.max_len()).expect("our own frame") {
        at += frame.len;
        if frame.kind == MessageType::Update {
            let update = update::split(frame.body, context, &mut scratch).expect("our own UPDATE");
            assert!(update.faults.is_empty(), "{:?}", update.faults);
            if update.announces() {
                let read = block::inspect(update.block, context.ibgp, context.as4);
                assert!(read.expect("our own attributes").discarded.is_empty());
            }
        }
    }
    assert_eq!(at, bytes.len());
}

/// Cuts bytes into bodies of messages, each behind its type and its length, and puts a header before each: a marker of
/// sixteen bytes is seldom hit upon.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let wanted = usize::from(u16::from_be_bytes([*high & 0x0f, *low]));
        let (body, rest) = rest.split_at(wanted.min(rest.len()));
        stream.extend([0xff; 16]);
        stream.extend(u16::try_from(19 + body.len()).expect("12 bits").to_be_bytes());
        stream.push(*kind);
        stream.extend(body);
        bytes = rest;
    }
    stream
}

fuzz_target!(|input: (u8, &[u8])| {
    let (flags, bytes) = input;
    let flag = |bit: u8| flags & 1 << bit != 0;
    let whole = flag(6).then(|| framed(bytes));
    let stream = whole.as_deref().unwrap_or(bytes);
    let several = PerFamily::from_fn(|_| flag(2));
    let context = Context {
        ibgp: flag(0),
        as4: flag(1),
        add_path_in: several,
        extended_next_hop: flag(3),
        extended_message: flag(4),
        ..Context::default()
    };
    let inside = Context {
        ibgp: true,
        add_path_out: PerFamily::from_fn(|_| flag(5)),
        ..Context::default()
    };
    let outside = Context {
        extended_next_hop: true,
        ..Context::default()
    };
    let mut rib = Rib::new(RibConfig::new(Ipv4Addr::new(10, 0, 0, 254)));
    for (number, context) in [(1, context), (2, inside), (3, outside)] {
        rib.peer_up(PeerId(u16::from(number)), peer(number, context));
    }
    let ours = SessionConfig::new(64512, Ipv4Addr::new(10, 0, 0, 254), Some(64513));
    let mut scratch = Vec::new();
    let mut rest = stream;
    while let Ok(Some(frame)) = frame::next(rest, context.max_len()) {
        rest = &rest[frame.len..];
        match frame.kind {
            MessageType::Open => {
                if let Ok(theirs) = open::decode(frame.body) {
                    let _ = negotiate(&ours, &theirs);
                }
            }
            MessageType::Notification => {
                let _ = Notification::decode(frame.body).map(|n| n.to_string());
            }
            MessageType::RouteRefresh => {
                let _ = refresh::decode(frame.body, true);
            }
            MessageType::Keepalive => {}
            MessageType::Update => {
                rib.expect(frame.body, &context);
                let Ok(update) = update::split(frame.body, &context, &mut scratch) else {
                    break;
                };
                if rib.apply(SENDER, &update).too_many.is_some() {
                    break;
                }
            }
        }
    }
    let tell = |rib: &mut Rib| {
        let told = |id: PeerId, bytes: &bytes::Bytes| match id.0 {
            1 => heard(
                bytes,
                &Context {
                    add_path_in: PerFamily::default(),
                    ..context
                },
            ),
            2 => heard(
                bytes,
                &Context {
                    add_path_in: inside.add_path_out,
                    ..inside
                },
            ),
            _ => heard(bytes, &outside),
        };
        while rib.transmit(|_| true, told) {}
        for family in Family::ALL {
            while !rib.kernel_changes(family, 100).is_empty() {}
        }
    };
    tell(&mut rib);
    rib.peer_down(SENDER, PerFamily::default());
    tell(&mut rib);
    rib.decide();
    assert!(rib.is_empty(), "something is left");
});
