//! Packets that the device sends itself: what waited for a session, and keepalives.

use super::Device;
use crate::aead::{Job, TAG_LEN, seal_batch};
use crate::message::{TRANSPORT_HEADER_LEN, transport_header};
use crate::packet::{IpHeader, padded_len};
use crate::peer_id::PeerId;
use crate::time::Now;

impl Device {
    /// Keeps a packet until there is a session, and asks for one.
    pub(super) fn stage(&mut self, now: Now, id: PeerId, packet: Vec<u8>) {
        let Some(peer) = self.peer_mut(id) else {
            return;
        };
        peer.stage(packet);
        // The lane may have been a moment behind.
        if !self.send_staged(now, id) {
            self.initiate(now, id);
        }
    }

    /// Sends all that waits, if there is a session; whether something was sent.
    pub(super) fn send_staged(&mut self, now: Now, id: PeerId) -> bool {
        let Some(peer) = self.peer_mut(id) else {
            return false;
        };
        if !peer
            .sessions
            .current()
            .is_some_and(|s| s.can_send(now.mono))
        {
            return false;
        }
        let packets: Vec<Vec<u8>> = peer.staged.drain(..).collect();
        !packets.is_empty() && self.send(now, id, &packets)
    }

    /// Sends an empty packet, if there is a session.
    pub(super) fn send_keepalive(&mut self, now: Now, id: PeerId) -> bool {
        self.send(now, id, &[Vec::new()])
    }

    fn send(&mut self, now: Now, id: PeerId, packets: &[Vec<u8>]) -> bool {
        let Some(peer) = self.peer(id) else {
            return false;
        };
        let session = peer
            .sessions
            .current()
            .filter(|s| s.can_send(now.mono))
            .cloned();
        let (Some(session), Some(endpoint)) = (session, peer.endpoint) else {
            return false;
        };
        let Some(counters) = session.reserve(packets.len() as u64) else {
            return false;
        };
        let mtu = peer.config.mtu;
        let mut datagrams: Vec<Vec<u8>> = packets
            .iter()
            .zip(counters.clone())
            .map(|(packet, counter)| {
                let mut datagram = transport_header(session.remote_index, counter).to_vec();
                datagram.extend_from_slice(packet);
                let padded = padded_len(packet.len(), mtu);
                datagram.resize(TRANSPORT_HEADER_LEN + padded + TAG_LEN, 0);
                datagram
            })
            .collect();
        let mut jobs: Vec<Job<'_>> = datagrams
            .iter_mut()
            .zip(counters)
            .filter_map(|(datagram, counter)| {
                let sealed = datagram.get_mut(TRANSPORT_HEADER_LEN..)?;
                Some(Job::new(&session.send, counter, sealed))
            })
            .collect();
        seal_batch(self.engine, &mut jobs);
        let bytes = datagrams.iter().map(|d| d.len() as u64).sum();
        let is_data = packets.iter().any(|packet| !packet.is_empty());
        if peer.activity.sent(now.mono, bytes, is_data) {
            self.watch(id, now.mono);
        }
        for (packet, datagram) in packets.iter().zip(datagrams) {
            let ecn = IpHeader::parse(packet).map_or(0, |header| header.ecn);
            self.transmit(endpoint, ecn, datagram);
        }
        if session.wants_rekey_on_send(now.mono) {
            self.initiate(now, id);
        }
        true
    }
}
