//! Short ways to write snapshots down.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use calc::{Inputs, desired_state};
use model::block::BlockSummary;
use model::kernel::{Mac, RouteTarget};
use model::object::Resource;
use model::resources::{
    Encryption, IpPoolSpec, MeshConfigurationSpec, NodeBgp, NodeSpec, VxlanMode,
    WorkloadEndpointSpec,
};
use model::snapshot::{EndpointKey, Snapshot};
use model::state::{NodeState, Underlay, UnderlayLink};
use model::tunnel::PublicKey;
use model::{Cidr, Kind, Metadata, Object};

pub(crate) fn cidr(s: &str) -> Cidr {
    s.parse().unwrap()
}

/// A MAC that tells node and underlay apart.
pub(crate) fn mac(over: u8, n: u8) -> Mac {
    Mac([2, over, 0, 0, 0, n])
}

/// A node with everything published; empty strings for addresses it has not.
pub(crate) fn node(n: u8, v4: &str, v6: &str) -> NodeSpec {
    NodeSpec {
        bgp: Some(NodeBgp {
            ipv4_address: v4.parse().ok(),
            ipv6_address: v6.parse().ok(),
            ..NodeBgp::default()
        }),
        ipv4_vxlan_tunnel_addr: format!("10.250.{n}.0").parse().ok(),
        ipv6_vxlan_tunnel_addr: format!("fd00:250:{n:x}::").parse().ok(),
        vxlan_tunnel_mac_addr: (!v4.is_empty()).then(|| mac(4, n)),
        vxlan_tunnel_mac_addr_v6: (!v6.is_empty()).then(|| mac(6, n)),
        ..NodeSpec::default()
    }
}

/// Such a node with a WireGuard key.
pub(crate) fn keyed(n: u8, v4: &str, v6: &str) -> NodeSpec {
    let mut spec = node(n, v4, v6);
    spec.status.wireguard_public_key = Some(public_key(n));
    spec
}

pub(crate) fn public_key(n: u8) -> PublicKey {
    PublicKey::new([n; 32])
}

/// The underlay of a host that is just what its node has published, on `eth0` with MTU 1500.
pub(crate) fn underlay_of(spec: &NodeSpec) -> Underlay {
    let link = |f| {
        Some(UnderlayLink {
            interface: "eth0".parse().unwrap(),
            address: spec.underlay(f)?,
            mtu: 1500,
        })
    };
    Underlay {
        v4: link(model::Family::V4),
        v6: link(model::Family::V6),
    }
}

pub(crate) fn pool(range: &str, vxlan_mode: VxlanMode) -> IpPoolSpec {
    IpPoolSpec {
        vxlan_mode,
        ..IpPoolSpec::new(cidr(range))
    }
}

pub(crate) fn block(node: &str, used: u32, borrowed: &[(&str, &str)]) -> BlockSummary {
    BlockSummary {
        node: (!node.is_empty()).then(|| node.into()),
        in_use: used > 0,
        borrowed: borrowed
            .iter()
            .map(|(ip, n)| (ip.parse().unwrap(), Arc::from(*n)))
            .collect(),
    }
}

pub(crate) fn endpoint(interface: &str, ips: &[&str]) -> WorkloadEndpointSpec {
    WorkloadEndpointSpec {
        interface_name: interface.to_owned(),
        ip_networks: ips.iter().map(|i| cidr(i)).collect(),
        mac: Some(Mac([0xee; 6])),
        ..WorkloadEndpointSpec::default()
    }
}

/// The store as objects by name: what a snapshot is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Store {
    pub(crate) nodes: BTreeMap<String, NodeSpec>,
    pub(crate) pools: BTreeMap<String, IpPoolSpec>,
    pub(crate) blocks: BTreeMap<Cidr, BlockSummary>,
    pub(crate) endpoints: BTreeMap<String, WorkloadEndpointSpec>,
    pub(crate) mesh: MeshConfigurationSpec,
    /// Labels of nodes.
    pub(crate) labels: BTreeMap<String, Labels>,
    /// What is for BGP alone, by kind and name.
    pub(crate) bgp: BTreeMap<(Kind, String), Object>,
}

pub(crate) type Labels = BTreeMap<String, String>;

