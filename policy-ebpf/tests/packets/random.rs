//! Frames of all kinds from few addresses and ports, so that they meet, and tables that change meanwhile.

use policy_common::endpoint::{FailsafeKey, setting};

use crate::frame::MAC;
use crate::frame::{Path, SCTP, TCP, UDP, ethernet, extensions};
use crate::world::know;
use crate::world::{
    HOST, Judge, MAC_OF_NOBODY, OTHER, OWN4, OWN6, PEER4, PEER6, STRANGER, Sent, WORKLOAD, close,
    into, into_other, open, out, out_of_other,
};
use policy_ebpf::kernel::Hook;

/// Numbers that look like chance, the same for the same seed (xorshift).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        let index = self.below(all.len() as u64);
        all[usize::try_from(index).unwrap_or_default()]
    }
}

/// Judges as many frames; gives back how many passed.
pub fn frames(j: &mut impl Judge, dice: &mut Dice, count: usize) -> usize {
    let mut passed = 0;
    for _ in 0..count {
        if dice.one_in(400) {
            change(j, dice);
        }
        let sent = frame(dice);
        passed += usize::from(j.judge(&sent).is_ok());
    }
    passed
}

fn change(j: &mut impl Judge, dice: &mut Dice) {
    match dice.below(8) {
        0 => j.change(close),
        1..=3 => j.change(open),
        4 => j.pass([1, 15, 40, 200, 90_000][usize::try_from(dice.below(5)).unwrap_or(0)]),
        5 => {
            let all = [
                setting::ENDPOINT_TO_HOST,
                setting::KEEP_CONNECTIONS,
                setting::STRAIGHT,
            ];
            let flags = all.into_iter().filter(|_| dice.one_in(2)).sum();
            let grace = dice.of(&[0, u64::MAX]);
            j.change(|m| {
                m.settings.flags = flags;
                m.settings.grace_until = grace;
                m.settings.world += 1;
            });
        }
        6 => {
            let open = dice.one_in(2);
            j.change(|m| {
                m.settings.world += 1;
                m.failsafe.clear();
                if open {
                    m.failsafe.push(FailsafeKey {
                        outbound: 0,
                        protocol: TCP,
                        port: 80,
                    });
                }
            });
        }
        _ => {
            let known = dice.one_in(2);
            j.change(|m| {
                m.settings.world += 1;
                know(m, PEER4, known.then_some(1));
            });
        }
    }
}

fn path(dice: &mut Dice) -> Path {
    let ports = [53, 80, 99, 443, 40_000, 40_001];
    let (own, others) = match dice.one_in(2) {
        true => (OWN4, [PEER4, PEER4, "10.1.1.1"]),
        false => (OWN6, [PEER6, PEER6, "fd00:1::1"]),
    };
    let peer = dice.of(&others);
    Path::new(own, dice.of(&ports), peer, dice.of(&ports))
}

fn packet(dice: &mut Dice, path: Path) -> Vec<u8> {
    let flags = [
        2, 2, 2, 0x12, 0x10, 0x10, 0x18, 0x11, 0x14, 4, 1, 0, 3, 0x29,
    ];
    match dice.below(12) {
        0..4 => path.tcp(dice.of(&flags)),
        4 | 5 => path.udp(),
        6 => path.sctp(dice.of(&[1, 2, 0, 6, 14])),
        7 => {
            let request = dice.one_in(2);
            path.echo(request, dice.of(&[1, 2]))
        }
        8 => {
            let back = dice.one_in(3);
            let quoted = if back { path } else { path.back() };
            let quoted = match dice.below(3) {
                0 => quoted.tcp(2),
                1 => quoted.udp(),
                _ => quoted.echo(true, 1),
            };
            path.unreachable(&quoted)
        }
        9 => {
            let (protocol, payload) = match dice.one_in(2) {
                true => (UDP, path.udp_header()),
                false => (TCP, path.tcp_header(dice.of(&flags))),
            };
            let id = dice.of(&[1, 2]);
            let offset = dice.of(&[0, 0, 0, 1, 2, 3, 9]);
            let more = dice.one_in(2);
            path.piece(protocol, &payload, id, offset, more)
        }
        10 if path.from.is_ipv6() => {
            let kinds: Vec<u8> = (0..dice.below(9))
                .map(|_| dice.of(&[0, 43, 60, 60, 51, 135]))
                .collect();
            let (next, payload) = extensions(&kinds, TCP, &path.tcp_header(2));
            path.v6(next, dice.of(&[64, 255, 1]), &payload)
        }
        10 => path.icmp(dice.of(&[3, 5, 9, 10, 11, 12, 13, 14, 17, 18]), 0, &[0; 8]),
        _ if path.from.is_ipv6() => {
            let mut message = vec![
                dice.of(&[130, 131, 133, 134, 135, 136, 137, 143, 200]),
                0,
                0,
                0,
            ];
            message.extend([0; 4]);
            if let std::net::IpAddr::V6(v6) = path.from {
                message.extend(v6.octets());
            }
            message.extend([1, 1]);
            message.extend(MAC);
            path.v6(58, dice.of(&[255, 255, 1, 64]), &message)
        }
        _ => path.packet(dice.of(&[47, 50, 58, 136, SCTP, 1]), &[0; 16]),
    }
}

/// What the workload sends as what another one gets, and the other way round.
fn seen_by_other(sent: &Sent) -> Sent {
    let packet = &sent.bytes[14..];
    match sent.hook {
        Hook::FromWire => into_other(packet),
        Hook::ToWire => out_of_other(packet),
    }
}

fn frame(dice: &mut Dice) -> Sent {
    let path = path(dice);
    let mut sent = match dice.one_in(2) {
        true => out(&packet(dice, path)),
        false => into(&packet(dice, path.back())),
    };
    sent.ifindex = dice.of(&[WORKLOAD, WORKLOAD, WORKLOAD, WORKLOAD, WORKLOAD, HOST]);
    if dice.one_in(100) {
        sent.ifindex = STRANGER;
    }
    sent.for_host = dice.one_in(4);
    match dice.below(10) {
        0 => sent.came_from = 0,
        1..4 => sent.came_from = OTHER,
        _ => {}
    }
    if dice.one_in(3) {
        sent = seen_by_other(&sent);
    }
    if dice.one_in(50) {
        sent = sent.turned();
    }
    if dice.one_in(50) {
        sent.bytes = ethernet(MAC_OF_NOBODY, sent.bytes.get(14..).unwrap_or_default());
    }
    if dice.one_in(100) {
        sent.bytes.splice(12..12, [0x81, 0, 0, 5]);
    }
    // Bits that fall over, and ends that are cut off.
    if dice.one_in(8) {
        for _ in 0..=dice.below(3) {
            let at = usize::try_from(dice.below(sent.bytes.len() as u64)).unwrap_or(0);
            sent.bytes[at] ^= 1 << dice.below(8);
        }
    }
    if dice.one_in(40) {
        let length = 34 + dice.below(40);
        sent.bytes.truncate(usize::try_from(length).unwrap_or(34));
    }
    sent
}
