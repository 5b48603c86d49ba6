//! What data-path threads and the owner's handle bring to the control thread: a bounded channel with
//! lanes, so that a flood of handshakes holds up neither orders nor what running sessions need, and a
//! flood of first words none that were asked for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::lane::{Lane, Notice};
use crate::message::{INITIATION_LEN, Message};

/// Handshake messages that wait; more are dropped, as on a wire.
const HANDSHAKES: usize = 1024;
/// As many of those that we asked for, or that claim to prove their address: cheap to refuse, and not
/// what a flood consists of.
const ASKED_FOR: usize = 256;
/// From here on senders have to prove their address.
const BACKLOG: usize = HANDSHAKES / 8;
/// Notices that wait; more wait with their lanes.
const NOTICES: usize = 4096;
/// Handshakes taken at once: orders and notices wait no longer than these take, some milliseconds.
const TAKEN: usize = 32;

/// A handshake message as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    pub(super) source: SocketAddr,
    len: usize,
    bytes: [u8; INITIATION_LEN],
}

impl Handshake {
    /// `None` for what is longer than any handshake message.
    fn new(source: SocketAddr, datagram: &[u8]) -> Option<Handshake> {
        let mut bytes = [0; INITIATION_LEN];
        bytes.get_mut(..datagram.len())?.copy_from_slice(datagram);
        Some(Handshake {
            source,
            len: datagram.len(),
            bytes,
        })
    }

