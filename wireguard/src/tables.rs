//! What the data path reads: one immutable snapshot, replaced whole by its owner.
//!
//! Parts that did not change are shared between snapshots, so a handshake among thousands of peers
//! costs a few microseconds of publishing. Readers look at one counter a batch.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::activity::Activity;
use crate::allowed_ips::Routes;
use crate::peer_id::PeerId;
use crate::session::Session;

/// Everything that decides over a packet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) routes: Arc<Routes>,
    peers: Vec<Arc<[Option<PeerEntry>; CHUNK]>>,
    sessions: SessionIndex,
}

/// The data path's view of one peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerEntry {
    /// What to send with.
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) endpoint: Option<SocketAddr>,
    /// The endpoint stays whatever address packets come from.
    pub(crate) pinned: bool,
    /// Longest inner packet, for padding.
    pub(crate) mtu: u16,
    pub(crate) activity: Arc<Activity>,
}

const CHUNK: usize = 32;

impl Tables {
    pub(crate) fn peer(&self, id: PeerId) -> Option<&PeerEntry> {
        let id = id.get() as usize;
        self.peers.get(id / CHUNK)?.get(id % CHUNK)?.as_ref()
    }

    pub(crate) fn set_peer(&mut self, id: PeerId, entry: Option<PeerEntry>) {
        let id = id.get() as usize;
        while self.peers.len() <= id / CHUNK {
            self.peers.push(Arc::new([const { None }; CHUNK]));
        }
        if let Some(place) = self
            .peers
            .get_mut(id / CHUNK)
            .and_then(|chunk| Arc::make_mut(chunk).get_mut(id % CHUNK))
        {
            *place = entry;
        }
    }

    /// The session that packets with `index` belong to.
    pub(crate) fn session(&self, index: u32) -> Option<&Arc<Session>> {
        let bucket = self.sessions.0.get(bucket(index))?;
        bucket
            .iter()
            .find(|(i, _)| *i == index)
            .map(|(_, session)| session)
    }

    /// Sessions of all peers.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.0.iter().map(|bucket| bucket.len()).sum()
    }

    pub(crate) fn add_session(&mut self, session: Arc<Session>) {
        if let Some(bucket) = self.sessions.0.get_mut(bucket(session.local_index)) {
            Arc::make_mut(bucket).push((session.local_index, session));
        }
    }

    pub(crate) fn remove_session(&mut self, index: u32) {
        if let Some(bucket) = self.sessions.0.get_mut(bucket(index)) {
            Arc::make_mut(bucket).retain(|(i, _)| *i != index);
        }
    }
}

type Bucket = Vec<(u32, Arc<Session>)>;

/// Sessions by the whole of their random index, so that an index tells nothing about its peer.
#[derive(Clone, Debug)]
struct SessionIndex(Vec<Arc<Bucket>>);

const BUCKETS: usize = 1024;

fn bucket(index: u32) -> usize {
    index as usize % BUCKETS
}

impl Default for SessionIndex {
    fn default() -> SessionIndex {
        SessionIndex(vec![Arc::default(); BUCKETS])
    }
}

/// A value that one owner replaces and many read.
#[derive(Debug)]
pub(crate) struct Published<T> {
    generation: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Published<T> {
        Published {
            generation: AtomicU64::new(0),
            value: Mutex::new(Arc::new(value)),
        }
    }

    /// Replaces the value: a reader's next refresh sees all of it, or, before, none of it.
    pub(crate) fn publish(&self, value: T) {
        let value = Arc::new(value);
        let old = {
            let mut held = self.value.lock().unwrap_or_else(PoisonError::into_inner);
            let old = std::mem::replace(&mut *held, value);
            self.generation.fetch_add(1, Ordering::Release);
            old
        };
        // The last user frees a snapshot, and not under the lock.
        drop(old);
    }

    pub(crate) fn reader(self: &Arc<Self>) -> Reader<T> {
        let held = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        Reader {
            seen: self.generation.load(Ordering::Acquire),
            value: Arc::clone(&held),
            shared: Arc::clone(self),
        }
    }
}

/// One reader's copy of the last value that it has seen.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    shared: Arc<Published<T>>,
    seen: u64,
    value: Arc<T>,
}

impl<T> Reader<T> {
    /// Takes the newest value: one atomic load when there is none newer.
    pub(crate) fn refresh(&mut self) {
        if self.shared.generation.load(Ordering::Acquire) != self.seen {
            *self = self.shared.reader();
        }
    }

    pub(crate) fn get(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_in_other_threads_see_whole_values_in_order() {
        let published = Arc::new(Published::new((0u64, 0u64)));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut reader = published.reader();
                std::thread::spawn(move || {
                    let mut last = 0;
                    while last < 20_000 {
                        reader.refresh();
                        let (a, b) = *reader.get();
                        assert_eq!(a, b, "torn");
                        assert!(a >= last, "back in time");
                        last = a;
                    }
                })
            })
            .collect();
        for n in 1..=20_000 {
            published.publish((n, n));
        }
        for reader in readers {
            reader.join().unwrap();
        }
    }
}
