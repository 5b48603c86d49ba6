//! Interfaces that are cut off: as nft(8) sees it, as packets meet it, and edited by hand.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use model::kernel::LinkName;
use netlink::Cutoff;
use netlink::testing::{Netns, sh};

fn names(names: &[&str]) -> BTreeSet<LinkName> {
    names.iter().map(|n| n.parse().unwrap()).collect()
}

#[test]
fn nft_lists_it_as_documented() {
    Netns::new().run(|| {
        let mut cutoff = Cutoff::open();
        assert_eq!(cutoff.observe(), Ok(None));
        assert_eq!(cutoff.set(&names(&[])), Ok(()));
        let wanted = names(&["rtd0123456789ab", "tap-of-a-vm"]);
        assert_eq!(cutoff.set(&wanted), Ok(()));
        let shown = sh("nft list table inet routerd_cutoff");
        let squeezed = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "set interfaces { type ifname elements = { \"",
            "chain from_workloads { type filter hook prerouting priority raw; policy accept; \
             iifname @interfaces counter packets 0 bytes 0 drop }",
            "chain to_workloads { type filter hook postrouting priority raw; policy accept; \
             oifname @interfaces counter packets 0 bytes 0 drop }",
        ] {
            assert!(squeezed.contains(part), "{part}\n{shown}");
        }
        for name in &wanted {
            assert!(squeezed.contains(&format!("\"{name}\"")), "{shown}");
        }
        assert_eq!(cutoff.observe(), Ok(Some(wanted)));
        // What nft(8) prints, nft(8) reads.
        sh("nft list table inet routerd_cutoff | sed 's/routerd_cutoff/copy/' | nft -f -");
        assert_eq!(cutoff.set(&names(&[])), Ok(()));
        assert_eq!(cutoff.observe(), Ok(None));
        assert!(sh("nft list tables").contains("inet copy"));
    });
}

#[test]
fn every_edit_by_hand_is_noticed() {
    Netns::new().run(|| {
        let mut cutoff = Cutoff::open();
        let wanted = names(&["rtd000000000001", "rtd000000000002"]);
        for (edit, found) in [
            (
                "nft delete element inet routerd_cutoff interfaces { rtd000000000002 }",
                Some(names(&["rtd000000000001"])),
            ),
            (
                "nft flush set inet routerd_cutoff interfaces",
                Some(names(&[])),
            ),
            (
                "nft flush chain inet routerd_cutoff to_workloads",
                Some(names(&[])),
            ),
            (
                "nft insert rule inet routerd_cutoff from_workloads udp dport 53 accept",
                Some(names(&[])),
            ),
            ("nft 'add chain inet routerd_cutoff more'", Some(names(&[]))),
            ("nft flush ruleset", None),
        ] {
            assert_eq!(cutoff.set(&wanted), Ok(()), "before {edit}");
            sh(edit);
            assert_eq!(cutoff.observe(), Ok(found), "{edit}");
        }
    });
}

/// A host between a workload, another of its own, and the world.
struct Host {
    workload: Netns,
    local: Netns,
    host: Netns,
    world: Netns,
}

impl Host {
    fn new() -> Host {
        let [workload, local, host, world] = std::array::from_fn(|_| Netns::new());
        let ends = [(&workload, 1), (&local, 2), (&world, 3)];
        host.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        for (ns, n) in ends {
            host.sh(&format!(
                "ip link add rtd{n} type veth peer name eth0 netns {at}; ip link set rtd{n} up
                 ip addr add 10.0.{n}.1/24 dev rtd{n}; ip -6 addr add fd00:{n}::1/64 dev rtd{n} nodad",
                at = ns.path(),
            ));
            ns.sh(&format!(
                "ip link set lo up; ip link set eth0 up
                 ip addr add 10.0.{n}.2/24 dev eth0; ip -6 addr add fd00:{n}::2/64 dev eth0 nodad
                 ip route add default via 10.0.{n}.1; ip -6 route add default via fd00:{n}::1"
            ));
        }
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

    /// Everybody, with an address of each family.
    fn ends(&self) -> [(&Netns, [&'static str; 2]); 4] {
        [
            (&self.workload, ["10.0.1.2", "fd00:1::2"]),
            (&self.local, ["10.0.2.2", "fd00:2::2"]),
            (&self.world, ["10.0.3.2", "fd00:3::2"]),
            (&self.host, ["10.0.3.1", "fd00:3::1"]),
        ]
    }

    /// Whether datagrams pass between the workload and everybody else, both ways, and between the others.
    fn check(&self, workload_passes: bool) {
        let ends = self.ends();
        for (i, (from, sources)) in ends.iter().enumerate() {
            for (j, (to, addresses)) in ends.iter().enumerate().filter(|(j, _)| *j != i) {
                for (source, to_address) in sources.iter().zip(addresses) {
                    let wanted = workload_passes || (i != 0 && j != 0);
                    let way = format!("{source} to {to_address}");
                    assert_eq!(passes(from, to, to_address, wanted), wanted, "{way}");
                }
            }
        }
    }
}

/// Whether a datagram arrives; one that is not to arrive is not waited for as long.
fn passes(from: &Netns, to: &Netns, address: &str, expected: bool) -> bool {
    let any = if address.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let server = to.run(|| UdpSocket::bind(any).unwrap());
    let patience = if expected { 2000 } else { 50 };
    let patience = Duration::from_millis(patience);
    server.set_read_timeout(Some(patience)).unwrap();
    let port = server.local_addr().unwrap().port();
    let client = from.run(|| UdpSocket::bind(any).unwrap());
    // The host itself is told that it may not.
    let _ = client.send_to(b"hello", (address, port));
    server.recv_from(&mut [0; 16]).is_ok()
}

#[test]
fn nothing_passes_an_interface_that_is_cut_off_and_all_passes_others() {
    let host = Host::new();
    let mut cutoff = host.host.run(Cutoff::open);
    host.check(true);
    cutoff.set(&names(&["rtd1", "rtd9"])).unwrap();
    host.check(false);
    cutoff.set(&names(&["rtd9"])).unwrap();
    host.check(true);
}