    pub(super) fn datagram(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Whether it is more than the first word of somebody: an answer, or an initiation with a cookie
    /// (paper, section 5.4.7: without one, mac2 is zero).
    fn is_asked_for(&self) -> bool {
        match Message::parse(self.datagram()) {
            Some(Message::Initiation(m)) => *m.macs.mac2 != [0; 16],
            other => other.is_some(),
        }
    }
}

/// What was taken out.
pub(super) struct Taken<O> {
    pub(super) orders: VecDeque<O>,
    pub(super) notices: VecDeque<Notice>,
    pub(super) handshakes: VecDeque<Handshake>,
    /// Whether many more handshakes wait.
    pub(super) is_backlogged: bool,
}

struct Queues<O> {
    orders: VecDeque<O>,
    notices: VecDeque<Notice>,
    asked_for: VecDeque<Handshake>,
    handshakes: VecDeque<Handshake>,
}

/// The channel. Orders are of type `O` and few: each has a thread that waits for it.
pub(super) struct Inbox<O> {
    queues: Mutex<Queues<O>>,
    filled: Condvar,
}

impl<O> Inbox<O> {
    pub(super) fn new() -> Inbox<O> {
        Inbox {
            queues: Mutex::new(Queues {
                orders: VecDeque::new(),
                notices: VecDeque::new(),
                asked_for: VecDeque::with_capacity(ASKED_FOR),
                handshakes: VecDeque::with_capacity(HANDSHAKES),
            }),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues<O>> {
        // Queues have no half-changed state that a panic elsewhere could leave.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn order(&self, order: O) {
        self.lock().orders.push_back(order);
        self.filled.notify_one();
    }

    /// Takes all that `lane` has to say, as far as there is room; the rest stays with the lane.
    pub(super) fn hear(&self, lane: &mut Lane) {
        if !lane.has_notices() {
            return;
        }
        let mut queues = self.lock();
        while queues.notices.len() < NOTICES {
            match lane.poll_notice() {
                Some(notice) => queues.notices.push_back(notice),
                None => break,
            }
        }
        drop(queues);
        self.filled.notify_one();
    }

    /// False: there is no room.
    pub(super) fn handshake(&self, source: SocketAddr, datagram: &[u8]) -> bool {
        let Some(handshake) = Handshake::new(source, datagram) else {
            return false;
        };
        let is_asked_for = handshake.is_asked_for();
        let mut queues = self.lock();
        let (queue, room) = match is_asked_for {
            true => (&mut queues.asked_for, ASKED_FOR),
            false => (&mut queues.handshakes, HANDSHAKES),
        };
        let has_room = queue.len() < room;
        if has_room {
            queue.push_back(handshake);
        }
        drop(queues);
        self.filled.notify_one();
        has_room
    }

    /// Waits up to `limit` (`None`: for ever) and takes what is there into `taken`, which is empty.
    pub(super) fn take(&self, limit: Option<Duration>, taken: &mut Taken<O>) {
        let queues = self.lock();
        let is_empty = |q: &mut Queues<O>| {
            q.orders.is_empty()
                && q.notices.is_empty()
                && q.asked_for.is_empty()
                && q.handshakes.is_empty()
        };
        let mut queues = match limit {
            None => self.filled.wait_while(queues, is_empty),
            Some(limit) => match self.filled.wait_timeout_while(queues, limit, is_empty) {
                Ok((queues, _)) => Ok(queues),
                Err(poisoned) => Err(PoisonError::new(poisoned.into_inner().0)),
            },
        }
        .unwrap_or_else(PoisonError::into_inner);
        taken.is_backlogged = queues.handshakes.len() > BACKLOG;
        std::mem::swap(&mut taken.orders, &mut queues.orders);
        std::mem::swap(&mut taken.notices, &mut queues.notices);
        let Queues {
            asked_for,
            handshakes,
            ..
        } = &mut *queues;
        for queue in [asked_for, handshakes] {
            // Neither lane starves the other.
            let some = queue.len().min(TAKEN);
            taken.handshakes.extend(queue.drain(..some));
        }
    }
}

impl<O> Default for Taken<O> {
    fn default() -> Taken<O> {
        Taken {
            orders: VecDeque::new(),
            notices: VecDeque::new(),
            handshakes: VecDeque::new(),
            is_backlogged: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_pass_a_flood_of_handshakes() {
        let inbox = Inbox::new();
        let source: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let admitted = (0..5000)
            .filter(|_| inbox.handshake(source, &[1; 148]))
            .count();
        assert_eq!(admitted, HANDSHAKES);
        assert!(!inbox.handshake(source, &[1; 149]));
        inbox.order("now");
        let mut taken = Taken::default();
        inbox.take(None, &mut taken);
        assert_eq!(taken.orders, ["now"]);
        assert!(taken.is_backlogged);
        let mut left = HANDSHAKES - taken.handshakes.len();
        while left > 0 {
            taken = Taken::default();
            inbox.take(None, &mut taken);
            assert!(!taken.handshakes.is_empty() && taken.orders.is_empty());
            assert!(taken.handshakes.iter().all(|h| h.datagram() == [1; 148]));
            left -= taken.handshakes.len();
        }
        inbox.take(Some(Duration::ZERO), &mut taken);
        assert!(!taken.is_backlogged);
    }

    #[test]
    fn who_was_asked_passes_a_flood_of_first_words() {
        let inbox: Inbox<()> = Inbox::new();
        let source: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let mut first = [0; INITIATION_LEN];
        first[0] = 1;
        while inbox.handshake(source, &first) {}
        let mut proved = first;
        proved[INITIATION_LEN - 1] = 9;
        let mut response = [0; crate::message::RESPONSE_LEN];
        response[0] = 2;
        assert!(inbox.handshake(source, &proved) && inbox.handshake(source, &response));
        let mut taken = Taken::default();
        inbox.take(None, &mut taken);
        let taken: Vec<&[u8]> = taken.handshakes.iter().map(Handshake::datagram).collect();
        assert_eq!(taken[..3], [&proved[..], &response, &first]);
        while inbox.handshake(source, &proved) {}
        assert!(
            inbox.handshake(source, &first),
            "each lane has its own room"
        );
    }

    #[test]
    fn whoever_waits_is_woken() {
        let inbox = std::sync::Arc::new(Inbox::new());
        let there = std::sync::Arc::clone(&inbox);
        let waiter = std::thread::spawn(move || {
            let mut taken = Taken::default();
            there.take(None, &mut taken);
            taken.orders.pop_front()
        });
        inbox.order(7);
        assert_eq!(waiter.join().unwrap(), Some(7));
    }
}
