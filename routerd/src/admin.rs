//! The daemon's socket: HTTP/1.1 with JSON bodies, for `routerctl`, the CNI plugin and `curl`.

mod bgp;
mod explain;
mod flows;
mod ipam;
mod policy;
mod resources;
mod watch;

use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::api::{Doctor, ErrorBody, Rotated, Status, TunnelsShow, cni};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::cni::CniError;
use crate::gone::Gone;
use crate::services::Services;

/// The largest request body: a manifest is refused above 8 MiB before it is sent.
const BODY_LIMIT: usize = 9 << 20;

/// Binds the socket, replacing one that a dead daemon left; only root may connect.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until cancelled; requests under way are finished.
pub async fn serve(listener: UnixListener, services: Services, stop: CancellationToken) {
    let app = router(services);
    let served = axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(e) = served {
        tracing::error!(error = %e, "the socket of the daemon failed");
    }
}

fn router(services: Services) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/doctor", get(doctor))
        .route("/v1/diff", get(diff))
        .route("/v1/tunnels", get(tunnels))
        .route("/v1/tunnels/rotate", post(rotate))
        .route("/v1/explain", get(explain::explain))
        .route("/v1/bgp/peers", get(bgp::peers))
        .route("/v1/bgp/routes", get(bgp::routes))
        .route("/v1/flows", get(flows::list))
        .route("/v1/policy", get(policy::show))
        .route("/v1/policy/impact", post(policy::impact))
        .route("/v1/resources/{plural}", get(resources::list))
        .route(
            "/v1/resources/{plural}/{name}",
            get(resources::get)
                .put(resources::put)
                .delete(resources::delete),
        )
        .route(
            "/v1/resources/{plural}/{namespace}/{name}",
            get(resources::get)
                .put(resources::put)
                .delete(resources::delete),
        )
        .route("/v1/ipam", get(ipam::show))
        .route("/v1/ipam/addresses/{ip}", get(ipam::address))
        .route("/v1/ipam/check", get(ipam::check))
        .route("/v1/ipam/release", post(ipam::release))
        .route("/v1/datastore/accept", post(accept))
        .route("/v1/cni/add", post(cni_add))
        .route("/v1/cni/del", post(cni_del))
        .route("/v1/cni/check", post(cni_check))
        .route("/v1/cni/status", post(cni_status))
        .route("/v1/cni/gc", post(cni_gc))
        .fallback(not_found)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
        .layer(axum::middleware::map_response(worded))
        .with_state(services)
}

/// A failed request.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    fn new(status: StatusCode, error: impl Into<String>, retryable: bool) -> ApiError {
        ApiError {
            status,
            body: ErrorBody {
                error: error.into(),
                retryable,
            },
        }
    }

    fn bad_request(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, error, false)
    }

    fn unavailable(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error, true)
    }
}

