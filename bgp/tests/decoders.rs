//! Mutated messages: through the whole core without harm, and read alike by a decoder of other authors.
//!
//! A debug build tries thousands, a release build millions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::net::Ipv4Addr;

use bgp::attributes::{AttrView, Attributes, LargeCommunity};
use bgp::fsm::{Input, Session, SessionConfig, State};
use bgp::rib::{Export, Import, NextHopMode, PeerConfig, PeerId, PeerKind, Rib, RibConfig};
use bgp::wire::update::{MpNlri, Update};
use bgp::wire::{
    Context, MAX_EXTENDED_LEN, MessageType, block, frame, notification, render, update,
};
use bgp::{Family, NextHop, PerFamily, PrefixKey, V4, V6};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{AsPath, MpReach, MpUnreach, PathAttributeValue};
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;

const ROUNDS: u32 = if cfg!(debug_assertions) {
    30_000
} else {
    3_000_000
};

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// Changes a few bytes, mostly of the body, and mends the message's length most of the time.
    fn mutate(&mut self, message: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let from = if self.below(20) == 0 { 0 } else { 19 };
            let at = from + self.below((message.len() - from).max(1));
            match self.below(6) {
                0 => message.truncate(at.max(19)),
                1 => message.insert(at.min(message.len()), 0),
                2 if at < message.len() => {
                    let part: Vec<u8> = message[at..].iter().take(12).copied().collect();
                    message.splice(at..at, part);
                }
                3 if at < message.len() => {
                    message[at] = [0, 1, 2, 4, 14, 15, 0x40, 0x80, 0xff][self.below(9)];
                }
                4 if at < message.len() => message[at] = message[at].wrapping_add(1),
                _ if at < message.len() => message[at] = self.byte(),
                _ => {}
            }
        }
        if self.below(10) != 0 {
            let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
            message[16..18].copy_from_slice(&len.to_be_bytes());
        }
    }
}

fn seeds(context: &Context) -> Vec<Vec<u8>> {
    let rich = Attributes {
        as_path: vec![65001, 4_200_000_000, 7],
        med: Some(5),
        local_pref: Some(100),
        atomic_aggregate: true,
        communities: vec![1, 0xffff_ff01],
        originator: Some(Ipv4Addr::new(9, 9, 9, 9)),
        clusters: vec![1, 2],
        ext_communities: vec![0x0002_fc00_0000_0001],
        large_communities: vec![LargeCommunity {
            global: 1,
            local1: 2,
            local2: 3,
        }],
        otc: Some(65001),
        ..Attributes::default()
    };
    let plain = Attributes {
        as_path: vec![65001],
        ..Attributes::default()
    };
    let mut seeds = Vec::new();
    let v4 = |n: u8| (1, V4::from_bits(20 + n, &[10, n, 7, 255]).unwrap());
    let v6 = |n: u8| {
        (
            1,
            V6::from_bits(60 + n, &[0x20, 1, 0xd, 0xb8, n, 7, 7, 7]).unwrap(),
        )
    };
    for attributes in [rich, plain] {
        let mut block = attributes.block().unwrap();
        block.extend([0xc0, 99, 2, 1, 2]);
        let mut push = |message: bytes::Bytes| seeds.push(message.to_vec());
        let hop = NextHop::V4(Ipv4Addr::new(10, 0, 0, 1));
        render::announce(context, &block, &hop, (0..5).map(v4), &mut push).unwrap();
        let hop = NextHop::V6 {
            global: "2001:db8::1".parse().unwrap(),
            link_local: Some("fe80::1".parse().unwrap()),
        };
        render::announce(context, &block, &hop, (0..5).map(v6), &mut push).unwrap();
        render::announce(context, &block, &hop, (0..5).map(v4), &mut push).unwrap();
        render::withdraw(context, (0..5).map(v4), &mut push);
        render::withdraw(context, (0..5).map(v6), &mut push);
    }
    seeds
}

fn others() -> Vec<Vec<u8>> {
    let mut config = SessionConfig::new(65001, Ipv4Addr::new(1, 1, 1, 1), None);
    config.extended_next_hop = true;
    config.role = Some(bgp::wire::open::Role::Peer);
    let shutdown =
        notification::Notification::with_reason(notification::cease::ADMIN_SHUTDOWN, "x");
    vec![
        bgp::wire::open::encode(&config.open()).to_vec(),
        frame::keepalive().to_vec(),
        bgp::wire::refresh::encode(Family::V6, bgp::wire::refresh::Refresh::Begin).to_vec(),
        shutdown.encode().to_vec(),
    ]
}

fn peer(n: u16, kind: PeerKind, context: Context) -> PeerConfig {
    let address = Ipv4Addr::new(10, 0, 0, u8::try_from(n).unwrap());
    PeerConfig {
        address: address.into(),
        router_id: address,
        asn: 65000 + u32::from(n),
        import: Import {
            max_prefixes: PerFamily {
                v4: Some(500),
                v6: Some(500),
            },
            ..Import::default()
        },
        export: Export {
            kind,
            local_as: 64512,
            context,
            role: None,
            filter: None,
            next_hop: NextHopMode::Auto,
            own_v4: Some(Ipv4Addr::new(10, 0, 0, 254)),
            own_v6: Some(NextHop::LinkLocal("fe80::9".parse().unwrap())),
            max_paths: 4,
        },
    }
}

