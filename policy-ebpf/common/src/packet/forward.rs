//! One hop further: what a router changes of a frame that it passes on.

use super::ETHERNET;

/// Bytes from the beginning of a frame on that change, up to the header checksum of IPv4.
pub const HEAD: usize = ETHERNET as usize + 12;

/// Makes of the first bytes of a frame that came for a router those that it sends on to a neighbour: Ethernet with other
/// addresses, and IP with one hop less. `None`: it is not for the router, is not IP, or has no hop left.
#[inline(always)]
pub fn forward(mut head: [u8; HEAD], router: [u8; 6], to: [u8; 6]) -> Option<[u8; HEAD]> {
    if head[..6] != router {
        return None;
    }
    head[..6].copy_from_slice(&to);
    head[6..12].copy_from_slice(&router);
    match [head[12], head[13]] {
        [0x08, 0x00] if head[22] > 1 => {
            head[22] -= 1;
            // RFC 1624 3: the sum has lost 0x0100, so its complement gains that.
            let sum = u32::from(u16::from_be_bytes([head[24], head[25]])) + 0x0100;
            let [.., high, low] = (sum + u32::from(sum >= 0xffff)).to_be_bytes();
            head[24..].copy_from_slice(&[high, low]);
        }
        [0x86, 0xdd] if head[21] > 1 => head[21] -= 1,
        _ => return None,
    }
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: [u8; 6] = [0xee; 6];
    const TO: [u8; 6] = [2, 0, 0, 0, 0, 8];

    fn forwarded(frame: &[u8]) -> Option<[u8; HEAD]> {
        forward(frame[..HEAD].try_into().unwrap(), ROUTER, TO)
    }

    /// As RFC 1071 has it; 0 of a header whose checksum is right.
    fn checksum(header: &[u8]) -> u16 {
        let words = header
            .chunks(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).expect("folded")
    }

    fn v4(id: u16, hops: u8) -> [u8; 34] {
        let mut frame = [0x11; 34];
        frame[..6].copy_from_slice(&ROUTER);
        frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, hops, 6]);
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[24..26].fill(0);
        let sum = checksum(&frame[14..]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn a_hop_less_leaves_every_checksum_right() {
        for id in 0..=u16::MAX {
            let mut frame = v4(id, 64);
            let head = forwarded(&frame).unwrap();
            frame[..HEAD].copy_from_slice(&head);
            assert_eq!(checksum(&frame[14..]), 0, "{id:x}");
            assert_eq!((&frame[..6], &frame[6..12]), (&TO[..], &ROUTER[..]));
            assert_eq!(frame[22], 63);
            frame[24..26].fill(0);
            assert_eq!(frame[12..22], v4(id, 64)[12..22]);
        }
    }

    #[test]
    fn a_hop_less_of_ipv6_is_one_byte() {
        let mut frame = [0x11; 54];
        frame[..6].copy_from_slice(&ROUTER);
        frame[12..22].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 2]);
        let head = forwarded(&frame).unwrap();
        assert_eq!(head[21], 1);
        assert_eq!(
            (&head[12..21], &head[22..]),
            (&frame[12..21], &frame[22..26])
        );
    }

    #[test]
    fn what_has_no_hop_left_stays() {
        assert_eq!(forwarded(&v4(7, 1)), None);
        assert_eq!(forwarded(&v4(7, 0)), None);
        let mut arp = v4(7, 64);
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(forwarded(&arp), None);
    }

    #[test]
    fn what_is_for_somebody_else_stays() {
        let mut frame = v4(7, 64);
        frame[0] = 0xff;
        assert_eq!(forwarded(&frame), None);
    }
}
