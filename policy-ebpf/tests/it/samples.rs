//! Random worlds: everything that policy looks at, in few values, so that things meet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use calc::policy::Packet;
use model::object::{ObjectId, Resource};
use model::resources::workload_endpoint::{EndpointPort, Protocol, all_labels};
use model::resources::{
    Action, EntityRule, HostEndpointSpec, NamespaceSpec, NetworkSetSpec, Order, PolicySpec, Rule,
    TierAction, TierSpec, WorkloadEndpointSpec,
};
use model::snapshot::{EndpointKey, RemoteEndpoint, Snapshot};
use model::{Cidr, Kind, Metadata};

use super::dice::Dice;
use rules::{policy, rule, selector};

// Others take this file by its path, and then find the module no other way.
#[path = "samples/rules.rs"]
mod rules;

pub(crate) const HERE: &str = "here";
const NAMESPACES: [&str; 3] = ["red", "blue", "grey"];
const TIERS: [&str; 4] = ["first", "second", "default", "unwritten"];
const PORTS: [u16; 6] = [0, 80, 81, 443, 8080, 65535];
const PORT_NAMES: [&str; 3] = ["http", "dns", "none"];
const V4: [&str; 9] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.1.0/24",
    "10.1.1.4/30",
    "10.1.1.5/32",
    "10.2.0.0/15",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "0.0.0.0/0",
];
const V6: [&str; 5] = [
    "fd00::/16",
    "fd00:1::/32",
    "fd00:1::4/126",
    "2001:db8::/32",
    "::/0",
];
const ADDRESSES: [&str; 16] = [
    "10.1.1.4",
    "10.1.1.5",
    "10.1.1.6",
    "10.1.2.1",
    "10.2.0.1",
    "10.3.0.1",
    "10.9.9.9",
    "192.0.2.1",
    "192.0.2.129",
    "198.51.100.1",
    "fd00:1::4",
    "fd00:1::5",
    "fd00:1::9",
    "fd00:2::1",
    "2001:db8::1",
    "2a00::1",
];

/// An object that can come, change and go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Thing {
    Party,
    Namespace,
    Tier,
    Policy,
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn labels(dice: &mut Dice) -> BTreeMap<String, String> {
    let label = |dice: &mut Dice| {
        let (key, value) = (
            dice.pick(&["app", "role", "zone"]),
            dice.pick(&["a", "b", "ab"]),
        );
        (key.to_owned(), value.to_owned())
    };
    dice.many(3, label).into_iter().collect()
}

fn ports(dice: &mut Dice) -> Vec<EndpointPort> {
    dice.many(2, |d| EndpointPort {
        name: d.pick(&PORT_NAMES[..2]).to_owned(),
        protocol: Protocol::Name(d.pick(&["TCP", "UDP"]).to_owned()),
        port: d.pick(&PORTS),
        host_port: None,
        host_ip: None,
    })
}

fn address(dice: &mut Dice) -> IpAddr {
    dice.pick(&ADDRESSES).parse().unwrap()
}

fn metadata(namespace: Option<&str>, name: &str, labels: BTreeMap<String, String>) -> Metadata {
    let mut metadata = match namespace {
        Some(namespace) => Metadata::namespaced(namespace, name),
        None => Metadata::named(name),
    };
    metadata.labels = labels;
    metadata
}

