//! Links of workloads: made, made again, checked, unmade; and packets through them.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use model::kernel::Mac;
use model::{Family, marks};
use netlink::testing::{Netns, sh};
use netlink::workload::{
    self, Attached, PlainAttach, Prepared, WorkloadAttach, adopt_plain, check, detach,
    release_plain, unguarded,
};
use netlink::{Error, Kernel, Netlink};

use crate::universe::name;

const V4: &str = "10.0.0.5";
const V6: &str = "fd00::5";
/// See [`host`].
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn attach(w: &WorkloadAttach) -> Result<Attached, Error> {
    workload::attach(w, &unguarded)
}

fn prepare(w: &WorkloadAttach, families: &[Family]) -> Result<Option<Prepared>, Error> {
    workload::prepare(w, families, &unguarded)
}

fn finish(pair: Prepared, w: &WorkloadAttach) -> Result<Attached, Error> {
    workload::finish(pair, w, &unguarded)
}

#[test]
fn who_guards_a_link_sees_it_before_a_packet_can_pass_and_may_refuse_it() {
    let (host, ns) = (host(), Netns::new());
    let w = workload(&ns, "rtd00000000000f", &[V4]);
    host.run(|| {
        let is_up = |index: u32| {
            let links = Netlink::open([]).unwrap().observe().unwrap().links;
            let link = links.get(&name("rtd00000000000f")).unwrap();
            assert_eq!(link.index, index);
            link.up
        };
        let seen = std::rc::Rc::new(std::cell::Cell::new(0));
        let guard = |index: u32| -> workload::Ready {
            assert!(!is_up(index));
            let seen = seen.clone();
            Box::new(move || {
                assert!(!is_up(index));
                seen.set(index);
                Ok(())
            })
        };
        let attached = workload::attach(&w, &guard).unwrap();
        assert_eq!(seen.get(), attached.host_index);
        assert!(is_up(attached.host_index));
        detach(w.host_ifname).unwrap();
        let e = workload::attach(&w, &|_| Box::new(|| Err("no policy".to_owned())));
        let e = e.unwrap_err();
        assert!(e.to_string().contains("no policy"), "{e}");
        assert!(
            !Netlink::open([])
                .unwrap()
                .observe()
                .unwrap()
                .links
                .contains_key(&name("rtd00000000000f"))
        );
    });
}

fn workload(ns: &Netns, host: &str, ips: &[&str]) -> WorkloadAttach {
    WorkloadAttach {
        netns: ns.path(),
        container_ifname: name("eth0"),
        host_ifname: name(host),
        mac: Mac([0x02, 0, 0, 0, 0, 0x05]),
        host_mac: marks::GATEWAY_MAC,
        mtu: 1400,
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
    }
}

