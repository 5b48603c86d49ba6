//! The thread that carries datagrams from the network to the interface.
//!
//! ```text
//!  recvmmsg, UDP_GRO ─ datagrams ─► open in place ─► coalescer ─ one writev a unit ─► TUN
//!                                        └─ handshakes ─► inbox
//! ```

use std::array;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use crate::lane::{BATCH, FEW, Incoming, Lane, Received};

use super::coalesce::{Coalescer, Unit};
use super::mmsg::{MESSAGES, Receiver};
use super::tun::Tun;
use super::udp::Sockets;
use super::worker::{BELL, Shared, mono};

/// Calls in a row for one socket before the other one is looked at.
const TURNS: usize = 16;
/// Messages of one call while they are units of many datagrams: what the cache holds.
const UNITS: usize = 2;
/// From this many bytes on a message is such a unit.
const LARGE: usize = 8192;

pub(super) struct Rx {
    pub(super) tun: Tun,
    pub(super) sockets: Sockets,
    pub(super) lane: Lane,
    pub(super) shared: Shared,
}

impl Rx {
    /// Works until the bell says stop or the interface is gone.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut receiver = Receiver::new();
        let sockets = [self.sockets.v4.take(), self.sockets.v6.take()];
        let sockets = || (0..).zip(sockets.iter().flatten());
        for (place, socket) in sockets() {
            self.shared.bell.watch(socket, place)?;
        }
        while !self.shared.bell.is_stopped() {
            let woken = self.shared.bell.wait()?;
            if woken.is(BELL) {
                self.lane.refresh();
                self.shared.inbox.hear(&mut self.lane);
            }
            for (_, socket) in sockets().filter(|(place, _)| woken.is(*place)) {
                self.drain(socket, &mut receiver)?;
            }
        }
        Ok(())
    }

    /// Takes what the socket has, for a while.
    fn drain(&mut self, socket: &UdpSocket, receiver: &mut Receiver) -> io::Result<()> {
        let mut most = MESSAGES;
        for _ in 0..TURNS {
            let count = match receiver.receive(socket.as_fd(), most) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Of an earlier send; the next call goes on.
                Err(error) => {
                    tracing::trace!(%error, "receive");
                    continue;
                }
            };
            let (largest, datagrams) = receiver.size(count);
            match datagrams {
                0..=FEW => self.take::<FEW>(receiver, count)?,
                _ => self.take::<BATCH>(receiver, count)?,
            }
            if count < most || self.shared.bell.is_stopped() {
                return Ok(());
            }
            most = if largest >= LARGE { UNITS } else { MESSAGES };
        }
        Ok(())
    }

    /// Passes on what arrived, `N` datagrams at a time.
    fn take<const N: usize>(&mut self, receiver: &mut Receiver, count: usize) -> io::Result<()> {
        let Rx {
            tun, lane, shared, ..
        } = self;
        let now = mono();
        let mut coalescer = Coalescer::new(tun.allowed());
        let mut gone = Ok(());
        let mut write = |unit: Unit<'_, '_>| {
            if let Err(e) = tun.write(&unit) {
                let lost = unit.packets.len() as u64;
                shared.counters.unwritten.fetch_add(lost, Relaxed);
                // EIO: the interface is down, which may pass.
                if e.raw_os_error() == Some(libc::EBADFD) {
                    gone = Err(e);
                }
            }
        };
        let mut datagrams = receiver
            .arrived(count)
            .filter_map(|(bytes, arrived)| Some((bytes, arrived, arrived.source?)))
            .flat_map(|(bytes, arrived, source)| {
                bytes
                    .chunks_mut(arrived.segment)
                    .map(move |datagram| Incoming::new(datagram, source, arrived.ecn))
            });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        loop {
            let mut count = 0;
            let mut batch: [Incoming<'_>; N] = array::from_fn(|_| match datagrams.next() {
                Some(datagram) => {
                    count += 1;
                    datagram
                }
                None => Incoming::new(&mut [], nowhere, 0),
            });
            let Some(batch_now) = batch.get_mut(..count).filter(|b| !b.is_empty()) else {
                break;
            };
            lane.open(now, batch_now);
            shared.inbox.hear(lane);
            for incoming in batch.into_iter().take(count) {
                match incoming.received() {
                    Received::Packet { .. } => {
                        if let Some(packet) = incoming.into_packet() {
                            coalescer.push(packet, &mut write);
                        }
                    }
                    Received::Handshake => {
                        let (source, message) = (incoming.source(), incoming.datagram());
                        if !shared.inbox.handshake(source, message) {
                            shared.counters.handshakes.fetch_add(1, Relaxed);
                        }
                    }
                    Received::Dropped(reason) => shared.counters.refuse(*reason),
                    Received::Keepalive(_) | Received::Pending => {}
                }
            }
        }
        coalescer.finish(&mut write);
        gone
    }
}
