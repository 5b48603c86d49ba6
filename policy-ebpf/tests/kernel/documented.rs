//! The examples of `tests/truth`, asked of the programs.

use calc::policy::{FAILSAFE_INBOUND, FAILSAFE_OUTBOUND};
use model::object::ObjectId;
use policy_ebpf::kernel::Enforcer;

use crate::compiled::first_packet;
use crate::examples::{CLUSTER, EXAMPLES, Example};
use crate::line::Line;
use crate::node::{NODES, Node, read};
use crate::small;

fn enforcer() -> Enforcer {
    let enforcer = small::enforcer();
    let (inbound, outbound) = (FAILSAFE_INBOUND.into(), FAILSAFE_OUTBOUND.into());
    enforcer.set_failsafe(&inbound, &outbound).expect("room");
    enforcer
}

/// Endpoints of the example at interfaces of their number.
fn attach(enforcer: &mut Enforcer, node: &Node) -> Vec<ObjectId> {
    let ids: Vec<ObjectId> = node.tables.endpoints.keys().cloned().collect();
    for (ifindex, id) in (1..).zip(&ids) {
        let interface = small::interface(id, ifindex);
        enforcer.attach(id, &interface).expect("room");
    }
    ids
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
                small::passes(&mut enforcer, (id, ifindex), *direction, &packet)
            });
            assert_eq!(all, line.allow, "{name}: {text}");
        }
        for id in &ids {
            enforcer.detach(id).expect("to detach");
        }
        enforcer.apply(&node.remove(&objects)).expect("to write");
    }
}
