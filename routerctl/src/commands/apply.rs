//! `apply`: create or update.

use std::path::PathBuf;

use client::{Client, Error, paths};
use model::api::{Action, Applied};

use crate::failure::{Done, Failure};
use crate::manifests;
use crate::output::Out;
use crate::progress::Progress;
use crate::text::clean;

/// Writes one object after the other; one that is refused keeps none of the others back.
pub(super) fn run(client: &Client, files: &[PathBuf], out: &mut Out) -> Result<Done, Failure> {
    let objects = manifests::read(files)?;
    let mut errors = Vec::new();
    let progress = Progress::start("applying");
    for (n, object) in objects.iter().enumerate() {
        let id = object.id();
        progress.set(|| format!("applying {id} ({} of {})", n + 1, objects.len()));
        let body = model::manifest::to_wire(object);
        match client.put::<_, Applied>(&paths::resource(&id), &body) {
            Ok(applied) => out.line(&line(&applied)),
            Err(e @ Error::Refused { .. }) => errors.push(named(&id.to_string(), &e)),
            Err(e) => {
                // The next one would fare no better.
                errors.push(format!("{id}: {e}"));
                if objects.len() > 1 {
                    errors.push(format!(
                        "{} of {} objects were not tried",
                        objects.len() - n - 1,
                        objects.len()
                    ));
                }
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

/// `IPPool/default created`.
pub(super) fn line(applied: &Applied) -> String {
    let action = match applied.action {
        Action::Created => "created",
        Action::Configured => "configured",
        Action::Unchanged => "unchanged",
        Action::Deleted => "deleted",
    };
    format!("{} {action}", clean(&applied.object))
}

/// An error with the object's name, unless it begins with it already.
pub(super) fn named(id: &str, error: &Error) -> String {
    let text = error.to_string();
    if text.starts_with(id) {
        text
    } else {
        format!("{id}: {text}")
    }
}
