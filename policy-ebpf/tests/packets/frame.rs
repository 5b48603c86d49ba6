//! Frames, byte by byte.

use std::net::IpAddr;

/// MAC address of the workload.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// MAC address of the host's end.
pub const HOST_MAC: [u8; 6] = [0xee; 6];

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

pub fn ip(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no address"))
}

pub fn icmp_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 58,
    }
}

/// The two ends of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub from: IpAddr,
    pub to: IpAddr,
    pub from_port: u16,
    pub to_port: u16,
}

impl Path {
    pub fn new(from: &str, from_port: u16, to: &str, to_port: u16) -> Path {
        Path {
            from: ip(from),
            to: ip(to),
            from_port,
            to_port,
        }
    }

    pub fn back(self) -> Path {
        Path {
            from: self.to,
            to: self.from,
            from_port: self.to_port,
            to_port: self.from_port,
        }
    }

    pub fn tcp(self, flags: u8) -> Vec<u8> {
        self.packet(TCP, &self.tcp_header(flags))
    }

    pub fn tcp_header(self, flags: u8) -> Vec<u8> {
        let mut header = self.ports().to_vec();
        header.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        header
    }

    pub fn udp_header(self) -> Vec<u8> {
        let mut header = self.ports().to_vec();
        header.extend([0, 12, 0, 0, 1, 2, 3, 4]);
        header
    }

    pub fn udp(self) -> Vec<u8> {
        self.packet(UDP, &self.udp_header())
    }

    pub fn sctp(self, chunk: u8) -> Vec<u8> {
        let mut header = self.ports().to_vec();
        header.extend([0, 0, 0, 1, 0, 0, 0, 0, chunk, 0, 0, 4]);
        self.packet(SCTP, &header)
    }

    pub fn icmp(self, icmp_type: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = vec![icmp_type, code, 0, 0];
        message.extend(rest);
        self.packet(icmp_of(self.from), &message)
    }

    /// An echo request, or the answer to one.
    pub fn echo(self, request: bool, identifier: u16) -> Vec<u8> {
        let icmp_type = match (self.from, request) {
            (IpAddr::V4(_), true) => 8,
            (IpAddr::V4(_), false) => 0,
            (IpAddr::V6(_), true) => 128,
            (IpAddr::V6(_), false) => 129,
        };
        let [high, low] = identifier.to_be_bytes();
        self.icmp(icmp_type, 0, &[high, low, 0, 1])
    }

    /// "Destination unreachable" about a packet.
    pub fn unreachable(self, about: &[u8]) -> Vec<u8> {
        let icmp_type = match self.from {
            IpAddr::V4(_) => 3,
            IpAddr::V6(_) => 1,
        };
        let mut rest = vec![0; 4];
        rest.extend(about);
        self.icmp(icmp_type, 1, &rest)
    }

    fn ports(self) -> [u8; 4] {
        let [a, b] = self.from_port.to_be_bytes();
        let [c, d] = self.to_port.to_be_bytes();
        [a, b, c, d]
    }

    /// An IP packet.
    pub fn packet(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        self.piece(protocol, payload, 0, 0, false)
    }

    /// A fragment, by offset in units of eight bytes.
    pub fn piece(self, protocol: u8, payload: &[u8], id: u16, offset: u16, more: bool) -> Vec<u8> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let [i, j] = id.to_be_bytes();
                let [f, g] = (offset | u16::from(more) << 13).to_be_bytes();
                let [l, m] = u16::try_from(20 + payload.len())
                    .unwrap_or_default()
                    .to_be_bytes();
                let mut packet = vec![0x45, 0, l, m, i, j, f, g, 64, protocol, 0, 0];
                packet.extend(from.octets());
                packet.extend(to.octets());
                packet.extend(payload);
                packet
            }
            _ if offset == 0 && !more => self.v6(protocol, 64, payload),
            _ => {
                let [f, g] = (offset << 3 | u16::from(more)).to_be_bytes();
                let [i, j] = id.to_be_bytes();
                let mut fragment = vec![protocol, 0, f, g, 0, 0, i, j];
                fragment.extend(payload);
                self.v6(44, 64, &fragment)
            }
        }
    }

    /// An IPv6 packet with a hop limit.
    pub fn v6(self, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
        let [l, m] = u16::try_from(payload.len())
            .unwrap_or_default()
            .to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, l, m, next, hops];
        for address in [self.from, self.to] {
            match address {
                IpAddr::V6(v6) => packet.extend(v6.octets()),
                IpAddr::V4(v4) => packet.extend(v4.to_ipv6_mapped().octets()),
            }
        }
        packet.extend(payload);
        packet
    }
}

/// Extension headers before what follows, each of eight bytes.
pub fn extensions(kinds: &[u8], last: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut headers = Vec::new();
    for next in kinds.iter().skip(1).chain([&last]) {
        headers.extend([*next, 0, 0, 0, 0, 0, 0, 0]);
    }
    headers.extend(payload);
    (*kinds.first().unwrap_or(&last), headers)
}

/// A frame around an IP packet.
pub fn ethernet(from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ether_type = match packet.first().map(|b| b >> 4) {
        Some(6) => [0x86, 0xdd],
        _ => [8, 0],
    };
    frame(from, ether_type, packet)
}

pub fn frame(from: [u8; 6], ether_type: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = HOST_MAC.to_vec();
    frame.extend(from);
    frame.extend(ether_type);
    frame.extend(payload);
    frame
}

pub fn arp(operation: u8, hardware: [u8; 6], from: [u8; 4], about: [u8; 4]) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
    arp.extend(hardware);
    arp.extend(from);
    arp.extend([0; 6]);
    arp.extend(about);
    frame(MAC, [8, 6], &arp)
}
