//! What configurations and nodes say about numbers, ports, times and passwords.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use model::bgp::{self, Filter, Neighbour, NextHopMode, Password, Ttl};
use model::resources::bgp_configuration::BindMode;
use model::resources::bgp_peer::BgpPassword;
use model::resources::{BgpConfigurationSpec, GoDuration};
use model::{Family, Selector};

use super::filters;
use crate::Inputs;
use crate::pools::Pools;
use crate::problems::Problems;

/// AS number of nodes that have no other.
const DEFAULT_AS: u32 = 64_512;
/// Seconds of silence that end a session.
const HOLD_TIME: u16 = 9;
/// Seconds for which routes are kept over a restart.
const RESTART_TIME: u16 = 120;
/// Most prefixes of a family: all that the Internet has, and half as much again.
const MAX_PREFIXES: u32 = 1_500_000;

/// See the module.
pub(super) struct Settings<'a> {
    inputs: Inputs<'a>,
    default: Option<&'a BgpConfigurationSpec>,
    own: Option<&'a BgpConfigurationSpec>,
    by_label: Vec<(Selector, u32)>,
    pub(super) own_as: u32,
    pub(super) own_cluster: Option<Ipv4Addr>,
    /// Rules for what everybody hears.
    pub(super) out: Arc<Filter>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(
        inputs: &Inputs<'a>,
        pools: &Pools<'_>,
        problems: &mut Problems<'_>,
    ) -> Settings<'a> {
        let configurations = &inputs.snapshot.bgp_configurations;
        let spec = |name: &str| configurations.get(name).map(|r| &r.spec);
        let default = spec("default");
        let by_label = default.iter().flat_map(|c| &c.node_as_numbers);
        let by_label = by_label.filter_map(|of| match of.node_selector.parse() {
            Ok(selector) => Some((selector, of.as_number.0)),
            Err(e) => {
                let message = format!("spec.nodeASNumbers: {}: {e}", of.node_selector);
                problems.add("BGPConfiguration/default".to_owned(), message);
                None
            }
        });
        let services = default
            .into_iter()
            .flat_map(BgpConfigurationSpec::service_blocks);
        let mut this = Settings {
            inputs: *inputs,
            default,
            own: spec(&of_node(inputs.node)),
            by_label: by_label.collect(),
            own_as: 0,
            own_cluster: None,
            out: filters::out(pools, services),
        };
        this.own_as = this.as_of(inputs.node);
        this.own_cluster = this.cluster_of(inputs.node);
        this
    }

    pub(super) fn default(&self) -> Option<&'a BgpConfigurationSpec> {
        self.default
    }

    pub(super) fn own(&self) -> Option<&'a BgpConfigurationSpec> {
        self.own
    }

    /// The AS of a node: its own word, what its labels say, what all have.
    pub(super) fn as_of(&self, node: &str) -> u32 {
        let node = self.inputs.snapshot.nodes.get(node);
        let named = node.and_then(|n| n.spec.bgp.as_ref()?.as_number);
        let labelled = || {
            let labels = &node?.metadata.labels;
            let mut rules = self.by_label.iter();
            rules
                .find(|(s, _)| s.matches(labels))
                .map(|(_, number)| *number)
        };
        let default = || self.default?.as_number.map(|n| n.0);
        named
            .or_else(labelled)
            .or_else(default)
            .unwrap_or(DEFAULT_AS)
    }

    /// The cluster for which a node reflects routes.
    pub(super) fn cluster_of(&self, node: &str) -> Option<Ipv4Addr> {
        let node = self.inputs.snapshot.nodes.get(node)?;
        node.spec.bgp.as_ref()?.route_reflector_cluster_id
    }

    /// The port that a node listens at.
    pub(super) fn port_of(&self, node: &str) -> u16 {
        let configurations = &self.inputs.snapshot.bgp_configurations;
        let of_node = match configurations.len() {
            // Every peer asks, and mostly there is nothing to find.
            0 | 1 if self.default.is_some() => None,
            _ => configurations.get(&of_node(node)),
        };
        let port = of_node.and_then(|c| c.spec.listen_port);
        port.or_else(|| self.default?.listen_port)
            .unwrap_or(bgp::PORT)
    }

    pub(super) fn listen_addresses(&self, inputs: &Inputs<'_>) -> BTreeSet<IpAddr> {
        let of = |c: Option<&BgpConfigurationSpec>| c.and_then(|c| c.bind_mode);
        match of(self.own)
            .or_else(|| of(self.default))
            .unwrap_or_default()
        {
            BindMode::None => BTreeSet::new(),
            BindMode::NodeIP => Family::ALL
                .into_iter()
                .filter_map(|f| Some(inputs.underlay.of(f)?.address.ip))
                .collect(),
        }
    }

    pub(super) fn hold_time(&self, peer: Option<GoDuration>) -> u16 {
        let of = |c: Option<&BgpConfigurationSpec>| c.and_then(|c| c.hold_time);
        let said = peer.or_else(|| of(self.own)).or_else(|| of(self.default));
        said.map_or(HOLD_TIME, seconds)
    }

    /// A peer with everything at its default.
    pub(super) fn neighbour(&self, asn: Option<u32>) -> Neighbour {
        Neighbour {
            resource: None,
            node: None,
            address: None,
            interface: None,
            port: bgp::PORT,
            asn,
            local_as: self.own_as,
            source: None,
            own_v4: None,
            own_v6: None,
            families: BTreeSet::new(),
            extended_next_hop: false,
            hold_time: self.hold_time(None),
            restart_time: RESTART_TIME,
            ttl: Ttl::Auto,
            password: None,
            bfd: None,
            import: None,
            export: Some(self.out.clone()),
            client: false,
            next_hop: NextHopMode::Auto,
            allowed_own_as: 0,
            max_prefixes: MAX_PREFIXES,
        }
    }

    /// What a password refers to; an error in words when it is not there.
    pub(super) fn password(&self, of: Option<&BgpPassword>) -> Result<Option<Password>, String> {
        let Some(of) = of else { return Ok(None) };
        if let Some(file) = &of.file {
            return Ok(Some(Password::File(PathBuf::from(file))));
        }
        let Some(reference) = &of.secret_key_ref else {
            return Err("its password has no source".to_owned());
        };
        let secrets = &self.inputs.snapshot.secrets;
        let (name, key) = (reference.name.as_str(), reference.key.as_str());
        let Some((name, secret)) = secrets.get_key_value(name) else {
            return Err(format!("there is no Secret/{name}: apply it"));
        };
        let value = secret.spec.data.get(key);
        let value = value.ok_or_else(|| format!("Secret/{name} has no key {key}: add it"))?;
        Ok(Some(Password::Secret {
            name: name.clone(),
            key: Arc::from(key),
            value: value.clone(),
        }))
    }
}

/// Whole seconds, which validation has seen to.
pub(super) fn seconds(duration: GoDuration) -> u16 {
    u16::try_from(duration.0.as_secs()).unwrap_or(u16::MAX)
}

fn of_node(node: &str) -> String {
    format!("node.{node}")
}
