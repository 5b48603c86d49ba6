//! Sections 7.11 and 7.12: MP_REACH_NLRI and MP_UNREACH_NLRI.

use super::*;

#[test]
fn section_7_11_and_7_12_multiprotocol() {
    let v6 = Disable(Family::V6);
    let hop: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let reach = |flags: u8, family: [u8; 3], hop: &[u8], nlri: &[u8]| {
        let mut value = family.to_vec();
        value.push(u8::try_from(hop.len()).unwrap());
        value.extend_from_slice(hop);
        value.push(0);
        value.extend_from_slice(nlri);
        let mut out = vec![flags, 14, u8::try_from(value.len()).unwrap()];
        out.extend(value);
        body(&[], &[&out, ORIGIN, AS_PATH], &[])
    };
    let unreach = |flags: u8, value: &[u8]| {
        let mut out = vec![flags, 15, u8::try_from(value.len()).unwrap()];
        out.extend_from_slice(value);
        body(&[], &[&out], &[])
    };
    let nlri = [32, 0x20, 1, 0xd, 0xb8];
    let unspecified = [0; 16];
    let rows = [
        ("good", reach(0x80, [0, 2, 1], &hop, &nlri), Nothing),
        (
            "next hop of 15 bytes",
            reach(0x80, [0, 2, 1], &hop[..15], &nlri),
            v6.clone(),
        ),
        (
            "next hop of 4 bytes",
            reach(0x80, [0, 2, 1], &hop[..4], &nlri),
            v6.clone(),
        ),
        (
            "no next hop",
            reach(0x80, [0, 2, 1], &[], &nlri),
            v6.clone(),
        ),
        (
            "next hop ::",
            reach(0x80, [0, 2, 1], &unspecified, &nlri),
            Withdraw(14),
        ),
        (
            "prefix of 129 bits",
            reach(0x80, [0, 2, 1], &hop, &[129; 18]),
            v6.clone(),
        ),
        (
            "prefix cut",
            reach(0x80, [0, 2, 1], &hop, &[64, 1]),
            v6.clone(),
        ),
        (
            "transitive",
            reach(0xc0, [0, 2, 1], &hop, &nlri),
            v6.clone(),
        ),
        (
            "well-known",
            reach(0x40, [0, 2, 1], &hop, &nlri),
            v6.clone(),
        ),
        (
            "IPv4 over IPv6, not agreed",
            reach(0x80, [0, 1, 1], &hop, &nlri),
            Disable(Family::V4),
        ),
        (
            "another SAFI",
            reach(0x80, [0, 2, 128], &hop, &[200, 1]),
            Nothing,
        ),
        (
            "another AFI",
            reach(0x80, [0x40, 4, 71], &hop, &[200, 1]),
            Nothing,
        ),
        (
            "MP_REACH of 4 bytes",
            body(&[], &[&[0x80, 14, 4, 0, 2, 1, 0]], &[]),
            Reset(9),
        ),
        (
            "MP_REACH empty",
            body(&[], &[&[0x80, 14, 0]], &[]),
            Reset(9),
        ),
        (
            "MP_UNREACH good",
            unreach(0x80, &[0, 2, 1, 32, 0x20, 1, 0xd, 0xb8]),
            Nothing,
        ),
        (
            "MP_UNREACH prefix cut",
            unreach(0x80, &[0, 2, 1, 64, 1]),
            v6.clone(),
        ),
        ("MP_UNREACH flags", unreach(0xc0, &[0, 2, 1]), v6),
        ("MP_UNREACH of 2 bytes", unreach(0x80, &[0, 2]), Reset(9)),
    ];
    for (what, body, expected) in rows {
        assert_eq!(cost(&body, &context(false)), expected, "{what}");
    }
    let agreed = Context {
        extended_next_hop: true,
        ..context(false)
    };
    let over_v6 = reach(0x80, [0, 1, 1], &hop, NLRI);
    assert_eq!(cost(&over_v6, &agreed), Nothing);
    let only_v4 = Context {
        families: PerFamily {
            v4: true,
            v6: false,
        },
        ..context(false)
    };
    let stranger = reach(0x80, [0, 2, 1], &hop, &[129; 18]);
    assert_eq!(
        cost(&stranger, &only_v4),
        Nothing,
        "a family that was not agreed on"
    );
}
