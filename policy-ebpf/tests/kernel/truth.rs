//! The truth table of `tests/truth`, asked of the programs: two nodes of a cluster, each with its own maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::kernel::Mac;
use model::object::ObjectId;
use model::resources::PolicyType;
use policy_common::packet::protocol;
use policy_ebpf::Update;
use policy_ebpf::kernel::{Answer, Enforcer, Hook, Interface, Test};

use crate::cluster::{self, PROTOCOLS};
use crate::evaluator::{Attempt, Cluster, Pod};
use crate::frame::{HOST_MAC, MAC, Path, SYN, ethernet};
use crate::node::{NODES, Node, node_of, objects, pod_id, read};
use crate::recipes::recipes;
use crate::small::{self, ELSEWHERE, Tally};

/// One of so many attempts is made, and of more where frames are few; it shares no factor with the numbers of ports and
/// protocols.
const OF: usize = 11;

/// A node whose kernel enforces what it compiles.
struct Kernel {
    node: Node,
    enforcer: Enforcer,
    /// Interfaces of its pods.
    pods: BTreeMap<ObjectId, u32>,
}

impl Kernel {
    fn new(name: &'static str, cluster: &Cluster) -> Kernel {
        let mut kernel = Kernel {
            node: Node::new(name),
            enforcer: small::enforcer(),
            pods: BTreeMap::new(),
        };
        for (number, pod) in cluster.pods.iter().enumerate() {
            if node_of(number) == name {
                kernel.attach(pod, u32::try_from(number).expect("few") + 1);
            }
        }
        let tables = &kernel.node.tables;
        assert!(tables.endpoints.is_empty() && !tables.identities.is_empty());
        // What the node wrote before there was a kernel.
        let start = tables
            .identities
            .iter()
            .map(|(prefix, identity)| policy_ebpf::Op::Identity(*prefix, Some(*identity)));
        let start = Update {
            puts: start.collect(),
            ..Update::default()
        };
        kernel.enforcer.apply(&start).expect("room");
        let update = kernel.node.put(&objects(cluster));
        kernel.enforcer.apply(&update).expect("room");
        kernel
    }

    fn attach(&mut self, pod: &Pod, ifindex: u32) {
        let id = pod_id(pod.namespace, pod.name);
        let interface = Interface {
            name: String::new(),
            ifindex,
            mac: Mac(MAC),
            own: pod.addresses.map(model::Cidr::host).to_vec(),
            host: false,
            mtu: 0,
        };
        self.enforcer.attach(&id, &interface).expect("room");
        self.pods.insert(id, ifindex);
    }

    /// Whether the program at a pod of this node lets the first packet of a connection pass.
    fn lets(&mut self, pod: &Pod, direction: PolicyType, from: u32, packet: &[u8]) -> bool {
        let (hook, mac) = match direction {
            PolicyType::Egress => (Hook::FromWire, MAC),
            PolicyType::Ingress => (Hook::ToWire, HOST_MAC),
        };
        let test = Test {
            hook,
            frame: &ethernet(mac, packet),
            ifindex: self.pods[&pod_id(pod.namespace, pod.name)],
            came_from: from,
            for_host: false,
            ahead: 0,
            repeat: 1,
        };
        self.enforcer.programs().run(&test).expect("a run").answer != Answer::Dropped
    }
}

/// A first packet, whose source port tells it from that of another recipe.
fn first(attempt: &Attempt, from_port: u16) -> Vec<u8> {
    let path = Path {
        from: attempt.source,
        to: attempt.destination,
        from_port,
        to_port: attempt.port,
    };
    let number = PROTOCOLS.iter().find(|(name, _)| *name == attempt.protocol);
    match number.expect("a protocol").1 {
        protocol::TCP => path.tcp(SYN),
        protocol::UDP => path.udp(),
        _ => path.sctp(1),
    }
}

#[test]
fn recipes_are_enforced_as_the_api_says() {
    let cluster = cluster::cluster();
    let attempts = cluster::attempts(&cluster);
    let mut kernels = NODES.map(|name| Kernel::new(name, &cluster));
    let of = |address: IpAddr| {
        let number = cluster
            .pods
            .iter()
            .position(|p| p.addresses.contains(&address))?;
        let node = NODES.iter().position(|n| *n == node_of(number))?;
        Some((&cluster.pods[number], node))
    };
    let of_so_many = OF * (100_000 / crate::frames()).max(1);
    let mut tally = Tally::default();
    for (number, recipe) in (0..).zip(recipes()) {
        let policies = read(&recipe.text);
        for kernel in &mut kernels {
            let update = kernel.node.put(&policies);
            kernel.enforcer.apply(&update).expect("room");
        }
        let sample = attempts
            .iter()
            .skip(usize::from(number) % of_so_many)
            .step_by(of_so_many);
        for attempt in sample {
            let packet = first(attempt, 40_000 + number);
            let mut judge = |address, direction, wanted| {
                let Some((pod, node)) = of(address) else {
                    return;
                };
                let kernel = &mut kernels[node];
                let found = kernel.lets(pod, direction, ELSEWHERE, &packet);
                assert_eq!(found, wanted, "{}: {direction:?} {attempt:?}", recipe.name);
                tally.count(found);
            };
            let documents = &recipe.policies;
            judge(
                attempt.source,
                PolicyType::Egress,
                cluster.lets_out(documents, attempt),
            );
            judge(
                attempt.destination,
                PolicyType::Ingress,
                cluster.lets_in(documents, attempt),
            );
        }
        // What a host sends to its own pods passes whatever policy says.
        for (pod, node) in cluster.pods.iter().map(|p| p.addresses[0]).filter_map(of) {
            let attempt = Attempt {
                source: "10.0.0.1".parse().expect("an address"),
                destination: pod.addresses[0],
                protocol: "TCP",
                port: 80,
            };
            let packet = first(&attempt, 40_000 + number);
            let kernel = &mut kernels[node];
            assert!(
                kernel.lets(pod, PolicyType::Ingress, 0, &packet),
                "{}: {attempt:?}",
                recipe.name
            );
        }
        for kernel in &mut kernels {
            let update = kernel.node.remove(&policies);
            kernel.enforcer.apply(&update).expect("to write");
        }
    }
    println!("{tally:?}");
    assert!(tally.is_mixed(), "{tally:?}");
}
