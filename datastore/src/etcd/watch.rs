//! One watch: created within the deadline, then read until it breaks or falls silent.

use std::time::Duration;

use etcd_client::{ResponseHeader, WatchOptions, WatchResponse, WatchStream};
use model::kv::Revision;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::MESSAGE_LIMIT;
use super::convert::{Keyspace, range_end};
use super::pool::Chosen;
use super::status::{Context, is_stale_token};
use crate::error::{Error, Operation};
use crate::store::WatchItem;

/// A watch that etcd agreed to, and what it already said.
pub(super) struct Created {
    pub(super) stream: WatchStream,
    /// Set when the revision was gone already.
    pub(super) compacted: bool,
}

/// Asks for a watch and waits until etcd confirms it.
pub(super) async fn create(
    chosen: &Chosen,
    keys: &Keyspace,
    prefix: &str,
    from: Revision,
    what: Context<'_>,
) -> Result<Created, Error> {
    let mut logged_in_again = false;
    loop {
        let full = keys.full(prefix);
        let options = WatchOptions::new()
            .with_range(range_end(&full))
            // Zero would mean "from now on".
            .with_start_revision(from.max(1))
            .with_progress_notify();
        let mut client = chosen
            .client
            .watch_client()
            .max_decoding_message_size(MESSAGE_LIMIT);
        let mut stream = client
            .watch(full, Some(options))
            .await
            .map_err(|e| what.error(e))?;
        let first = stream.message().await.map_err(|e| what.error(e))?;
        let Some(first) = first else {
            return Err(what.unavailable("etcd closed the watch at once", true));
        };
        if !first.canceled() {
            let compacted = false;
            return Ok(Created { stream, compacted });
        }
        if first.compact_revision() > 0 {
            let compacted = true;
            return Ok(Created { stream, compacted });
        }
        // An expired token looks like a missing permission here, and is not renewed for us.
        if is_stale_token(first.cancel_reason()) && !logged_in_again {
            logged_in_again = true;
            let renewed = chosen.client.refresh_token().await;
            renewed.map_err(|e| what.error(e))?;
            continue;
        }
        return Err(canceled(&first, what));
    }
}

fn canceled(response: &WatchResponse, what: Context<'_>) -> Error {
    let reason = response.cancel_reason();
    if is_stale_token(reason) {
        return Error::Denied {
            operation: what.operation,
            object: what.object.to_owned(),
            message: reason.to_owned(),
        };
    }
    what.unavailable(format!("etcd ended the watch: {reason}"), true)
}

/// Reads a watch until it ends; the answer is its last item, if anybody is left to read it.
///
/// etcd by itself speaks up every ten minutes only, so we ask it to; no answer means that it hangs.
pub(super) async fn follow(
    mut stream: WatchStream,
    keys: &Keyspace,
    prefix: &str,
    from: Revision,
    patience: Duration,
    items: &mpsc::Sender<WatchItem>,
) -> Option<WatchItem> {
    let what = Context {
        operation: Operation::Watch,
        object: prefix,
        lease: None,
    };
    let failed = |e| Some(WatchItem::Failed(e));
    let mut asked: Option<Instant> = None;
    loop {
        let message = match tokio::time::timeout(patience, stream.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return failed(what.unavailable("etcd closed the watch", true)),
            Ok(Err(e)) => return failed(what.error(e)),
            Err(_) if asked.is_some() => {
                return failed(Error::Timeout {
                    operation: Operation::Watch,
                    object: prefix.to_owned(),
                    after: patience,
                });
            }
            Err(_) => {
                asked = Some(Instant::now());
                if let Err(e) = stream.request_progress().await {
                    return failed(what.error(e));
                }
                continue;
            }
        };
        asked = None;
        if message.compact_revision() > 0 {
            return Some(WatchItem::Compacted);
        }
        if message.canceled() {
            return failed(canceled(&message, what));
        }
        let revision = message.header().map_or(0, ResponseHeader::revision);
        let item = if message.events().is_empty() {
            WatchItem::Progress(revision)
        } else {
            let mut events: Vec<_> = message
                .events()
                .iter()
                .filter_map(|e| keys.event(e))
                .collect();
            events.retain(|e| e.revision >= from);
            // The header may be ahead of what is in the message; the events are not.
            let Some(revision) = events.last().map(|e| e.revision) else {
                continue;
            };
            WatchItem::Events { events, revision }
        };
        items.send(item).await.ok()?;
    }
}
