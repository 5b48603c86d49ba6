//! The desired state of a node: what `calc` decides and `reconcile` makes true.

use serde::{Deserialize, Serialize};

use crate::bgp::Bgp;
use crate::kernel::{KernelState, LinkName};
use crate::kv::Revision;
use crate::resources::Encryption;
use crate::resources::node::InterfaceAddress;
use crate::tunnel::Tunnel;

/// How this host reaches the other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Underlay {
    /// Over IPv4.
    pub v4: Option<UnderlayLink>,
    /// Over IPv6.
    pub v6: Option<UnderlayLink>,
}

impl Underlay {
    /// The link of a family.
    pub fn of(&self, family: crate::Family) -> Option<&UnderlayLink> {
        match family {
            crate::Family::V4 => self.v4.as_ref(),
            crate::Family::V6 => self.v6.as_ref(),
        }
    }
}

/// An interface and address of this host that other nodes use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnderlayLink {
    /// Interface.
    pub interface: LinkName,
    /// Address with the prefix length of its subnet.
    pub address: InterfaceAddress,
    /// MTU in bytes.
    pub mtu: u32,
}

/// The desired state of this node: a function of the snapshot, the underlay and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Which calculation this is: grows with each. What calculates does not know; its caller does.
    pub generation: u64,
    /// The generation that last changed what is dropped of clear text: until the kernel has it, no new
    /// workload may send.
    pub guarded_from: u64,
    /// Revision of the snapshot it was computed from.
    pub revision: Revision,
    /// Everything in the kernel that should be ours.
    pub kernel: KernelState,
    /// It lacks what could not be read: what is in the kernel beyond it is to stay.
    pub partial: bool,
    /// What it lacks is the mesh configuration: it bars every way to other nodes, and what is in the
    /// kernel was decided with more knowledge.
    pub barred: bool,
    /// The encrypted tunnel; `None`: there is to be none.
    pub tunnel: Option<Tunnel>,
    /// What is said and heard by BGP; `None`: nobody is spoken to.
    pub bgp: Option<Bgp>,
    /// Whether what goes to other nodes is to be encrypted.
    pub encryption: Encryption,
    /// MTU of workload interfaces, bytes.
    pub workload_mtu: u32,
    /// What an operator may want to know though nothing is wrong.
    pub advice: Vec<String>,
    /// What could not be decided, and why: shown in `routerctl status`.
    pub problems: Vec<Problem>,
}

/// Something that keeps a part of the mesh from working.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// The object concerned, such as `Node/rack1-b` or `IPPool/default`.
    pub object: String,
    /// What is wrong and what to do.
    pub message: String,
}
