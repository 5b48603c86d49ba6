//! `accept-snapshot`: lets pass what the blast-radius guard holds back, once a person has seen it.

use client::{Client, paths};
use model::api::Status;
use serde_json::{Value, json};

use crate::failure::{Done, Failure};
use crate::output::Out;
use crate::text::clean;

pub(super) fn run(client: &Client, yes: bool, out: &mut Out) -> Result<Done, Failure> {
    let value: Value = super::get(client, &paths::status())?;
    let status: Status = super::typed(value)?;
    if status.held.is_empty() {
        return Err(Failure::new(
            "no snapshot is held back: nothing to accept".to_owned(),
        ));
    }
    let node = clean(&status.node);
    out.line(&format!("{node} holds back: {}", clean(&status.held)));
    if !yes {
        out.line(&format!(
            "Accepting removes from {node} every route, neighbour and workload link that the store no longer has.\n\
             Nothing was changed: `routerctl accept-snapshot --yes` accepts it, on this node only."
        ));
        return Ok(Done::Differs);
    }
    let _: Value = client.post(&paths::datastore_accept(), &json!({}))?;
    out.line(&format!("accepted: {node} follows the store again"));
    Ok(Done::Well)
}
