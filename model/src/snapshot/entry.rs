//! What one key of the store says, in the form that the snapshot keeps.

use super::{Changed, EndpointKey, Interner, Rejected, RemoteEndpoint};
use crate::block::{Block, BlockSummary};
use crate::object::{Object, ObjectId, Resource};
use crate::resources::{
    BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, HostEndpointSpec, IpPoolSpec,
    IpReservationSpec, IpamConfigurationSpec, MeshConfigurationSpec, NamespaceSpec, NetworkSetSpec,
    NodeSpec, PolicySpec, SecretSpec, TierSpec, WorkloadEndpointSpec, workload_endpoint,
};
use crate::{Cidr, Kind, keys, manifest, validate};

/// The one name of a configuration.
pub(super) const DEFAULT: &str = "default";

/// Where a key belongs in the snapshot.
pub(super) enum Slot {
    Resource(ObjectId),
    Block(Cidr),
    /// Below one of our prefixes, and yet no key that we write.
    Foreign,
}

impl Slot {
    /// `None` for keys that the snapshot does not keep: handles, affinities, owners.
    pub(super) fn of(key: &str) -> Option<Slot> {
        if key.starts_with(keys::RESOURCES) {
            Some(keys::parse_resource(key).map_or(Slot::Foreign, Slot::Resource))
        } else if key.starts_with(keys::BLOCKS) {
            // One block has one key: another spelling of its prefix would shadow it.
            let cidr = keys::parse_block(key).filter(|cidr| keys::block(cidr) == key);
            Some(cidr.map_or(Slot::Foreign, Slot::Block))
        } else {
            None
        }
    }

