//! DEL: the interface first, then the address, so that no address is free while it is in use.

use model::block::Handle;
use model::kv::{Event, Op};
use model::object::ObjectId;
use model::{Kind, keys};

use super::attachment::Target;
use super::{CniError, Context};

pub(super) async fn del(context: &Context, target: &Target) -> Result<(), CniError> {
    // The reconciler knows that the interface is going and does not call it drift.
    context
        .reconcile
        .forget(target.link)
        .await
        .map_err(|_| CniError::Stopping)?;
    let link = target.link;
    context
        .in_kernel(target, move || netlink::workload::detach(link))
        .await?;
    release(context, target).await?;
    tracing::info!(container = %target.key.0, interface = %target.link, "workload detached");
    Ok(())
}

/// Gives the addresses back and deletes the endpoint in one transaction.
pub(super) async fn release(context: &Context, target: &Target) -> Result<(), CniError> {
    // The runtime need not say the namespace again: the handle knows it.
    let mut endpoint = target.endpoint.clone();
    if let Some(kv) = context.store.get(&keys::handle(&target.handle)).await?
        && let Ok(handle) = Handle::decode(&kv.value)
    {
        endpoint = ObjectId {
            kind: Kind::WorkloadEndpoint,
            namespace: Some(handle.namespace),
            name: endpoint.name,
        };
    }
    let key = keys::resource(&endpoint);
    let released = context
        .ipam
        .release(&target.handle, vec![Op::Delete(key.clone())])
        .await?;
    let revision = released.revision;
    let gone = Event {
        key,
        value: None,
        revision,
    };
    context.control.echo(vec![gone]).await;
    Ok(())
}
