//! Random meshes: every node computes its state from one snapshot, then packets are followed hop by hop.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::kernel::{NextHop, RouteTarget};
use model::marks;
use model::resources::{NodeSpec, VxlanMode};
use model::state::NodeState;
use model::{Cidr, Family};
use proptest::prelude::*;

use crate::world::*;

/// What is random about a node: in each family its subnet, if it has the family, and whether it has
/// published the MAC address of that device.
type Place = [(Option<u8>, bool); 2];

/// A workload: the node that it runs on and the block that its addresses are from.
type Workload = (prop::sample::Index, prop::sample::Index);

#[derive(Debug)]
struct Net {
    store: Store,
    /// By node: its endpoints as interface and address.
    endpoints: BTreeMap<String, Vec<(String, IpAddr)>>,
    modes: [VxlanMode; 2],
}

fn mode() -> impl Strategy<Value = VxlanMode> {
    prop_oneof![
        Just(VxlanMode::Never),
        Just(VxlanMode::Always),
        Just(VxlanMode::CrossSubnet)
    ]
}

fn place() -> impl Strategy<Value = Place> {
    let family = || {
        let subnet = prop_oneof![1 => Just(None), 3 => (0u8..3).prop_map(Some)];
        (subnet, prop::bool::weighted(0.8))
    };
    [family(), family()]
}

fn name(i: usize) -> String {
    format!("n{i}")
}

fn build(places: &[Place], workloads: &[Workload], modes: [VxlanMode; 2]) -> Net {
    let mut store = Store::default()
        .pool("four", pool("10.0.0.0/16", modes[0]))
        .pool("six", pool("fd00::/64", modes[1]));
    let mut endpoints: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut borrowed: BTreeMap<usize, Vec<(IpAddr, String)>> = BTreeMap::new();
    for (i, (user, owner)) in workloads.iter().enumerate() {
        let (user, owner) = (user.index(places.len()), owner.index(places.len()));
        let ips = [
            format!("10.0.{owner}.{i}"),
            format!("fd00::{owner:x}{i:02x}"),
        ];
        for (k, ip) in ips.iter().enumerate() {
            let ip: IpAddr = ip.parse().unwrap();
            let link = format!("rtd{k}.{i}");
            endpoints.entry(name(user)).or_default().push((link, ip));
            if user != owner {
                borrowed.entry(owner).or_default().push((ip, name(user)));
            }
        }
    }
    for (i, [(v4, mac4), (v6, mac6)]) in places.iter().enumerate() {
        let n = u8::try_from(i).unwrap();
        let v4 = v4.map(|s| format!("192.0.{s}.{}/24", n + 1));
        let v6 = v6.map(|s| format!("2001:db8:{s}::{:x}/64", n + 1));
        let mut spec = node(n, &v4.unwrap_or_default(), &v6.unwrap_or_default());
        spec.vxlan_tunnel_mac_addr = spec.vxlan_tunnel_mac_addr.filter(|_| *mac4);
        spec.vxlan_tunnel_mac_addr_v6 = spec.vxlan_tunnel_mac_addr_v6.filter(|_| *mac6);
        store = store.node(&name(i), spec);
        let lent = borrowed.remove(&i).unwrap_or_default();
        for (f, range) in [
            (Family::V4, format!("10.0.{i}.0/26")),
            (Family::V6, format!("fd00::{i:x}00/122")),
        ] {
            let mut summary = block(&name(i), 9, &[]);
            summary.borrowed = (lent.iter())
                .filter(|(ip, _)| Family::of(*ip) == f)
                .map(|(ip, user)| (*ip, user.as_str().into()))
                .collect();
            store = store.block(&range, summary);
        }
    }
    Net {
        store,
        endpoints,
        modes,
    }
}

impl Net {
    fn states(&self) -> BTreeMap<String, NodeState> {
        let of = |n: &String| {
            let mut store = self.store.clone();
            for (link, ip) in self.endpoints.get(n).into_iter().flatten() {
                let net = Cidr::host(*ip).to_string();
                store = store.endpoint(link, endpoint(link, &[&net]));
            }
            (n.clone(), store.desired(n))
        };
        self.store.nodes.keys().map(of).collect()
    }

    /// The rules of the design, written down a second time.
    fn should_reach(&self, a: &str, b: &str, family: Family) -> bool {
        let (x, y) = (&self.store.nodes[a], &self.store.nodes[b]);
        let subnet = |f| match (x.underlay(f), y.underlay(f)) {
            (Some(p), Some(q)) => p.subnet() == q.subnet(),
            _ => false,
        };
        let ready = |n: &NodeSpec, f| n.underlay(f).is_some() && n.vtep_mac(f).is_some();
        let common = |f| ready(x, f) && ready(y, f);
        let native = subnet(Family::V6) || family == Family::V4 && subnet(Family::V4);
        let vxlan = common(Family::V4) || common(Family::V6);
        match self.modes[usize::from(family == Family::V6)] {
            VxlanMode::Never => native,
            VxlanMode::Always => vxlan,
            VxlanMode::CrossSubnet => native || vxlan,
        }
    }

