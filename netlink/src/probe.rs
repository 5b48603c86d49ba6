//! What the kernel can do, tried in a network namespace that is made for it and ends with it.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use model::kernel::{LinkName, Mac, Nat, Op, Route, RouteKey, RouteTarget, Vxlan, VxlanSettings};
use model::{Cidr, marks};
use nix::sched::{CloneFlags, unshare};

use crate::socket::{Batch, Socket};
use crate::workload::WorkloadAttach;
use crate::{Error, Kernel, Netlink, Refusal, describe, encode};

/// A feature, and why it cannot be used if it cannot.
pub type Feature = (&'static str, Result<(), Error>);

/// Links of workloads.
pub const VETH: &str = "veth";
/// Overlay over an IPv4 underlay.
pub const VXLAN_V4: &str = "vxlan over IPv4";
/// Overlay over an IPv6 underlay.
pub const VXLAN_V6: &str = "vxlan over IPv6";
/// IPv6 at all.
pub const IPV6: &str = "IPv6";
/// `natOutgoing`.
pub const MASQUERADE: &str = "masquerade";

/// Tries every feature. Nothing of the host's own namespace is touched; modules may get loaded.
///
/// # Errors
/// When there can be no namespace to try them in.
pub fn features() -> Result<Vec<Feature>, Error> {
    let lost = |text: String| Error::Reply {
        operation: "try",
        object: "the kernel's features".to_owned(),
        message: text,
    };
    // The namespace ends with its only thread.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("features".to_owned());
        let thread = thread.spawn_scoped(scope, try_all);
        let joined = thread.map_err(|e| lost(e.to_string()))?.join();
        joined.map_err(|_| lost("its thread panicked".to_owned()))?
    })
}

fn try_all() -> Result<Vec<Feature>, Error> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|e| Refusal::from(e).during("make", "a network namespace"))?;
    let mut kernel = Netlink::open([])?;
    let found = kernel.observe()?;
    let mut features = vec![(VETH, veth())];
    let mut named = Vec::new();
    let mut ops = Vec::new();
    if let Some(lo) = found.links.values().next().map(|l| l.name) {
        for (name, device, local) in [
            (VXLAN_V4, marks::VXLAN_V4, IpAddr::V4(Ipv4Addr::LOCALHOST)),
            (VXLAN_V6, marks::VXLAN_V6, IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ] {
            if let Ok(device) = device.parse() {
                named.push(name);
                ops.push(vxlan(device, lo, local));
            }
        }
    }
    if let Some(dst) = Cidr::containing(IpAddr::V6(marks::GATEWAY_V6), 128) {
        named.push(IPV6);
        ops.push(blackhole(dst));
    }
    named.push(MASQUERADE);
    let all = Cidr::host(IpAddr::V4(marks::GATEWAY_V4));
    ops.push(Op::SetNat(Nat {
        sources: BTreeSet::from([all]),
        exempt: BTreeSet::from([all]),
    }));
    features.extend(named.into_iter().zip(kernel.apply(&ops)));
    Ok(features)
}

fn veth() -> Result<(), Error> {
    let link = |name: &str| {
        let parsed: Result<LinkName, _> = name.parse();
        parsed.map_err(|_| Refusal::errno(libc::EINVAL).during("name", name.to_owned()))
    };
    let here = "/proc/thread-self/ns/net";
    let namespace = File::open(here).map_err(|e| Refusal::from(e).during("open", here))?;
    let wanted = WorkloadAttach {
        netns: here.to_owned(),
        container_ifname: link("far")?,
        host_ifname: link("near")?,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        host_mac: marks::GATEWAY_MAC,
        mtu: 1500,
        ips: Vec::new(),
    };
    let mut socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE)
        .map_err(|e| e.during("open", "rtnetlink"))?;
    let (message, flags) = encode::create_veth(&wanted, namespace.as_raw_fd());
    let answer = socket.send(&mut Batch::of(&message, flags)).pop();
    answer
        .unwrap_or(Ok(()))
        .map_err(|e| e.during("create", "a veth link"))
}

fn vxlan(name: LinkName, parent: LinkName, local: IpAddr) -> Op {
    let settings = VxlanSettings {
        vni: marks::DEFAULT_VNI,
        port: marks::DEFAULT_VXLAN_PORT,
        local,
        learning: false,
    };
    Op::CreateVxlan(Vxlan {
        name,
        settings,
        parent,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1400,
    })
}

fn blackhole(dst: Cidr) -> Op {
    let key = RouteKey {
        table: describe::TABLE_MAIN,
        dst,
        metric: 1024,
    };
    let route = Route {
        protocol: marks::ROUTE_PROTOCOL,
        target: RouteTarget::Blackhole,
        src: None,
        mtu: None,
    };
    Op::AddRoute(key, route)
}
