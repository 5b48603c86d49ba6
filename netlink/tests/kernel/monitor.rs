//! Events, awaited.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use model::kernel::{KernelState, Nat, Op};
use netlink::testing::{Netns, sh};
use netlink::{Event, Kernel, Monitor, Netlink};

use crate::universe::name;

fn watch(ports: Vec<u32>) -> (Monitor, Receiver<Event>) {
    let (tx, rx) = channel();
    let monitor = Monitor::spawn(ports, move |event| tx.send(event).unwrap_or(())).unwrap();
    (monitor, rx)
}

/// Waits for an event; what came before it.
fn until(rx: &Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut before = Vec::new();
    loop {
        let event = rx.recv_timeout(Duration::from_secs(5));
        let event = event.unwrap_or_else(|e| panic!("{e}, after {before:?}"));
        if wanted(&event) {
            return before;
        }
        before.push(event);
    }
}

fn links(with: &'static str, there: bool) -> impl Fn(&Event) -> bool {
    move |e| matches!(e, Event::Links(links) if links.contains_key(&name(with)) == there)
}

#[test]
fn each_kind_of_change_is_told() {
    Netns::new().run(|| {
        let (_monitor, rx) = watch(vec![]);
        until(&rx, links("lo", true));
        sh("ip link add rtd0 type veth peer name eth0; ip link set eth0 up; ip link set rtd0 up");
        until(&rx, |e| {
            matches!(e, Event::Links(l) if l.get(&name("eth0")).is_some_and(|l| l.running))
        });
        sh("ip addr add 192.0.2.1/24 dev eth0");
        until(&rx, |e| {
            matches!(e, Event::Links(l) if l[&name("eth0")].addresses.iter().any(|a| a.prefix == 24))
        });
        sh("ip route add 10.0.0.0/26 via 192.0.2.9");
        until(&rx, |e| *e == Event::RoutesChanged);
        sh("ip -6 route add fd00::/64 dev eth0");
        until(&rx, |e| *e == Event::RoutesChanged);
        sh("ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent");
        until(&rx, |e| *e == Event::NeighboursChanged);
        sh("ip neigh replace 10.0.0.5 lladdr 02:00:00:00:00:09 dev rtd0 nud permanent");
        until(&rx, |e| *e == Event::NeighboursChanged);
        sh("ip neigh del 10.0.0.5 dev rtd0");
        until(&rx, |e| *e == Event::NeighboursChanged);
        sh("nft add table inet other");
        sh("nft add table inet routerd");
        let before = until(&rx, |e| *e == Event::NatChanged);
        assert!(!before.contains(&Event::NatChanged));
        sh("ip link del rtd0");
        until(&rx, links("eth0", false));
    });
}

#[test]
fn own_changes_are_left_out() {
    Netns::new().run(|| {
        let mut k = Netlink::open([]).unwrap();
        let (_monitor, rx) = watch(k.ports());
        until(&rx, links("lo", true));
        sh("ip link set lo up");
        until(
            &rx,
            |e| matches!(e, Event::Links(l) if l[&name("lo")].addresses.len() == 2),
        );
        let mut desired = KernelState {
            nat: Some(Nat::default()),
            ..KernelState::default()
        };
        let key = |dst: &str| model::kernel::RouteKey {
            table: 254,
            dst: dst.parse().unwrap(),
            metric: 0,
        };
        let blackhole = model::kernel::Route {
            protocol: 82,
            target: model::kernel::RouteTarget::Blackhole,
            src: None,
            mtu: None,
        };
        desired.routes.insert(key("10.0.0.0/26"), blackhole);
        let plan = netlink::plan(&desired, &k.observe().unwrap());
        assert_eq!(plan.ops.len(), 2);
        assert!(k.apply(&plan.ops).iter().all(Result::is_ok));
        // Another's change comes after ours would have.
        sh("ip link add one type veth peer name two");
        let before = until(&rx, links("one", true));
        let told = before
            .iter()
            .any(|e| matches!(e, Event::RoutesChanged | Event::NatChanged));
        assert!(!told, "{before:?}");
        assert!(matches!(
            plan.ops.as_slice(),
            [Op::SetNat(_), Op::AddRoute(..)]
        ));
    });
}

/// More notifications than there is room for, while nobody reads.
#[test]
fn lost_notifications_are_told() {
    Netns::new().run(|| {
        let (tx, rx) = channel();
        let (go, wait) = channel::<()>();
        let monitor = Monitor::spawn(vec![], move |event| {
            let first = matches!(event, Event::Links(_));
            tx.send(event).unwrap_or(());
            if first {
                wait.recv().unwrap_or(());
            }
        })
        .unwrap();
        until(&rx, links("lo", true));
        let route = |i: u32| format!("route add blackhole 10.{}.{}.0/24\n", i >> 8, i & 255);
        let batch: String = (0..40_000).map(route).collect();
        let path = std::env::temp_dir().join(format!("netlink-overrun-{}", std::process::id()));
        std::fs::write(&path, batch).unwrap();
        sh(&format!("ip -batch {0}; rm {0}", path.display()));
        drop(go);
        until(&rx, |e| *e == Event::Overrun);
        drop(monitor);
        // Dropped, it is gone, and with it the sender.
        while rx.recv().is_ok() {}
    });
}
