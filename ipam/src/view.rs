//! What the allocator must know beside the blocks: pools, reservations and settings, with every
//! selector already evaluated for this node.

use std::fmt;
use std::sync::Arc;

use model::Cidr;
use model::kv::Revision;
use model::resources::{AllowedUse, AssignmentMode, IpPoolSpec, IpamConfigurationSpec};

use crate::error::PoolVerdict;
use crate::request::Assign;

/// The settings that address requests are served by.
///
/// It must not be newer than the blocks: every block event up to the revision of this view is handed
/// over first. A consistent snapshot gives that.
#[derive(Clone, Debug, Default)]
pub struct IpamView {
    /// Pools, in the order in which they are tried.
    pub pools: Vec<PoolView>,
    /// All `IPReservation`s together.
    pub reservations: Vec<Cidr>,
    /// The `IPAMConfiguration`.
    pub config: IpamConfigurationSpec,
    /// This node takes no new workloads.
    pub cordoned: bool,
    /// Revision of [`model::keys::POOLS_GUARD`]; `None` when no pool was ever written.
    pub pools_guard: Option<Revision>,
}

/// A pool as this node sees it.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Name.
    pub name: String,
    /// Specification.
    pub spec: IpPoolSpec,
    /// Whether its `nodeSelector` matches this node.
    pub selects_node: bool,
    /// Whether its `namespaceSelector` matches a namespace.
    pub namespaces: NamespaceMatch,
}

impl PoolView {
    /// A pool that is for every node and namespace.
    pub fn new(name: impl Into<String>, spec: IpPoolSpec) -> PoolView {
        PoolView {
            name: name.into(),
            spec,
            selects_node: true,
            namespaces: NamespaceMatch::all(),
        }
    }

    /// Whether `text` names this pool, by name or by range.
    pub fn is_called(&self, text: &str) -> bool {
        self.name == text || text.parse() == Ok(self.spec.cidr)
    }

    /// Why the pool cannot serve a request; `None` when it can. `named`: the request asks for this
    /// pool or an address of it, which overrides the selectors and `Manual`, as in Calico.
    pub(crate) fn unusable(&self, node: &str, wanted: &Assign, named: bool) -> Option<PoolVerdict> {
        let spec = &self.spec;
        let why = if spec.disabled {
            "disabled".to_owned()
        } else if !spec.allowed_uses.contains(&wanted.usage) {
            let uses: Vec<&str> = spec.allowed_uses.iter().map(use_name).collect();
            let (wants, has) = (use_name(&wanted.usage), uses.join(", "));
            format!("allowedUses [{has}] lacks {wants}")
        } else if spec.block_len() < spec.cidr.prefix_len() {
            format!(
                "{} is smaller than a block /{}",
                spec.cidr,
                spec.block_len()
            )
        } else if named {
            return None;
        } else if spec.assignment_mode == AssignmentMode::Manual {
            "assignmentMode Manual: only for requests that name it".to_owned()
        } else if !self.selects_node {
            let selector = spec.node_selector.as_deref().unwrap_or("all()");
            format!("nodeSelector {selector} does not match Node/{node}")
        } else if wanted.usage == AllowedUse::Workload && !(self.namespaces.0)(&wanted.namespace) {
            let selector = spec.namespace_selector.as_deref().unwrap_or("all()");
            let namespace = &wanted.namespace;
            format!("namespaceSelector {selector} does not match Namespace/{namespace}")
        } else {
            return None;
        };
        Some(PoolVerdict::new(&self.name, why))
    }
}

fn use_name(usage: &AllowedUse) -> &'static str {
    match usage {
        AllowedUse::Workload => "Workload",
        AllowedUse::Tunnel => "Tunnel",
    }
}

/// Tells whether a pool is for the workloads of a namespace.
#[derive(Clone)]
pub struct NamespaceMatch(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl NamespaceMatch {
    /// By a pure function of the namespace's name.
    pub fn new(matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> NamespaceMatch {
        NamespaceMatch(Arc::new(matches))
    }

    /// Every namespace.
    pub fn all() -> NamespaceMatch {
        NamespaceMatch::new(|_| true)
    }
}

impl fmt::Debug for NamespaceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NamespaceMatch")
    }
}
