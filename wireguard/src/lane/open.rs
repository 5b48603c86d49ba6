//! Datagrams from the network into packets.

use std::array;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use super::{BATCH, DropReason, FEW, Lane, Notice, Said, say};
use crate::aead::{Job, TAG_LEN, open_batch};
use crate::message::{Message, TRANSPORT_HEADER_LEN, is_handshake};
use crate::packet::{IpHeader, decapsulate_ecn};
use crate::peer_id::PeerId;
use crate::replay::Fresh;
use crate::session::Session;
use crate::tables::Tables;
use crate::time::Time;

/// A datagram that came in; opened in place.
#[derive(Debug)]
pub struct Incoming<'a> {
    datagram: &'a mut [u8],
    source: SocketAddr,
    ecn: u8,
    received: Received,
}

/// What became of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Not handled yet.
    Pending,
    /// A packet of `peer`, at this place of the buffer: for the tunnel interface.
    Packet {
        /// Who sent it, and owns its source address.
        peer: PeerId,
        /// Where in the datagram's buffer it is.
        at: Range<usize>,
    },
    /// A sign of life without a packet.
    Keepalive(PeerId),
    /// For [`crate::device::Device::handle_handshake`], unchanged.
    Handshake,
    /// Nothing of it is left.
    Dropped(DropReason),
}

impl<'a> Incoming<'a> {
    /// A datagram from `source`, with the ECN bits of its outer header.
    pub fn new(datagram: &'a mut [u8], source: SocketAddr, ecn: u8) -> Incoming<'a> {
        Incoming {
            datagram,
            source,
            ecn,
            received: Received::Pending,
        }
    }

    /// What became of it.
    pub fn received(&self) -> &Received {
        &self.received
    }

    pub(crate) fn is_handshake(&self) -> bool {
        is_handshake(self.datagram)
    }

    /// Where it came from.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// The packet that was in it.
    pub fn packet(&self) -> Option<&[u8]> {
        match &self.received {
            Received::Packet { at, .. } => self.datagram.get(at.clone()),
            _ => None,
        }
    }

    /// The packet that was in it, for as long as the buffer lives.
    pub fn into_packet(self) -> Option<&'a [u8]> {
        match self.received {
            Received::Packet { at, .. } => self.datagram.get(at),
            _ => None,
        }
    }

    /// The datagram as it is now: untouched when it is a handshake message.
    pub fn datagram(&self) -> &[u8] {
        self.datagram
    }
}

/// The session and counter of one datagram.
type Envelope<'t> = (&'t Arc<Session>, u64);

