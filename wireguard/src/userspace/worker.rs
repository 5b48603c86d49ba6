//! What all data-path threads have: a way to be called, and counters of what they could not pass on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::lane::DropReason;
use crate::time::{Now, Time};

use super::sys;

/// Calls a thread that may be asleep in `poll`.
#[derive(Debug)]
pub(super) struct Bell {
    event: EventFd,
    stop: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Bell {
            event: EventFd::from_value_and_flags(0, flags)?,
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

    /// Sleeps until one of two descriptors can be read (or has failed) or the bell rings; which.
    pub(super) fn wait(
        &self,
        first: Option<BorrowedFd<'_>>,
        second: Option<BorrowedFd<'_>>,
    ) -> io::Result<Woken> {
        let bell = self.event.as_fd();
        // A place without a descriptor watches the bell once more.
        let all = [bell, first.unwrap_or(bell), second.unwrap_or(bell)];
        let mut fds = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let [is_rung, one, two] = fds.map(|fd| fd.any().unwrap_or(false));
        if is_rung {
            let _ = self.event.read();
        }
        Ok(Woken {
            first: one && first.is_some(),
            second: two && second.is_some(),
            is_rung,
        })
    }
}

/// Why a thread woke up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Woken {
    pub(super) first: bool,
    pub(super) second: bool,
    pub(super) is_rung: bool,
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
