//! Random worlds, compiled and written into the maps: the programs say what the evaluator of resources says.

use calc::policy::{By, Mode, Packet, Party, World};
use model::Kind;
use model::object::ObjectId;
use model::resources::PolicyType;
use model::snapshot::Snapshot;
use policy_common::packet::{IcmpKind, Version, icmp_kind, protocol};
use policy_common::tables::{Action, rule};
use policy_ebpf::kernel::{Behind, Enforcer, First, Loaded};
use policy_ebpf::{Engine, Settings, feed};

use crate::dice::Dice;
use crate::frame::{Path, SYN};
use crate::samples::{self, HERE};
use crate::small::{self, Tally};

/// Packets of a world, and worlds at least: each has its programs loaded.
const PACKETS: usize = 10_000;
const WORLDS: usize = 2;

struct Endpoint<'w> {
    id: ObjectId,
    party: &'w Party<'w>,
    ifindex: u32,
}

#[test]
fn the_programs_say_what_the_resources_say() {
    let mut tally = Tally::default();
    let worlds = (crate::frames() / PACKETS).max(WORLDS);
    for seed in 0..worlds as u64 {
        let mut dice = Dice::new(seed);
        let snapshot = samples::world(&mut dice, 20);
        let world = World::new(&snapshot, Mode::Enforced);
        let endpoints = endpoints(&world, &snapshot);
        let enforcer = &mut enforcer(&snapshot, &endpoints);
        let enough = tally.all() + crate::frames() / worlds;
        while tally.all() < enough {
            let packet = samples::packet(&mut dice);
            let Some(bytes) = first_packet(&packet) else {
                continue;
            };
            let index = dice.roll(endpoints.len());
            let endpoint = &endpoints[index];
            let direction = dice.pick(&[PolicyType::Ingress, PolicyType::Egress]);
            let expected = world.evaluate(endpoint.party, direction, &packet);
            if expected.by == By::Failsafe {
                continue;
            }
            let id = &endpoint.id;
            let found = small::passes(enforcer, (id, endpoint.ifindex), direction, &bytes);
            assert_eq!(
                found, expected.allowed,
                "seed {seed}: {id} {direction:?} {packet:?}"
            );
            let read = enforcer.judge(id, direction == PolicyType::Egress, &first(&packet));
            let read = read.expect("maps that can be read");
            let is_decided = matches!(read, Loaded::Decided(_));
            assert!(
                is_decided,
                "seed {seed}: {id} {direction:?} {packet:?}: {read:?}"
            );
            assert_eq!(
                read.allows(),
                found,
                "seed {seed}: {id} {direction:?} {packet:?}"
            );
            tally.count(found);
        }
    }
    assert!(tally.is_mixed(), "{tally:?}");
}

/// The maps are read as they are, whoever wrote them, and reading leaves no trace.
#[test]
fn what_somebody_altered_is_what_is_read() {
    let mut snapshot = Snapshot::default();
    samples::rows(&mut snapshot);
    let world = World::new(&snapshot, Mode::Enforced);
    let endpoints = endpoints(&world, &snapshot);
    let enforcer = &mut enforcer(&snapshot, &endpoints);
    let id = endpoints[0].id.clone();
    let packet = First {
        source: [10, 5, 0, 4].into(),
        destination: [10, 5, 0, 8].into(),
        protocol: 6,
        source_port: 40_000,
        destination_port: 80,
        icmp: None,
    };
    let judge = |enforcer: &Enforcer| enforcer.judge(&id, true, &packet).expect("maps");
    let read = judge(enforcer);
    assert_eq!((read.allows(), read.behind()), (true, Behind::Profile));
    let maps = &enforcer.programs().maps;
    for number in maps.chain.keys().expect("chains") {
        let mut chain = maps.chain.get(&number).expect("maps").expect("a chain");
        chain.profile = rule::word(77, Action::Deny);
        maps.chain.put(&number, &chain).expect("room");
    }
    let read = judge(enforcer);
    assert_eq!((read.allows(), read.behind()), (false, Behind::Number(77)));
    let maps = &enforcer.programs().maps;
    for number in maps.chain.keys().expect("chains") {
        maps.chain.remove(&number).expect("maps");
    }
    assert_eq!(judge(enforcer), Loaded::NotProgrammed);
    let maps = &enforcer.programs().maps;
    assert_eq!(maps.connections.keys().expect("maps").len(), 0);
    assert!(maps.counted().expect("maps").is_empty());
    for key in maps.own.keys().expect("maps") {
        maps.own.remove(&key).expect("maps");
    }
    assert_eq!(judge(enforcer), Loaded::Spoofed);
    enforcer.detach(&id).expect("maps");
    assert_eq!(judge(enforcer), Loaded::Detached);
}

fn first(packet: &Packet) -> First {
    First {
        source: packet.source,
        destination: packet.destination,
        protocol: packet.protocol,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        icmp: packet.icmp,
    }
}

fn endpoints<'w>(world: &'w World<'_>, snapshot: &'w Snapshot) -> Vec<Endpoint<'w>> {
    let workloads = snapshot.local_endpoints.keys().map(|key| {
        let party = world
            .workload(&key.namespace, &key.name)
            .expect("a workload");
        (
            Kind::WorkloadEndpoint,
            Some(key.namespace.to_string()),
            key.name.to_string(),
            party,
        )
    });
    let hosts = snapshot
        .host_endpoints
        .iter()
        .filter(|(_, r)| r.spec.node == HERE);
    let hosts = hosts.map(|(name, _)| {
        let party = world.host(name).expect("a host");
        (Kind::HostEndpoint, None, name.clone(), party)
    });
    let all = workloads.chain(hosts).zip(1..);
    all.map(|((kind, namespace, name, party), ifindex)| Endpoint {
        id: ObjectId {
            kind,
            namespace,
            name,
        },
        party,
        ifindex,
    })
    .collect()
}

/// Programs with the tables of a world, and its endpoints at interfaces that are numbers only.
fn enforcer(snapshot: &Snapshot, endpoints: &[Endpoint<'_>]) -> Enforcer {
    let mut enforcer = small::enforcer();
    let mut engine = Engine::new(Settings::default());
    let changes = feed::everything(&engine, snapshot, HERE);
    enforcer.apply(&engine.apply(changes)).expect("room");
    for endpoint in endpoints {
        let interface = small::interface(&endpoint.id, endpoint.ifindex);
        enforcer.attach(&endpoint.id, &interface).expect("room");
    }
    enforcer
}

/// A packet that begins something; `None` of what begins nothing.
pub fn first_packet(packet: &Packet) -> Option<Vec<u8>> {
    let path = Path {
        from: packet.source,
        to: packet.destination,
        from_port: packet.source_port,
        to_port: packet.destination_port,
    };
    let version = match packet.source.is_ipv4() {
        true => Version::V4,
        false => Version::V6,
    };
    Some(match packet.protocol {
        protocol::TCP => path.tcp(SYN),
        protocol::SCTP => path.sctp(1),
        protocol::UDP | protocol::UDP_LITE => path.packet(packet.protocol, &path.udp_header()),
        protocol::ICMP | protocol::ICMPV6 => {
            let (icmp_type, code) = packet.icmp?;
            let own = (version == Version::V4) == (packet.protocol == protocol::ICMP);
            let kind = icmp_kind(version, icmp_type);
            if own && !matches!(kind, IcmpKind::Question | IcmpKind::Other) {
                return None;
            }
            path.packet(packet.protocol, &[icmp_type, code, 0, 0, 0, 1, 0, 1])
        }
        other => path.packet(other, &[0; 8]),
    })
}
