//! A core, a fake kernel and a clock.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::Cidr;
use model::kernel::{
    Address, FdbEntry, KernelState, Link, LinkKind, LinkName, Mac, Nat, Neighbour, NextHop, Route,
    RouteKey, RouteTarget, Vxlan, VxlanSettings,
};
use model::marks;
use model::state::NodeState;
use netlink::{FakeKernel, Kernel};

use crate::reconcile::{Action, Core, Event, Now, Timing};

pub(crate) fn name(s: &str) -> LinkName {
    s.parse().unwrap()
}

pub(crate) fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

pub(crate) fn workload(n: u8) -> LinkName {
    name(&format!("rtd{n:012x}"))
}

/// A link as somebody else makes it.
pub(crate) fn link(name: LinkName, kind: LinkKind, addresses: &[(&str, u8)]) -> Link {
    let address = |(ip_, prefix): &(&str, u8)| Address {
        ip: ip(ip_),
        prefix: *prefix,
    };
    Link {
        name,
        index: 0,
        mac: Some(Mac([2; 6])),
        mtu: 1500,
        up: true,
        running: true,
        kind,
        addresses: addresses.iter().map(address).collect(),
    }
}

/// A host with `eth0` and the workload links 0 to 3.
pub(crate) fn host() -> FakeKernel {
    let mut k = FakeKernel::new();
    let eth0 = LinkKind::Other(String::new());
    k.add_link(link(name("eth0"), eth0, &[("192.0.2.1", 24)]));
    for n in 0..4 {
        plug(&mut k, n);
    }
    k
}

/// Makes a workload link as the CNI path does.
pub(crate) fn plug(k: &mut FakeKernel, n: u8) {
    if !k.links.contains_key(&workload(n)) {
        k.add_link(link(workload(n), LinkKind::Veth, &[]));
    }
}

pub(crate) fn key(dst: &str) -> RouteKey {
    RouteKey {
        table: 254,
        dst: dst.parse::<Cidr>().unwrap(),
        metric: 0,
    }
}

pub(crate) fn route(via: Option<&str>, dev: &str) -> Route {
    Route {
        protocol: marks::ROUTE_PROTOCOL,
        target: RouteTarget::Hop(NextHop {
            via: via.map(ip),
            dev: name(dev),
            onlink: dev == marks::VXLAN_V4,
        }),
        src: (dev == marks::VXLAN_V4).then(|| ip("10.250.0.1")),
        mtu: None,
    }
}

/// What a state consists of, to be varied.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    /// MTU and last byte of the MAC of the VXLAN device; peers beyond 9 need it.
    pub(crate) vxlan: Option<(u32, u8)>,
    /// Peers below 10 are on the subnet, the others behind VXLAN if there is one.
    pub(crate) peers: Vec<u8>,
    /// Local workloads.
    pub(crate) workloads: Vec<u8>,
    /// Masquerade.
    pub(crate) nat: bool,
}

impl Shape {
    pub(crate) fn kernel(&self) -> KernelState {
        let mut s = KernelState::default();
        s.sysctls.insert("net/ipv4/ip_forward".into(), "1".into());
        let blackhole = Route {
            target: RouteTarget::Blackhole,
            ..route(None, "eth0")
        };
        s.routes.insert(key("10.0.0.0/26"), blackhole);
        let dev = name(marks::VXLAN_V4);
        if let Some((mtu, mac)) = self.vxlan {
            let settings = VxlanSettings {
                vni: 4096,
                port: 4789,
                local: ip("192.0.2.1"),
                learning: false,
            };
            let device = Vxlan {
                name: dev,
                settings,
                parent: name("eth0"),
                mac: Mac([2, 4, 0, 0, 0, mac]),
                mtu,
            };
            s.vxlan.insert(dev, device);
            let address = Address {
                ip: ip("10.250.0.1"),
                prefix: 32,
            };
            s.addresses.insert((dev, address));
        }
        for n in &self.peers {
            let dst = key(&format!("10.1.{n}.0/26"));
            if *n < 10 {
                let via = format!("192.0.2.{}", n + 10);
                s.routes.insert(dst, route(Some(&via), "eth0"));
            } else if self.vxlan.is_some() {
                let (via, mac) = (format!("10.250.0.{n}"), Mac([2, 4, 0, 0, 1, *n]));
                s.routes.insert(dst, route(Some(&via), marks::VXLAN_V4));
                let ip_ = ip(&via);
                s.neighbours.insert(Neighbour { dev, ip: ip_, mac });
                let dst = ip(&format!("198.51.100.{n}"));
                s.fdb.insert(FdbEntry { dev, mac, dst });
            }
        }
        for n in &self.workloads {
            let dev = workload(*n);
            s.workload_links.insert(dev);
            let address = format!("10.0.0.{n}");
            let dst = key(&format!("{address}/32"));
            s.routes.insert(dst, route(None, dev.as_str()));
            let (ip, mac) = (ip(&address), Mac([2, 0, 0, 0, 0, *n]));
            s.neighbours.insert(Neighbour { dev, ip, mac });
            s.sysctls
                .insert(format!("net/ipv4/conf/{dev}/rp_filter"), "1".into());
        }
        s.nat = self.nat.then(|| Nat {
            sources: ["10.0.0.0/8".parse().unwrap()].into(),
            exempt: ["10.0.0.0/8".parse().unwrap()].into(),
        });
        s
    }
}

