//! DEL: the interface first, then the address, so that no address is free while it is in use.

use ::ipam::{Cleanup, Extra, Holder, Release};
use model::keys;
use model::kv::{Event, Op};
use model::object::ObjectId;

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
    let endpoint = target.endpoint.clone();
    let cleanup = Cleanup::new(move |holder| Extra {
        compares: Vec::new(),
        ops: vec![Op::Delete(key_of(&endpoint, holder))],
    });
    let release = Release {
        handle: target.handle.clone(),
        node: Some(context.node.clone()),
        blocks: Vec::new(),
        cleanup,
    };
    let released = context.ipam.release(release).await?;
    let holder = released.holders.into_iter().next().unwrap_or_default();
    let gone = Event {
        key: key_of(&target.endpoint, &holder),
        value: None,
        revision: released.revision,
    };
    context.control.echo(vec![gone]).await;
    Ok(())
}

/// Key of an endpoint. The runtime need not say the namespace again: the allocation knows it.
fn key_of(endpoint: &ObjectId, holder: &Holder) -> String {
    match holder.namespace() {
        Some(namespace) => keys::resource(&ObjectId {
            namespace: Some(namespace.to_owned()),
            ..endpoint.clone()
        }),
        None => keys::resource(endpoint),
    }
}
