//! The kinds of resource and their scope.

use std::fmt;
use std::str::FromStr;

/// A resource kind that is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A host of the mesh.
    Node,
    /// A range that workload addresses come from.
    IPPool,
    /// Addresses that are never handed out.
    IPReservation,
    /// How addresses are handed out.
    IPAMConfiguration,
    /// Mesh-wide settings.
    MeshConfiguration,
    /// An interface of a workload.
    WorkloadEndpoint,
    /// A namespace and its labels.
    Namespace,
    /// What is so for BGP on all nodes, or on one.
    BGPConfiguration,
    /// Whom some nodes peer with.
    BGPPeer,
    /// Rules for routes.
    BGPFilter,
    /// Values that are used and never shown.
    Secret,
    /// A group of policies that are asked together.
    Tier,
    /// Who may talk to whom, in all namespaces and on hosts.
    GlobalNetworkPolicy,
    /// Who may talk to whom, in one namespace.
    NetworkPolicy,
    /// A global policy to try out: it is never enforced.
    StagedGlobalNetworkPolicy,
    /// A policy of one namespace to try out: it is never enforced.
    StagedNetworkPolicy,
    /// Addresses with labels that rules select.
    GlobalNetworkSet,
    /// Addresses with labels that rules select, in one namespace.
    NetworkSet,
    /// Interfaces of a host that policies apply to.
    HostEndpoint,
}

impl Kind {
    /// Every kind, in the order `apply` writes them: what others refer to comes first.
    pub const ALL: [Kind; 19] = [
        Kind::Namespace,
        Kind::Secret,
        Kind::MeshConfiguration,
        Kind::IPAMConfiguration,
        Kind::IPReservation,
        Kind::IPPool,
        Kind::BGPFilter,
        Kind::BGPConfiguration,
        Kind::Node,
        Kind::BGPPeer,
        Kind::Tier,
        Kind::GlobalNetworkSet,
        Kind::NetworkSet,
        Kind::GlobalNetworkPolicy,
        Kind::NetworkPolicy,
        Kind::StagedGlobalNetworkPolicy,
        Kind::StagedNetworkPolicy,
        Kind::HostEndpoint,
        Kind::WorkloadEndpoint,
    ];

    /// As written in `kind:`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Node => "Node",
            Kind::IPPool => "IPPool",
            Kind::IPReservation => "IPReservation",
            Kind::IPAMConfiguration => "IPAMConfiguration",
            Kind::MeshConfiguration => "MeshConfiguration",
            Kind::WorkloadEndpoint => "WorkloadEndpoint",
            Kind::Namespace => "Namespace",
            Kind::BGPConfiguration => "BGPConfiguration",
            Kind::BGPPeer => "BGPPeer",
            Kind::BGPFilter => "BGPFilter",
            Kind::Secret => "Secret",
            Kind::Tier => "Tier",
            Kind::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Kind::NetworkPolicy => "NetworkPolicy",
            Kind::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Kind::StagedNetworkPolicy => "StagedNetworkPolicy",
            Kind::GlobalNetworkSet => "GlobalNetworkSet",
            Kind::NetworkSet => "NetworkSet",
            Kind::HostEndpoint => "HostEndpoint",
        }
    }

    /// Lower-case plural, as in keys, URLs and on the command line.
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::Node => "nodes",
            Kind::IPPool => "ippools",
            Kind::IPReservation => "ipreservations",
            Kind::IPAMConfiguration => "ipamconfigurations",
            Kind::MeshConfiguration => "meshconfigurations",
            Kind::WorkloadEndpoint => "workloadendpoints",
            Kind::Namespace => "namespaces",
            Kind::BGPConfiguration => "bgpconfigurations",
            Kind::BGPPeer => "bgppeers",
            Kind::BGPFilter => "bgpfilters",
            Kind::Secret => "secrets",
            Kind::Tier => "tiers",
            Kind::GlobalNetworkPolicy => "globalnetworkpolicies",
            Kind::NetworkPolicy => "networkpolicies",
            Kind::StagedGlobalNetworkPolicy => "stagedglobalnetworkpolicies",
            Kind::StagedNetworkPolicy => "stagednetworkpolicies",
            Kind::GlobalNetworkSet => "globalnetworksets",
            Kind::NetworkSet => "networksets",
            Kind::HostEndpoint => "hostendpoints",
        }
    }

    /// Whether resources of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        matches!(
            self,
            Kind::WorkloadEndpoint
                | Kind::NetworkPolicy
                | Kind::StagedNetworkPolicy
                | Kind::NetworkSet
        )
    }

    /// Whether it is a policy, staged or not: its resources hold a [`crate::resources::PolicySpec`].
    pub const fn is_policy(self) -> bool {
        matches!(
            self,
            Kind::GlobalNetworkPolicy
                | Kind::NetworkPolicy
                | Kind::StagedGlobalNetworkPolicy
                | Kind::StagedNetworkPolicy
        )
    }

    /// Whether it is a policy that is tried out only.
    pub const fn is_staged(self) -> bool {
        matches!(
            self,
            Kind::StagedGlobalNetworkPolicy | Kind::StagedNetworkPolicy
        )
    }

    /// Whether it means something to policy alone.
    pub const fn belongs_to_policy(self) -> bool {
        self.is_policy()
            || matches!(
                self,
                Kind::Tier | Kind::GlobalNetworkSet | Kind::NetworkSet | Kind::HostEndpoint
            )
    }

    /// Whether the only allowed name is `default`.
    pub const fn is_singleton(self) -> bool {
        matches!(self, Kind::IPAMConfiguration | Kind::MeshConfiguration)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no kind that is built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a kind: use one of {known}")]
pub struct UnknownKind {
    /// What was written.
    pub given: String,
    /// The known kinds, for the message.
    pub known: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Takes the kind, its plural and its usual short forms, in any case.
    fn from_str(s: &str) -> Result<Kind, UnknownKind> {
        let lower = s.to_ascii_lowercase();
        Kind::ALL
            .into_iter()
            .find(|k| {
                lower == k.plural()
                    || lower == k.as_str().to_ascii_lowercase()
                    || short_names(*k).contains(&lower.as_str())
            })
            .ok_or_else(|| UnknownKind {
                given: s.to_owned(),
                known: Kind::ALL.map(Kind::as_str).join(", "),
            })
    }
}

fn short_names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Node => &["no"],
        Kind::IPPool => &["pool", "pools", "ipp"],
        Kind::IPReservation => &["ipres", "reservation", "reservations"],
        Kind::IPAMConfiguration => &["ipamconfig", "ipamconfigs"],
        Kind::MeshConfiguration => &["mesh", "meshconfig"],
        Kind::WorkloadEndpoint => &["wep", "weps"],
        Kind::Namespace => &["ns"],
        Kind::BGPConfiguration => &["bgpconfig", "bgpconfigs"],
        Kind::BGPPeer => &["peer", "peers"],
        Kind::BGPFilter => &["filter", "filters"],
        Kind::Secret | Kind::Tier => &[],
        Kind::GlobalNetworkPolicy => &["gnp", "gnps"],
        Kind::NetworkPolicy => &["np", "nps", "netpol"],
        Kind::StagedGlobalNetworkPolicy => &["sgnp", "sgnps"],
        Kind::StagedNetworkPolicy => &["snp", "snps"],
        Kind::GlobalNetworkSet => &["gns", "globalnetset", "globalnetsets"],
        Kind::NetworkSet => &["netset", "netsets"],
        Kind::HostEndpoint => &["hep", "heps"],
    }
}
