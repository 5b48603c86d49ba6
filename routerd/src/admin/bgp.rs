//! `/v1/bgp`.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use model::Cidr;
use model::api::{BgpPeersShow, BgpRoutesShow};
use serde::Deserialize;

use super::{ApiError, ApiResult};
use crate::bgp::{NoCursor, RoutesQuery};
use crate::services::Services;

/// Which routes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Routes {
    prefix: Option<Cidr>,
    peer: Option<String>,
    advertised: bool,
    after: Option<String>,
}

fn stopping() -> ApiError {
    ApiError::unavailable("routerd is stopping: try again when it runs")
}

pub(super) async fn peers(State(s): State<Services>) -> ApiResult<BgpPeersShow> {
    s.bgp.peers().await.map(Json).ok_or_else(stopping)
}

pub(super) async fn routes(
    State(s): State<Services>,
    Query(query): Query<Routes>,
) -> ApiResult<BgpRoutesShow> {
    let after = query.after.as_deref().map(str::parse).transpose();
    let refused = |e: NoCursor| ApiError::new(StatusCode::BAD_REQUEST, e.to_string(), false);
    let query = RoutesQuery {
        after: after.map_err(refused)?,
        prefix: query.prefix,
        peer: query.peer,
        advertised: query.advertised,
    };
    let shown = s.bgp.routes(query).await.ok_or_else(stopping)?;
    shown
        .map(Json)
        .map_err(|e| ApiError::new(StatusCode::NOT_FOUND, e, false))
}
