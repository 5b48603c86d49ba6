//! `/v1/policy`.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use model::api::{PolicyImpact, PolicyShow};
use model::{manifest, validate};
use serde::Deserialize;

use super::{ApiError, ApiResult};
use crate::flows::ImpactError;
use crate::policy::show::{self, ShowError};
use crate::services::Services;

/// Which endpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    endpoint: String,
    #[serde(default = "default_namespace")]
    namespace: String,
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl From<ShowError> for ApiError {
    fn from(e: ShowError) -> ApiError {
        match e {
            ShowError::Gone(gone) => gone.into(),
            ShowError::NotFound(_) | ShowError::Elsewhere(..) => {
                ApiError::new(StatusCode::NOT_FOUND, e.to_string(), false)
            }
        }
    }
}

impl From<ImpactError> for ApiError {
    fn from(e: ImpactError) -> ApiError {
        match e {
            ImpactError::Flows(e) => e.into(),
            ImpactError::Policy(_) => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, e.to_string(), false)
            }
        }
    }
}

pub(super) async fn show(State(s): State<Services>, Query(of): Query<Of>) -> ApiResult<PolicyShow> {
    Ok(Json(show::show(&s, &of.endpoint, &of.namespace).await?))
}

pub(super) async fn impact(State(s): State<Services>, body: String) -> ApiResult<PolicyImpact> {
    let bad = |e: &dyn std::fmt::Display| ApiError::bad_request(e.to_string());
    let list: Vec<serde_json::Value> = serde_json::from_str(&body).map_err(|e| bad(&e))?;
    let mut objects = Vec::new();
    for value in list {
        for object in manifest::parse(&value.to_string()).map_err(|e| bad(&e))? {
            validate::validate(&object).map_err(|all| {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                bad(&format!("{}: {}", object.id(), all.join("; ")))
            })?;
            objects.push(object);
        }
    }
    Ok(Json(crate::flows::impact(&s, objects).await?))
}
