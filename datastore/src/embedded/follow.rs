//! The task behind one watch: the past from the history, then what happens, filtered by prefix.

use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use model::kv::Revision;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};

use super::engine::Command;
use super::history::{Change, Follow};
use crate::error::{Error, Operation};
use crate::store::WatchItem;

/// How often a quiet watch says up to where it is complete.
const PROGRESS: Duration = Duration::from_secs(2);

/// Feeds a watch until it ends; the answer is its last item, if anybody is left to read it.
pub(super) async fn follow(
    commands: &std_mpsc::Sender<Command>,
    prefix: &str,
    mut from: Revision,
    mut start: Option<Follow>,
    items: &mpsc::Sender<WatchItem>,
) -> Option<WatchItem> {
    let closed = || {
        WatchItem::Failed(Error::Closed {
            operation: Operation::Watch,
            object: prefix.to_owned(),
        })
    };
    loop {
        let Some(mut follow) = start else {
            return Some(WatchItem::Compacted);
        };
        for change in follow.past {
            if let Some(item) = events_of(&change, prefix, from) {
                items.send(item).await.ok()?;
            }
        }
        // A start in the future stays in the future.
        let mut seen = follow.revision;
        let mut progress = tokio::time::interval(PROGRESS);
        progress.tick().await;
        loop {
            let change = tokio::select! {
                change = follow.live.recv() => change,
                _ = progress.tick() => {
                    items.send(WatchItem::Progress(seen)).await.ok()?;
                    continue;
                }
            };
            match change {
                Ok(change) => {
                    seen = change.first().map_or(seen, |e| e.revision);
                    if let Some(item) = events_of(&change, prefix, from) {
                        items.send(item).await.ok()?;
                    }
                }
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Some(closed()),
            }
        }
        // This watch is slow: take the rest from the history, if that still has it.
        from = from.max(seen + 1);
        let (reply, answer) = oneshot::channel();
        if commands.send(Command::Follow(from, reply)).is_err() {
            return Some(closed());
        }
        start = match answer.await {
            Ok(start) => start,
            Err(_) => return Some(closed()),
        };
    }
}

fn events_of(change: &Change, prefix: &str, from: Revision) -> Option<WatchItem> {
    let revision = change.first()?.revision;
    let events: Vec<_> = change
        .iter()
        .filter(|e| e.key.starts_with(prefix) && e.revision >= from)
        .cloned()
        .collect();
    (!events.is_empty()).then_some(WatchItem::Events { events, revision })
}
