//! The last changes, so that a watch can begin in the past; what is older is compacted.

use std::collections::VecDeque;
use std::sync::Arc;

use model::kv::{Event, Revision};
use tokio::sync::broadcast;

/// Most memory for the changes kept.
const BYTES: usize = 16 << 20;
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
    /// Memory that they take.
    bytes: usize,
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
            bytes: 0,
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
        self.bytes += size(&change);
        self.changes.push_back(change.clone());
        while self.changes.len() > self.limit || self.bytes > BYTES {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= size(&oldest);
            self.compacted = oldest.first().map_or(self.compacted, |e| e.revision);
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

/// Memory that a change takes, roughly.
fn size(change: &Change) -> usize {
    let event = |e: &Event| size_of::<Event>() + e.key.len() + e.value.as_ref().map_or(0, Vec::len);
    change.iter().map(event).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: Revision, bytes: usize) -> Vec<Event> {
        vec![Event {
            key: "k".into(),
            value: Some(vec![0; bytes]),
            revision,
        }]
    }

    fn revisions(follow: Option<Follow>) -> Option<Vec<Revision>> {
        Some(follow?.past.iter().map(|c| c[0].revision).collect())
    }

    #[test]
    fn the_oldest_changes_are_compacted() {
        let mut history = History::new(1, 3);
        assert_eq!(revisions(history.follow(0)), Some(vec![]));
        for revision in 2..7 {
            history.push(change(revision, 0));
            history.push(vec![]);
        }
        assert_eq!(revisions(history.follow(3)), None);
        assert_eq!(revisions(history.follow(4)), Some(vec![4, 5, 6]));
        assert_eq!(revisions(history.follow(6)), Some(vec![6]));
        assert_eq!(revisions(history.follow(9)), Some(vec![]));
    }

    #[test]
    fn large_changes_are_compacted_sooner() {
        let mut history = History::new(1, 1000);
        for revision in 2..100 {
            history.push(change(revision, BYTES / 4));
        }
        assert!(history.bytes <= BYTES);
        assert_eq!(revisions(history.follow(97)), Some(vec![97, 98, 99]));
        assert_eq!(revisions(history.follow(96)), None);
        // One alone is too large to keep, but it is still seen live.
        let mut follow = history.follow(100).unwrap();
        history.push(change(100, BYTES + 1));
        assert_eq!(follow.live.try_recv().unwrap()[0].revision, 100);
        assert_eq!(history.bytes, 0);
        assert_eq!(revisions(history.follow(101)), Some(vec![]));
    }

    #[test]
    fn after_a_restart_nothing_old_is_kept() {
        let history = History::new(50, 1000);
        assert_eq!(revisions(history.follow(50)), None);
        assert_eq!(revisions(history.follow(51)), Some(vec![]));
    }
}