/// Whatever comes, what goes out to others is well-formed.
#[test]
fn hostile_messages_harm_nobody() {
    let mut random = Random(7);
    for (ibgp, as4, add_path) in [
        (false, true, false),
        (true, true, true),
        (false, false, false),
    ] {
        let add_path = PerFamily {
            v4: add_path,
            v6: add_path,
        };
        let context = Context {
            ibgp,
            as4,
            add_path_in: add_path,
            add_path_out: add_path,
            extended_next_hop: true,
            ..Context::default()
        };
        let kind = if ibgp {
            PeerKind::Client
        } else {
            PeerKind::External
        };
        let mut rib = Rib::new(RibConfig::new(Ipv4Addr::new(10, 0, 0, 254)));
        rib.peer_up(PeerId(1), peer(1, kind, context));
        let strict = Context {
            extended_next_hop: true,
            ..Context::default()
        };
        rib.peer_up(PeerId(2), peer(2, PeerKind::External, strict));
        let inside = Context {
            ibgp: true,
            ..strict
        };
        rib.peer_up(PeerId(3), peer(3, PeerKind::Client, inside));
        let seeds = seeds(&context);
        let (mut scratch, mut check) = (Vec::new(), Vec::new());
        let mut used = 0;
        for round in 0..ROUNDS / 3 {
            let mut message = seeds[random.below(seeds.len())].clone();
            random.mutate(&mut message);
            let Ok(Some(frame)) = frame::next(&message, 4096) else {
                continue;
            };
            if frame.kind != MessageType::Update {
                continue;
            }
            let Ok(update) = update::split(frame.body, &context, &mut scratch) else {
                continue;
            };
            let applied = rib.apply(PeerId(1), &update);
            used += u32::from(applied.faults.is_empty() && update.announces());
            if applied.too_many.is_some() || round % 5000 == 0 {
                rib.peer_down(PeerId(1), PerFamily::default());
                rib.peer_up(PeerId(1), peer(1, kind, context));
            }
            if round % 8 == 0 {
                rib.decide();
                while rib.transmit(
                    |_| true,
                    |to, message| {
                        if to == PeerId(1) {
                            return;
                        }
                        let frame = frame::next(message, 4096).unwrap().unwrap();
                        let context = if to == PeerId(2) { &strict } else { &inside };
                        let sent = update::split(frame.body, context, &mut check).unwrap();
                        assert_eq!(sent.faults, [], "{message:?}");
                        let good = block::inspect(sent.block, context.ibgp, true);
                        assert!(good.is_ok_and(|g| g.canonical.is_none()), "{message:?}");
                    },
                ) {}
                while !rib.kernel_changes(Family::V4, 1000).is_empty() {}
                while !rib.kernel_changes(Family::V6, 1000).is_empty() {}
            }
        }
        assert!(
            used > ROUNDS / 100,
            "the mutations are too wild to test anything: {used}"
        );
        rib.peer_down(PeerId(1), PerFamily::default());
        while rib.transmit(|_| true, |_, _| {}) {}
        while !rib.kernel_changes(Family::V4, 1000).is_empty() {}
        while !rib.kernel_changes(Family::V6, 1000).is_empty() {}
        rib.decide();
        assert!(
            rib.is_empty() && rib.attributes().is_empty(),
            "nothing is left of it"
        );
    }
}

#[test]
fn hostile_messages_end_at_most_their_session() {
    let mut random = Random(9);
    let all: Vec<Vec<u8>> = [others(), seeds(&Context::default())].concat();
    let config = SessionConfig::new(64512, Ipv4Addr::new(2, 2, 2, 2), None);
    let mut reached = 0;
    for _ in 0..ROUNDS / 10 {
        let mut session = Session::new(config.clone());
        session.handle(Input::Start, 0.5);
        session.handle(Input::Connected, 0.5);
        for seed in [&all[0], &all[1], &all[random.below(all.len())]] {
            let mut message = seed.clone();
            if random.below(3) == 0 {
                random.mutate(&mut message);
            }
            match frame::next(&message, MAX_EXTENDED_LEN) {
                Ok(Some(frame)) => drop(session.handle(Input::Message(frame), 0.5)),
                Ok(None) => {}
                Err(error) => drop(session.handle(Input::Garbled(error), 0.5)),
            }
        }
        reached += u32::from(session.state() == State::Established);
        if let Some(reason) = session.last_down() {
            assert!(!reason.to_string().contains(char::is_control));
        }
    }
    assert!(reached > ROUNDS / 100, "{reached}");
}

