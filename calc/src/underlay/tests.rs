use super::*;

fn link(name: &str, kind: &str, addresses: &[&str]) -> Link {
    let kind = match kind {
        "loopback" => LinkKind::Loopback,
        "veth" => LinkKind::Veth,
        other => LinkKind::Other(other.to_owned()),
    };
    let address = |s: &&str| {
        let a: InterfaceAddress = s.parse().unwrap();
        Address {
            ip: a.ip,
            prefix: a.prefix,
        }
    };
    Link {
        name: name.parse().unwrap(),
        index: 1,
        mac: None,
        mtu: 1500,
        up: true,
        running: true,
        kind,
        addresses: addresses.iter().map(address).collect(),
    }
}

/// Chooses among links; `default` lists the interfaces with an IPv4 default route.
fn run(
    config: &Config,
    links: Vec<Link>,
    default: &[&str],
) -> Result<(Underlay, Vec<String>), Error> {
    let links = links.into_iter().map(|l| (l.name, l)).collect();
    let default_routes = default
        .iter()
        .map(|d| (Family::V4, d.parse().unwrap()))
        .collect();
    let host = Host {
        links: &links,
        default_routes: &default_routes,
    };
    choose(config, host)
}

/// The interface that `auto` takes for IPv4, and the lines.
fn auto_v4(links: Vec<Link>, default: &[&str]) -> (Option<String>, Vec<String>) {
    let (underlay, why) = run(&Config::default(), links, default).unwrap();
    (underlay.v4.map(|l| l.interface.to_string()), why)
}

fn v4(address: &str, interface: Option<&str>) -> Config {
    Config {
        ipv4: Choice::Address(address.parse().unwrap()),
        interface: interface.map(|i| i.parse().unwrap()),
        ..Config::default()
    }
}

#[test]
fn a_default_route_wins_over_the_sort() {
    let links = || {
        vec![
            link("lo", "loopback", &["127.0.0.1/8"]),
            link("br0", "bridge", &["192.0.2.1/24"]),
            link(
                "eth0",
                "",
                &["198.51.100.1/24", "2001:db8::1/64", "fe80::1/64"],
            ),
        ]
    };
    let (chosen, why) = auto_v4(links(), &["br0"]);
    assert_eq!(chosen.as_deref(), Some("br0"));
    assert_eq!(
        why,
        [
            "IPv4 underlay: 192.0.2.1/24 on br0: a bridge, has a default route, up",
            "IPv4 underlay: not eth0: only physical, up",
            "IPv6 underlay: 2001:db8::1/64 on eth0: physical, up",
        ]
    );
    assert_eq!(auto_v4(links(), &[]).0.as_deref(), Some("eth0"));
}

#[test]
fn ours_tunnels_containers_and_dead_links_are_passed_over_with_a_reason() {
    let mut down = link("eth9", "", &["192.0.2.9/24"]);
    down.up = false;
    let (chosen, why) = auto_v4(
        vec![
            link("docker0", "bridge", &["172.17.0.1/16"]),
            link("rtd.vxlan4", "vxlan", &["10.0.0.1/32"]),
            link("tailscale0", "tun", &["100.64.0.1/32"]),
            link("gre1", "gre", &["10.1.1.1/30"]),
            link("eth8", "", &["169.254.7.7/16"]),
            down,
        ],
        &["docker0"],
    );
    assert_eq!(chosen, None);
    for (name, reason) in [
        ("docker0", "named docker"),
        ("rtd.vxlan4", "ours"),
        ("tailscale0", "a tunnel"),
        ("gre1", "a tunnel"),
        ("eth9", "down"),
    ] {
        let line = format!("IPv4 underlay: not {name}: ");
        let found = why
            .iter()
            .any(|w| w.starts_with(&line) && w.contains(reason));
        assert!(found, "{name} {reason} not in {why:#?}");
    }
    assert!(why.contains(&"IPv4 underlay: none: no interface fits".to_owned()));
}

