//! Masquerade: as nft(8) sees it, as packets meet it, and edited by hand.

use model::kernel::{KernelState, Nat, Op};
use netlink::testing::{Netns, sh};
use netlink::{Kernel, Netlink, nat, plan};

fn nat(sources: &[&str], exempt: &[&str]) -> Nat {
    let set = |v: &[&str]| v.iter().map(|c| c.parse().unwrap()).collect();
    Nat {
        sources: set(sources),
        exempt: set(exempt),
    }
}

fn set(k: &mut Netlink, nat: &Nat) {
    assert_eq!(k.apply(&[Op::SetNat(nat.clone())]), [Ok(())]);
}

#[test]
fn nft_lists_the_table_as_documented() {
    Netns::new().run(|| {
        let mut k = Netlink::open([]).unwrap();
        assert_eq!(k.observe().unwrap().ours.nat, None);
        let wanted = nat(
            &[
                "10.0.0.0/16",
                "10.1.0.0/16",
                "255.255.255.254/31",
                "fd00::/48",
            ],
            &["10.0.0.0/8", "fd00::/40", "ffff::/16"],
        );
        set(&mut k, &wanted);
        let shown = sh("nft list table inet routerd");
        let squeezed = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "set sources4 { type ipv4_addr flags interval elements = { 10.0.0.0/15, \
             255.255.255.254/31 } }",
            "set exempt4 { type ipv4_addr flags interval elements = { 10.0.0.0/8, \
             169.254.0.0/16, 224.0.0.0/3 } }",
            "set sources6 { type ipv6_addr flags interval elements = { fd00::/48 } }",
            "type nat hook postrouting priority srcnat; policy accept;",
            "ip saddr @sources4 ip daddr != @exempt4 counter packets 0 bytes 0 masquerade",
            "ip6 saddr @sources6 ip6 daddr != @exempt6 counter packets 0 bytes 0 masquerade",
        ] {
            assert!(squeezed.contains(part), "{part}\n{shown}");
        }
        assert_eq!(k.observe().unwrap().ours.nat, Some(nat::canonical(&wanted)));
        // What nft(8) prints, nft(8) reads.
        sh("nft list table inet routerd | sed 's/routerd/copy/' | nft -f -");
        assert_eq!(k.apply(&[Op::DeleteNat, Op::DeleteNat]), [Ok(()), Ok(())]);
        assert_eq!(k.observe().unwrap().ours.nat, None);
        assert!(sh("nft list tables").contains("inet copy"));
    });
}

#[test]
fn every_edit_by_hand_is_noticed_and_mended() {
    Netns::new().run(|| {
        let mut k = Netlink::open([]).unwrap();
        let wanted = nat(&["10.0.0.0/16", "fd00::/48"], &["10.0.0.0/8"]);
        let desired = KernelState {
            nat: Some(wanted.clone()),
            ..KernelState::default()
        };
        set(&mut k, &wanted);
        sh("nft add table ip admin; nft add chain ip admin c");
        for edit in [
            "nft add element inet routerd exempt4 { 192.0.2.0/24 }",
            "nft delete element inet routerd sources4 { 10.0.0.0/16 }",
            "nft flush set inet routerd sources6",
            "nft flush chain inet routerd postrouting",
            "nft add rule inet routerd postrouting counter",
            "nft insert rule inet routerd postrouting ip saddr 10.9.0.0/16 accept",
            "nft 'add set inet routerd more { type ipv4_addr; }'",
            "nft add chain inet routerd more",
            "nft 'add chain inet routerd postrouting { policy drop; }'",
            "nft delete table inet routerd; nft add table inet routerd",
            "nft delete table inet routerd",
        ] {
            sh(edit);
            let plan = plan(&desired, &k.observe().unwrap());
            assert_eq!(plan.ops, [Op::SetNat(wanted.clone())], "{edit}");
            assert_eq!(k.apply(&plan.ops), [Ok(())], "{edit}");
            let found = k.observe().unwrap();
            assert_eq!(found.ours.nat, Some(nat::canonical(&wanted)), "{edit}");
            assert!(netlink::plan(&desired, &found).ops.is_empty(), "{edit}");
        }
        assert!(sh("nft list table ip admin").contains("chain c"));
    });
}

