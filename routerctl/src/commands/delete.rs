//! `delete`: by manifest, or by kind and name.

use client::{Client, Error, paths};
use model::Kind;
use model::api::Applied;
use model::object::ObjectId;

use super::apply::{line, named};
use crate::args::Delete;
use crate::failure::{Done, Failure};
use crate::manifests;
use crate::output::Out;
use crate::progress::Progress;

pub(super) fn run(client: &Client, args: &Delete, out: &mut Out) -> Result<Done, Failure> {
    let ids = match (args.kind, &args.name) {
        (Some(kind), Some(name)) => vec![object_id(kind, name, args.namespace.as_deref())?],
        // What refers to others goes first: the reverse of how they are written.
        _ => manifests::read_names(&args.files)?
            .into_iter()
            .rev()
            .collect(),
    };
    let mut errors = Vec::new();
    let progress = Progress::start("deleting");
    for (n, id) in ids.iter().enumerate() {
        progress.set(|| format!("deleting {id} ({} of {})", n + 1, ids.len()));
        match client.delete::<Applied>(&paths::resource(id)) {
            Ok(applied) => out.line(&line(&applied)),
            Err(e) if e.status() == Some(404) && args.ignore_not_found => {}
            Err(e @ Error::Refused { .. }) => errors.push(named(&id.to_string(), &e)),
            Err(e) => {
                errors.push(format!("{id}: {e}"));
                break;
            }
        }
    }
    drop(progress);
    if errors.is_empty() {
        Ok(Done::Well)
    } else {
        Err(Failure::Failed(errors))
    }
}

/// The object that kind, name and `-n` mean.
pub(super) fn object_id(
    kind: Kind,
    name: &str,
    namespace: Option<&str>,
) -> Result<ObjectId, Failure> {
    if name.is_empty() {
        return Err(Failure::Usage(format!("{kind}: the name is empty")));
    }
    Ok(ObjectId {
        kind,
        namespace: namespace_of(kind, namespace)?
            .or(kind.is_namespaced().then_some("default"))
            .map(str::to_owned),
        name: name.to_owned(),
    })
}

/// Refuses a namespace for what lives in none.
pub(super) fn namespace_of(kind: Kind, namespace: Option<&str>) -> Result<Option<&str>, Failure> {
    match namespace {
        Some(_) if !kind.is_namespaced() => Err(Failure::Usage(format!(
            "{kind} lives in no namespace: leave -n out"
        ))),
        Some("") => Err(Failure::Usage("-n: the namespace is empty".to_owned())),
        other => Ok(other),
    }
}
