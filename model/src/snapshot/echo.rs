//! Own writes that the watch has not brought yet.
//!
//! The daemon applies its own writes as soon as they are committed. Until the watch has caught up,
//! what it still tells of such a key is older and must not undo the write.

use std::collections::HashMap;

use crate::keys;
use crate::kv::{Event, Revision};

/// The own writes under way, and how far the watches are.
#[derive(Clone, Debug, Default)]
pub(super) struct Echoes {
    /// Resources and blocks come by a watch each.
    watches: [Watch; 2],
}

#[derive(Clone, Debug, Default)]
struct Watch {
    /// The newest revision told.
    told: Revision,
    /// By key: the revision of the own write, and the last event that was put off for it.
    own: HashMap<Box<str>, (Revision, Option<Event>)>,
}

impl Echoes {
    fn watch(&mut self, key: &str) -> &mut Watch {
        let [resources, blocks] = &mut self.watches;
        if key.starts_with(keys::RESOURCES) {
            resources
        } else {
            blocks
        }
    }

    /// Notes an own write; whether it is to be applied. `present`: the snapshot has the key.
    ///
    /// A watch that is past the write has brought it, and what it brought since is newer. Only in
    /// the middle of a listing can it be past a write that it has yet to tell; then a key that is
    /// absent is put early.
    pub(super) fn own(&mut self, event: &Event, present: bool) -> bool {
        let watch = self.watch(&event.key);
        let known = watch.own.get(event.key.as_str());
        if known.is_some_and(|(own, _)| event.revision <= *own) {
            return false;
        }
        if event.revision <= watch.told {
            return event.value.is_some() && !present;
        }
        watch
            .own
            .insert(event.key.as_str().into(), (event.revision, None));
        true
    }

    /// Whether an event that was told is to be applied: it is not when an own write of the same key
    /// is newer, or is this very event.
    pub(super) fn admit(&mut self, event: &Event) -> bool {
        let watch = self.watch(&event.key);
        if event.revision > watch.told {
            watch.told = event.revision;
            // The watch is past what was written before.
            watch
                .own
                .retain(|key, (own, _)| *own >= event.revision || **key == *event.key);
        }
        let Some((own, put_off)) = watch.own.get_mut(event.key.as_str()) else {
            return true;
        };
        if event.revision < *own {
            *put_off = Some(event.clone());
            return false;
        }
        let same = event.revision == *own;
        watch.own.remove(event.key.as_str());
        !same
    }

    /// A complete listing ended at `revision`. One from before what was told comes from a store with
    /// another history, which never had the own writes: returns what was put off for them.
    pub(super) fn listed(&mut self, revision: Revision) -> Vec<Event> {
        let mut put_off = Vec::new();
        for watch in &mut self.watches {
            if revision < watch.told {
                put_off.extend(watch.own.drain().filter_map(|(_, (_, event))| event));
            }
            watch.told = revision;
        }
        put_off
    }

    /// Number of own writes that the watches have not brought.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.watches.iter().map(|w| w.own.len()).sum()
    }
}