impl Lane {
    /// Opens datagrams. Each then says what became of it.
    ///
    /// A packet is passed on only when its tag is right, its counter new, and the owner of its source
    /// address (longest prefix over all peers) is the peer that sent it.
    pub fn open(&mut self, now: Time, datagrams: &mut [Incoming<'_>]) {
        self.tables.refresh();
        for datagrams in datagrams.chunks_mut(BATCH) {
            match datagrams.len() {
                0..=FEW => self.open_some::<FEW>(now, datagrams),
                _ => self.open_some::<BATCH>(now, datagrams),
            }
        }
    }

    /// Opens up to `N` datagrams.
    fn open_some<const N: usize>(&mut self, now: Time, datagrams: &mut [Incoming<'_>]) {
        let tables = self.tables.get();
        let mut envelopes: [Option<Envelope<'_>>; N] = [None; N];
        for (envelope, datagram) in envelopes.iter_mut().zip(datagrams.iter_mut()) {
            match classify(tables, now, datagram.datagram) {
                Ok(found) => *envelope = Some(found),
                Err(fate) => datagram.received = fate,
            }
        }

        let mut work = datagrams
            .iter_mut()
            .zip(&envelopes)
            .filter_map(|(datagram, envelope)| {
                let (session, counter) = (*envelope)?;
                let sealed = datagram.datagram.get_mut(TRANSPORT_HEADER_LEN..)?;
                Some(Job::new(&session.receive, counter, sealed))
            });
        let mut count = 0;
        let mut jobs: [Job<'_>; N] = array::from_fn(|_| match work.next() {
            Some(job) => {
                count += 1;
                job
            }
            None => Job::new(&self.idle, 0, &mut []),
        });
        let mut done = [false; N];
        if let Some(jobs) = jobs.get_mut(..count) {
            open_batch(self.engine, jobs);
            for (done, job) in done.iter_mut().zip(jobs) {
                *done = job.is_done();
            }
        }

        let mut done = done.into_iter();
        for (datagram, envelope) in datagrams.iter_mut().zip(&envelopes) {
            let Some((session, counter)) = *envelope else {
                continue;
            };
            datagram.received = if done.next() == Some(true) {
                accept(tables, now, (session, counter), datagram, &mut self.notices)
            } else {
                Received::Dropped(DropReason::Forged)
            };
        }
    }
}

/// The session that a datagram claims; or what to do with it otherwise.
fn classify<'t>(tables: &'t Tables, now: Time, datagram: &[u8]) -> Result<Envelope<'t>, Received> {
    let header = match Message::parse(datagram) {
        Some(Message::Transport(header)) => header,
        Some(_) => return Err(Received::Handshake),
        None => return Err(Received::Dropped(DropReason::Malformed)),
    };
    let session = tables
        .session(header.receiver)
        .ok_or(Received::Dropped(DropReason::UnknownSession))?;
    if !session.can_receive(header.counter, now) {
        return Err(Received::Dropped(DropReason::Expired));
    }
    Ok((session, header.counter))
}

/// Decides over a datagram whose tag is right.
fn accept(
    tables: &Tables,
    now: Time,
    (session, counter): Envelope<'_>,
    datagram: &mut Incoming<'_>,
    notices: &mut VecDeque<Notice>,
) -> Received {
    let peer = session.peer;
    let Some(entry) = tables.peer(peer) else {
        return Received::Dropped(DropReason::UnknownSession);
    };
    let Some(fresh) = session.replay().accept(counter) else {
        return Received::Dropped(DropReason::Replayed);
    };
    if !session.is_confirmed() && say(notices, Said::Confirmed(peer, session.local_index)) {
        session.confirm();
    }
    // An overtaken packet may still carry an address that the peer has left.
    if fresh == Fresh::Newest && !entry.pinned && entry.endpoint != Some(datagram.source) {
        say(notices, Said::Roamed(peer, datagram.source));
    }
    let bytes = datagram.datagram.len();
    let text = TRANSPORT_HEADER_LEN..bytes - TAG_LEN;
    let is_data = !text.is_empty();
    // What cannot be said now is noticed again with the next packet.
    let activity = &entry.activity;
    if activity.received(now, bytes as u64, is_data) && !say(notices, Said::Wake(peer)) {
        activity.forget_owed();
    }
    if session.wants_rekey_on_receive(now) && !say(notices, Said::Rekey(peer)) {
        session.allow_rekey();
    }
    if !is_data {
        return Received::Keepalive(peer);
    }
    let start = text.start;
    let Some(packet) = datagram.datagram.get_mut(text) else {
        return Received::Dropped(DropReason::Malformed);
    };
    match check_packet(tables, peer, packet, datagram.ecn) {
        Ok(len) => Received::Packet {
            peer,
            at: start..start + len,
        },
        Err(drop) => {
            packet.fill(0);
            Received::Dropped(drop)
        }
    }
}

/// The length of an inner packet without its padding, when its sender may have sent it.
fn check_packet(
    tables: &Tables,
    peer: PeerId,
    packet: &mut [u8],
    ecn: u8,
) -> Result<usize, DropReason> {
    let header = IpHeader::parse(packet).ok_or(DropReason::Malformed)?;
    if tables.routes.lookup(header.source) != Some(peer) {
        return Err(DropReason::WrongSource);
    }
    if !decapsulate_ecn(packet, ecn) {
        return Err(DropReason::Congested);
    }
    Ok(header.len)
}
