//! The examples, by the evaluator of resources and by the tables.

use calc::policy::{By, Mode, World};
use model::Kind;

use crate::examples::{CLUSTER, EXAMPLES};
use crate::line::Line;
use crate::node::{First, NODES, Node, read};

#[test]
fn examples_mean_what_the_documentation_says() {
    for example in EXAMPLES {
        let mut node = Node::new(NODES[0]);
        node.put(&read(CLUSTER));
        node.put(&read(example.manifest));
        for text in example.verdicts {
            let place = format!("{}: {text}", example.name);
            let line = Line::read(text, &node.snapshot);
            let mode = match line.staged {
                true => Mode::Staged,
                false => Mode::Enforced,
            };
            let world = World::new(&node.snapshot, mode);
            let packet = line.packet;
            let icmp = packet.icmp.map(|(t, c)| u16::from_be_bytes([t, c]));
            let first = First {
                source: packet.source,
                destination: packet.destination,
                protocol: packet.protocol,
                port: icmp.unwrap_or(packet.destination_port),
            };
            let judges = line.judges(&node.snapshot);
            assert!(!judges.is_empty(), "{place}");
            let mut passes = true;
            for (id, direction) in judges {
                let party = match id.kind {
                    Kind::HostEndpoint => world.host(&id.name),
                    _ => world.workload(id.namespace.as_deref().unwrap(), &id.name),
                };
                let said = world.evaluate(party.unwrap(), direction, &packet);
                passes &= said.allowed;
                // Ports that no policy closes are not the tables' to know.
                if said.by == By::Failsafe {
                    continue;
                }
                let compiled = match line.staged {
                    true => node.would_let(&id, direction, &first),
                    false => node.lets(&id, direction, &first),
                };
                assert_eq!(compiled, said.allowed, "{place}: the tables of {id}");
            }
            assert_eq!(passes, line.allow, "{place}");
        }
    }
}
