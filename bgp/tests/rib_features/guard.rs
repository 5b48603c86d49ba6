//! The guard of our pools.

use std::sync::Arc;

use bgp::rib::PeerId;
use bgp::rib::filter::Filter;
use bgp::{Family, PerFamily};
use model::bgp::PoolGuard;

use crate::lab::{Lab, cidr, external, from_as, reject};

#[test]
fn a_new_guard_says_nothing_of_numbers_that_are_free() {
    let mut lab = Lab::new([external(1)]);
    let settle = |lab: &mut Lab| {
        lab.settle();
        lab.rib.kernel_changes(Family::V4, 9)
    };
    // Two prefixes come and go; one comes back, under the number of the other.
    for prefix in ["10.1.0.0/24", "10.2.0.0/24"] {
        lab.v4(1, prefix, &from_as(1));
    }
    settle(&mut lab);
    lab.rib.peer_down(PeerId(1), PerFamily::default());
    settle(&mut lab);
    let (n, config) = external(1);
    lab.rib.peer_up(PeerId(n.into()), config);
    for prefix in ["10.1.0.0/24", "10.2.0.0/24"] {
        lab.v4(1, prefix, &from_as(1));
        settle(&mut lab);
        lab.rib.set_guard(&PoolGuard {
            pools: [cidr(prefix)].into(),
            importable: [cidr(prefix)].into(),
            ..PoolGuard::default()
        });
        let changes = settle(&mut lab);
        assert!(changes.iter().all(|c| c.hops.len() == 1), "{changes:?}");
    }
}

#[test]
fn the_guard_stands_before_the_filter_and_is_told_from_it() {
    let mut receiver = external(1);
    receiver.1.import.filter = Some(Arc::new(Filter {
        rules: vec![reject("10.1.1.0/24")],
    }));
    let mut lab = Lab::new([receiver, external(2)]);
    let guard = |importable: &[&str], passable: &[&str]| PoolGuard {
        pools: [cidr("10.1.0.0/16")].into(),
        importable: importable.iter().map(|c| cidr(c)).collect(),
        passable: passable.iter().map(|c| cidr(c)).collect(),
    };
    for prefix in ["10.1.1.0/24", "10.1.2.0/24", "10.2.0.0/24", "0.0.0.0/0"] {
        lab.v4(1, prefix, &from_as(1));
    }
    let refused = |lab: &Lab| {
        let c = lab.rib.counters(PeerId(1), Family::V4);
        (c.received, c.filtered, c.guarded)
    };
    let installed = |lab: &mut Lab| -> Vec<String> {
        lab.rib.decide();
        let changes = lab.rib.kernel_changes(Family::V4, 9);
        let used = changes.iter().filter(|c| !c.hops.is_empty());
        used.map(|c| c.prefix.to_string()).collect()
    };
    assert_eq!(refused(&lab), (4, 1, 0));
    assert_eq!(installed(&mut lab).len(), 3);
    lab.rib.set_guard(&guard(&[], &[]));
    assert_eq!(refused(&lab), (4, 2, 2));
    assert_eq!(lab.told(2, "10.1.2.0/24"), None);
    assert!(lab.told(2, "0.0.0.0/0").is_some(), "it covers the pool");
    assert_eq!(installed(&mut lab), [""; 0]);
    // What may come in is still the filter's business.
    lab.rib
        .set_guard(&guard(&["10.1.1.0/24", "10.1.2.0/24"], &[]));
    assert_eq!(refused(&lab), (4, 1, 0));
    assert_eq!(installed(&mut lab), ["10.1.2.0/24"]);
    // Passed on, and out of the kernel.
    lab.rib.set_guard(&guard(&[], &["10.1.2.0/24"]));
    lab.rib.decide();
    let changes = lab.rib.kernel_changes(Family::V4, 9);
    assert!(changes.iter().all(|c| c.hops.is_empty()), "{changes:?}");
    assert!(lab.told(2, "10.1.2.0/24").is_some());
    assert_eq!(
        lab.rib.stance(&cidr("10.1.1.0/24")).words(),
        Some("inside our pools, and no other node has this block")
    );
}