/// One change of the store.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Node(String, Option<(NodeSpec, Labels)>),
    Pool(String, Option<IpPoolSpec>),
    Block(Cidr, Option<BlockSummary>),
    Endpoint(String, Option<WorkloadEndpointSpec>),
    Mesh(MeshConfigurationSpec),
    Bgp((Kind, String), Option<Object>),
}

impl Store {
    pub(crate) fn node(mut self, name: &str, spec: NodeSpec) -> Self {
        self.nodes.insert(name.to_owned(), spec);
        self
    }

    pub(crate) fn pool(mut self, name: &str, spec: IpPoolSpec) -> Self {
        self.pools.insert(name.to_owned(), spec);
        self
    }

    pub(crate) fn block(mut self, range: &str, block: BlockSummary) -> Self {
        self.blocks.insert(cidr(range), block);
        self
    }

    pub(crate) fn endpoint(mut self, name: &str, spec: WorkloadEndpointSpec) -> Self {
        self.endpoints.insert(name.to_owned(), spec);
        self
    }

    pub(crate) fn label(mut self, node: &str, labels: &[(&str, &str)]) -> Self {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        self.labels.insert(node.to_owned(), labels.collect());
        self
    }

    /// Objects as an operator writes them, valid ones.
    pub(crate) fn manifest(mut self, text: &str) -> Self {
        for object in model::manifest::parse(text).unwrap() {
            model::validate::validate(&object).unwrap();
            let key = (object.kind(), object.metadata().name.clone());
            self.bgp.insert(key, object);
        }
        self
    }

    pub(crate) fn encrypt(mut self, encryption: Encryption) -> Self {
        self.mesh.encryption = encryption;
        self
    }

    /// What to do to this store to get `to`.
    pub(crate) fn diff(&self, to: &Store) -> Vec<Event> {
        fn of<K: Ord + Clone, V: PartialEq + Clone>(
            from: &BTreeMap<K, V>,
            to: &BTreeMap<K, V>,
            event: fn(K, Option<V>) -> Event,
        ) -> Vec<Event> {
            let gone = from.keys().filter(|k| !to.contains_key(k));
            let gone = gone.map(|k| event(k.clone(), None));
            let set = to.iter().filter(|(k, v)| from.get(k) != Some(v));
            let set = set.map(|(k, v)| event(k.clone(), Some(v.clone())));
            gone.chain(set).collect()
        }
        let labelled = |store: &Store| -> BTreeMap<String, (NodeSpec, Labels)> {
            let labels = |n: &String| store.labels.get(n).cloned().unwrap_or_default();
            let nodes = store.nodes.iter();
            nodes
                .map(|(n, spec)| (n.clone(), (spec.clone(), labels(n))))
                .collect()
        };
        let mut events = of(&labelled(self), &labelled(to), Event::Node);
        events.extend(of(&self.bgp, &to.bgp, Event::Bgp));
        events.extend(of(&self.pools, &to.pools, Event::Pool));
        events.extend(of(&self.blocks, &to.blocks, Event::Block));
        events.extend(of(&self.endpoints, &to.endpoints, Event::Endpoint));
        if self.mesh != to.mesh {
            events.push(Event::Mesh(to.mesh.clone()));
        }
        events
    }

