//! The ten bytes before every unit of a TUN with `IFF_VNET_HDR`: how it is to be cut and what of its
//! checksum is missing (virtio 1.2, section 5.1.6; in the machine's byte order).

/// Bytes of the header.
pub(crate) const OFFLOAD_LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
/// Set beside TCP when the unit has the CWR flag.
const ECN: u8 = 0x80;

/// What a unit is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gso {
    /// One packet.
    #[default]
    None,
    /// TCP segments in IPv4.
    TcpV4,
    /// TCP segments in IPv6.
    TcpV6,
    /// UDP datagrams, in either.
    Udp,
}

/// The header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offload {
    pub(crate) gso: Gso,
    /// Payload of every segment but the last.
    pub(crate) segment: u16,
    /// Bytes of all headers of a unit.
    pub(crate) header_len: u16,
    /// Where the transport header starts and where in it the checksum stands, when that holds the sum
    /// of the pseudo-header only.
    pub(crate) checksum: Option<(u16, u16)>,
}

impl Offload {
    /// Reads the header; `None` for a kind of unit that was not asked for.
    pub(crate) fn decode(bytes: [u8; OFFLOAD_LEN]) -> Option<Offload> {
        let [flags, kind, rest @ ..] = bytes;
        let number = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        let gso = match kind & !ECN {
            0 => Gso::None,
            1 => Gso::TcpV4,
            4 => Gso::TcpV6,
            5 => Gso::Udp,
            _ => return None,
        };
        Some(Offload {
            gso,
            header_len: number(0),
            segment: number(2),
            checksum: (flags & NEEDS_CHECKSUM != 0).then(|| (number(4), number(6))),
        })
    }

    /// Writes the header.
    pub(crate) fn encode(self) -> [u8; OFFLOAD_LEN] {
        let (start, offset) = self.checksum.unwrap_or_default();
        let mut bytes = [0; OFFLOAD_LEN];
        bytes[0] = if self.checksum.is_some() {
            NEEDS_CHECKSUM
        } else {
            0
        };
        bytes[1] = match self.gso {
            Gso::None => 0,
            Gso::TcpV4 => 1,
            Gso::TcpV6 => 4,
            Gso::Udp => 5,
        };
        let numbers = [self.header_len, self.segment, start, offset];
        for (place, number) in bytes[2..].chunks_exact_mut(2).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(kind in 0usize..4, segment: u16, header_len: u16, checksum: Option<(u16, u16)>) {
            let gso = [Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::Udp][kind];
            let offload = Offload { gso, segment, header_len, checksum };
            prop_assert_eq!(Offload::decode(offload.encode()), Some(offload));
        }

        #[test]
        fn no_bytes_panic(bytes: [u8; OFFLOAD_LEN]) {
            Offload::decode(bytes);
        }
    }
}
