//! Random histories: states wanted, damage done, calls failed; in the end the kernel is as wanted.

use model::kernel::{LinkName, Mac, Route};
use model::marks;
use netlink::FakeKernel;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::rig::*;

#[derive(Clone, Debug)]
enum Step {
    Want(Shape),
    Damage(Damage),
    Fail(u8),
    FailObserve,
    Pass(u16),
    Protect(u8),
    Commit(u8),
    Forget(u8),
}

#[derive(Clone, Debug)]
enum Damage {
    DropRoute(Index),
    TwistRoute(Index),
    StrayRoute(u8),
    DropNeighbour(Index),
    TwistFdb(Index),
    StrayFdb(u8),
    DropAddress,
    StrayAddress,
    Mtu,
    Mac,
    Down(u8),
    DropVxlan,
    DropWorkload(u8),
    DropNat,
    Switch,
}

fn shape() -> impl Strategy<Value = Shape> {
    let vxlan = prop::option::of((prop_oneof![Just(1450), Just(1400)], 1..3u8));
    let peers = subsequence(vec![1, 2, 3, 20, 21, 22], 0..=6);
    let workloads = subsequence(vec![0, 1, 2, 3], 0..=4);
    (vxlan, peers, workloads, any::<bool>()).prop_map(|(vxlan, peers, workloads, nat)| Shape {
        vxlan,
        peers,
        workloads,
        nat,
    })
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::DropRoute),
        any::<Index>().prop_map(Damage::TwistRoute),
        any::<u8>().prop_map(Damage::StrayRoute),
        any::<Index>().prop_map(Damage::DropNeighbour),
        any::<Index>().prop_map(Damage::TwistFdb),
        any::<u8>().prop_map(Damage::StrayFdb),
        Just(Damage::DropAddress),
        Just(Damage::StrayAddress),
        Just(Damage::Mtu),
        Just(Damage::Mac),
        (0..4u8).prop_map(Damage::Down),
        Just(Damage::DropVxlan),
        (0..4u8).prop_map(Damage::DropWorkload),
        Just(Damage::DropNat),
        Just(Damage::Switch),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => shape().prop_map(Step::Want),
        4 => damage().prop_map(Step::Damage),
        1 => (0..6u8).prop_map(Step::Fail),
        1 => Just(Step::FailObserve),
        3 => (1..2000u16).prop_map(Step::Pass),
        1 => (0..4u8).prop_map(Step::Protect),
        1 => (0..4u8).prop_map(Step::Commit),
        1 => (0..4u8).prop_map(Step::Forget),
    ]
}

fn pick<T: Copy>(of: impl Iterator<Item = T>, index: &Index) -> Option<T> {
    let all: Vec<T> = of.collect();
    (!all.is_empty()).then(|| all[index.index(all.len())])
}

fn vxlan() -> LinkName {
    name(marks::VXLAN_V4)
}