    /// Changes this store as [`apply`] changes a snapshot.
    pub(crate) fn apply(&mut self, event: Event) {
        fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        match event {
            Event::Node(n, node) => {
                let (spec, labels) = node.unzip();
                set(&mut self.nodes, n.clone(), spec);
                set(&mut self.labels, n, labels.filter(|l| !l.is_empty()));
            }
            Event::Bgp(key, object) => set(&mut self.bgp, key, object),
            Event::Pool(n, spec) => set(&mut self.pools, n, spec),
            Event::Block(c, block) => set(&mut self.blocks, c, block),
            Event::Endpoint(n, spec) => set(&mut self.endpoints, n, spec),
            Event::Mesh(spec) => self.mesh = spec,
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for event in Store::default().diff(self) {
            apply(&mut snapshot, event);
        }
        snapshot
    }

    /// The desired state of `name`, whose host has the underlay that its node has published.
    pub(crate) fn desired(&self, name: &str) -> NodeState {
        let underlay = self.nodes.get(name).map(underlay_of).unwrap_or_default();
        desired(&self.snapshot(), &underlay, name)
    }
}

pub(crate) fn desired(snapshot: &Snapshot, underlay: &Underlay, node: &str) -> NodeState {
    desired_state(&Inputs {
        node,
        snapshot,
        underlay,
        accepts_ra: false,
    })
}

/// Changes a snapshot as its owner would.
pub(crate) fn apply(snapshot: &mut Snapshot, event: Event) {
    fn set<K: Ord, S>(map: &mut BTreeMap<K, Resource<S>>, key: K, name: &str, spec: Option<S>) {
        match spec {
            Some(spec) => map.insert(key, Resource::named(name, spec)),
            None => map.remove(&key),
        };
    }
    match event {
        Event::Node(n, node) => {
            let (spec, labels) = node.unzip();
            set(&mut snapshot.nodes, n.as_str().into(), &n, spec);
            if let Some(node) = snapshot.nodes.get_mut(n.as_str()) {
                node.metadata.labels = labels.unwrap_or_default();
            }
        }
        Event::Bgp((Kind::BGPConfiguration, n), object) => match object {
            Some(Object::BGPConfiguration(r)) => drop(snapshot.bgp_configurations.insert(n, r)),
            _ => drop(snapshot.bgp_configurations.remove(&n)),
        },
        Event::Bgp((Kind::BGPPeer, n), object) => match object {
            Some(Object::BGPPeer(r)) => drop(snapshot.bgp_peers.insert(n.as_str().into(), r)),
            _ => drop(snapshot.bgp_peers.remove(n.as_str())),
        },
        Event::Bgp((Kind::BGPFilter, n), object) => match object {
            Some(Object::BGPFilter(r)) => drop(snapshot.bgp_filters.insert(n, r)),
            _ => drop(snapshot.bgp_filters.remove(&n)),
        },
        Event::Bgp((_, n), object) => match object {
            Some(Object::Secret(r)) => drop(snapshot.secrets.insert(n.as_str().into(), r)),
            _ => drop(snapshot.secrets.remove(n.as_str())),
        },
        Event::Pool(n, spec) => set(&mut snapshot.pools, n.clone(), &n, spec),
        Event::Block(c, Some(block)) => drop(snapshot.blocks.insert(c, block)),
        Event::Block(c, None) => drop(snapshot.blocks.remove(&c)),
        Event::Mesh(spec) => snapshot.mesh = spec,
        Event::Endpoint(name, spec) => {
            let key = EndpointKey {
                namespace: "default".into(),
                name: name.as_str().into(),
            };
            match spec {
                Some(spec) => {
                    let metadata = Metadata::namespaced("default", name);
                    (snapshot.local_endpoints).insert(key, Resource { metadata, spec });
                }
                None => drop(snapshot.local_endpoints.remove(&key)),
            }
        }
    }
}

/// Routes as text: `10.0.1.0/26 via 192.0.2.2 dev eth0`.
pub(crate) fn routes(state: &NodeState) -> Vec<String> {
    let text = |(key, route): (&model::kernel::RouteKey, &model::kernel::Route)| {
        let target = match &route.target {
            RouteTarget::Hop(hop) => {
                let via = hop.via.map(|v| format!("via {v} ")).unwrap_or_default();
                let onlink = if hop.onlink { " onlink" } else { "" };
                format!("{via}dev {}{onlink}", hop.dev)
            }
            other => format!("{other:?}").to_lowercase(),
        };
        let src = route.src.map(|s: IpAddr| format!(" src {s}"));
        let mtu = route.mtu.map(|m| format!(" mtu {m}"));
        let last = (key.metric == model::marks::LAST_METRIC).then_some(" last");
        format!(
            "{} {target}{}{}{}",
            key.dst,
            src.unwrap_or_default(),
            mtu.unwrap_or_default(),
            last.unwrap_or_default()
        )
    };
    state.kernel.routes.iter().map(text).collect()
}

/// Problems as text: `Node/b: message`.
pub(crate) fn problems(state: &NodeState) -> Vec<String> {
    let text = |p: &model::state::Problem| format!("{}: {}", p.object, p.message);
    state.problems.iter().map(text).collect()
}
