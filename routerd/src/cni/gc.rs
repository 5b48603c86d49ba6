//! GC: what the runtime no longer lists is detached and its addresses go back.
//!
//! The list is the runtime's own proof; what another network or another node has is not looked at.

use model::api::cni::Request;

use super::attachment::{handle_prefix, parse_handle};
use super::{Cni, CniError};

pub(super) async fn gc(cni: &Cni, request: &Request) -> Result<(), CniError> {
    cni.context.ready()?;
    let prefix = handle_prefix(&request.network);
    let valid = request.valid_attachments.iter();
    let valid = valid
        .map(|a| format!("{prefix}{}:{}", a.container_id, a.ifname))
        .collect();
    let mut failed = Vec::new();
    for handle in cni.context.ipam.stale(&prefix, valid).await? {
        let Some((container, ifname)) = parse_handle(&handle) else {
            continue;
        };
        let stale = Request {
            network: request.network.clone(),
            container_id: container.to_owned(),
            ifname: ifname.to_owned(),
            ..Request::default()
        };
        tracing::info!(container, "the runtime no longer lists it: detaching");
        if let Err(e) = cni.del(stale).await {
            failed.push(e.to_string());
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(CniError::NotReady(failed.join("; "))),
    }
}
