//! What all data-path threads have: a way to be called, and counters of what they could not pass on.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::lane::DropReason;
use crate::time::{Now, Time};

use super::sys;

/// Where a thread sleeps, and how it is woken.
#[derive(Debug)]
pub(super) struct Bell {
    event: EventFd,
    epoll: Epoll,
    stop: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let event = EventFd::from_value_and_flags(0, flags)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&event, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Bell {
            event,
            epoll,
            stop: AtomicBool::new(false),
        })
    }

    /// Wakes the thread, so that it lets go of an outdated snapshot.
    pub(super) fn ring(&self) {
        // Fails only when it has been rung 2^64 times and nobody came.
        let _ = self.event.write(1);
    }

    /// Tells the thread to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Watches `source`, which [`Bell::wait`] will name by `place`.
    pub(super) fn watch(&self, source: impl AsFd, place: u64) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, place);
        Ok(self.epoll.add(source, event)?)
    }

    /// Sleeps until something can be read (or has failed) or the bell rings.
    pub(super) fn wait(&self) -> io::Result<Woken> {
        let mut events = [EpollEvent::empty(); 4];
        let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        let events = events.iter().take(count);
        let woken = Woken(events.fold(0, |places, event| places | 1 << event.data()));
        if woken.is(BELL) {
            let _ = self.event.read();
        }
        Ok(woken)
    }
}

/// The place of the bell itself; descriptors have smaller ones.
pub(super) const BELL: u64 = 63;

/// Why a thread woke up: a bit for each place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Woken(u64);

impl Woken {
    pub(super) fn is(self, place: u64) -> bool {
        self.0 & (1 << place) != 0
    }
}

/// Packets and datagrams that went no further, since the tunnel started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Refused, by reason; only reasons that occurred.
    pub refused: Vec<(DropReason, u64)>,
    /// Datagrams that the network would not take.
    pub unsent: u64,
    /// Packets that the interface would not take.
    pub unwritten: u64,
    /// Handshake messages that came faster than they could be answered.
    pub handshakes: u64,
}

const REASONS: [DropReason; 11] = [
    DropReason::Malformed,
    DropReason::NoPeer,
    DropReason::NoEndpoint,
    DropReason::NoRoom,
    DropReason::Backlog,
    DropReason::UnknownSession,
    DropReason::Expired,
    DropReason::Forged,
    DropReason::Replayed,
    DropReason::WrongSource,
    DropReason::Congested,
];

/// [`Drops`] as threads count them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    refused: [AtomicU64; REASONS.len()],
    pub(super) unsent: AtomicU64,
    pub(super) unwritten: AtomicU64,
    pub(super) handshakes: AtomicU64,
}

impl Counters {
    pub(super) fn refuse(&self, reason: DropReason) {
        let places = REASONS.iter().zip(&self.refused);
        for (_, count) in places.filter(|(place, _)| **place == reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Drops {
        let counts = self
            .refused
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let refused = REASONS.into_iter().zip(counts);
        Drops {
            refused: refused.filter(|(_, count)| *count > 0).collect(),
            unsent: self.unsent.load(Ordering::Relaxed),
            unwritten: self.unwritten.load(Ordering::Relaxed),
            handshakes: self.handshakes.load(Ordering::Relaxed),
        }
    }
}

/// The two clocks.
pub(super) fn now() -> Now {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Now {
        mono: mono(),
        unix: unix.unwrap_or_default(),
    }
}

/// The clock for everything that waits.
pub(super) fn mono() -> Time {
    Time::from_duration(sys::boot_time())
}

/// What a data-path thread shares with others.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) inbox: Arc<super::inbox::Inbox<super::control::Order>>,
    pub(super) counters: Arc<Counters>,
    pub(super) bell: Arc<Bell>,
}
