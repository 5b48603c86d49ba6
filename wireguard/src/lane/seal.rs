//! Packets from the tunnel interface into transport messages.

use std::array;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{BATCH, DropReason, FEW, Lane, Notice, Said, say};
use crate::aead::{Job, seal_batch};
use crate::message::{TRANSPORT_HEADER_LEN, TRANSPORT_OVERHEAD, transport_header};
use crate::packet::{IpHeader, padded_len};
use crate::peer_id::PeerId;
use crate::session::Session;
use crate::tables::{PeerEntry, Tables};
use crate::time::Time;

/// A packet to send, in the buffer that it will leave in.
///
/// The packet starts at [`TRANSPORT_HEADER_LEN`]; behind it there must be room for up to 15 bytes of
/// padding and the tag. Buffers may be neighbours in one GSO unit: nothing outside is touched.
#[derive(Debug)]
pub struct Outgoing<'a> {
    buffer: &'a mut [u8],
    len: usize,
    sent: Sent,
}

/// What became of an outgoing packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Not handled yet.
    Pending,
    /// Sealed: send the first `len` bytes of the buffer.
    To {
        /// Whose it is.
        peer: PeerId,
        /// Where it goes.
        endpoint: SocketAddr,
        /// ECN bits for the outer header: the inner ones (RFC 6040, normal mode).
        ecn: u8,
        /// Bytes of the datagram.
        len: usize,
    },
    /// A copy waits with the device for a session.
    Held(PeerId),
    /// Nothing is sent.
    Dropped(DropReason),
}

impl<'a> Outgoing<'a> {
    /// A packet of `len` bytes that starts at [`TRANSPORT_HEADER_LEN`] of `buffer`.
    pub fn new(buffer: &'a mut [u8], len: usize) -> Outgoing<'a> {
        Outgoing {
            buffer,
            len,
            sent: Sent::Pending,
        }
    }

    /// What became of it.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// The datagram, when there is one.
    pub fn datagram(&self) -> Option<&[u8]> {
        match self.sent {
            Sent::To { len, .. } => self.buffer.get(..len),
            _ => None,
        }
    }

    fn packet(&self) -> Option<&[u8]> {
        self.buffer.get(TRANSPORT_HEADER_LEN..)?.get(..self.len)
    }
}

/// How one packet will go.
#[derive(Clone, Copy)]
struct Route<'t> {
    peer: PeerId,
    entry: &'t PeerEntry,
    session: &'t Arc<Session>,
    endpoint: SocketAddr,
    ecn: u8,
    padded: usize,
    counter: u64,
}

impl Lane {
    /// Seals packets for whoever owns their destinations. Each then says what became of it.
    pub fn seal(&mut self, now: Time, packets: &mut [Outgoing<'_>]) {
        self.tables.refresh();
        for packets in packets.chunks_mut(BATCH) {
            match packets.len() {
                0..=FEW => self.seal_some::<FEW>(now, packets),
                _ => self.seal_some::<BATCH>(now, packets),
            }
        }
    }

    /// Seals up to `N` packets.
    fn seal_some<const N: usize>(&mut self, now: Time, packets: &mut [Outgoing<'_>]) {
        let tables = self.tables.get();
        let mut routes: [Option<Route<'_>>; N] = [None; N];
        let mut memo = None;
        for (route, packet) in routes.iter_mut().zip(packets.iter_mut()) {
            *route = find(tables, &mut memo, now, packet, &mut self.notices);
        }
        number(now, &mut routes, packets, &mut self.notices);

        let mut work = packets
            .iter_mut()
            .zip(&routes)
            .filter_map(|(packet, route)| {
                let route = route.as_ref()?;
                let len = TRANSPORT_OVERHEAD + route.padded;
                let (header, rest) = packet.buffer.get_mut(..len)?.split_first_chunk_mut()?;
                *header = transport_header(route.session.remote_index, route.counter);
                rest.get_mut(packet.len..route.padded)?.fill(0);
                packet.sent = Sent::To {
                    peer: route.peer,
                    endpoint: route.endpoint,
                    ecn: route.ecn,
                    len,
                };
                Some(Job::new(&route.session.send, route.counter, rest))
            });
        let mut count = 0;
        let mut jobs: [Job<'_>; N] = array::from_fn(|_| match work.next() {
            Some(job) => {
                count += 1;
                job
            }
            None => Job::new(&self.idle, 0, &mut []),
        });
        if let Some(jobs) = jobs.get_mut(..count) {
            seal_batch(self.engine, jobs);
        }
    }
}

/// Who owns an address, and where that peer is.
type Owner<'t> = (PeerId, &'t PeerEntry, SocketAddr);
/// The last answer: the packets of a batch usually go to one address.
type Memo<'t> = Option<(IpAddr, Owner<'t>)>;

