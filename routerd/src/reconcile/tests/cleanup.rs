//! What `routerd cleanup` takes away and puts back.

use std::collections::BTreeMap;

use model::kernel::{LinkKind, Route};
use netlink::Kernel;

use super::rig::*;
use crate::reconcile::cleanup::cleanup;

#[test]
fn cleanup_leaves_nothing_and_puts_switches_back() {
    let mut rig = Rig::new(host());
    let alien = Route {
        protocol: 4,
        ..route(Some("192.0.2.99"), "eth0")
    };
    rig.kernel.alien_routes.insert(key("10.99.0.0/16"), alien);
    let tap = LinkKind::Other("tun".to_owned());
    rig.kernel.add_link(link(name("tap0"), tap, &[]));
    rig.want(&full());
    rig.settle();
    let switches: BTreeMap<_, _> = [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv4/conf/rtd000000000001/rp_filter", "0"),
        ("net/ipv6/conf/eth0/accept_ra", "1"),
        ("net/ipv6/conf/eth9/accept_ra", "1"),
    ]
    .map(|(p, v)| (p.to_owned(), v.to_owned()))
    .into();
    cleanup(&mut rig.kernel, &switches).unwrap();
    let found = rig.kernel.observe().unwrap();
    let links: Vec<_> = found.links.keys().map(ToString::to_string).collect();
    assert_eq!(links, ["eth0", "tap0"]);
    assert_eq!(found.alien_routes.len(), 1);
    let expected: BTreeMap<_, _> = [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv6/conf/eth0/accept_ra", "1"),
    ]
    .map(|(p, v)| (p.to_owned(), v.to_owned()))
    .into();
    assert_eq!(found.ours.sysctls, expected);
    let rest = model::kernel::KernelState {
        sysctls: expected,
        ..Default::default()
    };
    assert_eq!(found.ours, rest);
}

#[test]
fn cleanup_goes_on_after_a_failure_and_says_so() {
    let mut rig = Rig::new(host());
    rig.want(&full());
    rig.settle();
    rig.kernel.fail_call(0);
    let errors = cleanup(&mut rig.kernel, &BTreeMap::new()).unwrap_err();
    assert_eq!(errors.len(), 1);
    cleanup(&mut rig.kernel, &BTreeMap::new()).unwrap();
    let found = rig.kernel.observe().unwrap().ours;
    assert!(found.routes.is_empty() && found.vxlan.is_empty() && found.nat.is_none());
}
