//! The cluster of the truth table: who is in it, and who talks to whom.

use std::net::IpAddr;

use crate::evaluator::{Attempt, Cluster, Labels, Pod};

/// Who belongs to nobody.
pub(crate) const STRANGERS: [&str; 5] = [
    "203.0.113.7",
    "203.0.113.77",
    "198.51.100.9",
    "2001:db8::7",
    "2001:db8:ff::9",
];
pub(crate) const PROTOCOLS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];
/// Those that pods have by name, and both sides of what rules name.
pub(crate) const PORTS: [u16; 14] = [
    1, 53, 79, 80, 81, 443, 3868, 5432, 8000, 8080, 9090, 32767, 32768, 65535,
];

fn labels(text: &str) -> Labels {
    let pairs = text.split_whitespace().filter_map(|p| p.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn pod(
    [namespace, name]: [&'static str; 2],
    of: &str,
    addresses: [&str; 2],
    ports: &[(&'static str, &'static str, u16)],
) -> Pod {
    let address = |text: &str| text.parse().expect("an address");
    Pod {
        namespace,
        name,
        labels: labels(of),
        addresses: addresses.map(address),
        ports: ports.to_vec(),
    }
}

/// Labels that meet across namespaces, names of ports that mean other numbers elsewhere, and pods with neither.
pub(crate) fn cluster() -> Cluster {
    let http = |port| ("http", "TCP", port);
    let pods = vec![
        pod(
            ["shop", "web"],
            "app=web tier=front",
            ["10.0.1.1", "fd00:1::1"],
            &[http(80), ("metrics", "TCP", 9090)],
        ),
        pod(
            ["shop", "api"],
            "app=api tier=back",
            ["10.0.1.2", "fd00:1::2"],
            &[http(8080), ("dns", "UDP", 53), ("dns-tcp", "TCP", 53)],
        ),
        pod(
            ["shop", "db"],
            "app=db tier=back role=primary",
            ["10.0.1.3", "fd00:1::3"],
            &[("sql", "TCP", 5432), ("diameter", "SCTP", 3868)],
        ),
        pod(["shop", "plain"], "", ["10.0.1.4", "fd00:1::4"], &[]),
        pod(
            ["lab", "web"],
            "app=web tier=front",
            ["10.0.2.1", "fd00:2::1"],
            &[http(8000), ("metrics", "UDP", 9090)],
        ),
        pod(
            ["lab", "client"],
            "app=client access=true",
            ["10.0.2.2", "fd00:2::2"],
            &[],
        ),
        pod(
            ["bare", "web"],
            "app=web",
            ["10.0.3.1", "fd00:3::1"],
            &[http(80)],
        ),
        pod(
            ["bare", "client"],
            "app=client tier=front",
            ["10.0.3.2", "fd00:3::2"],
            &[],
        ),
    ];
    // `bare` has what every namespace has, and no object of its own.
    let namespaces = [
        ("shop", "team=red env=prod"),
        ("lab", "team=blue env=dev"),
        ("bare", ""),
    ];
    let named = |(name, of): (&'static str, &str)| {
        let mut labels = labels(of);
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        (name, labels)
    };
    Cluster {
        namespaces: namespaces.into_iter().map(named).collect(),
        pods,
    }
}

/// Every pair of ends, of which one is a pod at least, by protocol and port.
pub(crate) fn attempts(cluster: &Cluster) -> Vec<Attempt> {
    let pods = cluster.pods.iter().flat_map(|p| p.addresses);
    let strangers = STRANGERS.iter().map(|s| s.parse().expect("an address"));
    let ends: Vec<IpAddr> = pods.chain(strangers).collect();
    let mut attempts = Vec::new();
    for &source in &ends {
        for &destination in &ends {
            let [one, other] =
                [source, destination].map(|a| cluster.pod_at(a).map(|p| (p.namespace, p.name)));
            if source.is_ipv4() != destination.is_ipv4() || one == other {
                continue;
            }
            for (protocol, _) in PROTOCOLS {
                attempts.extend(PORTS.iter().map(|&port| Attempt {
                    source,
                    destination,
                    protocol,
                    port,
                }));
            }
        }
    }
    attempts
}
