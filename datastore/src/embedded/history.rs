//! The last changes, so that a watch can begin in the past; what is older is compacted.

use std::collections::VecDeque;
use std::sync::Arc;

use model::kv::{Event, Revision};
use tokio::sync::broadcast;

/// Revision of an empty store.
const FIRST: Revision = 1;

/// The events of one revision.
pub(super) type Change = Arc<[Event]>;

/// A watch's start: what happened so far, and what will.
pub(super) struct Follow {
    /// Changes from the asked revision on.
    pub(super) past: Vec<Change>,
    /// The revision up to which `past` is complete.
    pub(super) revision: Revision,
    /// Later changes.
    pub(super) live: broadcast::Receiver<Change>,
}

pub(super) struct History {
    /// Latest revision.
    revision: Revision,
    /// Changes at or below this revision are no longer kept.
    compacted: Revision,
    /// Newest last.
    changes: VecDeque<Change>,
    /// Most changes kept.
    limit: usize,
    live: broadcast::Sender<Change>,
}

impl History {
    pub(super) fn new(revision: Revision, limit: usize) -> History {
        History {
            revision,
            // Nothing was ever written at the first revision, so nothing is missing.
            compacted: if revision == FIRST { 0 } else { revision },
            changes: VecDeque::new(),
            limit,
            live: broadcast::Sender::new(limit.clamp(1, 1024)),
        }
    }

    /// Records the events of one revision; none change nothing.
    pub(super) fn push(&mut self, events: Vec<Event>) {
        let Some(revision) = events.first().map(|e| e.revision) else {
            return;
        };
        let change: Change = events.into();
        self.revision = revision;
        self.changes.push_back(change.clone());
        while self.changes.len() > self.limit {
            if let Some(oldest) = self.changes.pop_front() {
                self.compacted = oldest.first().map_or(self.compacted, |e| e.revision);
            }
        }
        // Fails when nobody watches.
        let _ = self.live.send(change);
    }

    /// Everything from `from` on; `None` when that is no longer kept.
    pub(super) fn follow(&self, from: Revision) -> Option<Follow> {
        if from.max(FIRST) <= self.compacted {
            return None;
        }
        let at_or_after = |c: &&Change| c.first().is_some_and(|e| e.revision >= from);
        Some(Follow {
            past: self.changes.iter().filter(at_or_after).cloned().collect(),
            revision: self.revision,
            live: self.live.subscribe(),
        })
    }
}
