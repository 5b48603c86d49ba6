//! RFC 7606, row by row: what each malformed UPDATE costs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod attributes;
mod multiprotocol;
mod structure;

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
