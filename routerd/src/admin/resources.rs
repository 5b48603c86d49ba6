//! `/v1/resources`: list, get, put, delete.

use std::collections::HashMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use model::api::{Action, Applied};
use model::kv::{Event, Revision};
use model::object::ObjectId;
use model::selector::Selector;
use model::{Kind, Object, keys, manifest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, ApiResult, watch};
use crate::resources::ResourceError;
use crate::services::Services;
use crate::{endpoints, resources};

type Params = Path<HashMap<String, String>>;

/// Query of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct ListQuery {
    namespace: Option<String>,
    label_selector: Option<String>,
    watch: bool,
}

/// Query of a write.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct WriteQuery {
    dry_run: bool,
}

/// Which objects a listing is for.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) prefix: String,
    selector: Option<Selector>,
}

impl Filter {
    /// The resource as shown, when it is wanted.
    pub(super) fn show(&self, object: &Object) -> Option<Value> {
        let wanted = self
            .selector
            .as_ref()
            .is_none_or(|s| s.matches(&object.metadata().labels));
        wanted.then(|| manifest::to_value(object))
    }
}

pub(super) async fn list(
    State(s): State<Services>,
    Path(plural): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response, ApiError> {
    let kind = parse_kind(&plural)?;
    let mut prefix = keys::resources_of(kind);
    if let (true, Some(namespace)) = (kind.is_namespaced(), &query.namespace) {
        prefix = format!("{prefix}{namespace}/");
    }
    let selector = match &query.label_selector {
        Some(text) => Some(
            text.parse::<Selector>()
                .map_err(|e| ApiError::bad_request(format!("labelSelector {text:?}: {e}")))?,
        ),
        None => None,
    };
    let filter = Filter { prefix, selector };
    if query.watch {
        return Ok(Body::from_stream(watch::stream(s.store, filter, s.stop)).into_response());
    }
    let mut items = Vec::new();
    let mut collect = |page: Vec<model::kv::KeyValue>| {
        items.extend(
            page.iter()
                .filter_map(resources::decode)
                .filter_map(|o| filter.show(&o)),
        );
    };
    s.store.list_pages(&filter.prefix, &mut collect).await?;
    Ok(Json(json!({ "apiVersion": "routerd/v1", "kind": "List", "items": items })).into_response())
}

pub(super) async fn get(State(s): State<Services>, params: Params) -> ApiResult<Value> {
    let object = resources::get(&*s.store, &object_id(&params)?).await?;
    Ok(Json(manifest::to_value(&object)))
}

pub(super) async fn put(
    State(s): State<Services>,
    params: Params,
    Query(query): Query<WriteQuery>,
    body: String,
) -> ApiResult<Applied> {
    let id = object_id(&params)?;
    let objects = manifest::parse(&body).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let [object] = <[Object; 1]>::try_from(objects).map_err(|all| {
        ApiError::bad_request(format!("{id}: {} objects in the body, want 1", all.len()))
    })?;
    if object.id() != id {
        return Err(ApiError::bad_request(format!(
            "the body is {}, the request is for {id}: make them the same",
            object.id()
        )));
    }
    if id.kind.belongs_to_policy() {
        enforceable(&s, &id).await?;
    }
    let applied = match object {
        Object::WorkloadEndpoint(endpoint) => endpoints::apply(&s, endpoint, query.dry_run).await?,
        object => resources::apply(&*s.store, object, query.dry_run).await?,
    };
    if applied.action != Action::Unchanged && !query.dry_run {
        own_write(&s, &id, applied.revision).await?;
    }
    Ok(Json(applied))
}

/// A policy that is stored and not enforced protects nobody.
async fn enforceable(s: &Services, object: &ObjectId) -> Result<(), ApiError> {
    let mut view = s.views.policy.clone();
    let fate = &s.views.policy_fate;
    // Programs are loaded as the daemon starts.
    let known = view.wait_for(Option::is_some).await;
    let known = known.ok().and_then(|view| view.clone());
    let Some(known) = known else {
        return Err(fate.gone().await.into());
    };
    let ended = fate.subsystem().map(|s| s.message);
    match ended.or(known.missing) {
        None => Ok(()),
        Some(why) => Err(ResourceError::NotEnforced {
            object: object.clone(),
            why,
        }
        .into()),
    }
}

pub(super) async fn delete(State(s): State<Services>, params: Params) -> ApiResult<Applied> {
    let id = object_id(&params)?;
    let applied = match id.kind {
        Kind::WorkloadEndpoint => endpoints::delete(&s, id.clone()).await?,
        _ => resources::delete(&*s.store, id.clone()).await?,
    };
    own_write(&s, &id, applied.revision).await?;
    if id.kind == Kind::Node {
        crate::nodes::reclaim(&s, id.name).await?;
    }
    Ok(Json(applied))
}

/// Lets this daemon know of the write before it is answered: what follows an `apply` sees it.
async fn own_write(s: &Services, id: &ObjectId, revision: Revision) -> Result<(), ApiError> {
    let key = keys::resource(id);
    let value = s
        .store
        .get(&key)
        .await?
        .filter(|kv| kv.mod_revision == revision);
    let mut events = vec![Event {
        key,
        value: value.map(|kv| kv.value),
        revision,
    }];
    if id.kind == Kind::IPPool {
        let (key, value) = (keys::POOLS_GUARD.to_owned(), Some(Vec::new()));
        events.push(Event {
            key,
            value,
            revision,
        });
    }
    s.control.echo(events).await;
    Ok(())
}

fn parse_kind(plural: &str) -> Result<Kind, ApiError> {
    plural
        .parse()
        .map_err(|e: model::kind::UnknownKind| ApiError::bad_request(e.to_string()))
}

fn object_id(Path(params): &Params) -> Result<ObjectId, ApiError> {
    let field = |name: &str| params.get(name).cloned();
    let kind = parse_kind(&field("plural").unwrap_or_default())?;
    let namespace = field("namespace");
    if kind.is_namespaced() != namespace.is_some() {
        return Err(ApiError::bad_request(match kind.is_namespaced() {
            true => format!(
                "{kind} is namespaced: the path is {}/NAMESPACE/NAME",
                kind.plural()
            ),
            false => format!(
                "{kind} is not namespaced: the path is {}/NAME",
                kind.plural()
            ),
        }));
    }
    Ok(ObjectId {
        kind,
        namespace,
        name: field("name").unwrap_or_default(),
    })
}
