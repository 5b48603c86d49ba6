//! CHECK: the store and the kernel against what ADD said.

use model::api::cni::Request;
use model::{Object, manifest};

use super::attachment::Target;
use super::{CniError, Context};

pub(super) async fn check(
    context: &Context,
    request: &Request,
    target: &Target,
) -> Result<(), CniError> {
    let differs = |differences| CniError::Differs {
        container: target.label(),
        differences,
    };
    let stored = context.store.get(&target.endpoint_key()).await?;
    let stored = stored.and_then(|kv| manifest::decode_stored(&kv.value).ok());
    let Some(Object::WorkloadEndpoint(endpoint)) = stored else {
        return Err(CniError::Unknown(target.endpoint.to_string()));
    };
    let spec = endpoint.spec;
    if let Some(previous) = &request.previous
        && previous.ips.iter().any(|ip| !spec.ip_networks.contains(ip))
    {
        return Err(differs(vec![format!(
            "addresses: prevResult has {:?}, the store has {:?}",
            previous.ips, spec.ip_networks
        )]));
    }
    let mut request = request.clone();
    request.mac = spec.mac;
    let mtu = request
        .previous
        .as_ref()
        .map(|p| p.mtu)
        .filter(|mtu| *mtu > 0);
    let workload = target.workload(
        &request,
        spec.ip_networks,
        mtu.unwrap_or_else(|| context.views.workload_mtu()),
    );
    let found = context
        .in_kernel(target, move || Ok(netlink::workload::check(&workload)))
        .await?;
    found.map_err(|d| differs(d.iter().map(ToString::to_string).collect()))
}