/// Something of ours changes under us.
fn inflict(k: &mut FakeKernel, damage: &Damage) {
    let stray: Route = route(Some("192.0.2.77"), "eth0");
    match damage {
        Damage::DropRoute(i) => {
            if let Some(key) = pick(k.state.routes.keys().copied(), i) {
                k.state.routes.remove(&key);
            }
        }
        Damage::TwistRoute(i) => {
            if let Some(key) = pick(k.state.routes.keys().copied(), i) {
                k.state.routes.insert(key, stray);
            }
        }
        Damage::StrayRoute(n) => drop(k.state.routes.insert(key(&format!("10.7.{n}.0/26")), stray)),
        Damage::DropNeighbour(i) => {
            if let Some(n) = pick(k.state.neighbours.iter().copied(), i) {
                k.state.neighbours.remove(&n);
            }
        }
        Damage::TwistFdb(i) => {
            if let Some(mut e) = pick(k.state.fdb.iter().copied(), i) {
                k.state.fdb.remove(&e);
                e.dst = ip("203.0.113.9");
                k.state.fdb.insert(e);
            }
        }
        Damage::StrayFdb(n) => {
            if k.state.vxlan.contains_key(&vxlan()) {
                k.state.fdb.insert(model::kernel::FdbEntry {
                    dev: vxlan(),
                    mac: Mac([2, 9, 9, 9, 9, *n]),
                    dst: ip("203.0.113.9"),
                });
            }
        }
        Damage::DropAddress => k.state.addresses.clear(),
        Damage::StrayAddress => {
            if k.state.vxlan.contains_key(&vxlan()) {
                let address = model::kernel::Address {
                    ip: ip("10.66.6.6"),
                    prefix: 32,
                };
                k.state.addresses.insert((vxlan(), address));
            }
        }
        Damage::Mtu => {
            if let Some(v) = k.state.vxlan.get_mut(&vxlan()) {
                v.mtu = 1300;
            }
        }
        Damage::Mac => {
            if let Some(v) = k.state.vxlan.get_mut(&vxlan()) {
                v.mac = Mac([2, 9, 9, 9, 9, 9]);
            }
        }
        Damage::Down(n) => {
            if let Some(l) = k.links.get_mut(&workload(*n)) {
                l.up = false;
            }
        }
        Damage::DropVxlan => k.remove_link(vxlan()),
        Damage::DropWorkload(n) => k.remove_link(workload(*n)),
        Damage::DropNat => k.state.nat = None,
        Damage::Switch => {
            let path = "net/ipv4/ip_forward".to_owned();
            k.state.sysctls.insert(path, "0".to_owned());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_history_ends_as_wanted(
        first in shape(),
        steps in prop::collection::vec(step(), 0..25),
    ) {
        let mut rig = Rig::new(host());
        let alien = Route { protocol: 4, ..route(Some("192.0.2.99"), "eth0") };
        rig.kernel.alien_routes.insert(key("10.99.0.0/16"), alien.clone());
        let mut wanted = first;
        rig.want(&wanted);
        let mut protected = Vec::new();
        for step in steps {
            match step {
                Step::Want(shape) => {
                    rig.want(&shape);
                    wanted = shape;
                    // Nothing of it is known to be committed any more.
                }
                Step::Damage(d) => {
                    if let Damage::DropWorkload(n) = d {
                        protected.retain(|p| *p != n);
                    }
                    rig.damage(|k| inflict(k, &d));
                }
                Step::Fail(n) => rig.kernel.fail_call(usize::from(n)),
                Step::FailObserve => rig.kernel.fail_observe(),
                Step::Pass(ms) => {
                    rig.run();
                    rig.now += std::time::Duration::from_millis(u64::from(ms));
                    rig.run();
                }
                Step::Protect(n) => {
                    rig.core.protect(workload(n), None);
                    plug(&mut rig.kernel, n);
                    protected.retain(|p| *p != n);
                    protected.push(n);
                }
                Step::Commit(n) => {
                    rig.core.protect(workload(n), Some(1));
                    protected.retain(|p| *p != n);
                }
                Step::Forget(n) => {
                    rig.core.forget(workload(n), rig.at());
                    protected.retain(|p| *p != n);
                }
            }
            for n in &protected {
                prop_assert!(rig.kernel.links.contains_key(&workload(*n)), "{n} was swept");
            }
            prop_assert_eq!(&rig.kernel.alien_routes[&key("10.99.0.0/16")], &alien);
        }
        // The CNI path ends what it does, and workloads that are wanted have their links.
        for n in 0..4 {
            rig.core.protect(workload(n), Some(0));
        }
        for n in &wanted.workloads {
            plug(&mut rig.kernel, *n);
        }
        rig.want(&wanted);
        rig.settle();
        rig.check(&wanted);
        prop_assert!(rig.core.status().in_sync);
        let healthy = rig.core.status().subsystems.iter().all(|s| s.state == model::api::Health::Ok);
        prop_assert!(healthy, "{:?}", rig.core.status().subsystems);
        prop_assert_eq!(&rig.kernel.alien_routes[&key("10.99.0.0/16")], &alien);
        // And it stays so, without a change.
        let calls = rig.kernel.log.len();
        rig.resync();
        prop_assert_eq!(rig.kernel.log.len(), calls);
    }
}
