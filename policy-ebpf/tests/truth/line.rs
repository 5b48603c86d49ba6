//! A line of an example's table.

use std::net::IpAddr;

use calc::policy::Packet;
use model::Kind;
use model::object::ObjectId;
use model::resources::PolicyType;
use model::snapshot::{EndpointKey, Snapshot};

use crate::node::pod_id;

/// What is to become of the first packet of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) allow: bool,
    pub(crate) staged: bool,
    pub(crate) packet: Packet,
}

impl Line {
    pub(crate) fn read(text: &str, snapshot: &Snapshot) -> Line {
        let (staged, rest) = match text.strip_prefix("staged ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let words: Vec<&str> = rest.split(' ').collect();
        let &[verdict, from, to, protocol, number] = &words[..] else {
            panic!("{text}: five words");
        };
        let (source, destination) = (end(from, snapshot), end(to, snapshot));
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "{text}");
        let number: u16 = number.parse().expect("a number");
        let protocol = match (protocol, source.is_ipv4()) {
            ("TCP", _) => 6,
            ("UDP", _) => 17,
            ("SCTP", _) => 132,
            ("ICMP", true) => 1,
            ("ICMP", false) => 58,
            _ => panic!("{text}: no protocol"),
        };
        let icmp = matches!(protocol, 1 | 58).then(|| (u8::try_from(number).expect("a type"), 0));
        Line {
            allow: match verdict {
                "allow" => true,
                "deny" => false,
                _ => panic!("{text}: no verdict"),
            },
            staged,
            packet: Packet {
                source,
                destination,
                protocol,
                source_port: if icmp.is_some() { 0 } else { 40_000 },
                destination_port: if icmp.is_some() { 0 } else { number },
                icmp,
            },
        }
    }

    /// Who judges it: the endpoint that it leaves, and the one that it comes to.
    pub(crate) fn judges(&self, snapshot: &Snapshot) -> Vec<(ObjectId, PolicyType)> {
        let Packet {
            source,
            destination,
            ..
        } = self.packet;
        let source = endpoint_at(source, snapshot).map(|id| (id, PolicyType::Egress));
        let destination = endpoint_at(destination, snapshot).map(|id| (id, PolicyType::Ingress));
        source.into_iter().chain(destination).collect()
    }
}

fn end(text: &str, snapshot: &Snapshot) -> IpAddr {
    if let Ok(address) = text.parse() {
        return address;
    }
    if text == "host" {
        let host = snapshot.host_endpoints.values().next().expect("a host");
        return host.spec.expected_ips[0];
    }
    let (name, v6) = match text.strip_suffix('6') {
        Some(name) => (name, true),
        None => (text, false),
    };
    let (namespace, name) = name
        .split_once('/')
        .unwrap_or_else(|| panic!("{text} is nobody"));
    let key = EndpointKey {
        namespace: namespace.into(),
        name: name.into(),
    };
    let nets = &snapshot.local_endpoints[&key].spec.ip_networks;
    nets[usize::from(v6)].network()
}

fn endpoint_at(address: IpAddr, snapshot: &Snapshot) -> Option<ObjectId> {
    let workload = snapshot.local_endpoints.iter().find(|(_, r)| {
        let nets = &r.spec.ip_networks;
        nets.iter().any(|n| n.contains(address))
    });
    let host = snapshot
        .host_endpoints
        .iter()
        .find(|(_, r)| r.spec.expected_ips.contains(&address));
    let workload = workload.map(|(key, _)| pod_id(&key.namespace, &key.name));
    workload.or_else(|| {
        Some(ObjectId {
            kind: Kind::HostEndpoint,
            namespace: None,
            name: host?.0.clone(),
        })
    })
}
