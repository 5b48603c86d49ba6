//! `/v1/ipam`: what the address records say.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ipam::blocks::{Reserved, Rest};
use ipam::check::Records;
use ipam::{AllocError, check, show};
use model::api::{AddressShow, IpamCheck, IpamShow, Release, Released};
use model::block::Allocation;
use model::object::ObjectId;
use model::{Kind, keys};
use serde::Deserialize;

use super::{ApiError, ApiResult};
use crate::ipam::{IpamError, read};
use crate::services::Services;
use crate::time::now_millis;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ShowQuery {
    blocks: bool,
}

/// The status of an answer that fails for want of an address.
pub(super) fn status(e: &IpamError) -> StatusCode {
    match e {
        e if e.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        IpamError::Alloc(AllocError::InUse { .. } | AllocError::IdentityInUse { .. }) => {
            StatusCode::CONFLICT
        }
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl From<crate::nodes::ReclaimError> for ApiError {
    fn from(e: crate::nodes::ReclaimError) -> ApiError {
        match e {
            crate::nodes::ReclaimError::Ipam(e) => e.into(),
            crate::nodes::ReclaimError::Store(e) => e.into(),
        }
    }
}

impl From<IpamError> for ApiError {
    fn from(e: IpamError) -> ApiError {
        ApiError::new(status(&e), e.to_string(), e.is_retryable())
    }
}

pub(super) async fn show(
    State(s): State<Services>,
    Query(query): Query<ShowQuery>,
) -> ApiResult<IpamShow> {
    let records = read(&*s.store).await?;
    let blocks: Vec<_> = records.blocks.into_values().collect();
    Ok(Json(match query.blocks {
        true => IpamShow {
            pools: Vec::new(),
            blocks: show::blocks(&blocks, rest(&s).await),
        },
        false => {
            let pools = records
                .pools
                .iter()
                .map(|(name, cidr)| (name.as_str(), *cidr));
            IpamShow {
                pools: show::pools(pools, &blocks),
                blocks: Vec::new(),
            }
        }
    }))
}

pub(super) async fn address(
    State(s): State<Services>,
    Path(ip): Path<IpAddr>,
) -> ApiResult<AddressShow> {
    let records = read(&*s.store).await?;
    let block = records.blocks.values().find(|b| b.cidr.contains(ip));
    let reserved = s.control.query(|snapshot, _| {
        (snapshot.reservations.values())
            .flat_map(|r| r.spec.reserved_cidrs.clone())
            .collect()
    });
    let reserved = Reserved::new(reserved.await.unwrap_or_default());
    Ok(Json(show::address(ip, block, &reserved, rest(&s).await)))
}

/// Since when a freed address is free again.
async fn rest(s: &Services) -> Rest {
    let cooldown = s
        .control
        .query(|snapshot, _| snapshot.ipam.cooldown_seconds)
        .await;
    Rest {
        now: now_millis(),
        cooldown: u64::from(cooldown.unwrap_or_default()) * 1000,
    }
}

pub(super) async fn check(State(s): State<Services>) -> ApiResult<IpamCheck> {
    let problems = check::check(&read(&*s.store).await?);
    Ok(Json(IpamCheck {
        clean: problems.is_empty(),
        problems,
    }))
}

pub(super) async fn release(
    State(s): State<Services>,
    Json(what): Json<Release>,
) -> ApiResult<Released> {
    let records = match &what {
        Release::Ip(_) | Release::Handle(_) => read(&*s.store).await?,
        Release::Node(_) => Records::default(),
    };
    if let Some(user) = user_of(&records, &what) {
        return Err(ApiError::new(StatusCode::CONFLICT, user, false));
    }
    let released = match what {
        Release::Ip(ip) => s.ipam.release_address(ip).await?,
        Release::Handle(handle) => {
            let release = ipam::Release {
                blocks: records.blocks_of(&handle),
                handle,
                ..ipam::Release::default()
            };
            s.ipam.release(release).await?
        }
        Release::Node(node) => {
            let id = ObjectId {
                kind: Kind::Node,
                namespace: None,
                name: node.clone(),
            };
            if s.store.get(&keys::resource(&id)).await?.is_some() {
                return Err(ApiError::new(
                    StatusCode::CONFLICT,
                    format!("{id} exists: `routerctl delete node {node}` releases what it has"),
                    false,
                ));
            }
            crate::nodes::reclaim(&s, node).await?
        }
    };
    Ok(Json(Released {
        addresses: released.addresses,
        blocks: released.blocks,
    }))
}

/// Who uses what is to be released, and the mend. Freed under its user, an address would be given to
/// another while the first still answers.
fn user_of(records: &Records, what: &Release) -> Option<String> {
    let its = |ip: IpAddr, a: &Allocation| match what {
        Release::Ip(asked) => ip == *asked,
        Release::Handle(h) => a.live() == Some(h.as_str()) || a.identity() == Some(h.as_str()),
        Release::Node(_) => false,
    };
    let mut ips: Vec<IpAddr> = Vec::new();
    let mut tunnel_of = None;
    for (ip, allocation) in records.allocations().filter(|(ip, a)| its(*ip, a)) {
        ips.push(ip);
        let node = allocation
            .node
            .as_ref()
            .filter(|n| records.nodes.contains(*n));
        tunnel_of = tunnel_of.or(node.filter(|_| allocation.workload.is_none()));
    }
    let mut endpoints = records.endpoints.iter().flatten();
    if let Some((name, ip)) = endpoints.find(|(_, ip)| ips.contains(ip)) {
        return Some(format!(
            "{ip} is used by WorkloadEndpoint/{name}: delete that workload with its runtime, \
             or an endpoint that you wrote with `routerctl delete workloadendpoint`"
        ));
    }
    let node = tunnel_of?;
    Some(format!(
        "it is the address of a tunnel of Node/{node}: it goes back when no IPPool of its family \
         uses VXLAN, or with `routerctl delete node {node}`"
    ))
}

#[cfg(test)]
mod tests {
    use model::block::Block;

    use super::*;

    #[test]
    fn what_is_in_use_is_named_with_the_mend() {
        let mut records = Records::default();
        records.nodes.insert("n1".to_owned());
        let web = "10.0.0.1".parse().unwrap();
        records.endpoints = Some(vec![("shop/web".to_owned(), web)]);
        let mut block = Block::new("10.0.0.0/26".parse().unwrap(), Some("n1".to_owned()));
        for (place, handle, node, workload) in [
            (1, "h1", "n1", Some("shop/web")),
            (2, "h2", "n1", Some("shop/web")),
            (3, "t1", "n1", None),
            (4, "t2", "gone", None),
        ] {
            let allocation = Allocation {
                handle: handle.to_owned(),
                node: Some(node.to_owned()),
                holder: None,
                workload: workload.map(str::to_owned),
            };
            block.used.insert(place, allocation);
        }
        records.blocks.insert(block.cidr, block);
        let ip = |ip: &str| user_of(&records, &Release::Ip(ip.parse().unwrap()));
        let held = |handle: &str| user_of(&records, &Release::Handle(handle.to_owned()));
        for used in [ip("10.0.0.1"), held("h1")] {
            let used = used.unwrap();
            assert!(
                used.starts_with("10.0.0.1 is used by WorkloadEndpoint/shop/web"),
                "{used}"
            );
            assert!(used.contains("with its runtime"), "{used}");
        }
        for tunnel in [ip("10.0.0.3"), held("t1")] {
            assert!(tunnel.unwrap().contains("a tunnel of Node/n1"));
        }
        for free in [
            ip("10.0.0.2"),
            held("h2"),
            ip("10.0.0.4"),
            ip("10.0.0.9"),
            held("x"),
        ] {
            assert_eq!(free, None);
        }
    }
}
