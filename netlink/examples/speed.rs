//! How fast the kernel is through this crate, in network namespaces of its own. Needs root.
//!
//! `cargo run --release -p netlink --features testing --example speed`
#![allow(clippy::unwrap_used, clippy::panic)] // a benchmark that fails stops

use std::time::{Duration, Instant};

use model::kernel::{Mac, NextHop, Op, Route, RouteKey, RouteTarget};
use model::marks;
use netlink::testing::Netns;
use netlink::workload::{WorkloadAttach, attach, check, detach, unguarded};
use netlink::{Kernel, Netlink};

const ROUTES: u32 = 10_000;
const ATTACHES: u32 = 200;

fn main() {
    Netns::new().run(routes);
    workloads();
}

fn timed<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = f();
    let taken = start.elapsed();
    let each = f64::from(ROUTES) / taken.as_secs_f64();
    println!(
        "{what:<28} {:>8.1} ms {each:>12.0} routes/s",
        taken.as_secs_f64() * 1e3
    );
    value
}

fn routes() {
    netlink::testing::sh(
        "ip link add eth0 type veth peer name wire; ip link set wire up; ip link set eth0 up
         ip addr add 192.0.2.1/24 dev eth0; ip -6 addr add 2001:db8::1/64 dev eth0 nodad",
    );
    let mut k = Netlink::open([]).unwrap();
    for (family, gateways) in [
        ("IPv4", ["192.0.2.7", "192.0.2.8"]),
        ("IPv6", ["2001:db8::7", "2001:db8::8"]),
    ] {
        let all = |gateway: &str| -> Vec<(RouteKey, Route)> {
            (0..ROUTES)
                .map(|i| route(i, gateway.parse().unwrap()))
                .collect()
        };
        let [before, after] = gateways.map(all);
        let apply = |k: &mut Netlink, what: &str, ops: Vec<Op>| {
            let results = timed(&format!("{family} {what}"), || k.apply(&ops));
            results.into_iter().for_each(|r| r.unwrap());
        };
        let ops = before
            .into_iter()
            .map(|(k, r)| Op::AddRoute(k, r))
            .collect();
        apply(&mut k, "add", ops);
        let found = timed(&format!("{family} observe"), || k.observe().unwrap());
        assert_eq!(found.ours.routes.len(), ROUTES as usize);
        let desired = model::kernel::KernelState {
            routes: after.into_iter().collect(),
            ..Default::default()
        };
        let plan = timed(&format!("{family} plan, all differ"), || {
            netlink::plan(&desired, &found)
        });
        apply(&mut k, "replace", plan.ops);
        let found = k.observe().unwrap();
        let none = timed(&format!("{family} plan, none differ"), || {
            netlink::plan(&desired, &found)
        });
        assert_eq!(none.ops, []);
        let ops = desired
            .routes
            .into_iter()
            .map(|(k, r)| Op::DeleteRoute(k, r))
            .collect();
        apply(&mut k, "delete", ops);
    }
}

fn route(i: u32, gateway: std::net::IpAddr) -> (RouteKey, Route) {
    let (dst, metric) = match gateway {
        std::net::IpAddr::V4(_) => (format!("10.{}.{}.0/26", i >> 8, i & 255), 0),
        std::net::IpAddr::V6(_) => (format!("fd00:{i:x}::/64"), 1024),
    };
    let hop = NextHop {
        via: Some(gateway),
        dev: "eth0".parse().unwrap(),
        onlink: false,
    };
    let target = RouteTarget::Hop(hop);
    (
        RouteKey {
            table: 254,
            dst: dst.parse().unwrap(),
            metric,
        },
        Route {
            protocol: marks::ROUTE_PROTOCOL,
            target,
            src: None,
            mtu: None,
        },
    )
}

fn workloads() {
    let host = Netns::new();
    let spaces: Vec<Netns> = (0..ATTACHES).map(|_| Netns::new()).collect();
    let workload = |(i, ns): (u32, &Netns)| WorkloadAttach {
        netns: ns.path(),
        container_ifname: "eth0".parse().unwrap(),
        host_ifname: format!("rtd{i:012x}").parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, 5]),
        host_mac: marks::GATEWAY_MAC,
        mtu: 1400,
        ips: vec![
            format!("10.0.{}.{}/32", i >> 8, i & 255).parse().unwrap(),
            format!("fd00::{i:x}/128").parse().unwrap(),
        ],
    };
    let all: Vec<WorkloadAttach> = (0..).zip(&spaces).map(workload).collect();
    host.run(|| {
        each("attach, both families", &all, |w| {
            assert!(attach(w, &unguarded).unwrap().created);
        });
        each("attach again (no-op)", &all, |w| {
            assert!(!attach(w, &unguarded).unwrap().created);
        });
        each("check", &all, |w| check(w).unwrap());
        each("detach", &all, |w| detach(w.host_ifname).unwrap());
    });
}

fn each(what: &str, all: &[WorkloadAttach], f: impl Fn(&WorkloadAttach)) {
    let mut times: Vec<Duration> = all
        .iter()
        .map(|w| {
            let start = Instant::now();
            f(w);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    let (p50, p90, p99) = (at(50), at(90), at(99));
    println!(
        "{what:<28} p50 {p50:.2} ms  p90 {p90:.2} ms  p99 {p99:.2} ms  of {}",
        all.len()
    );
}
