//! ADD: address, then interface, then answer.

use std::net::IpAddr;

use ::ipam::{AllocError, Assigned, Attach, Extra};
use model::api::cni::{AddResult, Request};
use model::kv::{Event, Op};
use model::{Cidr, Family, Object, manifest, marks};
use netlink::workload::{self, Prepared, Ready, WorkloadAttach};

use super::attachment::Target;
use super::{CniError, Context};
use crate::ipam::{self, IpamError, host_cidrs};

pub(super) async fn add(
    context: &Context,
    request: &Request,
    target: &Target,
) -> Result<AddResult, CniError> {
    context.ready()?;
    if request.netns.is_empty() {
        return Err(CniError::Refused(format!(
            "{}: netns is empty: ADD needs the path of a network namespace",
            target.label()
        )));
    }
    // What the store's readers would reject must not get there: its workload would have no routes.
    model::validate::validate(&target.object(&context.node, request, &[])).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        CniError::Refused(format!("{}: {}", target.label(), lines.join("; ")))
    })?;
    // From here on a reconcile that does not know the endpoint yet leaves its interface alone.
    let protected = context.reconcile.protect(target.link, None);
    let pair = async {
        protected.await.map_err(|_| CniError::Stopping)?;
        prepare(context, request, target).await
    };
    // The kernel takes as long for a pair as the store for a transaction.
    let (assigned, pair) = tokio::join!(assign(context, request, target), pair);
    let (assigned, object) = match assigned {
        Ok(assigned) => assigned,
        Err(e) => {
            unprepare(context, target, pair).await;
            context.reconcile.forget(target.link);
            context.policy.release(&target.endpoint);
            return Err(e);
        }
    };
    let attached = match (pair, context.guarded().await) {
        (Ok(pair), Ok(())) => attach(context, request, target, pair, (&assigned, &object)).await,
        (Err(e), _) => Err(e),
        (pair, Err(e)) => {
            unprepare(context, target, pair).await;
            Err(e)
        }
    };
    match attached {
        Ok(result) => {
            let event = Event {
                key: target.endpoint_key(),
                value: Some(manifest::encode_stored(&object)),
                revision: assigned.revision,
            };
            let generation = context.control.echo(vec![event]).await;
            context.reconcile.protect(target.link, Some(generation));
            tracing::info!(container = %target.key.0, interface = %target.link, ips = ?result.ips, "workload attached");
            Ok(result)
        }
        Err(e) => {
            context.reconcile.forget(target.link);
            context.policy.release(&target.endpoint);
            // What the runtime was not given it will not use; where this fails, its DEL mends it.
            if let Err(e) = super::del::release(context, target).await {
                tracing::warn!(container = %target.key.0, error = %e, "an address was not given back after a failed ADD");
            }
            Err(e)
        }
    }
}

/// One transaction: the addresses, the handle and the `WorkloadEndpoint`.
async fn assign(
    context: &Context,
    request: &Request,
    target: &Target,
) -> Result<(Assigned, Object), CniError> {
    let endpoint = {
        let (node, request, target) = (context.node.clone(), request.clone(), target.clone());
        move |assigned: &Assigned| target.object(&node, &request, &host_cidrs(assigned))
    };
    let describe = endpoint.clone();
    let key = target.endpoint_key();
    let write = Attach::new(move |assigned| Extra {
        compares: Vec::new(),
        ops: vec![Op::put(
            key.clone(),
            manifest::encode_stored(&endpoint(assigned)),
        )],
    });
    let want = ipam::workload(&target.handle, request, target.namespace(), write);
    let assigned = match context.ipam.assign(want.clone()).await {
        // A pool applied at another node a moment ago may still be on its way here.
        Err(IpamError::Alloc(AllocError::NoAddress { .. })) if context.catch_up().await? => {
            context.ipam.assign(want).await?
        }
        answer => answer?,
    };
    let object = describe(&assigned);
    Ok((assigned, object))
}

