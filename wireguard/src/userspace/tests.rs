//! Units and packets: cutting and joining against each other and against a naive reading.

use proptest::prelude::*;

use super::coalesce::{Allowed, Coalescer, MAX_PACKETS, Unit};
use super::offload::{Gso, OFFLOAD_LEN, Offload};
use super::segment::Segments;

const ALL: Allowed = Allowed {
    tcp: true,
    udp: true,
};

/// A packet to be built, field by field.
#[derive(Clone, Debug)]
struct Plan {
    v6: bool,
    tcp: bool,
    host: u8,
    port: u16,
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
    id: u16,
    sequence: u32,
    ack: u32,
    window: u16,
    flags: u8,
    options: Vec<u8>,
    payload: Vec<u8>,
    corrupt: bool,
}

impl Plan {
    fn ip_len(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    fn header_len(&self) -> usize {
        self.ip_len() + if self.tcp { 20 + self.options.len() } else { 8 }
    }

    fn gso(&self) -> Gso {
        match (self.tcp, self.v6) {
            (true, false) => Gso::TcpV4,
            (true, true) => Gso::TcpV6,
            (false, _) => Gso::Udp,
        }
    }

    fn build(&self) -> Vec<u8> {
        let mut l4 = Vec::new();
        l4.extend(self.port.to_be_bytes());
        l4.extend(7u16.to_be_bytes());
        if self.tcp {
            l4.extend(self.sequence.to_be_bytes());
            l4.extend(self.ack.to_be_bytes());
            l4.push(u8::try_from((20 + self.options.len()) / 4).unwrap() << 4);
            l4.push(self.flags);
            l4.extend(self.window.to_be_bytes());
            l4.extend([0; 4]);
            l4.extend(&self.options);
        } else {
            l4.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
            l4.extend([0; 2]);
        }
        l4.extend(&self.payload);

        let mut ip = vec![0; self.ip_len()];
        let protocol = if self.tcp { 6 } else { 17 };
        if self.v6 {
            ip[0] = 0x60 | self.tos >> 4;
            ip[1] = self.tos << 4;
            ip[4..6].copy_from_slice(&u16::try_from(l4.len()).unwrap().to_be_bytes());
            (ip[6], ip[7]) = (protocol, self.ttl);
            (ip[8], ip[23], ip[24], ip[39]) = (0xfd, self.host, 0xfd, 2);
        } else {
            (ip[0], ip[1]) = (0x45, self.tos);
            let total = u16::try_from(20 + l4.len()).unwrap();
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            ip[4..6].copy_from_slice(&self.id.to_be_bytes());
            ip[6] = if self.dont_fragment { 0x40 } else { 0 };
            (ip[8], ip[9]) = (self.ttl, protocol);
            (ip[12], ip[15], ip[16], ip[19]) = (10, self.host, 10, 2);
            let sum = naive_sum(&ip);
            ip[10..12].copy_from_slice(&(!sum).to_be_bytes());
        }
        let at = if self.tcp { 16 } else { 6 };
        let sum = !l4_sum(&ip, &l4);
        let sum = if sum == 0 && !self.tcp { 0xffff } else { sum };
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        if self.corrupt {
            *l4.last_mut().unwrap() ^= 1;
        }
        ip.extend(l4);
        ip
    }
}

fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// The sum over pseudo-header and transport.
fn l4_sum(ip: &[u8], l4: &[u8]) -> u16 {
    let v6 = ip[0] >> 4 == 6;
    let mut all = ip[if v6 { 8..40 } else { 12..20 }].to_vec();
    all.extend([0, ip[if v6 { 6 } else { 9 }]]);
    all.extend(u16::try_from(l4.len()).unwrap().to_be_bytes());
    all.extend(l4);
    naive_sum(&all)
}

fn is_right(packet: &[u8]) -> bool {
    let v6 = packet[0] >> 4 == 6;
    let (ip, l4) = packet.split_at(if v6 { 40 } else { 20 });
    l4_sum(ip, l4) == 0xffff && (v6 || naive_sum(ip) == 0xffff)
}

fn plan(payload: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Plan> {
    let kind = (any::<bool>(), any::<bool>(), 1u8..3, 1u16..3, any::<u16>());
    let ip = (0u8..2, 63u8..65, any::<bool>());
    let tcp = (
        prop_oneof![any::<u32>(), Just(u32::MAX - 1000)],
        0u32..2,
        0u16..2,
        prop_oneof![8 => Just(0x10u8), 2 => Just(0x18), 1 => any::<u8>()],
        prop_oneof![Just(vec![]), Just(vec![1; 12])],
    );
    (kind, ip, tcp, payload).prop_map(|(kind, ip, tcp, payload)| Plan {
        v6: kind.0,
        tcp: kind.1,
        host: kind.2,
        port: kind.3,
        id: kind.4,
        tos: ip.0,
        ttl: ip.1,
        dont_fragment: ip.2,
        sequence: tcp.0,
        ack: tcp.1,
        window: tcp.2,
        flags: tcp.3,
        options: tcp.4,
        payload,
        corrupt: false,
    })
}

fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    (len, any::<u8>()).prop_map(|(len, salt)| {
        let byte = |i: usize| (i.wrapping_mul(31) >> 3).to_le_bytes()[0] ^ salt;
        (0..len).map(byte).collect()
    })
}

/// All packets of a unit.
fn cut(offload: Offload, unit: &[u8]) -> Vec<Vec<u8>> {
    let mut unit = unit.to_vec();
    let mut segments = Segments::new(offload, &mut unit).unwrap();
    let mut packets = Vec::new();
    while let Some(len) = segments.next_len() {
        let mut packet = vec![0xee; len + 5];
        assert!(!segments.write_next(&mut packet[..len - 1]));
        assert!(segments.write_next(&mut packet));
        assert_eq!(packet.split_off(len), [0xee; 5]);
        packets.push(packet);
    }
    assert!(!segments.write_next(&mut [0; 2000]));
    packets
}

/// The units that packets are joined to, each as the kernel would see it.
fn join(packets: &[Vec<u8>], allowed: Allowed) -> Vec<(Offload, Vec<u8>, usize)> {
    let mut units = Vec::new();
    let mut write = |unit: Unit<'_, '_>| {
        let mut bytes = unit.headers.to_vec();
        for packet in unit.packets {
            bytes.extend(&packet[unit.skip..]);
        }
        units.push((unit.offload, bytes, unit.packets.len()));
    };
    let mut coalescer = Coalescer::new(allowed);
    for packet in packets {
        coalescer.push(packet, &mut write);
    }
    coalescer.finish(&mut write);
    units
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Every packet of a cut unit is right, and all together say what the unit said.
    #[test]
    fn cut_packets_are_right(plan in plan(bytes(1..20_000)), size in 300u16..1500) {
        let unit = plan.build();
        let at = if plan.tcp { 16 } else { 6 };
        let offload = Offload {
            gso: plan.gso(),
            segment: size,
            header_len: 0, // not relied upon
            checksum: Some((u16::try_from(plan.ip_len()).unwrap(), at)),
        };
        let packets = cut(offload, &unit);
        let size = usize::from(size);
        prop_assert_eq!(packets.len(), plan.payload.len().div_ceil(size));
        for (nth, packet) in packets.iter().enumerate() {
            let mut want = plan.clone();
            want.id = plan.id.wrapping_add(u16::try_from(nth).unwrap());
            want.sequence = plan.sequence.wrapping_add(u32::try_from(nth * size).unwrap());
            if nth > 0 {
                want.flags &= !0x80;
            }
            if nth + 1 < packets.len() {
                want.flags &= !0x09;
            }
            want.payload = plan.payload.chunks(size).nth(nth).unwrap().to_vec();
            prop_assert_eq!(packet, &want.build());
        }
    }

    /// A packet that is no unit goes as it is, with its checksum completed.
    #[test]
    fn partial_checksums_are_completed(plan in plan(bytes(0..1500)), is_partial: bool) {
        let whole = plan.build();
        let mut packet = whole.clone();
        let at = if plan.tcp { 16 } else { 6 };
        let start = plan.ip_len();
        if is_partial {
            let (ip, l4) = packet.split_at_mut(start);
            let mut empty = l4.to_vec();
            empty.fill(0);
            let pseudo = l4_sum(ip, &empty);
            l4[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
        }
        let checksum = (u16::try_from(start).unwrap(), u16::try_from(at).unwrap());
        let offload = Offload { checksum: is_partial.then_some(checksum), ..Offload::default() };
        let packets = cut(offload, &packet);
        prop_assert_eq!(packets.len(), 1);
        prop_assert!(is_right(&packets[0]));
        // Zero has two forms.
        if packets[0] != whole {
            prop_assert_eq!(&packets[0][start + at..start + at + 2], &[0xff, 0xff]);
        }
    }

    /// Joining what was cut gives the unit again.
    #[test]
    fn joining_undoes_cutting(mut plan in plan(bytes(1..40_000)), size in 700u16..1500) {
        plan.flags = 0x18;
        let unit = plan.build();
        let at = if plan.tcp { 16 } else { 6 };
        let offload = Offload {
            gso: plan.gso(),
            segment: size,
            header_len: u16::try_from(plan.header_len()).unwrap(),
            checksum: Some((u16::try_from(plan.ip_len()).unwrap(), at)),
        };
        let packets = cut(offload, &unit);
        let units = join(&packets, ALL);
        prop_assert_eq!(units.len(), 1);
        let (joined, bytes, count) = &units[0];
        prop_assert_eq!(*count, packets.len());
        if packets.len() > 1 {
            prop_assert_eq!(*joined, offload);
            let at = plan.ip_len() + usize::from(at);
            let partial = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let mut blank = unit.clone();
            blank[plan.ip_len()..].fill(0);
            prop_assert_eq!(partial, l4_sum(&blank[..plan.ip_len()], &blank[plan.ip_len()..]));
            let mut bytes = bytes.clone();
            bytes[at..at + 2].copy_from_slice(&unit[at..at + 2]);
            prop_assert_eq!(bytes, unit);
        }
    }

    /// Whatever is joined, cutting it again gives the same packets in the same order; and nothing that
    /// is damaged is joined.
    #[test]
    fn joining_loses_nothing(
        start in plan(bytes(1..3)),
        steps in prop::collection::vec((0u8..24, 1usize..1400, any::<bool>()), 1..90),
        udp: bool,
    ) {
        let mut plan = Plan { flags: 0x10, ..start };
        let mut size = 1000;
        let mut packets = Vec::new();
        for (step, len, again) in steps {
            let mut now = plan.clone();
            let mut len = if again { size } else { len };
            now.flags = 0x10;
            match step {
                0 => now.sequence = now.sequence.wrapping_add(1),
                1 => now.host ^= 1,
                2 => now.port ^= 1,
                3 => now.tos ^= 2,
                4 => now.ttl ^= 1,
                5 => now.ack = now.ack.wrapping_add(1),
                6 => now.window ^= 1,
                7 => now.flags = 0x18,
                8 => now.flags = 0x11,
                9 => now.flags = 0x90,
                10 => now.corrupt = true,
                11 => now.tcp = !now.tcp,
                12 => now.v6 = !now.v6,
                13 => now.id = now.id.wrapping_add(3),
                14 => now.options = if now.options.is_empty() { vec![1; 8] } else { vec![] },
                15 => now.dont_fragment = !now.dont_fragment,
                16 => len = 0,
                _ => {}
            }
            now.payload = vec![step; len];
            if now.payload.is_empty() {
                now.corrupt = false;
            }
            packets.push((now.build(), now.clone()));
            size = len.max(1);
            plan = now;
            plan.corrupt = false;
            plan.id = plan.id.wrapping_add(1);
            plan.sequence = plan.sequence.wrapping_add(u32::try_from(len).unwrap());
        }
        let (bytes, plans): (Vec<_>, Vec<_>) = packets.into_iter().unzip();
        let units = join(&bytes, Allowed { tcp: true, udp });
        let mut plans = plans.iter();
        let mut again = Vec::new();
        for (offload, unit, count) in units {
            prop_assert!(count <= MAX_PACKETS && unit.len() <= 65_535);
            let members: Vec<_> = plans.by_ref().take(count).collect();
            prop_assert!(count == 1 || members.iter().all(|p| !p.corrupt && (udp || p.tcp)));
            for (mut packet, plan) in cut(offload, &unit).into_iter().zip(members) {
                if !plan.v6 && plan.dont_fragment && count > 1 {
                    // Such a packet has no use for its number, which may count differently now.
                    prop_assert!(is_right(&packet));
                    packet[4..6].copy_from_slice(&plan.id.to_be_bytes());
                    packet[10..12].fill(0);
                    let sum = naive_sum(&packet[..20]);
                    packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
                }
                again.push(packet);
            }
        }
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn no_bytes_panic(
        header: [u8; OFFLOAD_LEN],
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
        protocol in prop_oneof![Just(6u8), Just(17), any::<u8>()],
        unit in prop::collection::vec(any::<u8>(), 0..300),
        start in 0u16..120,
        gso in 0usize..4,
    ) {
        let gso = [Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::Udp][gso];
        let offload = Offload { gso, segment: 100, header_len: 0, checksum: Some((start, 16)) };
        for offload in Offload::decode(header).into_iter().chain([offload]) {
            let mut unit = unit.clone();
            for (at, byte) in [(0, version), (6, protocol), (9, protocol)] {
                unit.get_mut(at).into_iter().for_each(|b| *b = byte);
            }
            let len = u16::try_from(unit.len()).unwrap();
            for (at, byte) in (2..6).zip(len.to_be_bytes().into_iter().chain(len.saturating_sub(40).to_be_bytes())) {
                unit.get_mut(at).into_iter().for_each(|b| *b = byte);
            }
            join(&[unit.clone(), unit.clone()], ALL);
            if let Some(mut segments) = Segments::new(offload, &mut unit) {
                let mut out = [0; 400];
                while segments.write_next(&mut out) {}
            }
        }
    }
}

#[test]
fn a_unit_of_the_kernel_that_is_too_long_for_one_goes_as_two() {
    let plan = Plan {
        v6: false,
        tcp: false,
        host: 1,
        port: 1,
        tos: 0,
        ttl: 64,
        dont_fragment: true,
        id: 0,
        sequence: 0,
        ack: 0,
        window: 0,
        flags: 0,
        options: vec![],
        payload: vec![1; 100],
        corrupt: false,
    };
    let packets = vec![plan.build(); MAX_PACKETS + 3];
    let counts: Vec<_> = join(&packets, ALL).iter().map(|u| u.2).collect();
    assert_eq!(counts, [MAX_PACKETS, 3]);
    let big = Plan {
        payload: vec![1; 9000],
        ..plan
    };
    let packets = vec![big.build(); 9];
    let counts: Vec<_> = join(&packets, ALL).iter().map(|u| u.2).collect();
    assert_eq!(counts, [7, 2]);
}
