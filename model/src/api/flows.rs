//! Who talks to whom, and by which rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::resources::{Action, PolicyType};

/// A connection, or what was denied, as one of its ends saw it. Both ends report where both are on this node, since
/// other rules decide at either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Its number, of this run of the daemon. With `--follow` a flow comes when it begins and when it ends.
    #[serde(default)]
    pub id: u64,
    /// When it began, RFC 3339.
    pub start: String,
    /// When it ended; null: it goes on.
    pub end: Option<String>,
    /// When its last packet was seen.
    #[serde(default)]
    pub last_seen: String,
    /// Who began it.
    pub source: FlowEnd,
    /// With whom.
    pub destination: FlowEnd,
    /// `TCP`, `UDP`, `ICMP`, `ICMPv6`, `SCTP`, `UDPLite` or a number.
    pub protocol: String,
    /// Destination port; null where the protocol has none.
    pub port: Option<u16>,
    /// Source port; null where the protocol has none.
    #[serde(default)]
    pub source_port: Option<u16>,
    /// Type and code of ICMP.
    #[serde(default)]
    pub icmp: Option<[u8; 2]>,
    /// What became of it.
    pub verdict: FlowVerdict,
    /// What decided.
    #[serde(flatten)]
    pub by: FlowBy,
    /// Why it was dropped: `Policy`, or what is dropped whatever policy says; null when it was not.
    #[serde(default)]
    pub reason: Option<String>,
    /// Policy denies it by now and lets it end by itself.
    #[serde(default)]
    pub kept: bool,
    /// Bytes both ways, with Ethernet headers.
    pub bytes: u64,
    /// Packets both ways.
    pub packets: u64,
    /// Those of them that the destination sent.
    #[serde(default)]
    pub reply_bytes: u64,
    /// Those of them that the destination sent.
    #[serde(default)]
    pub reply_packets: u64,
    /// Which end saw it so.
    #[serde(default)]
    pub reporter: Reporter,
    /// The node of that end.
    #[serde(default)]
    pub node: String,
    /// What would become of it, were the staged policies in force; null: the same.
    #[serde(default)]
    pub staged: Option<FlowStaged>,
    /// `Log` rules that matched, in order.
    #[serde(default)]
    pub logged: Vec<FlowBy>,
}

/// Stands where flows would be that somebody who follows was too slow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsMissed {
    /// So many.
    pub missed: u64,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowEnd {
    /// Its address.
    pub ip: IpAddr,
    /// `WorkloadEndpoint`, `HostEndpoint`, `Node`, `NetworkSet`, `GlobalNetworkSet`; empty when nobody is known there.
    #[serde(default)]
    pub kind: String,
    /// Namespace; empty where it has none.
    pub namespace: String,
    /// What people call it: of a workload its pod, or else its container; empty when nobody is known there.
    pub name: String,
    /// Name of its object.
    #[serde(default)]
    pub endpoint: String,
    /// Labels that selectors see, those of the namespace left out.
    pub labels: BTreeMap<String, String>,
}

/// Whether a packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FlowVerdict {
    /// It does.
    Allow,
    /// It is dropped.
    Deny,
}

/// Which end of a flow reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reporter {
    /// Who began it, by the egress rules there.
    #[default]
    Source,
    /// With whom it was begun, by the ingress rules there.
    Destination,
}

/// What decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowBy {
    /// `Rule`, `EndOfTier`, `Profile`, `Failsafe`, `Host` (it is the workload's own), `EndpointToHost`, `Spoofed`; empty when
    /// that is not known any more, or needs no rule.
    #[serde(default)]
    pub by: String,
    /// The tier; null where none decided.
    pub tier: Option<String>,
    /// Kind of the policy.
    #[serde(default)]
    pub kind: Option<String>,
    /// The policy: `NAME`, or `NAMESPACE/NAME` for one of a namespace; null where none decided.
    pub policy: Option<String>,
    /// Place of the rule among those of the policy for the direction, from 0; null where none decided.
    pub rule: Option<u32>,
}

/// What staged policies would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowStaged {
    /// What would become of it.
    pub verdict: FlowVerdict,
    /// What would decide.
    #[serde(flatten)]
    pub by: FlowBy,
}

/// The rules in force at an endpoint of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyShow {
    /// Kind of the endpoint.
    pub kind: String,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The interface that has the programs; null: none.
    pub interface: Option<String>,
    /// Why the policies of the store are not what is in force; null: they are.
    pub problem: Option<String>,
    /// In the order in which they are asked, those for what goes to the endpoint first.
    pub rules: Vec<PolicyRuleShow>,
}

/// A rule as it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRuleShow {
    /// For what goes to the endpoint, or comes from it.
    pub direction: PolicyType,
    /// What it is.
    #[serde(flatten)]
    pub by: FlowBy,
    /// What it does.
    pub action: Action,
    /// What it is about, in words.
    #[serde(rename = "match")]
    pub matches: String,
    /// It is of a staged policy, and only counts.
    #[serde(default)]
    pub staged: bool,
    /// What came by it, at all endpoints of this node; null where no programs count.
    pub counted: Option<RuleCount>,
}

/// What a rule decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleCount {
    /// Packets.
    pub packets: u64,
    /// Bytes, with Ethernet headers.
    pub bytes: u64,
    /// Connections that it let through, or cut.
    pub connections: u64,
}

/// What objects would do to what lives, were they applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyImpact {
    /// Connections of this node that live.
    pub connections: u64,
    /// Those that would be cut.
    pub cut: u64,
    /// Flows of this node that have ended and are remembered.
    pub flows: u64,
    /// Those that would get another verdict.
    pub changed: u64,
    /// Some of both, first those that would be cut.
    pub samples: Vec<FlowChange>,
}

/// A flow that would get another verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowChange {
    /// As it is.
    pub flow: Flow,
    /// What would become of it.
    pub would: FlowStaged,
}