/// Where a packet goes, when it can go now. Otherwise its fate is settled here.
fn find<'t>(
    tables: &'t Tables,
    memo: &mut Memo<'t>,
    now: Time,
    out: &mut Outgoing<'_>,
    notices: &mut VecDeque<Notice>,
) -> Option<Route<'t>> {
    let found = lookup(tables, memo, out);
    let ((peer, entry, endpoint), ecn) =
        found.inspect_err(|d| out.sent = Sent::Dropped(*d)).ok()?;
    let Some(session) = entry.session.as_ref().filter(|s| s.can_send(now)) else {
        hold(out, peer, notices);
        return None;
    };
    Some(Route {
        peer,
        entry,
        session,
        endpoint,
        ecn,
        padded: padded_len(out.len, entry.mtu),
        counter: 0,
    })
}

fn lookup<'t>(
    tables: &'t Tables,
    memo: &mut Memo<'t>,
    out: &Outgoing<'_>,
) -> Result<(Owner<'t>, u8), DropReason> {
    let header = out
        .packet()
        .and_then(IpHeader::parse)
        .ok_or(DropReason::Malformed)?;
    let owner = match *memo {
        Some((address, owner)) if address == header.destination => owner,
        _ => owner(tables, header.destination)?,
    };
    *memo = Some((header.destination, owner));
    if out.buffer.len() < TRANSPORT_OVERHEAD + padded_len(out.len, owner.1.mtu) {
        return Err(DropReason::NoRoom);
    }
    Ok((owner, header.ecn))
}

fn owner(tables: &Tables, address: IpAddr) -> Result<Owner<'_>, DropReason> {
    let peer = tables.routes.lookup(address).ok_or(DropReason::NoPeer)?;
    let entry = tables.peer(peer).ok_or(DropReason::NoPeer)?;
    let endpoint = entry.endpoint.ok_or(DropReason::NoEndpoint)?;
    Ok((peer, entry, endpoint))
}

/// Gives a packet to the device, which asks for a session and sends it then.
fn hold(out: &mut Outgoing<'_>, peer: PeerId, notices: &mut VecDeque<Notice>) {
    let copy = out.packet().unwrap_or_default().to_vec();
    out.sent = if say(notices, Said::Stage(peer, copy)) {
        Sent::Held(peer)
    } else {
        Sent::Dropped(DropReason::Backlog)
    };
}

/// Gives every packet its counter, one reservation for each run of packets to one peer.
fn number(
    now: Time,
    routes: &mut [Option<Route<'_>>],
    packets: &mut [Outgoing<'_>],
    notices: &mut VecDeque<Notice>,
) {
    let mut packets = packets.iter_mut();
    for run in routes.chunk_by_mut(is_same_session) {
        let packets = packets.by_ref().take(run.len());
        let Some(first) = run.first().copied().flatten() else {
            packets.for_each(std::mem::drop);
            continue;
        };
        let Some(counters) = first.session.reserve(run.len() as u64) else {
            for (route, packet) in run.iter_mut().zip(packets) {
                *route = None;
                hold(packet, first.peer, notices);
            }
            continue;
        };
        packets.for_each(std::mem::drop);
        let mut bytes = 0;
        for (route, counter) in run.iter_mut().flatten().zip(counters) {
            route.counter = counter;
            bytes += (TRANSPORT_OVERHEAD + route.padded) as u64;
        }
        // What cannot be said now is noticed again with the next packet.
        let activity = &first.entry.activity;
        if activity.sent(now, bytes, true) && !say(notices, Said::Wake(first.peer)) {
            activity.forget_waiting();
        }
        if first.session.wants_rekey_on_send(now) && !say(notices, Said::Rekey(first.peer)) {
            first.session.allow_rekey();
        }
    }
}

fn is_same_session(a: &Option<Route<'_>>, b: &Option<Route<'_>>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if Arc::ptr_eq(a.session, b.session))
}
