//! What a frame shows to whoever sees it: addresses, at any depth of what can be unwrapped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Cidr, marks};

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It shows an address that is looked for; and how.
    Clear(String),
    /// A datagram of the encrypted tunnel.
    Encrypted,
    /// Anything else.
    Other,
}

/// Deeper than anything is wrapped.
const DEPTH: usize = 6;
const ETHERNET: usize = 14;
/// What of an IPv4 and an IPv6 header is there always.
const IPV4: usize = 20;
const IPV6: usize = 40;

/// Looks at an Ethernet frame; what is cut off is not looked at.
pub(super) fn look(frame: &[u8], pools: &[Cidr]) -> Kind {
    let mut look = Look {
        pools,
        path: Vec::new(),
        found: None,
        encrypted: false,
    };
    look.ethernet(frame, DEPTH);
    match (look.found, look.encrypted) {
        (Some(what), _) => Kind::Clear(what),
        (None, true) => Kind::Encrypted,
        (None, false) => Kind::Other,
    }
}

struct Look<'a> {
    pools: &'a [Cidr],
    path: Vec<String>,
    found: Option<String>,
    encrypted: bool,
}

impl Look<'_> {
    /// Each layer returns nothing where bytes are missing: the search ends there.
    fn ethernet(&mut self, frame: &[u8], depth: usize) -> Option<()> {
        let mut kind = u16_at(frame, 12)?;
        let mut rest = frame.get(ETHERNET..)?;
        while matches!(kind, 0x8100 | 0x88a8) {
            kind = u16_at(rest, 2)?;
            rest = rest.get(4..)?;
        }
        match kind {
            0x0800 => self.ipv4(rest, depth),
            0x86dd => self.ipv6(rest, depth),
            0x0806 => {
                self.addresses("ARP", v4_at(rest, 14)?, v4_at(rest, 24)?);
                Some(())
            }
            _ => None,
        }
    }

    fn ipv4(&mut self, packet: &[u8], depth: usize) -> Option<()> {
        self.addresses("IPv4", v4_at(packet, 12)?, v4_at(packet, 16)?);
        let header = usize::from(packet.first()? & 15) * 4;
        let is_first = u16_at(packet, 6)? & 0x1fff == 0;
        let rest = packet.get(header.max(IPV4)..).filter(|_| is_first)?;
        self.payload(*packet.get(9)?, rest, depth)
    }

    fn ipv6(&mut self, packet: &[u8], depth: usize) -> Option<()> {
        self.addresses("IPv6", v6_at(packet, 8)?, v6_at(packet, 24)?);
        let mut next = *packet.get(6)?;
        let mut rest = packet.get(IPV6..)?;
        loop {
            let len = match next {
                // Hop by hop, routing, destination: in units of 8 bytes beyond the first.
                0 | 43 | 60 => 8 + 8 * usize::from(*rest.get(1)?),
                44 if u16_at(rest, 2)? >> 3 == 0 => 8,
                44 => return None,
                _ => return self.payload(next, rest, depth),
            };
            next = *rest.first()?;
            rest = rest.get(len..)?;
        }
    }

    fn payload(&mut self, protocol: u8, rest: &[u8], depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match protocol {
            4 => self.ipv4(rest, depth),
            41 => self.ipv6(rest, depth),
            17 => self.udp(rest, depth),
            47 => self.gre(rest, depth),
            // Errors quote the packet that they are about.
            1 if matches!(rest.first()?, 3 | 5 | 11 | 12) => self.ipv4(rest.get(8..)?, depth),
            58 if *rest.first()? < 128 => self.ipv6(rest.get(8..)?, depth),
            _ => None,
        }
    }

    fn udp(&mut self, datagram: &[u8], depth: usize) -> Option<()> {
        let (from, to) = (u16_at(datagram, 0)?, u16_at(datagram, 2)?);
        if to == marks::DEFAULT_VXLAN_PORT {
            self.path.push("VXLAN".to_owned());
            return self.ethernet(datagram.get(16..)?, depth);
        }
        let port = marks::DEFAULT_WIREGUARD_PORT;
        self.encrypted |= from == port || to == port;
        None
    }

    fn gre(&mut self, rest: &[u8], depth: usize) -> Option<()> {
        let optional = (*rest.first()? & 0xb0).count_ones();
        let inner = rest.get(4 + 4 * usize::try_from(optional).ok()?..)?;
        match u16_at(rest, 2)? {
            0x0800 => self.ipv4(inner, depth),
            0x86dd => self.ipv6(inner, depth),
            0x6558 => self.ethernet(inner, depth),
            _ => None,
        }
    }

    fn addresses(&mut self, layer: &str, from: IpAddr, to: IpAddr) {
        self.path.push(format!("{layer} {from} > {to}"));
        let is_meant = |ip: IpAddr| self.pools.iter().any(|p| p.contains(ip));
        if self.found.is_none() && (is_meant(from) || is_meant(to)) {
            self.found = Some(self.path.join(", "));
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

fn v4_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 4] = *bytes.get(at..)?.first_chunk()?;
    Some(Ipv4Addr::from(bytes).into())
}

