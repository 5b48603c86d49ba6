//! The encrypted tunnel: its device is made by somebody else, and nothing meant for it takes another way.

use model::kernel::{KernelState, LinkKind, NextHop, Op, Route, RouteKey, RouteTarget, TunnelLink};
use model::marks;
use netlink::{Conflict, FakeKernel, Kernel, plan};

use crate::universe::{host, ip, link, name, settle};

fn key(dst: &str) -> RouteKey {
    RouteKey {
        table: 254,
        dst: dst.parse().unwrap(),
        metric: 0,
    }
}

fn route(via: Option<&str>, dev: &str) -> Route {
    Route {
        protocol: marks::ROUTE_PROTOCOL,
        target: RouteTarget::Hop(NextHop {
            via: via.map(ip),
            dev: name(dev),
            onlink: false,
        }),
        src: None,
        mtu: None,
    }
}

fn wanted() -> KernelState {
    let mut state = KernelState {
        tunnel: Some(TunnelLink {
            name: name(marks::WIREGUARD),
            mtu: 1440,
        }),
        ..KernelState::default()
    };
    for dst in ["10.0.1.0/26", "10.0.2.0/26"] {
        state.routes.insert(key(dst), route(None, marks::WIREGUARD));
    }
    state
}

fn add_device(k: &mut FakeKernel) {
    let mut device = link(marks::WIREGUARD, LinkKind::Other("wireguard".into()), &[]);
    (device.up, device.mtu) = (false, 1420);
    k.add_link(device);
}

#[test]
fn without_its_device_what_is_to_be_encrypted_goes_nowhere() {
    let mut k = host();
    let mut before = KernelState::default();
    let clear = route(Some("192.0.2.9"), "eth0");
    before.routes.insert(key("10.0.1.0/26"), clear);
    settle(&mut k, &before);

    settle(&mut k, &wanted());
    for dst in ["10.0.1.0/26", "10.0.2.0/26"] {
        let target = &k.state.routes[&key(dst)].target;
        assert_eq!(*target, RouteTarget::Unreachable, "{dst}");
    }
    let again = plan(&wanted(), &k.observe().unwrap());
    assert_eq!(again.ops, []);
    let missing = |c: &Conflict| matches!(c, Conflict::MissingLink { link, .. } if link.as_str() == marks::WIREGUARD);
    assert!(!again.conflicts.is_empty() && again.conflicts.iter().all(missing));

    add_device(&mut k);
    assert_eq!(settle(&mut k, &wanted()), [""; 0]);
    let observed = k.observe().unwrap();
    assert_eq!(observed.ours, wanted());
    assert!(observed.links[&name(marks::WIREGUARD)].up);
}

#[test]
fn a_device_that_a_process_serves_goes_like_the_kernels() {
    let mut k = host();
    let kind = LinkKind::Other("tun".into());
    k.add_link(link(marks::WIREGUARD, kind, &[]));
    settle(&mut k, &wanted());
    assert_eq!(settle(&mut k, &KernelState::default()), [""; 0]);
    assert!(!k.links.contains_key(&name(marks::WIREGUARD)));
    assert!(k.state.routes.is_empty());
}

#[test]
fn a_device_that_nobody_wants_goes_after_its_routes() {
    let mut k = host();
    add_device(&mut k);
    settle(&mut k, &wanted());
    let mut after = KernelState::default();
    let clear = route(Some("192.0.2.9"), "eth0");
    after.routes.insert(key("10.0.1.0/26"), clear);
    let ops = plan(&after, &k.observe().unwrap()).ops;
    assert_eq!(ops.last(), Some(&Op::DeleteLink(name(marks::WIREGUARD))));
    assert_eq!(settle(&mut k, &after), [""; 0]);
    assert!(!k.links.contains_key(&name(marks::WIREGUARD)));
    assert_eq!(k.observe().unwrap().ours, after);
}
