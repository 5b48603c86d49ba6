//! Restarts: of neighbours, and our own.

use bgp::rib::{Import, PeerId};
use bgp::{Family, PerFamily};
use model::bgp::PoolGuard;

use crate::lab::{Lab, cidr, external, from_as};

#[test]
fn routes_of_a_restarting_neighbour_stay_until_they_are_swept() {
    let mut lab = Lab::new([external(1), external(2)]);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    lab.v4(1, "10.2.0.0/16", &from_as(1));
    lab.settle();
    let keep = PerFamily {
        v4: true,
        v6: false,
    };
    lab.rib.peer_down(PeerId(1), keep);
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    let (n, config) = external(1);
    lab.rib.peer_up(PeerId(n.into()), config);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    lab.rib.sweep_stale(PeerId(1), Family::V4);
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    assert_eq!(lab.told(2, "10.2.0.0/16"), None);
}

#[test]
fn what_is_stale_stays_so_when_it_is_judged_again() {
    let mut lab = Lab::new([external(1), external(2)]);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    let keep = PerFamily {
        v4: true,
        v6: false,
    };
    lab.rib.peer_down(PeerId(1), keep);
    lab.rib.set_import(PeerId(1), Import::default());
    let guard = |importable: &[&str]| PoolGuard {
        pools: [cidr("10.1.0.0/16")].into(),
        importable: importable.iter().map(|c| cidr(c)).collect(),
        ..PoolGuard::default()
    };
    lab.rib.set_guard(&guard(&[]));
    lab.rib.set_guard(&guard(&["10.1.0.0/16"]));
    let stale: Vec<bool> = (lab.routes(None).iter()).map(|r| r.stale).collect();
    assert_eq!(stale, [true]);
}

#[test]
fn a_restarted_speaker_says_nothing_until_it_has_heard_everybody() {
    let mut lab = Lab::new([external(1), external(2)]);
    lab.rib.set_deferred(true);
    lab.v4(1, "10.1.0.0/16", &from_as(1));
    lab.settle();
    assert_eq!((lab.heard.len(), lab.ends), (0, 0));
    assert!(lab.rib.kernel_changes(Family::V4, 9).is_empty());
    lab.rib.set_deferred(false);
    assert!(lab.told(2, "10.1.0.0/16").is_some());
    assert_eq!(lab.ends, 4, "two families, two neighbours");
}
