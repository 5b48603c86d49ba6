//! ExaBGP, which also sends what no router should.

use anyhow::{Result, ensure};
use bgp::fsm::State;
use integration::lab;

use crate::rig::{Exabgp, LIMIT, Link, THEIR_AS, THEM, US, Us};

/// What becomes of a route (RFC 7606).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The attribute is looked over.
    Used,
    /// The route is as if withdrawn.
    Withdrawn,
}

/// An attribute as ExaBGP writes it (type, flags, value), the section that is about it, and what it does.
const ROWS: [(&str, &str, Fate); 12] = [
    (
        "0x06 0x40 0x01",
        "7.6: ATOMIC_AGGREGATE, 1 byte",
        Fate::Used,
    ),
    ("0x07 0xc0 0x0001", "7.7: AGGREGATOR, 2 bytes", Fate::Used),
    (
        "0x09 0x80 0x0a000001",
        "7.9: ORIGINATOR_ID from outside",
        Fate::Used,
    ),
    (
        "0x0a 0x80 0x0a00",
        "7.10: CLUSTER_LIST from outside, 2 bytes",
        Fate::Used,
    ),
    (
        "0x05 0x40 0x0001",
        "7.5: LOCAL_PREF from outside, 2 bytes",
        Fate::Used,
    ),
    (
        "0x63 0xc0 0x0102030405",
        "4271 9: an optional one that nobody knows",
        Fate::Used,
    ),
    (
        "0x04 0x80 0x000001",
        "7.4: MULTI_EXIT_DISC, 3 bytes",
        Fate::Withdrawn,
    ),
    (
        "0x08 0xc0 0x0001",
        "7.8: COMMUNITIES, 2 bytes",
        Fate::Withdrawn,
    ),
    (
        "0x10 0xc0 0x000102",
        "7.14: EXTENDED COMMUNITIES, 3 bytes",
        Fate::Withdrawn,
    ),
    (
        "0x20 0xc0 0x0000fbf4",
        "8092 5: LARGE_COMMUNITY, 4 bytes",
        Fate::Withdrawn,
    ),
    (
        "0x04 0x40 0x00000001",
        "3 (c): MULTI_EXIT_DISC that says to be well-known",
        Fate::Withdrawn,
    ),
    (
        "0x23 0xc0 0x0001",
        "9234 5: ONLY_TO_CUSTOMER, 2 bytes",
        Fate::Withdrawn,
    ),
];

/// All of them but the one that nobody knows, and LOCAL_PREF, at which nobody looks.
const FAULTS: u64 = ROWS.len() as u64 - 2;

#[test]
fn exabgp_may_send_anything_and_costs_only_the_route() -> Result<()> {
    lab::run("exabgp", |lab| {
        let link = Link::new(lab, "exabgp")?;
        let routes: Vec<String> = (1..)
            .zip(ROWS)
            .map(|(n, (raw, _, _))| {
                format!("route 10.3.{n}.0/24 next-hop {THEM} attribute [ {raw} ];")
            })
            .collect();
        let config = format!(
            "neighbor {US} {{
  router-id 10.99.0.2;
  local-address {THEM};
  local-as {THEIR_AS};
  peer-as 64512;
  hold-time 9;
  family {{ ipv4 unicast; ipv6 unicast; }}
  static {{
    route 10.2.0.0/24 next-hop {THEM} community [65001:9];
    {}
    route 10.2.1.0/24 next-hop {THEM};
    route fd02::/64 next-hop fd99::2;
  }}
}}
",
            routes.join("\n    ")
        );
        let _exabgp = Exabgp::start(lab, &link.theirs, "exabgp", &config)?;
        let mut us = Us::new(&link);
        us.start()?;
        us.is_up()?;
        for (prefix, hop) in [
            ("10.2.0.0/24", "10.99.0.2"),
            ("10.2.1.0/24", "10.99.0.2"),
            ("fd02::/64", "fd99::2"),
        ] {
            us.installs(prefix, &[hop])?;
        }
        // Each error is counted once, so all have come.
        lab::wait("every error to be counted", LIMIT, || {
            let faults = us.status()?.traffic.faults;
            ensure!(faults == FAULTS, "{faults}");
            Ok(())
        })?;
        for (n, (raw, section, fate)) in (1..).zip(ROWS) {
            let prefix = format!("10.3.{n}.0/24");
            match fate {
                Fate::Used => us.installs(&prefix, &["10.99.0.2"])?,
                Fate::Withdrawn => {
                    let ways = us.table.get(&prefix);
                    ensure!(ways.is_empty(), "RFC 7606 {section}: {raw}: {ways:?}");
                }
            }
        }
        let status = us.status()?;
        ensure!(
            status.state == State::Established && status.flaps == 0,
            "{status:#?}"
        );
        Ok(())
    })
}