/// The pair of interfaces as far as it can be made before the addresses are known, unless there is one
/// of an earlier ADD.
async fn prepare(
    context: &Context,
    request: &Request,
    target: &Target,
) -> Result<Option<Prepared>, CniError> {
    let mtu = context.views.workload_mtu();
    let workload = target.workload(request, Vec::new(), mtu);
    let families = expected(context, request);
    context
        .in_kernel(target, {
            let hold = hold(context, target, &workload);
            move || workload::prepare(&workload, &families, &hold)
        })
        .await
}

/// The families that the addresses will most likely be of; made for others, the pair is made anew.
fn expected(context: &Context, request: &Request) -> Vec<Family> {
    let facts = context.views.facts.borrow();
    let asked = |f: &Family| request.ips.iter().any(|ip| Family::of(*ip) == *f);
    let named = |f: &Family| match f {
        Family::V4 => !request.ipv4_pools.is_empty(),
        Family::V6 => !request.ipv6_pools.is_empty(),
    };
    let pooled = |f: &Family| request.ips.is_empty() && facts.usable_pools.contains(f);
    let all = Family::ALL.into_iter();
    all.filter(|f| asked(f) || named(f) || pooled(f)).collect()
}

/// Takes the pair of an ADD away that got no address.
async fn unprepare(context: &Context, target: &Target, pair: Result<Option<Prepared>, CniError>) {
    if !matches!(pair, Ok(Some(_))) {
        return;
    }
    let link = target.link;
    let gone = context.in_kernel(target, move || workload::detach(link));
    if let Err(e) = gone.await {
        tracing::warn!(container = %target.key.0, error = %e, "an interface stays behind after a failed ADD");
    }
}

/// Puts policy to the host's side before anything can pass it.
fn hold(
    context: &Context,
    target: &Target,
    workload: &WorkloadAttach,
) -> impl Fn(u32) -> Ready + Send + 'static {
    let (policy, id) = (context.policy.clone(), target.endpoint.clone());
    let (link, mac, mtu) = (target.link, workload.mac, workload.mtu);
    move |index| Box::new(policy.hold(&id, link, index, mac, mtu))
}

async fn attach(
    context: &Context,
    request: &Request,
    target: &Target,
    pair: Option<Prepared>,
    (assigned, object): (&Assigned, &Object),
) -> Result<AddResult, CniError> {
    let mtu = context.views.workload_mtu();
    let workload = target.workload(request, host_cidrs(assigned), mtu);
    let hold = hold(context, target, &workload);
    let link = context.in_kernel(target, move || {
        match pair {
            Some(pair) => workload::finish(pair, &workload, &hold)?,
            None => workload::attach(&workload, &hold)?,
        };
        Ok(workload)
    });
    let workload = admitted(context, target, object, link).await?;
    Ok(AddResult {
        host_interface: target.link.to_string(),
        host_mac: Some(workload.host_mac),
        interface: request.ifname.clone(),
        mac: Some(workload.mac),
        sandbox: request.netns.clone(),
        mtu: workload.mtu,
        gateways: gateways(&workload.ips),
        ips: workload.ips,
    })
}

/// Waits for the kernel's links and for its policy, which are made side by side.
async fn admitted<T>(
    context: &Context,
    target: &Target,
    object: &Object,
    link: impl Future<Output = Result<T, CniError>>,
) -> Result<T, CniError> {
    let Object::WorkloadEndpoint(endpoint) = object else {
        return link.await;
    };
    let (link, policy) = tokio::join!(link, context.policy.admit(endpoint.clone()));
    let link = link?;
    if let Err(why) = policy {
        let name = target.link;
        context
            .in_kernel(target, move || workload::detach(name))
            .await?;
        let container = target.label();
        return Err(CniError::Unprotected { container, why });
    }
    Ok(link)
}

/// The gateway of each family that the workload has an address of.
fn gateways(ips: &[Cidr]) -> Vec<IpAddr> {
    let has = |family| ips.iter().any(|ip| ip.family() == family);
    let v4 = has(Family::V4).then_some(IpAddr::V4(marks::GATEWAY_V4));
    let v6 = has(Family::V6).then_some(IpAddr::V6(marks::GATEWAY_V6));
    v4.into_iter().chain(v6).collect()
}
