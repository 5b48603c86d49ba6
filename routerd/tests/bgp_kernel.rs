//! Two owners of BGP, each in a network namespace with a kernel of its own. Needs root.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests stand outside `#[test]`

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::Family;
use model::api::{BgpPeersShow, BgpState, Subsystem};
use model::bgp::{Announcement, Bgp, Neighbour, NextHopMode, PoolGuard, Ttl};
use model::state::NodeState;
use netlink::LearntRoutes;
use netlink::testing::Netns;
use routerd::bgp::{Handle, Owner, RoutesQuery};
use routerd::reconcile;
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(30);

/// A host with one owner of BGP.
struct Host {
    ns: Netns,
    address: Ipv4Addr,
    ran: PathBuf,
    at_work: Option<AtWork>,
}

struct AtWork {
    handle: Handle,
    thread: JoinHandle<()>,
    desired: watch::Sender<Arc<NodeState>>,
    reconciled: watch::Sender<reconcile::Status>,
    status: watch::Receiver<Option<Subsystem>>,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap()
}

impl Host {
    fn start(&mut self, runtime: &tokio::runtime::Runtime, plan: Option<Bgp>) {
        let (ran, ns) = (self.ran.clone(), &self.ns);
        let (handle, view, thread) = ns.run(move || {
            let routes = LearntRoutes::open().unwrap();
            let (owner, handle, view) = Owner::new(routes, ran).unwrap();
            let thread = std::thread::spawn(|| owner.run());
            (handle, view, thread)
        });
        let (desired, desired_view) = watch::channel(Arc::<NodeState>::default());
        let (reconciled, reconciled_view) = watch::channel(reconcile::Status::default());
        runtime.spawn(handle.clone().follow(desired_view, reconciled_view));
        self.at_work = Some(AtWork {
            handle,
            thread,
            desired,
            reconciled,
            status: view,
        });
        self.plan(plan);
    }

    /// A new desired state, which the kernel has.
    fn plan(&self, plan: Option<Bgp>) {
        let at_work = self.at_work.as_ref().unwrap();
        let state = NodeState {
            generation: 1,
            bgp: plan,
            ..NodeState::default()
        };
        at_work.reconciled.send_modify(|r| r.generation = 1);
        at_work.desired.send_replace(Arc::new(state));
    }

    fn stop(&mut self) {
        let AtWork { handle, thread, .. } = self.at_work.take().unwrap();
        handle.stop();
        thread.join().unwrap();
    }

    fn handle(&self) -> &Handle {
        &self.at_work.as_ref().unwrap().handle
    }

    fn peers(&self, runtime: &tokio::runtime::Runtime) -> BgpPeersShow {
        runtime.block_on(self.handle().peers()).unwrap()
    }

    fn learnt(&self) -> String {
        let routes = self
            .ns
            .sh("ip route show proto 83; ip -6 route show proto 83");
        let words = routes.split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    }

