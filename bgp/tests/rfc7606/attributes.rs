//! Section 7: the attributes one by one.

use super::*;

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
