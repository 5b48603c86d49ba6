//! What Calico's documentation shows policy by, in manifests of our own, and what becomes of packets by each.
//!
//! A line is a verdict, where a connection comes from, where it goes, protocol, and port or type of ICMP. Ends are
//! pods of `calico/cluster.yaml`, `host` or addresses; `6` behind a name is its IPv6 address. `staged` verdicts are those
//! that staged policies would give.

/// An example: what it is about, its manifest, its verdicts.
pub(crate) struct Example {
    pub(crate) name: &'static str,
    pub(crate) manifest: &'static str,
    pub(crate) verdicts: &'static [&'static str],
}

pub(crate) const CLUSTER: &str = include_str!("calico/cluster.yaml");

macro_rules! example {
    ($name:literal, $verdicts:expr) => {
        Example {
            name: $name,
            manifest: include_str!(concat!("calico/", $name, ".yaml")),
            verdicts: &$verdicts,
        }
    };
}

pub(crate) const EXAMPLES: [Example; 15] = [
    example!(
        "default-deny",
        [
            "allow production/frontend production/backend TCP 8080",
            "deny production/frontend production/backend TCP 8081",
            "deny production/frontend production/backend UDP 8080",
            "deny production/frontend production/database TCP 8080",
            "deny production/backend production/frontend TCP 8080",
            "deny staging/frontend production/backend TCP 8080",
            "deny 203.0.113.7 production/frontend TCP 443",
            "deny production/backend 203.0.113.7 TCP 443",
            "allow production/frontend6 production/backend6 TCP 8080",
            "deny production/frontend6 production/database6 TCP 8080",
            "allow staging/frontend staging/backend TCP 1",
            "allow staging/frontend 203.0.113.7 UDP 53",
        ]
    ),
    example!(
        "global-default-deny",
        [
            "deny production/frontend production/backend TCP 8080",
            "deny staging/frontend staging/backend TCP 8080",
            "allow production/frontend kube-system/dns UDP 53",
            "allow staging/backend6 kube-system/dns6 UDP 53",
            "deny production/frontend kube-system/dns TCP 53",
            "deny production/frontend kube-system/dns UDP 54",
            "deny production/frontend 203.0.113.7 UDP 53",
            "deny kube-system/dns production/frontend TCP 80",
            "allow kube-system/dns 203.0.113.7 UDP 53",
            "allow 203.0.113.7 kube-system/dns UDP 53",
        ]
    ),
    example!(
        "namespace-isolation",
        [
            "allow staging/frontend staging/backend TCP 80",
            "allow staging/frontend6 staging/backend6 SCTP 80",
            "deny production/frontend staging/backend TCP 80",
            "deny 203.0.113.7 staging/backend TCP 80",
            "deny staging/frontend production/backend TCP 80",
            "deny staging/frontend6 production/backend6 TCP 80",
            "allow production/frontend production/backend TCP 80",
            "allow kube-system/dns production/backend TCP 80",
            "allow 203.0.113.7 production/backend TCP 80",
            "allow staging/frontend kube-system/dns UDP 53",
        ]
    ),
    example!(
        "namespace-rules",
        [
            "allow staging/frontend production/backend TCP 8080",
            "deny staging/frontend production/backend TCP 80",
            "deny staging/backend production/backend TCP 8080",
            "deny production/frontend production/backend TCP 8080",
            "allow production/backend production/database TCP 6379",
            "deny staging/backend production/database TCP 6379",
            "deny production/backend production/database TCP 6380",
            "deny 203.0.113.7 production/database TCP 6379",
            "allow staging/backend6 production/frontend6 TCP 6379",
        ]
    ),
    example!(
        "basic-rules",
        [
            "allow production/frontend production/backend TCP 8080",
            "allow production/frontend production/backend TCP 9000",
            "allow 203.0.113.7 production/backend TCP 9010",
            "deny production/frontend production/backend TCP 9011",
            "deny production/database production/backend TCP 8080",
            "deny production/database production/backend UDP 8080",
            "allow production/frontend production/backend UDP 1024",
            "deny production/frontend production/backend UDP 1023",
            // In a namespace, what is not selected is looked for in the namespace.
            "deny 203.0.113.7 production/backend UDP 2000",
            "deny staging/frontend production/backend UDP 2000",
            "allow production/backend 203.0.113.7 TCP 443",
            "allow production/backend 203.0.113.7 SCTP 443",
            "deny production/backend kube-system/dns UDP 53",
        ]
    ),
    example!(
        "services",
        [
            "allow production/frontend production/backend TCP 8080",
            "deny production/frontend production/backend TCP 9000",
            "allow staging/frontend staging/backend TCP 9000",
            "deny staging/frontend staging/backend TCP 8080",
            "deny production/database production/backend TCP 8080",
            "allow production/backend production/database TCP 1",
            "deny production/frontend production/database TCP 1",
            "deny staging/backend production/database TCP 1",
        ]
    ),
    example!(
        "networks",
        [
            "allow 203.0.113.7 production/frontend TCP 443",
            "deny 203.0.113.65 production/frontend TCP 443",
            "deny 203.0.113.7 production/frontend TCP 80",
            "allow 198.51.100.255 production/frontend TCP 443",
            "deny 198.51.101.0 production/frontend TCP 443",
            "deny production/backend production/frontend TCP 443",
            "deny 2001:db8::1 production/frontend6 TCP 443",
            "deny production/backend 169.254.169.254 TCP 80",
            "allow production/backend 169.254.169.253 TCP 80",
            "deny production/backend 10.9.9.9 TCP 80",
            // A prefix makes a rule one of its IP version.
            "deny production/backend6 2001:db8::1 TCP 80",
        ]
    ),
    example!(
        "ping",
        [
            "allow production/frontend production/backend ICMP 8",
            "allow production/frontend6 production/backend6 ICMP 128",
            "deny production/frontend production/backend ICMP 13",
            "deny production/frontend staging/backend ICMP 8",
            "deny staging/frontend production/backend ICMP 8",
            "deny staging/frontend6 staging/backend6 ICMP 128",
            "allow 203.0.113.7 production/backend ICMP 8",
            "deny 203.0.113.7 staging/backend ICMP 8",
            "allow staging/frontend staging/backend TCP 80",
            "allow production/frontend 203.0.113.7 UDP 53",
        ]
    ),
    example!(
        "tiers",
        [
            "deny 203.0.113.7 production/frontend TCP 443",
            "deny production/frontend 203.0.113.7 TCP 443",
            "allow 203.0.113.7 kube-system/dns UDP 53",
            "allow production/backend production/database TCP 6379",
            "deny production/frontend production/database TCP 6379",
            "deny staging/backend production/database TCP 6379",
            "allow production/frontend production/backend TCP 80",
            "deny staging/backend production/backend TCP 80",
            "deny staging/frontend production/backend TCP 80",
            "allow production/backend kube-system/dns UDP 53",
            "deny production/backend kube-system/dns TCP 53",
            "allow production/frontend kube-system/dns TCP 53",
            "allow staging/frontend staging/backend TCP 1",
        ]
    ),
    example!(
        "host-bare",
        [
            "allow 203.0.113.7 host TCP 22",
            "allow 203.0.113.7 host TCP 6443",
            "deny 203.0.113.7 host TCP 443",
            "deny 203.0.113.7 host UDP 22",
            "deny 203.0.113.7 host ICMP 8",
            "allow host 203.0.113.7 UDP 53",
            "allow host 203.0.113.7 TCP 2379",
            "deny host 203.0.113.7 TCP 443",
            "deny host 203.0.113.7 TCP 22",
            "allow production/frontend production/backend TCP 80",
        ]
    ),
    example!(
        "host-policy",
        [
            // The port that operators mend by stays open, whatever a policy says.
            "allow 203.0.113.7 host TCP 22",
            "allow 198.51.100.1 host TCP 8443",
            "deny 203.0.113.7 host TCP 8443",
            "allow 203.0.113.7 host ICMP 8",
            "allow production/backend host TCP 9100",
            "allow staging/backend host TCP 9100",
            "deny production/frontend host TCP 9100",
            "allow host 198.51.100.1 TCP 443",
            "deny host 203.0.113.7 TCP 443",
            "allow host 203.0.113.7 UDP 67",
            "deny production/backend production/database TCP 6379",
            "deny 192.0.2.12 production/database TCP 6379",
            "allow 192.0.2.11 production/database TCP 6379",
        ]
    ),
    example!(
        "host-open",
        [
            "allow 203.0.113.7 host TCP 443",
            "allow host 203.0.113.7 UDP 123",
            "deny 203.0.113.7 production/frontend TCP 443",
            "deny production/frontend 203.0.113.7 TCP 443",
            "deny production/frontend production/backend TCP 443",
        ]
    ),
    example!(
        "deny-list",
        [
            "deny 203.0.113.7 production/frontend TCP 443",
            "deny production/frontend 203.0.113.7 TCP 443",
            "deny 198.51.100.9 staging/frontend TCP 443",
            "allow 198.51.100.8 staging/frontend TCP 443",
            "deny 2001:db8:bad::7 kube-system/dns6 UDP 53",
            "allow 2001:db8:ba::7 kube-system/dns6 UDP 53",
            "allow 192.0.2.1 production/backend TCP 8080",
            "deny 192.0.2.1 production/backend TCP 8081",
            "deny 192.0.2.16 production/backend TCP 8080",
            // Of both sets: the earlier tier decides.
            "deny 203.0.113.81 production/backend TCP 8080",
            "deny production/frontend production/backend TCP 8080",
            "allow 192.0.2.16 staging/backend TCP 8080",
        ]
    ),
    example!(
        "staged",
        [
            "allow production/frontend production/backend TCP 80",
            "staged deny production/frontend production/backend TCP 80",
            "allow 2001:db8::1 production/database6 UDP 80",
            "staged deny 2001:db8::1 production/database6 UDP 80",
            "allow production/frontend 203.0.113.7 TCP 80",
            "staged allow production/frontend 203.0.113.7 TCP 80",
            "allow staging/frontend staging/backend TCP 9000",
            "deny staging/frontend staging/backend TCP 80",
            "staged allow staging/frontend staging/backend TCP 80",
        ]
    ),
    example!(
        "service-account-of-another-namespace",
        [
            "allow staging/backend production/database TCP 6379",
            "deny production/backend production/database TCP 6379",
            "deny staging/frontend production/database TCP 6379",
        ]
    ),
];
