//! What is in force says about a packet: asked of the maps, told in the words of the store.

use calc::explain::{Decided, Decider};
use calc::policy::Packet;
use model::object::ObjectId;
use model::resources::PolicyType;
use policy_ebpf::kernel::{Behind, First, Loaded};
use policy_ebpf::{Engine, Rule};

use super::Seen;

/// The first packet of a connection at an endpoint of this node.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The endpoint.
    pub endpoint: ObjectId,
    /// Which way it goes there.
    pub direction: PolicyType,
    /// The packet.
    pub packet: Packet,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruled {
    /// Something that the store knows decides.
    Decided(Decided),
    /// It passes or not for another reason.
    Otherwise {
        /// It passes.
        allowed: bool,
        /// Why.
        why: String,
    },
    /// The maps could not be read, and why.
    Unread(String),
}

/// What is in force says about a packet.
pub fn judge(seen: &Seen<'_>, asked: &Asked) -> Ruled {
    let kernel = match seen.kernel {
        Ok(kernel) => kernel,
        Err(why) if seen.barrier.cuts_off(&asked.endpoint) => {
            let why = format!(
                "dropped: the workload is cut off, since nothing enforces policy here: {why}"
            );
            return Ruled::Otherwise {
                allowed: false,
                why,
            };
        }
        Err(why) => {
            let why = format!("everything passes, since policy cannot be enforced here: {why}");
            return Ruled::Otherwise { allowed: true, why };
        }
    };
    let Packet {
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        icmp,
    } = asked.packet;
    let first = First {
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        icmp,
    };
    let outbound = asked.direction == PolicyType::Egress;
    match kernel.judge(&asked.endpoint, outbound, &first) {
        Ok(loaded) => told(seen.engine, loaded),
        Err(e) => Ruled::Unread(e),
    }
}

fn told(engine: &Engine, loaded: Loaded) -> Ruled {
    let allowed = loaded.allows();
    let otherwise = |why: &str| Ruled::Otherwise {
        allowed,
        why: why.to_owned(),
    };
    let by = match (loaded, loaded.behind()) {
        (_, Behind::Profile) => Decider::Profile,
        (_, Behind::Failsafe) => Decider::Failsafe,
        (_, Behind::Number(number)) => match engine.describe(number) {
            Some(Rule::Of {
                tier,
                policy,
                direction,
                index,
            }) => Decider::Rule {
                tier,
                policy,
                direction,
                index: index as usize,
            },
            Some(Rule::EndOfTier { tier, .. }) => Decider::EndOfTier { tier },
            None => return otherwise(&format!("by rule number {number}, which no policy has")),
        },
        (Loaded::Detached, _) => {
            return otherwise("everything passes, since the programs are not at the interface");
        }
        (Loaded::Unknown, _) => return otherwise("dropped: the maps do not know the interface"),
        (Loaded::NotProgrammed, _) => {
            return otherwise("dropped: the policy of the endpoint is not in the maps");
        }
        (Loaded::Spoofed, _) => {
            return otherwise("dropped: the maps do not have the address as the endpoint's");
        }
        (Loaded::Decided(_), Behind::Nothing) => return otherwise("by nothing that is known"),
    };
    Ruled::Decided(Decided { allowed, by })
}
