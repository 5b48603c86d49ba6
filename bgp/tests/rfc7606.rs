//! RFC 7606, row by row: what each malformed UPDATE costs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use bgp::wire::update::{MpNlri, split};
use bgp::wire::{Context, Disposition, block};
use bgp::{Family, PerFamily};

/// What an UPDATE costs; attributes by type code.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cost {
    Nothing,
    Discard(u8),
    Withdraw(u8),
    Disable(Family),
    Reset(u8),
}

use Cost::{Disable, Discard, Nothing, Reset, Withdraw};

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 1];
const MP_REACH: &[u8] = &[
    0x80, 14, 30, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 64, 0x20,
    1, 0xd, 0xb8, 0, 0, 0, 1,
];
const NLRI: &[u8] = &[24, 10, 1, 2];

fn body(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut out = Vec::new();
    out.extend(u16::try_from(withdrawn.len()).unwrap().to_be_bytes());
    out.extend_from_slice(withdrawn);
    out.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    out.extend(attributes);
    out.extend_from_slice(nlri);
    out
}

fn context(ibgp: bool) -> Context {
    Context {
        ibgp,
        ..Context::default()
    }
}

fn cost(body: &[u8], context: &Context) -> Cost {
    let mut scratch = Vec::new();
    let update = match split(body, context, &mut scratch) {
        Ok(update) => update,
        Err(notification) => {
            assert_eq!(notification.code, 3);
            return Reset(notification.subcode);
        }
    };
    if let Some(family) = update.disable {
        return Disable(family);
    }
    let withdraw = |f: &&bgp::wire::Fault| f.disposition == Disposition::TreatAsWithdraw;
    if let Some(fault) = update.faults.iter().find(withdraw) {
        return Withdraw(fault.attribute);
    }
    match block::inspect(update.block, context.ibgp, context.as4) {
        Err(fault) => {
            assert_eq!(fault.disposition, Disposition::TreatAsWithdraw);
            Withdraw(fault.attribute)
        }
        Ok(inspected) => {
            let mut discarded = update.faults.iter().chain(&inspected.discarded);
            discarded.next().map_or(Nothing, |f| Discard(f.attribute))
        }
    }
}

/// A good UPDATE with one more attribute, or with another in place of the good one.
fn with(attribute: &[u8]) -> Vec<u8> {
    let code = attribute[1];
    let good = [ORIGIN, AS_PATH, NEXT_HOP];
    let mut list: Vec<&[u8]> = good.into_iter().filter(|a| a[1] != code).collect();
    list.push(attribute);
    body(&[], &list, NLRI)
}

fn check(rows: &[(&str, Vec<u8>, Cost, Cost)]) {
    for (what, body, ebgp, ibgp) in rows {
        assert_eq!(cost(body, &context(false)), *ebgp, "{what}, eBGP");
        assert_eq!(cost(body, &context(true)), *ibgp, "{what}, iBGP");
    }
}

#[test]
fn section_3_and_4_structure() {
    let good = [ORIGIN, AS_PATH, NEXT_HOP];
    let all = |cost: Cost| (cost.clone(), cost);
    let rows = [
        ("a good UPDATE", body(&[], &good, NLRI), Nothing),
        ("only a withdrawal", body(NLRI, &[], &[]), Nothing),
        (
            "withdrawn length beyond the message",
            vec![0, 9, 0, 0],
            Reset(1),
        ),
        (
            "attributes length beyond the message",
            vec![0, 0, 0, 9],
            Reset(1),
        ),
        ("no attributes length", vec![0, 0], Reset(1)),
        (
            "withdrawn prefix of 33 bits",
            body(&[33, 1, 2, 3, 4, 5], &[], &[]),
            Reset(10),
        ),
        (
            "announced prefix of 33 bits",
            body(&[], &good, &[33, 1, 2, 3, 4, 5]),
            Reset(10),
        ),
        (
            "announced prefix cut",
            body(&[], &good, &[24, 10]),
            Reset(10),
        ),
        (
            "ORIGIN missing",
            body(&[], &[AS_PATH, NEXT_HOP], NLRI),
            Withdraw(1),
        ),
        (
            "AS_PATH missing",
            body(&[], &[ORIGIN, NEXT_HOP], NLRI),
            Withdraw(2),
        ),
        (
            "NEXT_HOP missing",
            body(&[], &[ORIGIN, AS_PATH], NLRI),
            Withdraw(3),
        ),
        (
            "no NEXT_HOP needed for MP",
            body(&[], &[MP_REACH, ORIGIN, AS_PATH], &[]),
            Nothing,
        ),
        (
            "a duplicate",
            body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, ORIGIN], NLRI),
            Discard(1),
        ),
        (
            "two MP_REACH",
            body(&[], &[MP_REACH, MP_REACH, ORIGIN, AS_PATH], &[]),
            Reset(1),
        ),
        (
            "two MP_UNREACH",
            body(
                &[],
                &[&[0x80, 15, 3, 0, 2, 1], &[0x80, 15, 3, 0, 2, 1]],
                &[],
            ),
            Reset(1),
        ),
        (
            "attribute overruns",
            body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 4, 9, 1]], NLRI),
            Withdraw(4),
        ),
        (
            "one byte left over",
            body(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40]], NLRI),
            Withdraw(0),
        ),
        (
            "MP_REACH overruns",
            body(&[], &[ORIGIN, AS_PATH, &[0x80, 14, 200, 0, 2, 1]], &[]),
            Reset(9),
        ),
        ("unknown well-known", with(&[0x40, 99, 1, 0]), Withdraw(99)),
        (
            "unknown optional transitive",
            with(&[0xc0, 99, 1, 0]),
            Nothing,
        ),
        (
            "unknown optional non-transitive",
            with(&[0x80, 99, 1, 0]),
            Nothing,
        ),
        ("unknown and empty", with(&[0xc0, 99, 0]), Nothing),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(what, body, cost)| {
            let (ebgp, ibgp) = all(cost);
            (what, body, ebgp, ibgp)
        })
        .collect();
    check(&rows);
}

