//! The thread that carries packets from the interface to the network.
//!
//! ```text
//!  TUN ─ unit ─► segments ─► outbox: │hdr packet pad tag│hdr packet pad tag│… ─ seal ─► sendmmsg, UDP_SEGMENT
//! ```
//! Packets are written once, to where they are sealed and sent from. The outbox goes when it is full or
//! when the interface has nothing more at the moment.

use std::array;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use crate::lane::{BATCH, DropReason, FEW, Lane, Outgoing, Sent};
use crate::message::{TRANSPORT_HEADER_LEN, TRANSPORT_OVERHEAD};
use crate::packet::padded_len;

use super::mmsg::Run;
use super::offload::{OFFLOAD_LEN, Offload};
use super::segment::Segments;
use super::tun::Tun;
use super::udp::{Outlet, single};
use super::worker::{BELL, Counters, Shared, mono};

/// Bytes of a unit that UDP takes: what IPv4 leaves of 65,535.
const MAX_UNIT: usize = 65_507;

pub(super) struct Tx {
    pub(super) tun: Tun,
    pub(super) outlet: Outlet,
    pub(super) lane: Lane,
    pub(super) shared: Shared,
}

impl Tx {
    /// Works until the bell says stop or the interface is gone.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut input = vec![0; OFFLOAD_LEN + 65_535].into_boxed_slice();
        let mut outbox = Outbox::new();
        self.shared.bell.watch(&self.tun, 0)?;
        while !self.shared.bell.is_stopped() {
            match self.tun.read(&mut input) {
                Ok(Some((offload, unit))) => self.take(&mut outbox, offload, unit),
                Ok(None) => self.shared.counters.refuse(DropReason::Malformed),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !outbox.is_empty() {
                        self.flush(&mut outbox);
                    } else if self.shared.bell.wait()?.is(BELL) {
                        self.lane.refresh();
                        self.shared.inbox.hear(&mut self.lane);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn take(&mut self, outbox: &mut Outbox, offload: Offload, unit: &mut [u8]) {
        let Some(mut segments) = Segments::new(offload, unit) else {
            self.shared.counters.refuse(DropReason::Malformed);
            return;
        };
        let Some(mtu) = self.lane.mtu_to(segments.headers()) else {
            // The lane says which reason it is, and that once for the whole unit.
            self.shared.counters.refuse(DropReason::NoPeer);
            return;
        };
        while let Some(len) = segments.next_len() {
            let room = TRANSPORT_OVERHEAD + padded_len(len, mtu);
            if !outbox.has_room(room) {
                self.flush(outbox);
            }
            if !outbox.add(len, room, |place| segments.write_next(place)) {
                self.shared.counters.refuse(DropReason::NoRoom);
                return;
            }
        }
    }

    /// Seals and sends what is in the outbox.
    fn flush(&mut self, outbox: &mut Outbox) {
        outbox.send(&mut self.lane, &mut self.outlet, &self.shared.counters);
        self.shared.inbox.hear(&mut self.lane);
    }
}

/// Packets side by side in one buffer, with room for what encryption adds.
struct Outbox {
    buffer: Box<[u8]>,
    used: usize,
    slots: [Slot; BATCH],
    count: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// Bytes of the packet.
    len: usize,
    /// Bytes with header, padding and tag.
    room: usize,
}

impl Outbox {
    fn new() -> Outbox {
        Outbox {
            // One packet of the largest kind fits, though it is too large for UDP.
            buffer: vec![0; 65_535 + TRANSPORT_OVERHEAD + 16].into_boxed_slice(),
            used: 0,
            slots: [Slot::default(); BATCH],
            count: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn has_room(&self, room: usize) -> bool {
        self.count < BATCH && self.used + room <= MAX_UNIT
    }

    /// Adds a packet of `len` bytes that `write` writes; false when it does not.
    fn add(&mut self, len: usize, room: usize, write: impl FnOnce(&mut [u8]) -> bool) -> bool {
        let place = self.buffer.get_mut(self.used..self.used + room);
        let place = place.and_then(|p| p.get_mut(TRANSPORT_HEADER_LEN..));
        let is_written = place.is_some_and(write);
        if let Some(slot) = self.slots.get_mut(self.count).filter(|_| is_written) {
            *slot = Slot { len, room };
            self.count += 1;
            self.used += room;
        }
        is_written
    }

    fn send(&mut self, lane: &mut Lane, outlet: &mut Outlet, counters: &Counters) {
        match self.count {
            0..=FEW => self.send_some::<FEW>(lane, outlet, counters),
            _ => self.send_some::<BATCH>(lane, outlet, counters),
        }
    }

    /// Sends up to `N` packets.
    fn send_some<const N: usize>(
        &mut self,
        lane: &mut Lane,
        outlet: &mut Outlet,
        counters: &Counters,
    ) {
        let slots = self.slots.get(..self.count).unwrap_or_default();
        let mut rest = &mut *self.buffer;
        let mut packets: [Outgoing<'_>; N] = array::from_fn(|nth| {
            let slot = slots.get(nth).copied().unwrap_or_default();
            let (place, after) = std::mem::take(&mut rest).split_at_mut(slot.room);
            rest = after;
            Outgoing::new(place, slot.len)
        });
        let packets = packets.get_mut(..self.count).unwrap_or_default();
        lane.seal(mono(), packets);
        let sent: [Option<Datagram>; N] =
            array::from_fn(|nth| Datagram::of(packets.get(nth)?.sent(), counters));

        let mut runs = Runs::<N>::new(&self.buffer);
        let mut at = 0;
        for (slot, datagram) in slots.iter().zip(sent) {
            if let Some(datagram) = datagram {
                runs.add(datagram, at..at + datagram.len);
            }
            at += slot.room;
        }
        let unsent = runs.send(outlet);
        if unsent > 0 {
            counters.unsent.fetch_add(unsent, Relaxed);
        }
        self.used = 0;
        self.count = 0;
    }
}

/// Where a sealed packet goes.
#[derive(Clone, Copy)]
struct Datagram {
    destination: std::net::SocketAddr,
    ecn: u8,
    len: usize,
}

impl Datagram {
    fn of(sent: Sent, counters: &Counters) -> Option<Datagram> {
        match sent {
            Sent::To {
                endpoint, ecn, len, ..
            } => Some(Datagram {
                destination: endpoint,
                ecn,
                len,
            }),
            Sent::Dropped(reason) => {
                counters.refuse(reason);
                None
            }
            Sent::Held(_) | Sent::Pending => None,
        }
    }
}

/// Neighbours in the buffer that one `UDP_SEGMENT` send takes, joined.
struct Runs<'b, const N: usize> {
    buffer: &'b [u8],
    runs: [Run<'b>; N],
    count: usize,
    /// Where the last one is, and whether it can grow.
    last: Range<usize>,
    is_open: bool,
}

impl<'b, const N: usize> Runs<'b, N> {
    fn new(buffer: &'b [u8]) -> Runs<'b, N> {
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        Runs {
            buffer,
            runs: [single(nowhere, 0, &[]); N],
            count: 0,
            last: 0..0,
            is_open: false,
        }
    }

    /// Adds the datagram at `at`; there are no more than `N`.
    fn add(&mut self, datagram: Datagram, at: Range<usize>) {
        let last = self.count.checked_sub(1).and_then(|n| self.runs.get_mut(n));
        if let Some(run) = last.filter(|run| {
            self.is_open
                && at.start == self.last.end
                && at.len() <= run.segment
                && (run.destination, run.ecn) == (datagram.destination, datagram.ecn)
        }) {
            self.is_open = at.len() == run.segment;
            self.last.end = at.end;
            run.bytes = self.buffer.get(self.last.clone()).unwrap_or_default();
            return;
        }
        let bytes = self.buffer.get(at.clone()).unwrap_or_default();
        if let Some(place) = self.runs.get_mut(self.count) {
            *place = single(datagram.destination, datagram.ecn, bytes);
            self.count += 1;
        }
        self.last = at;
        self.is_open = true;
    }

    fn send(&self, outlet: &mut Outlet) -> u64 {
        outlet.send(self.runs.get(..self.count).unwrap_or_default())
    }
}
