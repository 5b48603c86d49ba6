//! A BGP peer beside what is stored: the node that it would peer with may be itself, its secret may be missing.

use super::ValidationError;
use crate::Selector;
use crate::object::{ObjectId, Resource};
use crate::resources::{BgpPeerSpec, NodeSpec};
use crate::{Family, Kind};

/// What of `peer` cannot be with these nodes and secrets. `has_secret` says whether a `Secret` has a key.
pub fn peer_conflict<'a>(
    peer: &Resource<BgpPeerSpec>,
    nodes: impl IntoIterator<Item = &'a Resource<NodeSpec>>,
    has_secret: impl Fn(&str, &str) -> bool,
) -> Vec<ValidationError> {
    let mut errors = Vec::new();
    let at = |field: &str, value: String, problem: String, mend: &str| {
        let object = ObjectId {
            kind: Kind::BGPPeer,
            namespace: None,
            name: peer.name().to_owned(),
        };
        ValidationError::at(object, field, value, problem, mend)
    };
    let password = peer.spec.password.as_ref();
    if let Some(of) = password.and_then(|p| p.secret_key_ref.as_ref())
        && !has_secret(&of.name, &of.key)
    {
        let problem = format!("there is no Secret/{} with the key {}", of.name, of.key);
        let value = format!("{}/{}", of.name, of.key);
        let mend = "apply the Secret first";
        errors.push(at("spec.password.secretKeyRef", value, problem, mend));
    }
    if let Some(ip) = peer.spec.peer_ip.map(|p| p.ip) {
        let mut who = selected(&peer.spec, nodes);
        // A reflector's address may stand in a peer for all nodes: it leaves out itself.
        if let (Some(only), None) = (who.next(), who.next())
            && only
                .spec
                .underlay(Family::of(ip))
                .is_some_and(|a| a.ip == ip)
        {
            let problem = format!("is the address of Node/{} itself", only.name());
            let mend = "write the address of its peer, or select other nodes";
            errors.push(at("spec.peerIP", ip.to_string(), problem, mend));
        }
    }
    errors
}

/// The nodes that peer.
fn selected<'a>(
    spec: &BgpPeerSpec,
    nodes: impl IntoIterator<Item = &'a Resource<NodeSpec>>,
) -> impl Iterator<Item = &'a Resource<NodeSpec>> {
    let selector = spec.node_selector.as_deref();
    let selector = selector.and_then(|text| text.parse::<Selector>().ok());
    nodes.into_iter().filter(move |node| {
        let named = spec.node.as_deref().is_none_or(|name| name == node.name());
        named && (selector.as_ref()).is_none_or(|s| s.matches(&node.metadata.labels))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::node::NodeBgp;

    #[test]
    fn itself_and_a_secret_that_is_missing_are_refused() {
        let node = |name: &str, ip: &str| {
            let bgp = NodeBgp {
                ipv4_address: Some(ip.parse().unwrap()),
                ..NodeBgp::default()
            };
            let spec = NodeSpec {
                bgp: Some(bgp),
                ..NodeSpec::default()
            };
            Resource::named(name, spec)
        };
        let nodes = [node("a", "192.0.2.1/24"), node("b", "192.0.2.2/24")];
        let peer = |spec: serde_json::Value| {
            Resource::named("p", serde_json::from_value::<BgpPeerSpec>(spec).unwrap())
        };
        let fields = |peer: &Resource<BgpPeerSpec>| {
            let errors = peer_conflict(peer, &nodes, |name, key| (name, key) == ("s", "k"));
            errors.into_iter().map(|e| e.field).collect::<Vec<_>>()
        };
        let to = |more: serde_json::Value| {
            let mut spec = serde_json::json!({"peerIP": "192.0.2.1", "asNumber": 64512});
            for (field, value) in more.as_object().unwrap() {
                spec[field] = value.clone();
            }
            peer(spec)
        };
        use serde_json::json;
        assert_eq!(fields(&to(json!({}))), [""; 0]);
        assert_eq!(fields(&to(json!({"node": "b"}))), [""; 0]);
        assert_eq!(fields(&to(json!({"node": "a"}))), ["spec.peerIP"]);
        let secret = |key: &str| json!({"password": {"secretKeyRef": {"name": "s", "key": key}}});
        assert_eq!(fields(&to(secret("k"))), [""; 0]);
        assert_eq!(fields(&to(secret("j"))), ["spec.password.secretKeyRef"]);
    }
}