impl From<Gone> for ApiError {
    fn from(gone: Gone) -> ApiError {
        let retryable = gone.is_retryable();
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, gone.to_string(), retryable)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<crate::resources::ResourceError> for ApiError {
    fn from(e: crate::resources::ResourceError) -> ApiError {
        use crate::resources::ResourceError as E;
        let status = match &e {
            E::Address { source, .. } => ipam::status(source),
            E::NotFound(_) => StatusCode::NOT_FOUND,
            E::Invalid(_) | E::NotEnforced { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            E::Conflict { .. } | E::Contended(_) => StatusCode::CONFLICT,
            E::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        ApiError::new(status, e.to_string(), e.is_retryable())
    }
}

impl From<datastore::Error> for ApiError {
    fn from(e: datastore::Error) -> ApiError {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            e.to_string(),
            e.is_retryable(),
        )
    }
}

impl From<CniError> for ApiError {
    /// The table of `model::api::cni`, which gives each status its CNI error code.
    fn from(e: CniError) -> ApiError {
        let (message, retryable) = (e.to_string(), e.is_retryable());
        let status = match e {
            CniError::Ipam(e) => return e.into(),
            _ if retryable => StatusCode::SERVICE_UNAVAILABLE,
            CniError::Unknown(_) => StatusCode::NOT_FOUND,
            CniError::Differs { .. } => StatusCode::CONFLICT,
            CniError::Kernel {
                source: netlink::Error::Invalid { .. },
                ..
            }
            | CniError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            CniError::Kernel { source, .. } if source.errno() == Some(libc::ENOENT) => {
                StatusCode::NOT_FOUND
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, message, retryable)
    }
}

type ApiResult<T> = Result<Json<T>, ApiError>;

/// Refusals of the framework itself, of a query or a body that does not decode, as all others are.
async fn worded(response: Response) -> Response {
    let status = response.status();
    let json = response.headers().get(axum::http::header::CONTENT_TYPE);
    let json = json.is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    if status.as_u16() < 400 || json {
        return response;
    }
    let body = axum::body::to_bytes(response.into_body(), 64 << 10).await;
    let said = body.map(|b| String::from_utf8_lossy(&b).trim().to_owned());
    let said = said.ok().filter(|said| !said.is_empty());
    let message = said.unwrap_or_else(|| status.to_string());
    ApiError::new(status, message, false).into_response()
}

async fn not_found(request: Request) -> ApiError {
    let message = format!(
        "{} {}: no such request",
        request.method(),
        request.uri().path()
    );
    ApiError::new(StatusCode::NOT_FOUND, message, false)
}

async fn status(State(s): State<Services>) -> Json<Status> {
    Json(s.views.status())
}

async fn doctor(State(s): State<Services>) -> Json<Doctor> {
    Json(crate::doctor::examine(&s).await)
}

async fn diff(State(s): State<Services>) -> ApiResult<Vec<model::kernel::Op>> {
    match s.reconcile.diff().await {
        Ok(Ok(plan)) => Ok(Json(plan.ops)),
        Ok(Err(e)) => Err(ApiError::unavailable(e.to_string())),
        Err(_) => Err(ApiError::unavailable(
            "routerd is stopping: try again when it runs",
        )),
    }
}

async fn tunnels(State(s): State<Services>) -> ApiResult<TunnelsShow> {
    let node = Arc::clone(&s.views.node);
    let shown = crate::tunnel::view::look(&node, &s.into()).await;
    let stopping = || ApiError::unavailable("routerd is stopping: try again when it runs");
    shown.map(Json).ok_or_else(stopping)
}

async fn rotate(State(s): State<Services>) -> ApiResult<Rotated> {
    use crate::tunnel::rotation::RotateError as E;
    s.rotation.rotate().await.map(Json).map_err(|e| {
        let status = match e {
            E::UnderWay | E::NoTunnel => StatusCode::CONFLICT,
            E::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            E::File(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, e.to_string(), e.is_retryable())
    })
}

async fn accept(State(s): State<Services>) -> ApiResult<()> {
    s.views
        .accept_held()
        .map(Json)
        .map_err(ApiError::bad_request)
}

async fn cni_add(
    State(s): State<Services>,
    Json(request): Json<cni::Request>,
) -> ApiResult<cni::AddResult> {
    Ok(Json(s.cni.add(request).await?))
}

async fn cni_del(State(s): State<Services>, Json(request): Json<cni::Request>) -> ApiResult<()> {
    Ok(Json(s.cni.del(request).await?))
}

async fn cni_check(State(s): State<Services>, Json(request): Json<cni::Request>) -> ApiResult<()> {
    Ok(Json(s.cni.check(request).await?))
}

async fn cni_status(State(s): State<Services>, Json(request): Json<cni::Request>) -> ApiResult<()> {
    Ok(Json(s.cni.status(request).await?))
}

async fn cni_gc(State(s): State<Services>, Json(request): Json<cni::Request>) -> ApiResult<()> {
    Ok(Json(s.cni.gc(request).await?))
}
