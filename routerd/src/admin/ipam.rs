//! `/v1/ipam`: what the address records say.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ipam::blocks::{Reserved, Rest};
use ipam::{AllocError, check, show};
use model::api::{AddressShow, IpamCheck, IpamShow, Release, Released};
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
    let find = |id: &str| records.handles.get(id);
    Ok(Json(show::address(
        ip,
        block,
        find,
        &reserved,
        rest(&s).await,
    )))
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
    let released = match what {
        Release::Ip(ip) => s.ipam.release_address(ip).await?,
        Release::Handle(handle) => s.ipam.release(&handle, Vec::new()).await?,
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