#[test]
fn large_sets_are_one_transaction() {
    Netns::new().run(|| {
        let mut k = Netlink::open([]).unwrap();
        let cidr = |s: String| -> model::Cidr { s.parse().unwrap() };
        let every_other = |i: u32| cidr(format!("10.{}.{}.0/26", i >> 8, i & 255));
        let large = Nat {
            sources: (0..10_000).map(every_other).collect(),
            exempt: (0..5_000)
                .map(|i| cidr(format!("fd00:{i:x}::/48")))
                .collect(),
        };
        set(&mut k, &large);
        assert_eq!(k.observe().unwrap().ours.nat, Some(nat::canonical(&large)));
        set(&mut k, &nat(&["0.0.0.0/0", "::/0"], &[]));
        let all = nat::canonical(&nat(&["0.0.0.0/0", "::/0"], &[]));
        assert_eq!(k.observe().unwrap().ours.nat, Some(all));
    });
}

/// A workload behind a router: packets to a pool keep their source, others get the router's.
#[test]
fn packets_to_the_outside_get_the_routers_address() {
    let (workload, router, world) = (Netns::new(), Netns::new(), Netns::new());
    router.sh(&format!(
        "ip link add in type veth peer name eth0 netns {w}
         ip link add out type veth peer name eth0 netns {o}
         ip addr add 10.0.0.1/24 dev in; ip -6 addr add fd00::1/64 dev in nodad; ip link set in up
         ip addr add 192.0.2.1/24 dev out; ip -6 addr add 2001:db8::1/64 dev out nodad
         ip link set out up
         echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        w = workload.path(),
        o = world.path(),
    ));
    workload.sh("ip link set lo up; ip link set eth0 up
         ip addr add 10.0.0.2/24 dev eth0; ip -6 addr add fd00::2/64 dev eth0 nodad
         ip route add default via 10.0.0.1; ip -6 route add default via fd00::1");
    world.sh("ip link set lo up; ip link set eth0 up
         ip addr add 192.0.2.2/24 dev eth0; ip -6 addr add 2001:db8::2/64 dev eth0 nodad
         ip addr add 10.5.0.1/32 dev lo; ip -6 addr add fd05::1/128 dev lo nodad
         ip route add 10.0.0.0/24 via 192.0.2.1; ip -6 route add fd00::/64 via 2001:db8::1");
    router.sh("ip route add 10.5.0.0/24 via 192.0.2.2; ip -6 route add fd05::/64 via 2001:db8::2");
    for ns in [&workload, &router, &world] {
        ns.await_ready();
    }
    let pools = ["10.0.0.0/16", "10.5.0.0/16", "fd00::/16", "fd05::/16"];
    let wanted = nat(&pools[..], &pools[..]);
    router.run(|| set(&mut Netlink::open([]).unwrap(), &wanted));

    for (to, seen_as) in [
        ("192.0.2.2", "192.0.2.1"),
        ("10.5.0.1", "10.0.0.2"),
        ("2001:db8::2", "2001:db8::1"),
        ("fd05::1", "fd00::2"),
    ] {
        let bind = if to.contains(':') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let server = world.run(|| std::net::UdpSocket::bind(bind).unwrap());
        server
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let port = server.local_addr().unwrap().port();
        let client = workload.run(|| std::net::UdpSocket::bind(bind).unwrap());
        client.send_to(b"hello", (to, port)).unwrap();
        let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from.ip().to_string(), seen_as, "to {to}");
    }
    let counted = router.sh("nft list table inet routerd");
    assert_eq!(
        counted.matches("counter packets 1 ").count(),
        2,
        "{counted}"
    );
}