#[test]
fn section_7_attributes() {
    let long_path = {
        let mut path = vec![0x50, 2, 0x10, 0x10];
        for _ in 0..4 {
            path.extend([2, 255]);
            path.extend([0, 0, 0xfc, 0].repeat(255));
        }
        path.extend([2, 5]);
        path.extend([0, 0, 0xfc, 0].repeat(5));
        let len = u16::try_from(path.len() - 4).unwrap().to_be_bytes();
        path[2..4].copy_from_slice(&len);
        path
    };
    // Name, attribute, cost from another AS, cost from our own.
    let rows: Vec<(&str, &[u8], Cost, Cost)> = vec![
        (
            "7.1 ORIGIN of 2 bytes",
            &[0x40, 1, 2, 0, 0],
            Withdraw(1),
            Withdraw(1),
        ),
        ("7.1 ORIGIN empty", &[0x40, 1, 0], Withdraw(1), Withdraw(1)),
        (
            "7.1 ORIGIN undefined",
            &[0x40, 1, 1, 3],
            Withdraw(1),
            Withdraw(1),
        ),
        (
            "3c ORIGIN optional",
            &[0xc0, 1, 1, 0],
            Withdraw(1),
            Withdraw(1),
        ),
        (
            "7.2 AS_PATH unknown segment",
            &[0x40, 2, 6, 9, 1, 0, 0, 1, 0],
            Withdraw(2),
            Withdraw(2),
        ),
        (
            "7.2 AS_PATH segment overruns",
            &[0x40, 2, 6, 2, 2, 0, 0, 1, 0],
            Withdraw(2),
            Withdraw(2),
        ),
        (
            "7.2 AS_PATH segment underruns",
            &[0x40, 2, 7, 2, 1, 0, 0, 1, 0, 2],
            Withdraw(2),
            Withdraw(2),
        ),
        (
            "7.2 AS_PATH empty segment",
            &[0x40, 2, 2, 2, 0],
            Withdraw(2),
            Withdraw(2),
        ),
        ("7.2 AS_PATH empty", &[0x40, 2, 0], Nothing, Nothing),
        (
            "9774 AS_SET",
            &[0x40, 2, 6, 1, 1, 0, 0, 1, 0],
            Withdraw(2),
            Withdraw(2),
        ),
        (
            "5065 confederation segment",
            &[0x40, 2, 6, 3, 1, 0, 0, 1, 0],
            Withdraw(2),
            Withdraw(2),
        ),
        (
            "7607 AS 0",
            &[0x40, 2, 6, 2, 1, 0, 0, 0, 0],
            Withdraw(2),
            Withdraw(2),
        ),
        (
            "bound: 1025 AS numbers",
            &long_path,
            Withdraw(2),
            Withdraw(2),
        ),
        (
            "7.3 NEXT_HOP of 3 bytes",
            &[0x40, 3, 3, 10, 0, 0],
            Withdraw(3),
            Withdraw(3),
        ),
        (
            "7.3 NEXT_HOP of 16 bytes",
            &[
                0x40, 3, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
            ],
            Withdraw(3),
            Withdraw(3),
        ),
        (
            "3c NEXT_HOP optional",
            &[0x80, 3, 4, 10, 0, 0, 1],
            Withdraw(3),
            Withdraw(3),
        ),
        (
            "NEXT_HOP 0.0.0.0",
            &[0x40, 3, 4, 0, 0, 0, 0],
            Withdraw(3),
            Withdraw(3),
        ),
        (
            "NEXT_HOP multicast",
            &[0x40, 3, 4, 224, 0, 0, 1],
            Withdraw(3),
            Withdraw(3),
        ),
        (
            "7.4 MED of 3 bytes",
            &[0x80, 4, 3, 0, 0, 0],
            Withdraw(4),
            Withdraw(4),
        ),
        (
            "3c MED transitive",
            &[0xc0, 4, 4, 0, 0, 0, 1],
            Withdraw(4),
            Withdraw(4),
        ),
        ("7.4 MED", &[0x80, 4, 4, 0, 0, 0, 1], Nothing, Nothing),
        (
            "7.5 LOCAL_PREF of 5 bytes",
            &[0x40, 5, 5, 0, 0, 0, 0, 1],
            Discard(5),
            Withdraw(5),
        ),
        (
            "7.5 LOCAL_PREF",
            &[0x40, 5, 4, 0, 0, 0, 1],
            Discard(5),
            Nothing,
        ),
        (
            "7.6 ATOMIC_AGGREGATE of 1 byte",
            &[0x40, 6, 1, 0],
            Discard(6),
            Discard(6),
        ),
        ("7.6 ATOMIC_AGGREGATE", &[0x40, 6, 0], Nothing, Nothing),
        (
            "3c ATOMIC_AGGREGATE optional",
            &[0x80, 6, 0],
            Withdraw(6),
            Withdraw(6),
        ),
        (
            "7.7 AGGREGATOR of 6 bytes",
            &[0xc0, 7, 6, 0, 1, 10, 0, 0, 1],
            Discard(7),
            Discard(7),
        ),
        (
            "7.7 AGGREGATOR",
            &[0xc0, 7, 8, 0, 0, 0, 1, 10, 0, 0, 1],
            Nothing,
            Nothing,
        ),
        (
            "7.8 COMMUNITIES of 3 bytes",
            &[0xc0, 8, 3, 0, 0, 0],
            Withdraw(8),
            Withdraw(8),
        ),
        (
            "7.8 COMMUNITIES empty",
            &[0xc0, 8, 0],
            Withdraw(8),
            Withdraw(8),
        ),
        (
            "7.8 COMMUNITIES",
            &[0xc0, 8, 4, 0, 0, 0, 1],
            Nothing,
            Nothing,
        ),
        (
            "3c COMMUNITIES well-known",
            &[0x40, 8, 4, 0, 0, 0, 1],
            Withdraw(8),
            Withdraw(8),
        ),
        (
            "7.9 ORIGINATOR_ID of 3 bytes",
            &[0x80, 9, 3, 0, 0, 0],
            Discard(9),
            Withdraw(9),
        ),
        (
            "7.9 ORIGINATOR_ID",
            &[0x80, 9, 4, 10, 0, 0, 9],
            Discard(9),
            Nothing,
        ),
        (
            "7.10 CLUSTER_LIST of 3 bytes",
            &[0x80, 10, 3, 0, 0, 0],
            Discard(10),
            Withdraw(10),
        ),
        (
            "7.10 CLUSTER_LIST empty",
            &[0x80, 10, 0],
            Discard(10),
            Withdraw(10),
        ),
        (
            "7.10 CLUSTER_LIST",
            &[0x80, 10, 4, 10, 0, 0, 9],
            Discard(10),
            Nothing,
        ),
        (
            "7.14 EXT_COMMUNITIES of 7 bytes",
            &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0],
            Withdraw(16),
            Withdraw(16),
        ),
        (
            "7.14 EXT_COMMUNITIES empty",
            &[0xc0, 16, 0],
            Withdraw(16),
            Withdraw(16),
        ),
        (
            "7.14 EXT_COMMUNITIES",
            &[0xc0, 16, 8, 0, 2, 0, 0, 0, 0, 0, 1],
            Nothing,
            Nothing,
        ),
        (
            "7.15 IPv6 communities of 19 bytes",
            &[
                0xc0, 25, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
            Withdraw(25),
            Withdraw(25),
        ),
        (
            "6793 AS4_PATH to a 4-byte speaker",
            &[0xc0, 17, 6, 2, 1, 0, 0, 1, 0],
            Discard(17),
            Discard(17),
        ),
        (
            "6793 AS4_PATH malformed",
            &[0xc0, 17, 5, 2, 1, 0, 0, 1],
            Discard(17),
            Discard(17),
        ),
        (
            "6793 AS4_AGGREGATOR",
            &[0xc0, 18, 8, 0, 0, 0, 1, 1, 1, 1, 1],
            Discard(18),
            Discard(18),
        ),
        (
            "8092 LARGE_COMMUNITIES of 11 bytes",
            &[0xc0, 32, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Withdraw(32),
            Withdraw(32),
        ),
        (
            "8092 LARGE_COMMUNITIES empty",
            &[0xc0, 32, 0],
            Withdraw(32),
            Withdraw(32),
        ),
        (
            "9234 OTC of 3 bytes",
            &[0xc0, 35, 3, 0, 0, 1],
            Withdraw(35),
            Withdraw(35),
        ),
        ("9234 OTC", &[0xc0, 35, 4, 0, 0, 0xfc, 0], Nothing, Nothing),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(what, attribute, ebgp, ibgp)| (what, with(attribute), ebgp, ibgp))
        .collect();
    check(&rows);
}

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

#[test]
fn the_strongest_error_wins_and_prefixes_are_still_known() {
    // A malformed MED, a duplicate and an IPv6 prefix in one message: everything announced is withdrawn.
    let attributes = [
        MP_REACH,
        ORIGIN,
        AS_PATH,
        NEXT_HOP,
        &[0x80, 4, 1, 0],
        ORIGIN,
    ];
    let message = body(&[16, 10, 9], &attributes, NLRI);
    assert_eq!(cost(&message, &context(false)), Withdraw(4));
    let mut scratch = Vec::new();
    let update = split(&message, &context(false), &mut scratch).unwrap();
    assert_eq!(update.withdrawn.iter().count(), 1);
    assert_eq!(update.announced.iter().count(), 1);
    let Some((MpNlri::V6(nlri), _)) = update.mp_announced else {
        panic!("{update:?}");
    };
    assert_eq!(nlri.iter().count(), 1);
}

#[test]
fn ipv4_that_was_not_agreed_on_is_not_used() {
    let only_v6 = Context {
        families: PerFamily {
            v4: false,
            v6: true,
        },
        ..context(false)
    };
    let message = body(NLRI, &[ORIGIN, AS_PATH, NEXT_HOP], NLRI);
    let mut scratch = Vec::new();
    let update = split(&message, &only_v6, &mut scratch).unwrap();
    assert!(update.withdrawn.is_empty() && !update.announces());
}

#[test]
fn two_byte_speakers_are_understood() {
    let old = Context {
        as4: false,
        ..Context::default()
    };
    let path = [0x40, 2, 6, 2, 2, 0x5b, 0xa0, 0xfc, 0];
    let path4 = [0xc0, 17, 10, 2, 2, 0, 1, 0, 0, 0, 0, 0xfc, 0];
    let message = body(&[], &[ORIGIN, &path, NEXT_HOP, &path4], NLRI);
    let mut scratch = Vec::new();
    let update = split(&message, &old, &mut scratch).unwrap();
    let inspected = block::inspect(update.block, false, false).unwrap();
    let canonical = inspected.canonical.unwrap();
    let asns: Vec<u32> = bgp::AttrView::new(&canonical).asns().collect();
    assert_eq!(asns, [65536, 64512]);
    let cut = body(&[], &[ORIGIN, &[0x40, 2, 3, 2, 1, 0], NEXT_HOP], NLRI);
    assert_eq!(cost(&cut, &old), Withdraw(2));
}

#[test]
fn known_public_triggers_cost_no_session() {
    // CVE-2022-40302/-43681 (OPEN) are in the OPEN decoder's tests of short and lying lengths.
    let rows = [
        // CVE-2023-38802: a corrupted Tunnel Encapsulation attribute.
        (
            "tunnel encapsulation",
            with(&[0xc0, 23, 4, 0, 99, 0, 200]),
            Withdraw(23),
        ),
        // CVE-2023-46752: MP_REACH with too little in it, treated as if a family had ended.
        (
            "short MP_REACH",
            body(&[], &[&[0x80, 14, 3, 0, 2, 1]], &[]),
            Reset(9),
        ),
        // CVE-2023-46753: an UPDATE whose only attribute is an unknown one.
        (
            "no mandatory attribute",
            body(&[], &[&[0xc0, 99, 1, 0]], NLRI),
            Withdraw(1),
        ),
        // VU#347067: attributes that others passed on and one speaker chokes on.
        ("entropy label", with(&[0xe0, 28, 1, 0xff]), Nothing),
        ("BGP-LS garbled", with(&[0x80, 29, 3, 1, 2, 3]), Discard(29)),
        (
            "prefix SID garbled",
            with(&[0xc0, 40, 2, 1, 0xff]),
            Discard(40),
        ),
    ];
    for (what, body, expected) in rows {
        assert_eq!(cost(&body, &context(false)), expected, "{what}");
    }
}