/// What both decoders understand of an UPDATE.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    withdrawn: Vec<(u32, String)>,
    announced: Vec<(u32, String)>,
    as_path: Vec<u32>,
    med: Option<u32>,
    communities: Vec<u32>,
}

fn ours(update: &Update<'_>) -> Meaning {
    fn list<K: PrefixKey>(
        nlri: impl Iterator<Item = (u32, K)>,
    ) -> impl Iterator<Item = (u32, String)> {
        nlri.map(|(id, key)| (id, key.cidr().to_string()))
    }
    fn mp(nlri: Option<MpNlri<'_>>) -> Vec<(u32, String)> {
        match nlri {
            Some(MpNlri::V4(n)) => list(n.iter()).collect(),
            Some(MpNlri::V6(n)) => list(n.iter()).collect(),
            None => Vec::new(),
        }
    }
    let view = AttrView::new(update.block);
    let mut meaning = Meaning {
        withdrawn: list(update.withdrawn.iter()).collect(),
        announced: list(update.announced.iter()).collect(),
        as_path: view.asns().collect(),
        med: view.med(),
        communities: view.communities().collect(),
    };
    meaning.withdrawn.extend(mp(update.mp_withdrawn));
    meaning
        .announced
        .extend(mp(update.mp_announced.map(|(n, _)| n)));
    meaning
}

/// `None` when it has something that only one of us knows.
fn theirs(message: &BgpMessage) -> Option<Meaning> {
    let BgpMessage::Update(update) = message else {
        return None;
    };
    // They keep host bits; we do not.
    let item = |id: Option<u32>, net: ipnet::IpNet| (id.unwrap_or(0), net.trunc().to_string());
    let mut meaning = Meaning::default();
    let v4 = |a: &netgauze_bgp_pkt::nlri::Ipv4UnicastAddress| {
        item(a.path_id(), ipnet::IpNet::V4(a.network().address()))
    };
    let v6 = |a: &netgauze_bgp_pkt::nlri::Ipv6UnicastAddress| {
        item(a.path_id(), ipnet::IpNet::V6(a.network().address()))
    };
    meaning
        .withdrawn
        .extend(update.withdraw_routes().iter().map(v4));
    meaning.announced.extend(update.nlri().iter().map(v4));
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::AsPath(AsPath::As4PathSegments(segments)) => {
                let asns = segments
                    .iter()
                    .flat_map(netgauze_bgp_pkt::path_attribute::As4PathSegment::as_numbers);
                meaning.as_path.extend(asns);
            }
            PathAttributeValue::MultiExitDiscriminator(med) => meaning.med = Some(med.metric()),
            PathAttributeValue::Communities(list) => {
                let values = list
                    .communities()
                    .iter()
                    .map(netgauze_bgp_pkt::community::Community::value);
                meaning.communities.extend(values);
            }
            PathAttributeValue::MpReach(MpReach::Ipv4Unicast { nlri, .. }) => {
                meaning.announced.extend(nlri.iter().map(v4));
            }
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast { nlri, .. }) => {
                meaning.announced.extend(nlri.iter().map(v6));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv4Unicast { nlri }) => {
                meaning.withdrawn.extend(nlri.iter().map(v4));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                meaning.withdrawn.extend(nlri.iter().map(v6));
            }
            _ => {}
        }
    }
    Some(meaning)
}

#[test]
fn two_decoders_read_the_same() {
    let context = Context {
        ibgp: true,
        extended_next_hop: true,
        ..Context::default()
    };
    let seeds = seeds(&context);
    let mut random = Random(3);
    let mut scratch = Vec::new();
    let (mut same, mut only_ours, mut only_theirs) = (0u32, 0u32, 0u32);
    for round in 0..ROUNDS {
        let mut message = seeds[random.below(seeds.len())].clone();
        if round >= 100 {
            random.mutate(&mut message);
        }
        let mut strict = BgpParsingContext::asn2_default();
        strict.set_asn4(true);
        let other = BgpMessage::parse(&mut SliceReader::new(&message), &mut strict);
        let Ok(Some(frame)) = frame::next(&message, 4096) else {
            continue;
        };
        if frame.kind != MessageType::Update || frame.len != message.len() {
            continue;
        }
        let clean = match update::split(frame.body, &context, &mut scratch) {
            Ok(update) if update.faults.is_empty() => {
                let inspected = block::inspect(update.block, true, true);
                inspected
                    .is_ok_and(|i| i.discarded.is_empty())
                    .then_some(update)
            }
            _ => None,
        };
        match (clean, other) {
            (Some(update), Ok(other)) => {
                if let Some(other) = theirs(&other) {
                    assert_eq!(ours(&update), other, "{message:?}");
                    same += 1;
                }
            }
            (Some(_), Err(_)) => only_ours += 1,
            (None, Ok(_)) => only_theirs += 1,
            (None, Err(_)) => {}
        }
    }
    assert!(
        same > ROUNDS / 20,
        "same {same}, only ours {only_ours}, only theirs {only_theirs}"
    );
}