/// A host that forwards, with an address of its own for workloads to talk to.
fn host() -> Netns {
    let ns = Netns::new();
    ns.sh("ip link set lo up
        ip addr add 192.0.2.1/32 dev lo; ip -6 addr add 2001:db8::1/128 dev lo nodad
        echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    ns
}

/// One datagram there and back, to a server that `at` answers on. Panics when it does not come.
fn echo(from: &Netns, at: &Netns, server: IpAddr, client: IpAddr) {
    let server = at.run(|| UdpSocket::bind((server, 0)).unwrap());
    let client = from.run(|| UdpSocket::bind((client, 0)).unwrap());
    for socket in [&server, &client] {
        socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
    }
    let mut buffer = [0; 8];
    client
        .send_to(b"ping", server.local_addr().unwrap())
        .unwrap();
    let (_, source) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(source, client.local_addr().unwrap());
    server.send_to(b"pong", source).unwrap();
    client.recv_from(&mut buffer).unwrap();
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

#[test]
fn an_attached_workload_talks_at_once_in_both_families() {
    let (host, one, two) = (host(), Netns::new(), Netns::new());
    let first = workload(&one, "rtd00000000000a", &[V4, V6]);
    let second = WorkloadAttach {
        mac: Mac([2, 0, 0, 0, 0, 6]),
        ..workload(&two, "rtd00000000000b", &["10.0.0.6", "fd00::6"])
    };
    host.run(|| {
        assert!(attach(&first).unwrap().created);
        assert!(attach(&second).unwrap().created);
        assert_eq!(check(&first), Ok(()));
        assert_eq!(check(&second), Ok(()));
    });
    echo(&one, &host, HOST, ip(V4));
    echo(&one, &host, ip("2001:db8::1"), ip(V6));
    echo(&host, &one, ip(V4), HOST);
    echo(&host, &one, ip(V6), ip("2001:db8::1"));
    echo(&one, &two, ip("10.0.0.6"), ip(V4));
    echo(&one, &two, ip("fd00::6"), ip(V6));
    // Nobody had to ask where anybody is. (Workloads solicit routers, from a link-local address.)
    for ns in [&host, &one, &two] {
        let neighbours = ns
            .sh("ip neigh show nud all | grep -v -e NOARP -e PERMANENT -e ^fe80::ff:fe00 || true");
        assert_eq!(neighbours, "");
    }
    let link = one.sh("ip link show eth0");
    assert!(
        link.contains("mtu 1400") && link.contains("02:00:00:00:00:05"),
        "{link}"
    );
    assert!(!one.sh("ip -6 addr").contains("tentative"));
}

#[test]
fn a_workload_that_forgets_its_neighbours_finds_the_gateway_again() {
    let (host, ns) = (host(), Netns::new());
    let w = workload(&ns, "rtd00000000000a", &[V4, V6]);
    // Something for the host to answer for the gateway with: a way elsewhere.
    host.sh(
        "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
        ip route add default dev up0",
    );
    host.run(|| attach(&w)).unwrap();
    ns.sh(
        "ip neigh flush dev eth0 nud permanent; ip -6 neigh flush dev eth0 nud permanent
        ip neigh del 169.254.1.1 dev eth0 2>/dev/null || true
        ip neigh del fe80::1 dev eth0 2>/dev/null || true",
    );
    echo(&ns, &host, HOST, ip(V4));
    echo(&ns, &host, ip("2001:db8::1"), ip(V6));
}

#[test]
fn attaching_again_changes_nothing_and_mends_what_is_left_of_a_crash() {
    let (host, ns, other) = (host(), Netns::new(), Netns::new());
    let w = workload(&ns, "rtd00000000000a", &[V4, V6]);
    host.run(|| {
        let first = attach(&w).unwrap();
        let again = attach(&w).unwrap();
        assert_eq!((again.host_index, again.created), (first.host_index, false));

        // Half made: no routes.
        sh("ip route del 10.0.0.5");
        let mended = attach(&w).unwrap();
        assert!(mended.created);
        assert_eq!(check(&w), Ok(()));

        // Made for another namespace.
        let elsewhere = WorkloadAttach {
            netns: other.path(),
            ..w.clone()
        };
        assert!(attach(&elsewhere).unwrap().created);
        assert_eq!(check(&elsewhere), Ok(()));
        assert!(check(&w).is_err());
        assert!(attach(&w).unwrap().created);

        // Made with another address.
        let moved = WorkloadAttach {
            ips: vec!["10.0.0.9".parse().unwrap()],
            ..w.clone()
        };
        assert!(attach(&moved).unwrap().created);
        assert!(
            attach(&WorkloadAttach {
                ips: vec![],
                ..w.clone()
            })
            .unwrap()
            .created
        );

        // Unmade, twice.
        detach(w.host_ifname).unwrap();
        detach(w.host_ifname).unwrap();
        assert_eq!(
            Netlink::open([])
                .unwrap()
                .observe()
                .unwrap()
                .ours
                .workload_links
                .len(),
            0
        );
    });
    for ns in [&ns, &other] {
        assert_eq!(ns.sh("ip -o link | wc -l").trim(), "1");
    }
}

#[test]
fn a_prepared_pair_becomes_the_same_link() {
    let (host, ns) = (host(), Netns::new());
    let bare = workload(&ns, "rtd00000000000a", &[]);
    let w = workload(&ns, "rtd00000000000a", &[V4, V6]);
    let both = Family::ALL;
    host.run(|| {
        let pair = prepare(&bare, &both).unwrap().expect("there was none");
        assert!(prepare(&bare, &both).unwrap().is_none(), "there is one now");
        assert!(check(&w).is_err());
        assert!(finish(pair, &w).unwrap().created);
        assert_eq!(check(&w), Ok(()));
        assert!(!attach(&w).unwrap().created);
        assert!(
            prepare(&bare, &both).unwrap().is_none(),
            "one that is in use"
        );
        assert_eq!(check(&w), Ok(()));
        detach(w.host_ifname).unwrap();

        let pair = prepare(&bare, &both).unwrap().expect("it was detached");
        sh("ip route add 10.0.0.5/32 dev lo proto static");
        finish(pair, &w).unwrap_err();
    });
    assert!(!host.sh("ip -o link").contains("rtd"));
    assert!(!ns.sh("ip -o link").contains("eth0"));
}

#[test]
fn a_pair_prepared_for_other_families_is_made_anew() {
    let (host, ns) = (host(), Netns::new());
    let bare = workload(&ns, "rtd00000000000a", &[]);
    for (expected, ips) in [
        (&[Family::V4, Family::V6][..], &[V4][..]),
        (&[Family::V4], &[V4, V6]),
        (&[Family::V6], &[V4]),
    ] {
        let w = workload(&ns, "rtd00000000000a", ips);
        host.run(|| {
            let pair = prepare(&bare, expected).unwrap().expect("there was none");
            finish(pair, &w).unwrap();
            assert_eq!(check(&w), Ok(()), "{expected:?} {ips:?}");
        });
        let way_out = !ns.sh("ip -6 route show default").is_empty();
        assert_eq!(way_out, ips.contains(&V6), "{expected:?} {ips:?}");
        host.run(|| detach(w.host_ifname).unwrap());
    }
    let tight = WorkloadAttach { mtu: 1279, ..bare };
    host.run(|| {
        prepare(&tight, &Family::ALL).unwrap_err();
        prepare(&tight, &[Family::V4])
            .unwrap()
            .expect("IPv4 has room");
    });
}

#[test]
fn what_cannot_be_attached_leaves_nothing_behind() {
    let (host, ns) = (host(), Netns::new());
    let w = workload(&ns, "rtd00000000000a", &[V4, V6]);
    let clean = |what: &str| {
        assert!(!host.sh("ip -o link").contains("rtd"), "{what}");
        assert!(!ns.sh("ip -o link").contains("eth0"), "{what}");
    };
    host.run(|| {
        let gone = WorkloadAttach {
            netns: "/run/netns/no-such".to_owned(),
            ..w.clone()
        };
        assert_eq!(attach(&gone).unwrap_err().errno(), Some(libc::ENOENT));
        let file = WorkloadAttach {
            netns: "/etc/hostname".to_owned(),
            ..w.clone()
        };
        assert!(attach(&file).is_err());
        clean("no namespace");

        let own = WorkloadAttach {
            netns: "/proc/thread-self/ns/net".to_owned(),
            ..w.clone()
        };
        assert!(matches!(attach(&own), Err(Error::Invalid { .. })));
        let wide = WorkloadAttach {
            ips: vec!["10.0.0.0/24".parse().unwrap()],
            ..w.clone()
        };
        assert!(matches!(attach(&wide), Err(Error::Invalid { .. })));
        let small = WorkloadAttach {
            mtu: 1000,
            ..w.clone()
        };
        assert!(matches!(attach(&small), Err(Error::Invalid { .. })));
        clean("nonsense");

        sh("ip route add 10.0.0.5/32 dev lo proto static");
        let e = attach(&w).unwrap_err();
        assert!(
            e.to_string()
                .contains("a route with protocol 4 is in the way"),
            "{e}"
        );
        assert!(!e.is_retryable());
        clean("an alien route");
        assert!(sh("ip route").contains("10.0.0.5 dev lo proto static"));
        // One of ours, from when the address was on another node, gives way.
        sh("ip route del 10.0.0.5/32; ip route add blackhole 10.0.0.5/32 proto 82");
        attach(&w).unwrap();
        assert_eq!(check(&w), Ok(()));
        detach(w.host_ifname).unwrap();
    });
    clean("detached");
    ns.sh("ip link add eth0 type veth peer name other");
    let e = host.run(|| attach(&w)).unwrap_err();
    assert_eq!(e.errno(), Some(libc::EEXIST), "{e}");
    assert!(!host.sh("ip -o link").contains("rtd"));
}

#[test]
fn check_names_what_differs() {
    let (host, ns) = (host(), Netns::new());
    let w = workload(&ns, "rtd00000000000a", &[V4, V6]);
    for (where_, damage, object) in [
        (
            &host,
            "ip route del 10.0.0.5",
            "route 10.0.0.5/32 dev rtd00000000000a",
        ),
        (
            &host,
            "ip -6 route del fd00::5",
            "route fd00::5/128 dev rtd00000000000a metric 1024",
        ),
        (
            &host,
            "ip link set rtd00000000000a mtu 1399",
            "link rtd00000000000a",
        ),
        (
            &host,
            "ip neigh del 10.0.0.5 dev rtd00000000000a",
            "neighbour 10.0.0.5 lladdr 02:00:00:00:00:05 dev rtd00000000000a",
        ),
        (
            &host,
            "echo 0 > /proc/sys/net/ipv4/conf/rtd00000000000a/rp_filter",
            "sysctl net/ipv4/conf/rtd00000000000a/rp_filter",
        ),
        (
            &ns,
            "ip addr del 10.0.0.5/32 dev eth0",
            "address 10.0.0.5/32 dev eth0",
        ),
        (
            &ns,
            "ip route del default",
            "route 0.0.0.0/0 via 169.254.1.1 dev eth0 onlink",
        ),
        (&ns, "ip link del eth0", "link rtd00000000000a"),
    ] {
        host.run(|| attach(&w)).unwrap();
        where_.sh(damage);
        let found = host.run(|| check(&w)).unwrap_err();
        assert!(
            found.iter().any(|d| d.object == object),
            "{damage}: {found:?}"
        );
        assert!(host.run(|| attach(&w)).unwrap().created, "{damage}");
        assert_eq!(host.run(|| check(&w)), Ok(()), "{damage}");
    }
}

#[test]
fn ipv6_is_enabled_where_the_runtime_disabled_it() {
    let (host, ns) = (host(), Netns::new());
    ns.sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
        echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    let v4 = workload(&ns, "rtd00000000000a", &[V4]);
    host.run(|| attach(&v4)).unwrap();
    assert_eq!(
        ns.sh("cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6"),
        "1\n"
    );
    let both = workload(&ns, "rtd00000000000a", &[V4, V6]);
    host.run(|| attach(&both)).unwrap();
    echo(&ns, &host, ip("2001:db8::1"), ip(V6));
    echo(&ns, &ns, ip(V6), ip(V6));
}

#[test]
fn a_plain_interface_gets_the_hosts_part() {
    let (host, ns) = (host(), Netns::new());
    host.sh(&format!(
        "ip link add tap0 type veth peer name eth0 netns {}",
        ns.path()
    ));
    ns.sh("ip link set eth0 address 02:00:00:00:00:05 up
        ip addr add 10.0.0.5/32 dev eth0; ip -6 addr add fd00::5/128 dev eth0 nodad
        ip route add default dev eth0; ip -6 route add default via fe80::1 dev eth0");
    let p = PlainAttach {
        interface: name("tap0"),
        mac: Mac([2, 0, 0, 0, 0, 5]),
        ips: vec![V4.parse().unwrap(), V6.parse().unwrap()],
    };
    host.run(|| {
        let before = sh("ip route; ip -6 route; ip neigh");
        let index = adopt_plain(&p).unwrap();
        assert_eq!(adopt_plain(&p).unwrap(), index);
        let ours = Netlink::open([]).unwrap().observe().unwrap().ours;
        assert_eq!((ours.routes.len(), ours.neighbours.len()), (2, 2));
        echo(&ns, &host, ip("2001:db8::1"), ip(V6));
        echo(&host, &ns, ip(V4), HOST);
        release_plain(&p).unwrap();
        release_plain(&p).unwrap();
        let ours = Netlink::open([]).unwrap().observe().unwrap().ours;
        assert_eq!((ours.routes.len(), ours.neighbours.len()), (0, 0));
        assert!(!before.contains("tap0"));
        assert!(sh("ip link show tap0").contains("UP"));
        let gone = PlainAttach {
            interface: name("tap9"),
            ..p.clone()
        };
        assert_eq!(adopt_plain(&gone).unwrap_err().errno(), Some(libc::ENODEV));
        release_plain(&gone).unwrap();
    });
}

#[test]
fn many_at_once_each_with_its_first_packet() {
    let host = host();
    let spaces: Vec<Netns> = (0..32).map(|_| Netns::new()).collect();
    std::thread::scope(|s| {
        for (i, ns) in spaces.iter().enumerate() {
            let host = &host;
            s.spawn(move || {
                let ip = format!("10.0.1.{i}");
                let w = workload(ns, &format!("rtd{i:012x}"), &[&ip]);
                host.run(|| attach(&w)).unwrap();
                // From the workload's end, which is the first up: the last that the kernel activates.
                echo(ns, host, HOST, ip.parse().unwrap());
            });
        }
    });
    let ours = host.run(|| Netlink::open([]).unwrap().observe().unwrap().ours);
    assert_eq!((ours.workload_links.len(), ours.routes.len()), (32, 32));
}
