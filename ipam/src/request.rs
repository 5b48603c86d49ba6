//! What can be asked of the allocator, and what it answers.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use model::kv::{Compare, Op, Revision};
use model::resources::AllowedUse;
use model::{Cidr, Family};

/// Chosen by the caller; names a request until its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something asked of the allocator.
#[derive(Clone, Debug)]
pub enum Request {
    /// Addresses for a workload or a tunnel device.
    Assign(Assign),
    /// Everything that a handle holds. Releasing what is not held succeeds.
    Release(Release),
    /// One address, whoever holds it: the operator's word.
    ReleaseAddress(IpAddr),
    /// A block without addresses in use by its node: deleted when empty and rested, else ownerless.
    ReleaseBlock(Cidr),
    /// All addresses and blocks of a node that was deleted. To be asked once the snapshot lacks the
    /// node; every transaction compares that it is still gone.
    ReclaimNode(String, Cleanup),
}

/// A request for addresses.
#[derive(Clone, Debug)]
pub struct Assign {
    /// Who asks, such as `cni.<network>.<container>.<interface>`. The same handle gets the same addresses.
    pub handle: String,
    /// Namespace of the workload; empty for a tunnel address.
    pub namespace: String,
    /// Name of the workload.
    pub name: String,
    /// What for.
    pub usage: AllowedUse,
    /// Which families are wanted.
    pub families: Families,
    /// Exactly these addresses; a family without one gets none unless it is required or names pools.
    pub addresses: Vec<IpAddr>,
    /// Pools, by name or range, that addresses of their family must come from; empty for any.
    pub pools: Vec<(Family, String)>,
    /// Keep the addresses for this identity (a handle such as `sticky.<namespace>.<name>`) when the
    /// workload goes, and give them to the next one of that identity, on any node.
    pub identity: Option<String>,
    /// Committed together with the addresses.
    pub extra: Attach,
}

impl Assign {
    /// A workload's request for one address of each family that has a pool.
    pub fn workload(handle: impl Into<String>, namespace: &str, name: &str) -> Assign {
        Assign {
            handle: handle.into(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            usage: AllowedUse::Workload,
            families: Families::Auto,
            addresses: Vec::new(),
            pools: Vec::new(),
            identity: None,
            extra: Attach::default(),
        }
    }

    /// A request for the address of a node's own tunnel device.
    pub fn tunnel(handle: impl Into<String>, family: Family) -> Assign {
        Assign {
            usage: AllowedUse::Tunnel,
            families: Families::Exactly(vec![family]),
            ..Assign::workload(handle, "", "")
        }
    }
}

/// Which families a workload gets. All of them or none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Families {
    /// Each family of which a pool may serve the request.
    Auto,
    /// These.
    Exactly(Vec<Family>),
}

/// A request to free what a handle holds.
#[derive(Clone, Debug, Default)]
pub struct Release {
    /// The handle, or an identity. A handle that lives on an identity leaves the addresses with the
    /// identity; an identity frees them.
    pub handle: String,
    /// The node that it lives on: another may have one of the same name. `None`: wherever it is found.
    pub node: Option<String>,
    /// Where a handle of another node is seen to hold addresses.
    pub blocks: Vec<Cidr>,
    /// Committed in the same transaction, also when the handle holds nothing.
    pub cleanup: Cleanup,
}

/// Conditions and writes of the caller that ride in the same transaction.
///
/// A condition that does not hold fails this request alone. Keys must not be the allocator's.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Conditions.
    pub compares: Vec<Compare>,
    /// Puts and deletes.
    pub ops: Vec<Op>,
}

/// Makes the [`Extra`] of an assignment from the addresses chosen; may be called several times.
#[derive(Clone)]
pub struct Attach(Arc<dyn Fn(&Assigned) -> Extra + Send + Sync>);

impl Attach {
    /// By a pure function.
    pub fn new(make: impl Fn(&Assigned) -> Extra + Send + Sync + 'static) -> Attach {
        Attach(Arc::new(make))
    }

    pub(crate) fn make(&self, assigned: &Assigned) -> Extra {
        (self.0)(assigned)
    }
}

impl Default for Attach {
    fn default() -> Attach {
        Attach::new(|_| Extra::default())
    }
}

impl fmt::Debug for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attach")
    }
}

/// Makes the [`Extra`] of a handle that is released, such as the deletion of its endpoint.
#[derive(Clone)]
pub struct Cleanup(Arc<dyn Fn(&Holder) -> Extra + Send + Sync>);

impl Cleanup {
    /// By a pure function of the holder; may be called several times.
    pub fn new(make: impl Fn(&Holder) -> Extra + Send + Sync + 'static) -> Cleanup {
        Cleanup(Arc::new(make))
    }

    pub(crate) fn make(&self, holder: &Holder) -> Extra {
        (self.0)(holder)
    }
}

impl From<Extra> for Cleanup {
    fn from(extra: Extra) -> Cleanup {
        Cleanup::new(move |_| extra.clone())
    }
}

impl Default for Cleanup {
    fn default() -> Cleanup {
        Cleanup::from(Extra::default())
    }
}

impl fmt::Debug for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cleanup")
    }
}

/// What a request got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Request::Assign`].
    Assigned(Assigned),
    /// To every release.
    Released(Released),
}

impl Reply {
    /// The reply of a transaction committed at a revision.
    pub(crate) fn committed(mut self, at: Revision) -> Reply {
        match &mut self {
            Reply::Assigned(a) => a.revision = at,
            Reply::Released(r) => r.revision = at,
        }
        self
    }
}

/// Addresses handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Addresses, IPv4 first unless asked for otherwise.
    pub addresses: Vec<IpAddr>,
    /// The blocks they lie in, in the same order.
    pub blocks: Vec<Cidr>,
    /// The handle (or its identity) held them before.
    pub existing: bool,
    /// Revision of the transaction, the caller's writes included; 0 until it is committed.
    pub revision: Revision,
}

/// Who held addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The handle, or an identity.
    pub handle: String,
    /// The workload as `namespace/name`, where the handle is known to hold something for one.
    pub workload: Option<String>,
}

impl Holder {
    /// Namespace of the workload.
    pub fn namespace(&self) -> Option<&str> {
        let (namespace, _) = self.workload.as_deref()?.split_once('/')?;
        Some(namespace)
    }
}

/// What was freed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Who holds nothing any more.
    pub holders: Vec<Holder>,
    /// Addresses that are free again.
    pub addresses: Vec<IpAddr>,
    /// Blocks that are nobody's any more.
    pub blocks: Vec<Cidr>,
    /// Revision of the transaction, the caller's writes included; 0 when none was needed.
    pub revision: Revision,
}
