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
}

impl Kind {
    /// Every kind, in the order `apply` writes them: what others refer to comes first.
    pub const ALL: [Kind; 11] = [
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
        }
    }

    /// Whether resources of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        matches!(self, Kind::WorkloadEndpoint)
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
        Kind::Secret => &[],
    }
}