#[test]
fn carrier_first_then_the_sort_then_the_name() {
    let mut unplugged = link("eth0", "", &["192.0.2.1/24"]);
    unplugged.running = false;
    let links = vec![
        unplugged,
        link("veth1", "veth", &["192.0.2.2/24"]),
        link("eth2", "bond", &["192.0.2.3/24"]),
        link("eth1", "", &["192.0.2.4/24"]),
    ];
    assert_eq!(auto_v4(links, &["eth0"]).0.as_deref(), Some("eth1"));
}

#[test]
fn a_host_that_is_a_container_uses_its_veth() {
    let links = vec![
        link("eth0", "veth", &["192.0.2.2/24"]),
        link("rtd0123456789ab", "veth", &["10.0.0.1/32"]),
    ];
    assert_eq!(auto_v4(links, &[]).0.as_deref(), Some("eth0"));
}

#[test]
fn a_configured_interface_is_the_only_one_looked_at() {
    let config = Config {
        interface: Some("tun0".parse().unwrap()),
        ..Config::default()
    };
    let links = vec![
        link("eth0", "", &["192.0.2.1/24", "2001:db8::1/64"]),
        link("tun0", "tun", &["10.8.0.1/24"]),
    ];
    let (underlay, _) = run(&config, links.clone(), &["eth0"]).unwrap();
    assert_eq!(underlay.v4.unwrap().interface.as_str(), "tun0");
    assert_eq!(underlay.v6, None);

    let missing = Config {
        interface: Some("eth7".parse().unwrap()),
        ..Config::default()
    };
    assert_eq!(
        run(&missing, links, &[]).unwrap_err().to_string(),
        "underlay.interface: there is no interface eth7; write one of: eth0, tun0"
    );
}

#[test]
fn an_address_is_found_or_what_there_is_is_listed() {
    let links = || {
        vec![
            link("lo", "loopback", &["127.0.0.1/8", "203.0.113.1/32"]),
            link("eth0", "", &["192.0.2.1/24", "192.0.2.7/24"]),
            link("docker0", "bridge", &["172.17.0.1/16"]),
        ]
    };
    let chosen = |c: &Config| {
        let link = run(c, links(), &[]).unwrap().0.v4.unwrap();
        format!("{} {}", link.address, link.interface)
    };
    assert_eq!(chosen(&v4("192.0.2.7/24", None)), "192.0.2.7/24 eth0");
    assert_eq!(chosen(&v4("192.0.2.7", None)), "192.0.2.7/24 eth0");
    assert_eq!(chosen(&v4("192.0.2.7/25", None)), "192.0.2.7/25 eth0");
    assert_eq!(chosen(&v4("172.17.0.1", None)), "172.17.0.1/16 docker0");
    assert_eq!(
        chosen(&v4("203.0.113.1", Some("eth0"))),
        "203.0.113.1/32 eth0"
    );

    let error = |c: &Config| run(c, links(), &[]).unwrap_err().to_string();
    assert_eq!(
        error(&v4("192.0.2.8/24", None)),
        "underlay.ipv4: no interface has the address 192.0.2.8; write auto or one of: \
         172.17.0.1/16 (docker0), 192.0.2.1/24 (eth0), 192.0.2.7/24 (eth0)"
    );
    assert!(error(&v4("2001:db8::1/64", None)).contains("write it in underlay.ipv6"));
    assert!(error(&v4("203.0.113.1", None)).contains("set underlay.interface"));
}

#[test]
fn a_configured_address_on_a_dead_link_is_taken_and_said() {
    let mut eth0 = link("eth0", "", &["192.0.2.1/24"]);
    eth0.running = false;
    let (_, why) = run(&v4("192.0.2.1", None), vec![eth0], &[]).unwrap();
    assert_eq!(
        why[0],
        "IPv4 underlay: 192.0.2.1/24 on eth0, which is down: configured"
    );
}
