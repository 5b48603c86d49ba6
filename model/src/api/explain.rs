//! What becomes of a packet, and why: the answer of `routerctl explain`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Cidr;
use crate::resources::Encryption;

/// What becomes of a packet between two addresses, every decision on its way, and whether the kernel of this node
/// would decide the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether it gets there. Where no port was asked for, that of every port that `ports` does not list.
    pub verdict: ExplainVerdict,
    /// Who decided, in a sentence.
    pub summary: String,
    /// The packet: the first of its connection.
    pub packet: ExplainPacket,
    /// Who sends it.
    pub source: ExplainEnd,
    /// Who is to get it.
    pub destination: ExplainEnd,
    /// Every decision in order.
    pub steps: Vec<ExplainStep>,
    /// Where no port was asked for: the ports of which something else is said than `verdict`, or by something else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ExplainPorts>,
    /// Which way it goes.
    pub route: ExplainRoute,
    /// Largest packet that goes the whole way, bytes; 0 when none does or nobody knows.
    pub mtu: u32,
    /// What would be said were the staged policies in force; null: the same, by the same rules.
    pub staged: Option<ExplainStaged>,
    /// Everything that this node's kernel was asked about is as the store has it, and there was something to ask.
    pub kernel_agrees: bool,
    /// What it was asked.
    pub kernel: Vec<ExplainCheck>,
    /// What it could not be asked, and on which node to ask.
    pub not_checked: Vec<String>,
}

/// Whether a packet gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExplainVerdict {
    /// It does.
    Allow,
    /// It does not.
    Deny,
}

/// The packet in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainPacket {
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; null: any, or the protocol has none.
    pub port: Option<u16>,
    /// Source port; null: the protocol has none.
    pub source_port: Option<u16>,
    /// Type of ICMP.
    pub icmp_type: Option<u8>,
    /// Code of ICMP.
    pub icmp_code: Option<u8>,
}

/// What somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExplainKind {
    /// A workload.
    Workload,
    /// A node of the mesh itself.
    Node,
    /// A host that policies know and that is no node.
    Host,
    /// Nobody, though the address is of a pool.
    Unassigned,
    /// Beyond the mesh.
    Outside,
}

/// One end of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainEnd {
    /// Address.
    pub ip: IpAddr,
    /// What it is.
    pub kind: ExplainKind,
    /// Node that it is on, or that it is; empty when none.
    #[serde(default)]
    pub node: String,
    /// Namespace of the workload; empty when none.
    #[serde(default)]
    pub namespace: String,
    /// Name of the workload (its pod, or container), the node or the host endpoint; empty when none.
    #[serde(default)]
    pub name: String,
    /// Name of the workload's endpoint in its namespace; empty when none.
    #[serde(default)]
    pub endpoint: String,
    /// Labels that selectors see.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Network sets that have the address.
    #[serde(default)]
    pub sets: Vec<String>,
    /// Pool that the address is of.
    pub pool: Option<String>,
    /// Block that the address is of.
    pub block: Option<Cidr>,
    /// Node that claims the block.
    pub block_node: Option<String>,
    /// In a few words.
    pub text: String,
}

/// Where a decision falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExplainAt {
    /// At the source, before any policy.
    Source,
    /// Policy of what the source sends.
    Egress,
    /// Where packets go from the source's node.
    Route,
    /// Encryption between nodes.
    Encryption,
    /// Translation of addresses.
    Nat,
    /// Policy of what the destination gets.
    Ingress,
    /// At the destination, after all policy.
    Destination,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExplainDecision {
    /// It is let through here.
    Allow,
    /// It is dropped here.
    Deny,
    /// The next tier is asked.
    Pass,
    /// It is logged, and the next rule is asked.
    Log,
    /// The rule is not about this packet.
    NoMatch,
    /// The policy, or every policy of the tier, is not about this endpoint.
    NotSelected,
    /// It goes on, the way that `reason` says.
    Forward,
    /// It leaves with another source address.
    Masquerade,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainStep {
    /// Where.
    pub at: ExplainAt,
    /// What.
    pub decision: ExplainDecision,
    /// Tier; null where none has a say.
    pub tier: Option<String>,
    /// Policy, as `name` or `namespace/name`; null at the end of a tier and where none has a say.
    pub policy: Option<String>,
    /// Kind of the policy.
    pub policy_kind: Option<String>,
    /// Place of the rule among those of its policy and direction, from 0.
    pub rule: Option<u32>,
    /// The decision is another for other ports.
    #[serde(default)]
    pub by_port: bool,
    /// Why.
    pub reason: String,
}

/// What becomes of some ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainPorts {
    /// Ports and ranges, such as `80` and `8000:8999`.
    pub ports: Vec<String>,
    /// What becomes of them.
    pub verdict: ExplainVerdict,
    /// By what.
    pub by: String,
}

/// By which path packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExplainPath {
    /// To somebody on the same node.
    Local,
    /// To another node, by the network between.
    Direct,
    /// To another node, in VXLAN.
    Vxlan,
    /// To another node, encrypted.
    WireGuard,
    /// By what the host itself has as routes, or learnt by BGP.
    Host,
    /// Nowhere.
    None,
}

/// Which way packets go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainRoute {
    /// Node that decides it.
    pub node: String,
    /// By which path.
    pub path: ExplainPath,
    /// Node that they go to; null: none of the mesh.
    pub next_node: Option<String>,
    /// Prefix of the route that they go by; null: none of the mesh's.
    pub prefix: Option<Cidr>,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// Interface that they leave by.
    pub device: Option<String>,
    /// Where the carrying packets go, of a tunnel.
    pub tunnel_endpoint: Option<IpAddr>,
    /// They are encrypted between nodes.
    pub encrypted: bool,
    /// Encryption between nodes in force.
    pub encryption: Encryption,
    /// Address that they leave with, where it is not that of the source.
    pub masquerade: Option<IpAddr>,
    /// Why the MTU is what it is.
    pub mtu_reason: String,
}

/// What would be, were staged policies in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainStaged {
    /// Whether it would get there.
    pub verdict: ExplainVerdict,
    /// By what, in a sentence.
    pub summary: String,
    /// The decisions of policy.
    pub steps: Vec<ExplainStep>,
}

/// One thing that the kernel was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainCheck {
    /// What it is about.
    pub object: String,
    /// What was found is what was expected.
    pub agrees: bool,
    /// What follows from the store.
    pub expected: String,
    /// What the kernel has.
    pub found: String,
}