    /// Waits until the kernel's learnt routes are these.
    fn learns(&self, wanted: &str) {
        await_that(|| {
            let found = self.learnt();
            (found == wanted).then_some(()).ok_or(found)
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.at_work.is_some() {
            self.stop();
        }
        let _ = std::fs::remove_file(&self.ran);
    }
}

fn await_that<T, E: std::fmt::Debug>(mut check: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        match check() {
            Ok(value) => return value,
            Err(e) if Instant::now() > end => panic!("{e:?} after {LIMIT:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Two hosts and a link.
fn hosts(test: &str) -> [Host; 2] {
    let [a, b] = [1, 2].map(|n| Host {
        ns: Netns::new(),
        address: Ipv4Addr::new(10, 99, 0, n),
        ran: std::env::temp_dir().join(format!("bgp-{test}-{n}-{}", std::process::id())),
        at_work: None,
    });
    let there = b.ns.path();
    a.ns.sh(&format!(
        "ip link add eth0 type veth peer name eth0 netns {there}"
    ));
    for host in [&a, &b] {
        host.ns.sh(&format!(
            "ip link set lo up; ip link set eth0 up; ip addr add {}/24 dev eth0",
            host.address
        ));
    }
    a.ns.await_ready();
    b.ns.await_ready();
    [a, b]
}

/// What a host says to another.
fn plan(own: &Host, other: &Host, announce: &[&str]) -> Bgp {
    let neighbour = Neighbour {
        resource: Some("other".into()),
        node: None,
        address: Some(IpAddr::V4(other.address)),
        interface: None,
        port: 179,
        asn: Some(64512),
        local_as: 64512,
        source: None,
        own_v4: None,
        own_v6: None,
        families: [Family::V4].into(),
        extended_next_hop: false,
        hold_time: 9,
        restart_time: 120,
        ttl: Ttl::Auto,
        password: None,
        bfd: None,
        import: None,
        export: None,
        client: false,
        next_hop: NextHopMode::Auto,
        allowed_own_as: 0,
        max_prefixes: 1000,
    };
    let announce = announce.iter();
    Bgp {
        asn: 64512,
        router_id: own.address,
        cluster_id: None,
        listen: Some(179),
        listen_addresses: BTreeSet::new(),
        multipath: 1,
        peers: BTreeMap::from([("other".into(), neighbour)]),
        announce: announce
            .map(|p| (p.parse().unwrap(), Announcement::default()))
            .collect(),
        guard: Arc::default(),
    }
}

fn via(prefix: &str, host: &Host) -> String {
    format!("{prefix} via {} dev eth0 metric 83000", host.address)
}

#[test]
fn what_one_announces_the_other_has_in_its_kernel() {
    let runtime = runtime();
    let [mut a, mut b] = hosts("routes");
    a.start(
        &runtime,
        Some(plan(&a, &b, &["10.1.0.0/26", "10.1.1.0/26"])),
    );
    b.start(&runtime, Some(plan(&b, &a, &["10.2.0.0/26"])));
    let both = [via("10.1.0.0/26", &a), via("10.1.1.0/26", &a)].join(" ");
    b.learns(&both);
    a.learns(&via("10.2.0.0/26", &b));

    let peers = b.peers(&runtime);
    let peer = &peers.peers[0];
    assert_eq!(
        (peer.peer.as_str(), peer.state),
        ("10.99.0.1", BgpState::Established)
    );
    assert_eq!((peer.received, peer.advertised), (2, 1));
    let ask = |query: RoutesQuery| runtime.block_on(b.handle().routes(query)).unwrap();
    let all = ask(RoutesQuery::default()).unwrap().routes;
    let shown: Vec<_> = all
        .iter()
        .map(|r| (r.peer.is_some(), r.best, r.installed))
        .collect();
    assert_eq!(
        shown,
        [(true, true, true), (true, true, true), (false, true, false)]
    );
    let told = ask(RoutesQuery {
        peer: Some("10.99.0.1".to_owned()),
        advertised: true,
        prefix: "10.2.0.0/26".parse().ok(),
        after: None,
    });
    assert_eq!(told.unwrap().routes[0].next_hop, Some(b.address.into()));
    let nobody = ask(RoutesQuery {
        peer: Some("nobody".to_owned()),
        ..RoutesQuery::default()
    });
    assert!(nobody.unwrap_err().contains("nobody"));

    // A link that goes down takes IPv4 routes along, and nobody says anything new by BGP.
    b.ns.sh("ip link set eth0 down; ip link set eth0 up");
    b.handle().routes_changed();
    b.learns(&both);

    // Another plan, then none.
    a.plan(Some(plan(&a, &b, &["10.1.1.0/26"])));
    b.learns(&via("10.1.1.0/26", &a));
    b.plan(None);
    b.learns("");
    await_that(|| match a.peers(&runtime).peers[0].last_down.clone() {
        Some(why) if why.contains("switched off") => Ok(()),
        other => Err(other),
    });
}

#[test]
fn a_restart_loses_no_route_on_either_side() {
    let runtime = runtime();
    let [mut a, mut b] = hosts("restart");
    a.start(&runtime, Some(plan(&a, &b, &["10.1.0.0/26"])));
    b.start(
        &runtime,
        Some(plan(&b, &a, &["10.2.0.0/26", "10.2.1.0/26"])),
    );
    let of_a = via("10.1.0.0/26", &a);
    b.learns(&of_a);
    a.learns(&[via("10.2.0.0/26", &b), via("10.2.1.0/26", &b)].join(" "));
    // Every change of the other's routes is told.
    let mut monitor = b.ns.run(|| {
        let mut monitor = std::process::Command::new("ip");
        monitor.args(["monitor", "route"]);
        monitor
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    });
    a.stop();
    assert!(a.learnt().contains("10.2.1.0/26"));
    // What it says no more went while it was away.
    b.plan(Some(plan(&b, &a, &["10.2.0.0/26"])));
    a.start(&runtime, Some(plan(&a, &b, &["10.1.0.0/26"])));
    a.learns(&via("10.2.0.0/26", &b));
    await_that(|| match b.peers(&runtime).peers[0].state {
        BgpState::Established => Ok(()),
        other => Err(other),
    });
    b.learns(&of_a);
    monitor.kill().unwrap();
    let told = monitor.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(!told.contains("Deleted 10.1.0.0/26"), "{told}");
}

#[test]
fn a_prefix_inside_our_pools_that_is_nobodys_is_refused_and_told() {
    let runtime = runtime();
    let [mut a, mut b] = hosts("guard");
    a.start(
        &runtime,
        Some(plan(&a, &b, &["10.1.0.0/26", "192.0.2.0/24"])),
    );
    let mut guarded = plan(&b, &a, &[]);
    guarded.guard = Arc::new(PoolGuard {
        pools: ["10.1.0.0/16".parse().unwrap()].into(),
        ..PoolGuard::default()
    });
    b.start(&runtime, Some(guarded));
    b.learns(&via("192.0.2.0/24", &a));
    let peer = b.peers(&runtime).peers.remove(0);
    assert_eq!((peer.received, peer.guarded), (2, 1));
    let mut status = b.at_work.as_ref().unwrap().status.clone();
    let said = status.wait_for(|s| {
        let message = s.as_ref().map(|s| s.message.as_str()).unwrap_or_default();
        message.contains("1 route inside our pools is refused")
    });
    let said = runtime.block_on(async { tokio::time::timeout(LIMIT, said).await });
    assert!(said.is_ok());
}