/// A full shape, for tests that only need something of each sort.
pub(crate) fn full() -> Shape {
    Shape {
        vxlan: Some((1450, 1)),
        peers: vec![1, 2, 20, 21],
        workloads: vec![1, 2],
        nat: true,
    }
}

pub(crate) struct Rig {
    pub(crate) core: Core,
    pub(crate) kernel: FakeKernel,
    pub(crate) now: Duration,
    pub(crate) events: Vec<Event>,
    /// Observations made so far.
    pub(crate) runs: usize,
    pub(crate) revision: i64,
}

impl Rig {
    pub(crate) fn new(kernel: FakeKernel) -> Rig {
        Rig {
            core: Core::new(Timing::default(), 7),
            kernel,
            now: Duration::ZERO,
            events: Vec::new(),
            runs: 0,
            revision: 0,
        }
    }

    pub(crate) fn at(&self) -> Now {
        Now {
            since_start: self.now,
            wall: SystemTime::UNIX_EPOCH + self.now,
        }
    }

    /// Wants a state, of the next revision, which is given back.
    pub(crate) fn want(&mut self, shape: &Shape) -> i64 {
        self.revision += 1;
        let state = NodeState {
            generation: self.revision.unsigned_abs(),
            revision: self.revision,
            kernel: shape.kernel(),
            ..NodeState::default()
        };
        let now = self.at();
        self.core.handle_desired(Arc::new(state), true, now);
        self.revision
    }

    /// Does what is due now. Every change echoes as the notification that it causes.
    pub(crate) fn run(&mut self) {
        while let Some(action) = self.core.poll_action(self.at()) {
            match action {
                // No shape has a tunnel; see `crate::tunnel::tests`.
                Action::Raise(_) | Action::Look(_) | Action::Retire(_) => {
                    unreachable!("no tunnel is wanted")
                }
                Action::Observe => {
                    self.runs += 1;
                    let observed = self.kernel.observe();
                    self.core.handle_observed(observed, self.at());
                }
                Action::Apply { ops, .. } => {
                    let results = self.kernel.apply(&ops);
                    let changed = results.iter().any(Result::is_ok);
                    self.core.handle_applied(ops, results);
                    if changed {
                        self.core.handle_changed(self.at());
                    }
                }
            }
        }
        self.events.extend(self.core.poll_events());
    }

    /// Lets time pass until only the slow timer is left.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100 {
            self.run();
            match self.core.poll_timeout() {
                Some(at) if at < self.now + Duration::from_secs(40) => self.now = at.max(self.now),
                _ => return,
            }
        }
        panic!("no rest after 100 runs: {:#?}", self.core.status());
    }

    /// Lets the slow timer fire, and settles.
    pub(crate) fn resync(&mut self) {
        self.now += Duration::from_secs(60);
        self.settle();
    }

    /// Lets somebody change the kernel, with the notification that causes.
    pub(crate) fn damage(&mut self, change: impl FnOnce(&mut FakeKernel)) {
        change(&mut self.kernel);
        self.core.handle_changed(self.at());
    }

    /// Whether the kernel is as the shape says, and nothing is left over.
    pub(crate) fn check(&mut self, shape: &Shape) {
        let mut found = self.kernel.observe().unwrap().ours;
        let mut wanted = shape.kernel();
        // A switch is not turned back when nobody wants it any more.
        found.sysctls.retain(|p, _| wanted.sysctls.contains_key(p));
        wanted.nat = wanted.nat.as_ref().map(netlink::nat::canonical);
        assert_eq!(found, wanted);
    }

    /// State and message of a subsystem.
    pub(crate) fn subsystem(&self, name: &str) -> String {
        let status = self.core.status();
        let s = status.subsystems.iter().find(|s| s.name == name).unwrap();
        format!("{:?}: {}", s.state, s.message)
    }

    /// Drift as `object: found`, newest first.
    pub(crate) fn drift(&self) -> Vec<String> {
        let text = |d: &model::api::Drift| format!("{}: {}", d.object, d.found);
        self.core.status().drift.iter().map(text).collect()
    }
}
