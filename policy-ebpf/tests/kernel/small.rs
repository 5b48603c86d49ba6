//! Small worlds in the kernel: programs with little room, endpoints at interfaces that are numbers only, and the first
//! packet of a connection at one of them.

use model::Kind;
use model::kernel::Mac;
use model::object::ObjectId;
use model::resources::PolicyType;
use policy_ebpf::kernel::{Answer, Enforcer, Hook, Interface, Programs, Sizes, Test};

use crate::frame::{HOST_MAC, MAC, ethernet};

/// The interface that others' packets come in by.
pub const ELSEWHERE: u32 = 1000;

/// Programs without endpoints.
pub fn enforcer() -> Enforcer {
    let sizes = Sizes {
        endpoints: 64,
        prefixes: 4096,
        rows: 1 << 16,
        connections: 1 << 12,
    };
    let programs = Programs::load_for_tests(&sizes).expect("programs that the kernel takes");
    Enforcer::new(programs).expect("settings")
}

/// The interface of an endpoint that may send from every address.
pub fn interface(id: &ObjectId, ifindex: u32) -> Interface {
    let everywhere = ["0.0.0.0/0", "::/0"];
    Interface {
        name: String::new(),
        ifindex,
        mac: Mac(MAC),
        own: everywhere.map(|p| p.parse().expect("a prefix")).to_vec(),
        host: id.kind == Kind::HostEndpoint,
        mtu: 0,
    }
}

/// Whether the program at an endpoint lets a packet pass that begins something. It is forgotten: the next one is the
/// first of its connection as well.
pub fn passes(
    enforcer: &mut Enforcer,
    (id, ifindex): (&ObjectId, u32),
    direction: PolicyType,
    packet: &[u8],
) -> bool {
    let host = id.kind == Kind::HostEndpoint;
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
    let programs = enforcer.programs();
    let passed = programs.run(&test).expect("a run").answer != Answer::Dropped;
    let connections = &programs.maps.connections;
    for key in connections.keys().expect("connections") {
        connections.remove(&key).expect("a removal");
    }
    passed
}

/// What passed and what was dropped.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: usize,
    pub dropped: usize,
}

impl Tally {
    pub fn count(&mut self, passed: bool) {
        match passed {
            true => self.passed += 1,
            false => self.dropped += 1,
        }
    }

    pub fn all(&self) -> usize {
        self.passed + self.dropped
    }

    /// Neither nothing nor everything passes: then there would be little to agree on.
    pub fn is_mixed(&self) -> bool {
        self.passed * 20 > self.dropped && self.dropped * 20 > self.passed
    }
}