fn v6_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 16] = *bytes.get(at..)?.first_chunk()?;
    Some(Ipv6Addr::from(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKLOADS: ([u8; 4], [u8; 4]) = ([10, 65, 0, 1], [10, 65, 9, 1]);
    const HOSTS: ([u8; 4], [u8; 4]) = ([172, 31, 1, 11], [172, 31, 2, 11]);

    fn found(frame: &[u8]) -> Kind {
        let pools = ["10.65.0.0/16", "fd65:1::/64"].map(|p| p.parse().unwrap());
        look(frame, &pools)
    }

    fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn ipv4(protocol: u8, (from, to): ([u8; 4], [u8; 4]), payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; IPV4];
        (packet[0], packet[9]) = (0x45, protocol);
        packet[12..16].copy_from_slice(&from);
        packet[16..20].copy_from_slice(&to);
        packet.extend(payload);
        packet
    }

    fn ipv6(next: u8, from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; IPV6];
        (packet[0], packet[6]) = (0x60, next);
        packet[8..24].copy_from_slice(&from.parse::<Ipv6Addr>().unwrap().octets());
        packet[24..40].copy_from_slice(&to.parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(payload);
        packet
    }

    fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = [from.to_be_bytes(), to.to_be_bytes(), [0; 2], [0; 2]].concat();
        datagram.extend(payload);
        datagram
    }

    fn is_clear(frame: &[u8]) -> bool {
        matches!(found(frame), Kind::Clear(_))
    }

    #[test]
    fn workloads_are_found_however_they_are_wrapped() {
        let v4 = ipv4(17, WORKLOADS, &udp(7, 7, &[]));
        let v6 = ipv6(17, "2001:db8::1", "fd65:1::9", &udp(7, 7, &[]));
        let (plain4, plain6) = (ethernet(0x0800, &v4), ethernet(0x86dd, &v6));
        assert!(is_clear(&plain4) && is_clear(&plain6));
        let vlan = [&[0, 7, 0x08, 0x00], v4.as_slice()].concat();
        assert!(is_clear(&ethernet(0x8100, &vlan)));
        for inner in [&plain4, &plain6] {
            let vxlan = udp(9, 4789, &[[0; 8].as_slice(), inner].concat());
            let outer = ethernet(0x0800, &ipv4(17, HOSTS, &vxlan));
            let Kind::Clear(what) = found(&outer) else {
                panic!("not found");
            };
            assert!(
                what.contains("172.31.1.11 > 172.31.2.11, VXLAN, IPv"),
                "{what}"
            );
            assert!(is_clear(&ethernet(
                0x86dd,
                &ipv6(17, "fd31::1", "fd31::2", &vxlan)
            )));
        }
        assert!(is_clear(&ethernet(0x0800, &ipv4(4, HOSTS, &v4))));
        assert!(is_clear(&ethernet(0x0800, &ipv4(41, HOSTS, &v6))));
        let gre = [&[0x20, 0, 0x86, 0xdd, 0, 0, 0, 1], v6.as_slice()].concat();
        assert!(is_clear(&ethernet(0x0800, &ipv4(47, HOSTS, &gre))));
        let quoted = [&[3, 1, 0, 0, 0, 0, 0, 0], v4.as_slice()].concat();
        assert!(is_clear(&ethernet(0x0800, &ipv4(1, HOSTS, &quoted))));
        let options = [&[17, 0, 0, 0, 0, 0, 0, 0], v6.as_slice()].concat();
        let hop = [&[41, 0, 0, 0, 0, 0, 0, 0], v6.as_slice()].concat();
        assert!(is_clear(&ethernet(
            0x86dd,
            &ipv6(0, "fd31::1", "fd31::2", &hop)
        )));
        assert!(!is_clear(&ethernet(
            0x86dd,
            &ipv6(0, "fd31::1", "fd31::2", &options)
        )));
        let mut arp = vec![0; 28];
        arp[24..28].copy_from_slice(&WORKLOADS.0);
        assert!(is_clear(&ethernet(0x0806, &arp)));
    }

    #[test]
    fn what_is_encrypted_or_of_others_is_not() {
        // Ciphertext may look like anything.
        let inside = ipv4(17, WORKLOADS, &[]);
        let tunnel = ethernet(0x0800, &ipv4(17, HOSTS, &udp(51820, 51820, &inside)));
        assert_eq!(found(&tunnel), Kind::Encrypted);
        let other = ethernet(0x0800, &ipv4(17, HOSTS, &udp(2379, 40000, &inside)));
        assert_eq!(found(&other), Kind::Other);
    }

    #[test]
    fn no_cut_frame_is_read_beyond_its_end() {
        let inner = ethernet(0x86dd, &ipv6(0, "fd31::1", "fd31::2", &[44, 9, 0, 0]));
        let vxlan = udp(9, 4789, &[[0; 8].as_slice(), &inner].concat());
        let frame = ethernet(0x0800, &ipv4(17, HOSTS, &vxlan));
        for len in 0..=frame.len() {
            assert_eq!(found(&frame[..len]), Kind::Other);
        }
    }
}
