//! The examples of `tests/truth`, asked of the programs.

use calc::policy::{FAILSAFE_INBOUND, FAILSAFE_OUTBOUND};
use model::Kind;
use model::kernel::Mac;
use model::object::ObjectId;
use model::resources::PolicyType;
use policy_ebpf::kernel::{Enforcer, Hook, Interface, Programs, Sizes, Test};

use crate::compiled::first_packet;
use crate::examples::{CLUSTER, EXAMPLES, Example};
use crate::frame::{HOST_MAC, MAC, ethernet};
use crate::line::Line;
use crate::node::{NODES, Node, read};

/// The interface that others' packets come in by.
const ELSEWHERE: u32 = 1000;

fn enforcer() -> Enforcer {
    let sizes = Sizes {
        endpoints: 64,
        prefixes: 4096,
        rows: 1 << 14,
        connections: 1 << 10,
    };
    let programs = Programs::load_for_tests(&sizes).expect("programs that the kernel takes");
    let enforcer = Enforcer::new(programs).expect("settings");
    let (inbound, outbound) = (FAILSAFE_INBOUND.into(), FAILSAFE_OUTBOUND.into());
    enforcer.set_failsafe(&inbound, &outbound).expect("room");
    enforcer
}

/// Endpoints of the example at interfaces of their number.
fn attach(enforcer: &mut Enforcer, node: &Node) -> Vec<ObjectId> {
    let ids: Vec<ObjectId> = node.tables.endpoints.keys().cloned().collect();
    for (ifindex, id) in (1..).zip(&ids) {
        let everywhere = ["0.0.0.0/0", "::/0"];
        let interface = Interface {
            name: String::new(),
            ifindex,
            mac: Mac(MAC),
            own: everywhere.map(|p| p.parse().expect("a prefix")).to_vec(),
            host: id.kind == Kind::HostEndpoint,
        };
        enforcer.attach(id, &interface).expect("room");
    }
    ids
}

fn passes(
    enforcer: &mut Enforcer,
    ifindex: u32,
    host: bool,
    direction: PolicyType,
    packet: &[u8],
) -> bool {
    let outbound = direction == PolicyType::Egress;
    let test = Test {
        hook: match outbound == host {
            true => Hook::ToWire,
            false => Hook::FromWire,
        },
        frame: &ethernet(if outbound { MAC } else { HOST_MAC }, packet),
        ifindex,
        came_from: if outbound { 0 } else { ELSEWHERE },
        for_host: host,
        ahead: 0,
        repeat: 1,
    };
    enforcer.programs().run(&test).expect("a run").0
}

#[test]
fn examples_are_enforced_as_documented() {
    // One after the other in the same maps: none leaves anything behind that the next would meet.
    let mut enforcer = enforcer();
    let mut node = Node::new(NODES[0]);
    let start = policy_ebpf::Update {
        puts: node
            .tables
            .identities
            .iter()
            .map(|(p, i)| policy_ebpf::Op::Identity(*p, Some(*i)))
            .collect(),
        ..policy_ebpf::Update::default()
    };
    enforcer.apply(&start).expect("room");
    for Example {
        name,
        manifest,
        verdicts,
    } in EXAMPLES
    {
        let objects = [read(CLUSTER), read(manifest)].concat();
        enforcer.apply(&node.put(&objects)).expect("room");
        let ids = attach(&mut enforcer, &node);
        for text in verdicts {
            let line = Line::read(text, &node.snapshot);
            if line.staged {
                continue; // nothing is enforced
            }
            let packet = first_packet(&line.packet).expect("a packet that begins something");
            let judges = line.judges(&node.snapshot);
            let all = judges.iter().all(|(id, direction)| {
                let ifindex = (1..)
                    .zip(&ids)
                    .find(|(_, known)| *known == id)
                    .expect("an interface")
                    .0;
                passes(
                    &mut enforcer,
                    ifindex,
                    id.kind == Kind::HostEndpoint,
                    *direction,
                    &packet,
                )
            });
            assert_eq!(all, line.allow, "{name}: {text}");
        }
        for id in &ids {
            enforcer.detach(id).expect("to detach");
        }
        enforcer.apply(&node.remove(&objects)).expect("to write");
        let connections = &enforcer.programs().maps.connections;
        for key in connections.keys().expect("connections") {
            connections.remove(&key).expect("a removal");
        }
    }
}