    /// The node whose underlay address this is.
    fn at_underlay(&self, ip: IpAddr) -> &str {
        let of = |(n, spec): (&'_ String, &'_ NodeSpec)| {
            let f = Family::of(ip);
            (spec.underlay(f).is_some_and(|a| a.ip == ip)).then(|| n.clone())
        };
        let found = self.store.nodes.iter().find_map(of);
        let found = found.unwrap_or_else(|| panic!("{ip} is the underlay of no node"));
        self.store.nodes.get_key_value(&found).unwrap().0
    }

    /// Where a packet for `dst` goes from `from`, by the rules of the kernel.
    fn next(&self, states: &BTreeMap<String, NodeState>, from: &str, dst: IpAddr) -> Step<'_> {
        let state = &states[from];
        let best = (state.kernel.routes.iter())
            .filter(|(key, _)| key.dst.contains(dst))
            .max_by_key(|(key, _)| key.dst.prefix_len());
        let Some((_, route)) = best else {
            return Step::Dropped;
        };
        let RouteTarget::Hop(NextHop { via, dev, onlink }) = route.target else {
            return Step::Dropped;
        };
        let Some(via) = via else {
            return Step::Delivered(dev.to_string());
        };
        let over = match dev.as_str() {
            marks::VXLAN_V4 => Family::V4,
            marks::VXLAN_V6 => Family::V6,
            "eth0" => {
                let to = self.at_underlay(via);
                let mine = self.store.nodes[from].underlay(Family::of(via)).unwrap();
                assert!(
                    mine.subnet().contains(via),
                    "{via} is not on the link of {from}"
                );
                assert!(dst.is_ipv4() || via.is_ipv6());
                return Step::To(to);
            }
            other => panic!("next hop on {other}"),
        };
        assert!(onlink && state.kernel.vxlan.contains_key(&dev));
        let neighbour = (state.kernel.neighbours.iter())
            .find(|n| n.dev == dev && n.ip == via)
            .unwrap_or_else(|| panic!("no neighbour for {via}"));
        let mut fdb = (state.kernel.fdb.iter()).filter(|f| f.dev == dev && f.mac == neighbour.mac);
        let entry = fdb.next().expect("no FDB entry");
        assert_eq!(fdb.next(), None);
        let to = self.at_underlay(entry.dst);
        assert_eq!(Family::of(entry.dst), over);
        // The far end takes it: it has the device, with this MAC, on this address.
        let theirs = &states[to].kernel.vxlan[&dev];
        assert_eq!(
            (theirs.mac, theirs.settings.local),
            (neighbour.mac, entry.dst)
        );
        Step::To(to)
    }
}

enum Step<'a> {
    Delivered(String),
    Dropped,
    To(&'a str),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn packets_arrive_within_two_hops_and_never_loop(
        places in prop::collection::vec(place(), 1..7),
        workloads in prop::collection::vec(any::<Workload>(), 1..12),
        modes in [mode(), mode()],
    ) {
        let net = build(&places, &workloads, modes);
        let states = net.states();
        for from in net.store.nodes.keys() {
            for (to, endpoints) in &net.endpoints {
                for (link, dst) in endpoints {
                    let expected = from == to || net.should_reach(from, to, Family::of(*dst));
                    let mut at = from.as_str();
                    let mut hops = 0;
                    let arrived = loop {
                        match net.next(&states, at, *dst) {
                            Step::Delivered(dev) => {
                                prop_assert_eq!((at, &dev), (to.as_str(), link));
                                break true;
                            }
                            Step::Dropped => break false,
                            Step::To(next) => {
                                prop_assert_ne!(at, next);
                                at = next;
                                hops += 1;
                                prop_assert!(hops <= 2, "{} from {} loops", dst, from);
                            }
                        }
                    };
                    prop_assert!(arrived || !expected, "{dst} on {to} is not reached from {from}");
                    if expected {
                        prop_assert!(hops <= 1, "a detour from {from} to {to}");
                    }
                }
            }
        }
    }

    #[test]
    fn own_blocks_lead_nowhere_else(
        places in prop::collection::vec(place(), 1..7),
        workloads in prop::collection::vec(any::<Workload>(), 1..12),
        modes in [mode(), mode()],
    ) {
        let net = build(&places, &workloads, modes);
        for (name, state) in net.states() {
            for (cidr, block) in &net.store.blocks {
                let route = (state.kernel.routes.iter()).find(|(k, _)| k.dst == *cidr);
                if block.node.as_deref() == Some(&name) {
                    prop_assert_eq!(&route.unwrap().1.target, &RouteTarget::Blackhole);
                } else if let Some((_, route)) = route {
                    prop_assert!(matches!(route.target, RouteTarget::Hop(_)));
                }
            }
            for (key, route) in &state.kernel.routes {
                prop_assert_eq!(route.protocol, marks::ROUTE_PROTOCOL);
                prop_assert_eq!(key.metric == 1024, key.dst.family() == Family::V6);
            }
            // Nothing stands by that no route leads to.
            let dst = |d| state.kernel.routes.values().any(|r| {
                matches!(r.target, RouteTarget::Hop(h) if h.via == Some(d))
            });
            for n in state.kernel.neighbours.iter().filter(|n| n.dev.as_str().starts_with("rtd.v")) {
                prop_assert!(dst(n.ip));
            }
        }
    }
}
