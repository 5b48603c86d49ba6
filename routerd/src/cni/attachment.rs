//! What an attachment is called, in the store and in the kernel.

use model::api::cni::Request;
use model::kernel::{LinkName, Mac};
use model::object::ObjectId;
use model::resources::WorkloadEndpointSpec;
use model::{Cidr, Kind, Metadata, Object, Resource, keys, marks, names};

use super::CniError;
use super::queue::Key;

/// Every name of one attachment; the same request always gives the same names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// What the runtime calls it.
    pub(super) key: Key,
    /// Its IPAM handle.
    pub(super) handle: String,
    /// Its `WorkloadEndpoint`.
    pub(super) endpoint: ObjectId,
    /// Its interface inside the workload.
    pub(super) ifname: LinkName,
    /// Its interface on the host.
    pub(super) link: LinkName,
    /// MAC address inside the workload unless another was asked for.
    pub(super) mac: Mac,
}

/// Handles of a network start with this. None of the parts may hold a colon.
pub(super) fn handle_prefix(network: &str) -> String {
    format!("cni:{network}:")
}

/// The attachment that a handle of a network stands for, as container and interface.
pub(super) fn parse_handle(handle: &str) -> Option<(&str, &str)> {
    let (_network, attachment) = handle.strip_prefix("cni:")?.split_once(':')?;
    attachment.split_once(':')
}

/// Name of the `WorkloadEndpoint` that a handle's addresses are for.
pub fn endpoint_of_handle(node: &str, handle: &str) -> Option<String> {
    let (container, ifname) = parse_handle(handle)?;
    Some(endpoint_name(node, container, ifname))
}

/// A DEL may come without the pod's name, so the name hangs on the container alone; and the old
/// sandbox of a pod never touches the new one's.
fn endpoint_name(node: &str, container: &str, ifname: &str) -> String {
    names::endpoint_name(node, "cni", container, ifname)
}

impl Target {
    pub(super) fn of(node: &str, request: &Request) -> Result<Target, CniError> {
        let (container, ifname) = (&request.container_id, &request.ifname);
        for (field, value) in [("network", &request.network), ("containerId", container)] {
            if !is_cni_id(value) {
                return Err(CniError::Refused(format!(
                    "{field} {value:?}: use letters, digits, '_', '.' and '-', starting with a letter or digit"
                )));
            }
        }
        let parsed = ifname
            .parse()
            .map_err(|e| CniError::Refused(format!("ifname: {e}")))?;
        let handle = format!("{}{container}:{ifname}", handle_prefix(&request.network));
        let name = endpoint_name(node, container, ifname);
        let namespace = match request.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        };
        Ok(Target {
            key: (container.clone(), ifname.clone()),
            ifname: parsed,
            link: names::host_interface(&request.network, &format!("{container}:{ifname}")),
            mac: names::workload_mac(&handle),
            endpoint: ObjectId {
                kind: Kind::WorkloadEndpoint,
                namespace: Some(namespace.to_owned()),
                name,
            },
            handle,
        })
    }

    /// Container and interface, for messages.
    pub(super) fn label(&self) -> String {
        format!("container {} interface {}", self.key.0, self.key.1)
    }

    pub(super) fn namespace(&self) -> &str {
        self.endpoint.namespace.as_deref().unwrap_or("default")
    }

    pub(super) fn endpoint_key(&self) -> String {
        keys::resource(&self.endpoint)
    }

    /// The `WorkloadEndpoint` that describes the attachment.
    pub(super) fn object(&self, node: &str, request: &Request, ips: &[Cidr]) -> Object {
        let spec = WorkloadEndpointSpec {
            orchestrator: if request.kubernetes { "k8s" } else { "cni" }.to_owned(),
            workload: request.container_id.clone(),
            node: node.to_owned(),
            container_id: request.container_id.clone(),
            pod: request.name.clone(),
            endpoint: request.ifname.clone(),
            ip_networks: ips.to_vec(),
            interface_name: self.link.to_string(),
            mac: Some(request.mac.unwrap_or(self.mac)),
            ..WorkloadEndpointSpec::default()
        };
        let metadata = Metadata {
            name: self.endpoint.name.clone(),
            namespace: self.endpoint.namespace.clone(),
            labels: request.labels.clone(),
            ..Metadata::default()
        };
        Object::WorkloadEndpoint(Resource { metadata, spec })
    }

    /// What the kernel needs to know.
    pub(super) fn workload(
        &self,
        request: &Request,
        ips: Vec<Cidr>,
        mtu: u32,
    ) -> netlink::workload::WorkloadAttach {
        netlink::workload::WorkloadAttach {
            netns: request.netns.clone(),
            container_ifname: self.ifname,
            host_ifname: self.link,
            mac: request.mac.unwrap_or(self.mac),
            host_mac: marks::GATEWAY_MAC,
            mtu,
            ips,
        }
    }
}

/// The CNI specification's form of container ids and network names.
fn is_cni_id(id: &str) -> bool {
    id.len() <= 128
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(container: &str) -> Request {
        Request {
            network: "mesh".into(),
            container_id: container.into(),
            ifname: "eth0".into(),
            ..Request::default()
        }
    }

    #[test]
    fn names_hang_on_the_container_alone() {
        let add = Request {
            name: "web-0".into(),
            kubernetes: true,
            ..request("c1")
        };
        let (a, b) = (
            Target::of("n1", &add).unwrap(),
            Target::of("n1", &request("c1")).unwrap(),
        );
        assert_eq!((a.link, &a.handle, a.mac), (b.link, &b.handle, b.mac));
        assert_eq!(a.endpoint, b.endpoint);
        assert_ne!(a.link, Target::of("n1", &request("c2")).unwrap().link);
    }

    #[test]
    fn path_tricks_are_refused() {
        for id in ["", "../x", "a/b", ".", "-a", "a b", "a\0"] {
            assert!(Target::of("n1", &request(id)).is_err(), "{id:?}");
        }
        let bad = Request {
            ifname: "../../eth0".into(),
            ..request("c1")
        };
        assert!(Target::of("n1", &bad).is_err());
    }
}
