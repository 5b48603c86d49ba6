//! The little that a tunnel must know of the IP packets inside it: addresses, length, ECN.

use std::net::IpAddr;

/// The IP header fields that decide over a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// Bytes of the whole packet as its header says; never more than there were.
    pub len: usize,
    /// Congestion notification of RFC 3168: the two low bits of the traffic class.
    pub ecn: u8,
}

/// The congestion mark: «a queue on the way is full».
const CE: u8 = 3;
const ECT1: u8 = 1;
const NOT_ECT: u8 = 0;

impl IpHeader {
    /// Reads the header of `packet`; `None` when it is not a whole IP packet.
    pub fn parse(packet: &[u8]) -> Option<IpHeader> {
        let at = |i: usize| packet.get(i).copied();
        let u16_at = |i: usize| Some(usize::from(u16::from_be_bytes([at(i)?, at(i + 1)?])));
        let header = match at(0)? >> 4 {
            4 => IpHeader {
                source: packet.get(12..)?.first_chunk::<4>().copied()?.into(),
                destination: packet.get(16..)?.first_chunk::<4>().copied()?.into(),
                len: u16_at(2).filter(|len| *len >= 20)?,
                ecn: at(1)? & 3,
            },
            6 => IpHeader {
                source: packet.get(8..)?.first_chunk::<16>().copied()?.into(),
                destination: packet.get(24..)?.first_chunk::<16>().copied()?.into(),
                len: u16_at(4)? + 40,
                ecn: (at(1)? >> 4) & 3,
            },
            _ => return None,
        };
        (header.len <= packet.len()).then_some(header)
    }
}

/// Where the packet goes that begins with an IP header.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(packet.get(16..)?.first_chunk::<4>().copied()?.into()),
        6 => Some(packet.get(24..)?.first_chunk::<16>().copied()?.into()),
        _ => None,
    }
}

/// What leaves a tunnel for the mark of its outer header (RFC 6040, section 4.2): changes the inner
/// header where the path has marked it. False: drop the packet, its sender does not understand marks.
pub(crate) fn decapsulate_ecn(packet: &mut [u8], outer: u8) -> bool {
    let Some(inner) = IpHeader::parse(packet).map(|h| h.ecn) else {
        return false;
    };
    match (inner, outer & 3) {
        (NOT_ECT, CE) => return false,
        (1..=2, CE) => set_ecn(packet, CE),
        (2, ECT1) => set_ecn(packet, ECT1),
        _ => {}
    }
    true
}

/// Sets the two bits, and mends the checksum of an IPv4 header.
fn set_ecn(packet: &mut [u8], ecn: u8) {
    let Some([version, class, ..]) = packet.get_mut(..2) else {
        return;
    };
    if *version >> 4 == 6 {
        *class = (*class & !0x30) | (ecn << 4);
        return;
    }
    let (old, new) = (*class, (*class & !3) | ecn);
    *class = new;
    if let Some([high, low]) = packet.get_mut(10..12) {
        // RFC 1624: HC' = ~(~HC + ~m + m'); the word's other byte cancels out.
        let sum = u32::from(!u16::from_be_bytes([*high, *low]))
            + u32::from(!u16::from(old))
            + u32::from(new);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        [*high, *low] = (!u16::try_from(sum).unwrap_or(0)).to_be_bytes();
    }
}

/// Bytes that `len` is padded to, so that lengths tell less: a multiple of 16, but not past `mtu`.
pub(crate) fn padded_len(len: usize, mtu: u16) -> usize {
    len.next_multiple_of(16).min(usize::from(mtu)).max(len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::ip_packet;

    fn checksum(header: &[u8]) -> u16 {
        let sum = header
            .chunks(2)
            .fold(0u32, |s, w| s + u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum = (sum & 0xffff) + (sum >> 16);
        !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
    }

    #[test]
    fn the_table_of_rfc_6040() {
        // Rows: inner; columns: outer Not-ECT, ECT(1), ECT(0), CE. None: drop.
        let table = [
            (0, [Some(0), Some(0), Some(0), None]),
            (2, [Some(2), Some(1), Some(2), Some(3)]),
            (1, [Some(1), Some(1), Some(1), Some(3)]),
            (3, [Some(3), Some(3), Some(3), Some(3)]),
        ];
        for (inner, row) in table {
            for (outer, want) in [0, 1, 2, 3].into_iter().zip(row) {
                for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
                    let mut packet = ip_packet(from, to, 50);
                    set_ecn(&mut packet, inner);
                    let kept = decapsulate_ecn(&mut packet, outer);
                    let got = kept.then(|| IpHeader::parse(&packet).unwrap().ecn);
                    assert_eq!(got, want, "inner {inner} outer {outer}");
                    if packet[0] >> 4 == 4 {
                        assert_eq!(checksum(&packet[..20]), 0);
                    }
                }
            }
        }
    }

    #[test]
    fn padding_goes_to_sixteen_but_not_past_the_mtu() {
        for (len, want) in [
            (0, 0),
            (1, 16),
            (16, 16),
            (1409, 1420),
            (1420, 1420),
            (1500, 1500),
        ] {
            assert_eq!(padded_len(len, 1420), want);
        }
    }

    #[test]
    fn short_and_lying_packets_are_refused() {
        let packet = ip_packet("10.0.0.1", "10.0.0.2", 60);
        let header = IpHeader::parse(&packet).unwrap();
        assert_eq!(
            (header.len, header.destination),
            (60, "10.0.0.2".parse().unwrap())
        );
        for len in 0..60 {
            assert_eq!(IpHeader::parse(&packet[..len]), None);
        }
        let mut longer = packet.clone();
        longer.extend([0; 4]);
        assert_eq!(IpHeader::parse(&longer).unwrap().len, 60);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), outer: u8) {
            IpHeader::parse(&bytes);
            decapsulate_ecn(&mut bytes, outer);
        }
    }
}
