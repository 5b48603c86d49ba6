//! Where things are kept below the store's prefix.
//!
//! ```text
//! resources/<plural>/<name>                resources/<plural>/<namespace>/<name>
//! ipam/blocks/<cidr>                       the block, its owner and every address in it
//! ipam/identities/<id>                     which addresses an identity keeps
//! ipam/affinity/<node>/<cidr>              which blocks a node claims
//! ipam/fences/<node>                       the newest address transaction of a node's daemon
//! ipam/pools                               bumped by every write of an IPPool (overlap guard)
//! owners/<node>                            which daemon is this node (on a lease)
//! ```
//!
//! Node names, namespaces and resource names never contain `/` (validated), so a key splits back
//! into its parts without escaping.

use crate::Cidr;
use crate::kind::Kind;
use crate::object::ObjectId;

/// Prefix of all resources.
pub const RESOURCES: &str = "resources/";
/// Prefix of all blocks.
pub const BLOCKS: &str = "ipam/blocks/";
/// Prefix of all identities.
pub const IDENTITIES: &str = "ipam/identities/";
/// Prefix of all affinities.
pub const AFFINITY: &str = "ipam/affinity/";
/// Prefix of the fences.
pub const FENCES: &str = "ipam/fences/";
/// The key that every writer of an IPPool compares and bumps.
pub const POOLS_GUARD: &str = "ipam/pools";
/// Prefix of the node ownership keys.
pub const OWNERS: &str = "owners/";

/// Key of a resource.
pub fn resource(id: &ObjectId) -> String {
    match &id.namespace {
        Some(ns) => format!("{RESOURCES}{}/{ns}/{}", id.kind.plural(), id.name),
        None => format!("{RESOURCES}{}/{}", id.kind.plural(), id.name),
    }
}

/// Prefix of all resources of a kind.
pub fn resources_of(kind: Kind) -> String {
    format!("{RESOURCES}{}/", kind.plural())
}

/// The object that a resource key names; `None` for a key that is none.
pub fn parse_resource(key: &str) -> Option<ObjectId> {
    let (plural, rest) = key.strip_prefix(RESOURCES)?.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|k| k.plural() == plural)?;
    let (namespace, name) = match (kind.is_namespaced(), rest.split_once('/')) {
        (true, Some((ns, name))) => (Some(ns.to_owned()), name),
        (false, None) => (None, rest),
        _ => return None,
    };
    (!name.is_empty() && !name.contains('/')).then(|| ObjectId {
        kind,
        namespace,
        name: name.to_owned(),
    })
}

/// Key of a block.
pub fn block(cidr: &Cidr) -> String {
    format!("{BLOCKS}{cidr}")
}

/// The block that a key names.
pub fn parse_block(key: &str) -> Option<Cidr> {
    key.strip_prefix(BLOCKS)?.parse().ok()
}

/// Key of an identity.
pub fn identity(id: &str) -> String {
    format!("{IDENTITIES}{id}")
}

/// Key of a node's claim of a block.
pub fn affinity(node: &str, cidr: &Cidr) -> String {
    format!("{AFFINITY}{node}/{cidr}")
}

/// Prefix of a node's claims.
pub fn affinities_of(node: &str) -> String {
    format!("{AFFINITY}{node}/")
}

/// Key that every address transaction of a node compares and writes.
pub fn fence(node: &str) -> String {
    format!("{FENCES}{node}")
}

/// Key that says which daemon is a node.
pub fn owner(node: &str) -> String {
    format!("{OWNERS}{node}")
}
