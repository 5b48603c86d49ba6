//! The watch over what leaves in clear: as nft(8) sees it, as packets meet it, and edited by hand.

use model::kernel::{ClearText, Guard, KernelState, Op};
use netlink::testing::{Netns, sh};
use netlink::{Kernel, Netlink, nat, plan};

fn guard(pools: &[&str], inside: &[&str], drop: bool) -> Guard {
    Guard {
        pools: pools.iter().map(|c| c.parse().unwrap()).collect(),
        inside: inside.iter().map(|n| n.parse().unwrap()).collect(),
        drop,
    }
}

fn set(k: &mut Netlink, guard: &Guard) {
    assert_eq!(k.apply(&[Op::SetGuard(guard.clone())]), [Ok(())]);
}

#[test]
fn nft_lists_it_as_documented() {
    Netns::new().run(|| {
        let mut k = Netlink::open([]).unwrap();
        assert_eq!(
            (k.observe().unwrap().ours.guard, k.clear_text()),
            (None, Ok(None))
        );
        let pools = ["10.0.0.0/16", "10.1.0.0/16", "fd00::/48"];
        let wanted = guard(&pools, &["tap-of-a-vm", "vm2"], true);
        set(&mut k, &wanted);
        let shown = sh("nft list table inet routerd_guard");
        let squeezed = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "set pools4 { type ipv4_addr flags interval elements = { 10.0.0.0/15 } }",
            "set pools6 { type ipv6_addr flags interval elements = { fd00::/48 } }",
            "type filter hook postrouting priority mangle; policy accept;",
            "oifname \"rtd.wg\" accept",
            "oifname \"lo\" accept",
            "oifname \"rtd*\" oifname != \"rtd.*\" accept",
            "oifname @inside accept",
            "ip saddr @pools4 ip daddr @pools4 counter packets 0 bytes 0 drop",
            "ip6 saddr @pools6 ip6 daddr @pools6 counter packets 0 bytes 0 drop",
        ] {
            assert!(squeezed.contains(part), "{part}\n{shown}");
        }
        assert!(
            squeezed.contains("tap-of-a-vm") && squeezed.contains("vm2"),
            "{shown}"
        );
        let found = k.observe().unwrap().ours.guard;
        assert_eq!(found, Some(nat::canonical_guard(&wanted)));
        // What nft(8) prints, nft(8) reads.
        sh("nft list table inet routerd_guard | sed 's/routerd_guard/copy/' | nft -f -");
        assert_eq!(
            k.apply(&[Op::DeleteGuard, Op::DeleteGuard]),
            [Ok(()), Ok(())]
        );
        assert_eq!(k.observe().unwrap().ours.guard, None);
        assert!(sh("nft list tables").contains("inet copy"));
    });
}

#[test]
fn every_edit_by_hand_is_noticed_and_mended() {
    Netns::new().run(|| {
        let mut k = Netlink::open([]).unwrap();
        let wanted = guard(&["10.0.0.0/16", "fd00::/48"], &["vm1"], true);
        let desired = KernelState {
            guard: Some(wanted.clone()),
            ..KernelState::default()
        };
        set(&mut k, &wanted);
        for edit in [
            "nft add element inet routerd_guard inside { eth0 }",
            "nft delete element inet routerd_guard inside { vm1 }",
            "nft delete element inet routerd_guard pools4 { 10.0.0.0/16 }",
            "nft flush chain inet routerd_guard clear_text",
            "nft insert rule inet routerd_guard clear_text ip saddr 10.0.9.0/24 accept",
            "nft insert rule inet routerd_guard clear_text accept",
            "nft delete rule inet routerd_guard clear_text handle 9",
            "nft 'add chain inet routerd_guard more'",
            "nft delete table inet routerd_guard",
        ] {
            sh(edit);
            let plan = plan(&desired, &k.observe().unwrap());
            assert_eq!(plan.ops, [Op::SetGuard(wanted.clone())], "{edit}");
            assert_eq!(k.apply(&plan.ops), [Ok(())], "{edit}");
            let found = k.observe().unwrap();
            assert!(netlink::plan(&desired, &found).ops.is_empty(), "{edit}");
        }
    });
}

/// A host between a workload, another workload of its own, and the world.
struct Host {
    workload: Netns,
    local: Netns,
    host: Netns,
    world: Netns,
}

