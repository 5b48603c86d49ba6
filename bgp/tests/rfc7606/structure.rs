//! Sections 3 and 4: the structure of the message.

use super::*;

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