    /// What stands in for a key that is not there: the defaults of a configuration.
    pub(super) fn absent(&self) -> Option<Entry> {
        match self {
            Slot::Resource(id) if id.name == DEFAULT => match id.kind {
                Kind::IPAMConfiguration => Some(Entry::Ipam(Default::default())),
                Kind::MeshConfiguration => Some(Entry::Mesh(Default::default())),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What stands in a slot.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Node(Resource<NodeSpec>),
    Pool(Resource<IpPoolSpec>),
    Reservation(Resource<IpReservationSpec>),
    Ipam(IpamConfigurationSpec),
    Mesh(MeshConfigurationSpec),
    Namespace(Resource<NamespaceSpec>),
    BgpConfiguration(Resource<BgpConfigurationSpec>),
    BgpPeer(Resource<BgpPeerSpec>),
    BgpFilter(Resource<BgpFilterSpec>),
    Secret(Resource<SecretSpec>),
    Tier(Resource<TierSpec>),
    Policy(ObjectId, Resource<PolicySpec>),
    NetworkSet(ObjectId, Resource<NetworkSetSpec>),
    HostEndpoint(Resource<HostEndpointSpec>),
    LocalEndpoint(EndpointKey, Resource<WorkloadEndpointSpec>),
    RemoteEndpoint(EndpointKey, RemoteEndpoint),
    Block(Cidr, BlockSummary),
}

impl Entry {
    /// The part of the snapshot that it stands in.
    pub(super) fn part(&self) -> Changed {
        match self {
            Entry::Node(_) => Changed::NODES,
            Entry::Pool(_) => Changed::POOLS,
            Entry::Reservation(_) => Changed::RESERVATIONS,
            Entry::Ipam(_) => Changed::IPAM,
            Entry::Mesh(_) => Changed::MESH,
            Entry::Namespace(_) => Changed::NAMESPACES,
            Entry::BgpConfiguration(_) | Entry::BgpPeer(_) | Entry::BgpFilter(_) => Changed::BGP,
            Entry::Secret(_) => Changed::SECRETS,
            Entry::Tier(_) | Entry::Policy(..) => Changed::POLICIES,
            Entry::NetworkSet(..) => Changed::NETWORK_SETS,
            Entry::HostEndpoint(_) => Changed::HOST_ENDPOINTS,
            Entry::LocalEndpoint(..) => Changed::LOCAL_ENDPOINTS,
            Entry::RemoteEndpoint(..) => Changed::REMOTE_ENDPOINTS,
            Entry::Block(..) => Changed::BLOCKS,
        }
    }

    /// Reads a stored value, or says why it cannot be used.
    pub(super) fn read(
        slot: &Slot,
        key: &str,
        value: &[u8],
        local_node: &str,
        interner: &mut Interner,
    ) -> Result<Entry, Rejected> {
        let (kind, name, entry) = match slot {
            Slot::Resource(id) => {
                let name = match &id.namespace {
                    Some(ns) => format!("{ns}/{}", id.name),
                    None => id.name.clone(),
                };
                let entry = read_object(id, value).map(|o| Entry::of(o, local_node, interner));
                (id.kind.to_string(), name, entry)
            }
            Slot::Block(cidr) => {
                let entry = read_block(*cidr, value, interner);
                ("Block".to_owned(), cidr.to_string(), entry)
            }
            Slot::Foreign => {
                let message = "this version keeps nothing at such a key; delete it".to_owned();
                ("Key".to_owned(), key.to_owned(), Err(message))
            }
        };
        entry.map_err(|message| Rejected {
            kind,
            name,
            message,
            standing: false,
        })
    }

    fn of(object: Object, local_node: &str, interner: &mut Interner) -> Entry {
        let id = object.id();
        match object {
            Object::Node(r) => Entry::Node(r),
            Object::IPPool(r) => Entry::Pool(r),
            Object::IPReservation(r) => Entry::Reservation(r),
            Object::IPAMConfiguration(r) => Entry::Ipam(r.spec),
            Object::MeshConfiguration(r) => Entry::Mesh(r.spec),
            Object::Namespace(r) => Entry::Namespace(r),
            Object::BGPConfiguration(r) => Entry::BgpConfiguration(r),
            Object::BGPPeer(r) => Entry::BgpPeer(r),
            Object::BGPFilter(r) => Entry::BgpFilter(r),
            Object::Secret(r) => Entry::Secret(r),
            Object::Tier(r) => Entry::Tier(r),
            Object::GlobalNetworkPolicy(r)
            | Object::NetworkPolicy(r)
            | Object::StagedGlobalNetworkPolicy(r)
            | Object::StagedNetworkPolicy(r) => Entry::Policy(id, r),
            Object::GlobalNetworkSet(r) | Object::NetworkSet(r) => Entry::NetworkSet(id, r),
            Object::HostEndpoint(r) => Entry::HostEndpoint(r),
            Object::WorkloadEndpoint(r) => {
                let key = EndpointKey {
                    namespace: interner.name(r.metadata.namespace.as_deref().unwrap_or_default()),
                    name: r.metadata.name.as_str().into(),
                };
                if r.spec.node == local_node {
                    return Entry::LocalEndpoint(key, r);
                }
                let remote = RemoteEndpoint {
                    node: interner.name(&r.spec.node),
                    ips: r.spec.ip_networks.iter().map(Cidr::network).collect(),
                    labels: interner.labels(workload_endpoint::all_labels(&r.metadata, &r.spec)),
                    ports: interner.ports(&r.spec.ports),
                    workload: r.spec.called().into(),
                };
                Entry::RemoteEndpoint(key, remote)
            }
        }
    }
}

fn read_object(id: &ObjectId, value: &[u8]) -> Result<Object, String> {
    let object = manifest::decode_stored(value).map_err(|e| e.to_string())?;
    let stands = object.id();
    if stands != *id {
        return Err(format!(
            "the value is {stands}; apply that object again and delete this key"
        ));
    }
    match validate::validate_stored(&object) {
        Ok(()) => Ok(object),
        Err(errors) => Err(errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")),
    }
}

fn read_block(cidr: Cidr, value: &[u8], interner: &mut Interner) -> Result<Entry, String> {
    let block = Block::decode(value).map_err(|e| e.to_string())?;
    if block.cidr != cidr {
        return Err(format!("the value is the block {}", block.cidr));
    }
    let BlockSummary {
        node,
        in_use,
        borrowed,
    } = block.summary();
    let share = |name: std::sync::Arc<str>, interner: &mut Interner| interner.name(&name);
    let node = node.map(|name| share(name, interner));
    let borrowed = (borrowed.into_iter())
        .map(|(ip, name)| (ip, share(name, interner)))
        .collect();
    Ok(Entry::Block(
        cidr,
        BlockSummary {
            node,
            in_use,
            borrowed,
        },
    ))
}