impl Host {
    fn new() -> Host {
        let [workload, local, host, world] = std::array::from_fn(|_| Netns::new());
        host.sh(&format!(
            "ip link add rtd000000000001 type veth peer name eth0 netns {a}
             ip link add rtd000000000002 type veth peer name eth0 netns {b}
             ip link add eth0 type veth peer name eth0 netns {c}
             for l in rtd000000000001 rtd000000000002 eth0; do ip link set $l up; done
             ip addr add 192.0.2.1/24 dev eth0; ip -6 addr add 2001:db8::1/64 dev eth0 nodad
             ip -6 addr add fe80::1/64 dev rtd000000000001 nodad
             ip -6 addr add fe80::1/64 dev rtd000000000002 nodad
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             for l in rtd000000000001 rtd000000000002; do echo 1 > /proc/sys/net/ipv4/conf/$l/proxy_arp; echo 0 > /proc/sys/net/ipv4/neigh/$l/proxy_delay; done
             ip route add 10.0.0.1 dev rtd000000000001; ip -6 route add fd00::1 dev rtd000000000001
             ip route add 10.0.0.2 dev rtd000000000002; ip -6 route add fd00::2 dev rtd000000000002
             ip route add 10.0.0.0/16 via 192.0.2.2; ip -6 route add fd00::/48 via 2001:db8::2",
            a = workload.path(),
            b = local.path(),
            c = world.path(),
        ));
        for (ns, n) in [(&workload, 1), (&local, 2)] {
            ns.sh(&format!(
                "ip link set lo up; ip link set eth0 up
                 ip addr add 10.0.0.{n}/32 dev eth0; ip -6 addr add fd00::{n}/128 dev eth0 nodad
                 ip route add default dev eth0; ip -6 route add default via fe80::1 dev eth0"
            ));
        }
        world.sh("ip link set lo up; ip link set eth0 up
             ip addr add 192.0.2.2/24 dev eth0; ip -6 addr add 2001:db8::2/64 dev eth0 nodad
             ip addr add 10.0.7.1/32 dev lo; ip -6 addr add fd00::7:1/128 dev lo nodad
             ip route add 10.0.0.0/24 via 192.0.2.1; ip -6 route add fd00::/112 via 2001:db8::1");
        for ns in [&workload, &local, &host, &world] {
            ns.await_ready();
        }
        Host {
            workload,
            local,
            host,
            world,
        }
    }

    /// Whether a packet of 100 bytes arrives.
    fn passes(&self, to: &str) -> bool {
        let at = match to {
            "10.0.0.2" | "fd00::2" => &self.local,
            _ => &self.world,
        };
        let bind = if to.contains(':') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let server = at.run(|| std::net::UdpSocket::bind(bind).unwrap());
        let wait = std::time::Duration::from_secs(1);
        server.set_read_timeout(Some(wait)).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = self
            .workload
            .run(|| std::net::UdpSocket::bind(bind).unwrap());
        client.send_to(&[0; 100], (to, port)).unwrap();
        server.recv_from(&mut [0; 200]).is_ok()
    }
}

#[test]
fn what_leaves_in_clear_is_counted_and_dropped_where_it_must_not() {
    let h = Host::new();
    let mut k = h.host.run(|| Netlink::open([]).unwrap());
    let mut pools = vec!["10.0.0.0/16", "fd00::/48"];
    set(&mut k, &guard(&pools, &[], false));
    // To the outside, and between workloads of this host.
    for to in ["192.0.2.2", "2001:db8::2", "10.0.0.2", "fd00::2"] {
        assert!(h.passes(to), "{to}");
    }
    let clear = |k: &mut Netlink| k.clear_text().unwrap().unwrap();
    assert_eq!(clear(&mut k), ClearText::default());
    // To the pool, elsewhere.
    assert!(h.passes("10.0.7.1") && h.passes("fd00::7:1"));
    let left = 100 + 8 + 20 + 100 + 8 + 40;
    assert_eq!(clear(&mut k), ClearText { left, dropped: 0 });
    // Another pool does not make it forget.
    pools.push("10.9.0.0/16");
    set(&mut k, &guard(&pools, &[], false));
    assert_eq!(clear(&mut k).left, left);

    set(&mut k, &guard(&pools, &[], true));
    assert_eq!(clear(&mut k), ClearText::default());
    assert!(!h.passes("10.0.7.1") && !h.passes("fd00::7:1"));
    assert_eq!(
        clear(&mut k),
        ClearText {
            left: 0,
            dropped: left
        }
    );
    for to in ["192.0.2.2", "2001:db8::2", "10.0.0.2", "fd00::2"] {
        assert!(h.passes(to), "{to}");
    }
    // An interface of a workload that has a name of its own.
    set(&mut k, &guard(&pools, &["eth0"], true));
    assert!(h.passes("10.0.7.1") && h.passes("fd00::7:1"));
    assert_eq!(clear(&mut k).dropped, left);
}