fn id(kind: Kind, namespace: Option<&str>, name: &str) -> ObjectId {
    ObjectId {
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

/// Makes one thing come, change or go.
pub(crate) fn change(dice: &mut Dice, s: &mut Snapshot, what: Thing) -> ObjectId {
    let gone = dice.one_in(4);
    match what {
        Thing::Party => party(dice, s, gone),
        Thing::Namespace => {
            let name = dice.pick(&NAMESPACES);
            s.namespaces.remove(name);
            if !gone {
                let team = dice.pick(&["x", "y"]).to_owned();
                let labels = BTreeMap::from([("team".to_owned(), team)]);
                let metadata = metadata(None, name, labels);
                let spec = NamespaceSpec::default();
                s.namespaces
                    .insert(name.to_owned(), Resource { metadata, spec });
            }
            id(Kind::Namespace, None, name)
        }
        Thing::Tier => {
            let name = dice.pick(&TIERS[..3]);
            s.tiers.remove(name);
            if !gone {
                let spec = TierSpec {
                    order: dice.maybe(2, |d| Order::from(d.pick(&[5, 2_000_000]))),
                    default_action: dice
                        .maybe(2, |d| d.pick(&[TierAction::Pass, TierAction::Deny])),
                };
                s.tiers.insert(name.to_owned(), Resource::named(name, spec));
            }
            id(Kind::Tier, None, name)
        }
        Thing::Policy => {
            let global = dice.one_in(2);
            let staged = dice.one_in(4);
            let kind = match (global, staged) {
                (true, false) => Kind::GlobalNetworkPolicy,
                (true, true) => Kind::StagedGlobalNetworkPolicy,
                (false, false) => Kind::NetworkPolicy,
                (false, true) => Kind::StagedNetworkPolicy,
            };
            let namespace = (!global).then(|| dice.pick(&NAMESPACES));
            let id = id(
                kind,
                namespace,
                dice.pick(&["p", "q", "r", "s", "t", "u", "v"]),
            );
            s.policies.remove(&id);
            if !gone {
                let mut spec = policy(dice, staged);
                if global {
                    spec.namespace_selector =
                        dice.maybe(3, |d| d.pick(&["team == 'x'", "all()"]).to_owned());
                }
                let metadata = metadata(namespace, &id.name, BTreeMap::new());
                s.policies.insert(id.clone(), Resource { metadata, spec });
            }
            id
        }
    }
}

fn party(dice: &mut Dice, s: &mut Snapshot, gone: bool) -> ObjectId {
    let labels = labels(dice);
    match dice.roll(6) {
        0 => {
            let name = dice.pick(&["h1", "h2"]);
            s.host_endpoints.remove(name);
            if !gone {
                let spec = HostEndpointSpec {
                    node: dice.pick(&[HERE, "there"]).to_owned(),
                    interface_name: "eth0".to_owned(),
                    expected_ips: dice.many(2, address),
                    profiles: dice.many(1, |_| "projectcalico-default-allow".to_owned()),
                    ports: ports(dice),
                };
                let metadata = metadata(None, name, labels);
                s.host_endpoints
                    .insert(name.to_owned(), Resource { metadata, spec });
            }
            id(Kind::HostEndpoint, None, name)
        }
        1 => {
            let namespace = dice.maybe(2, |d| d.pick(&NAMESPACES));
            let kind = match namespace {
                Some(_) => Kind::NetworkSet,
                None => Kind::GlobalNetworkSet,
            };
            let id = id(kind, namespace, dice.pick(&["s", "t"]));
            s.network_sets.remove(&id);
            if !gone {
                let nets = dice.many(3, |d| {
                    cidr(if d.one_in(3) {
                        d.pick(&V6)
                    } else {
                        d.pick(&V4)
                    })
                });
                let metadata = metadata(namespace, &id.name, labels);
                let spec = NetworkSetSpec { nets };
                s.network_sets
                    .insert(id.clone(), Resource { metadata, spec });
            }
            id
        }
        _ => workload(dice, s, gone, labels),
    }
}

fn workload(
    dice: &mut Dice,
    s: &mut Snapshot,
    gone: bool,
    labels: BTreeMap<String, String>,
) -> ObjectId {
    let namespace = dice.pick(&NAMESPACES);
    let name = dice.pick(&["w1", "w2", "w3", "w4"]);
    let key = EndpointKey {
        namespace: namespace.into(),
        name: name.into(),
    };
    s.local_endpoints.remove(&key);
    s.remote_endpoints.remove(&key);
    let metadata = metadata(Some(namespace), name, labels);
    let spec = WorkloadEndpointSpec {
        ip_networks: dice.many(3, |d| Cidr::host(address(d))),
        ports: ports(dice),
        ..WorkloadEndpointSpec::default()
    };
    match (gone, dice.one_in(3)) {
        (true, _) => {}
        (false, true) => {
            s.local_endpoints.insert(key, Resource { metadata, spec });
        }
        (false, false) => {
            let remote = RemoteEndpoint {
                node: "there".into(),
                ips: spec.ip_networks.iter().map(Cidr::network).collect(),
                labels: all_labels(&metadata, &spec).into(),
                ports: spec.ports.into(),
                workload: "".into(),
            };
            s.remote_endpoints.insert(key, remote);
        }
    }
    id(Kind::WorkloadEndpoint, Some(namespace), name)
}

/// A world with a bit of everything.
pub(crate) fn world(dice: &mut Dice, policies: usize) -> Snapshot {
    let mut s = Snapshot::default();
    for (thing, count) in [
        (Thing::Namespace, 3),
        (Thing::Tier, 4),
        (Thing::Party, 20),
        (Thing::Policy, policies),
    ] {
        for _ in 0..count {
            change(dice, &mut s, thing);
        }
    }
    s
}

/// Many policies for most endpoints, each with few rules, most of which match little: packets go by many of them.
pub(crate) fn crowd(dice: &mut Dice, s: &mut Snapshot, count: usize) {
    for n in 0..count {
        let mut spec = policy(dice, false);
        spec.selector = dice.maybe(8, selector);
        spec.tier = dice.maybe(4, |d| d.pick(&TIERS).to_owned());
        for rules in [&mut spec.ingress, &mut spec.egress] {
            rules.truncate(2);
            rules.retain(|r| {
                *r != Rule::any(r.action) && (r.protocol.is_some() || r.source.selector.is_some())
            });
        }
        let id = id(Kind::GlobalNetworkPolicy, None, &format!("crowd{n}"));
        let metadata = metadata(None, &id.name, BTreeMap::new());
        s.policies.insert(id, Resource { metadata, spec });
    }
}

/// One policy of many rules for everybody.
pub(crate) fn giant(dice: &mut Dice, s: &mut Snapshot, rules: usize) {
    let id = id(Kind::GlobalNetworkPolicy, None, "giant");
    let metadata = metadata(None, &id.name, BTreeMap::new());
    let mut spec = PolicySpec {
        order: Some(Order::from(-1)),
        ..PolicySpec::default()
    };
    while spec.ingress.len() < rules {
        let rule = rule(dice);
        // Most ask for something at both ends, so that those at the end of the list are reached.
        let asks = |e: &EntityRule| e.selector.is_some() || !e.nets.is_empty();
        if asks(&rule.source) && asks(&rule.destination) && rule.protocol.is_some() {
            spec.ingress.push(rule);
        }
    }
    s.policies.insert(id, Resource { metadata, spec });
}

/// Sixty workloads side by side, of two sorts, and one here.
pub(crate) fn rows(s: &mut Snapshot) {
    for n in 0..60u8 {
        let labels =
            BTreeMap::from([("app".to_owned(), ["a", "b"][usize::from(n / 30)].to_owned())]);
        let remote = RemoteEndpoint {
            node: "there".into(),
            ips: [IpAddr::from([10, 5, 0, 4 * n])].into(),
            labels: labels.into(),
            ports: [].into(),
            workload: "".into(),
        };
        let key = EndpointKey {
            namespace: "red".into(),
            name: format!("row{n}").into(),
        };
        s.remote_endpoints.insert(key, remote);
    }
    let spec = WorkloadEndpointSpec::default();
    let key = EndpointKey {
        namespace: "red".into(),
        name: "here".into(),
    };
    let metadata = metadata(Some("red"), "here", BTreeMap::new());
    s.local_endpoints.insert(key, Resource { metadata, spec });
}

/// Makes a policy that names prefixes of those come, change or go.
pub(crate) fn change_nets(dice: &mut Dice, s: &mut Snapshot) -> ObjectId {
    let id = id(Kind::GlobalNetworkPolicy, None, dice.pick(&["n", "o", "p"]));
    s.policies.remove(&id);
    if !dice.one_in(3) {
        let net = |d: &mut Dice| {
            let length = d.pick(&[8, 23, 24, 25, 26, 27]);
            let ip = IpAddr::from([10, 5, 0, u8::try_from(d.roll(256)).unwrap()]);
            Cidr::containing(ip, length).unwrap()
        };
        let mut spec = PolicySpec::default();
        for _ in 0..2 {
            let mut rule = Rule::any(Action::Allow);
            rule.source.nets = dice.many(2, net);
            rule.source.not_nets = dice.many(1, net);
            rule.source.selector = dice.maybe(3, |_| "app == 'a'".to_owned());
            spec.ingress.push(rule);
        }
        let metadata = metadata(None, &id.name, BTreeMap::new());
        s.policies.insert(id.clone(), Resource { metadata, spec });
    }
    id
}

/// A packet between addresses that somebody may have, or nobody.
pub(crate) fn packet(dice: &mut Dice) -> Packet {
    let (source, mut destination) = (address(dice), address(dice));
    while source.is_ipv4() != destination.is_ipv4() {
        destination = address(dice);
    }
    let protocol = dice.pick(&[6, 6, 6, 17, 17, 132, 1, 58, 47, 255]);
    let has_ports = matches!(protocol, 6 | 17 | 132);
    let port = |d: &mut Dice| match (has_ports, d.one_in(8)) {
        (false, _) => 0,
        (true, true) => u16::try_from(d.roll(65_536)).unwrap(),
        (true, false) => d.pick(&PORTS),
    };
    Packet {
        source,
        destination,
        protocol,
        source_port: port(dice),
        destination_port: port(dice),
        icmp: matches!(protocol, 1 | 58)
            .then(|| (dice.pick(&[0, 3, 8, 200]), dice.pick(&[0, 1, 4]))),
    }
}
