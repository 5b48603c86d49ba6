//! Names that are computed, never chosen: the same on every node and after every restart.

use sha2::{Digest, Sha256};

use crate::kernel::{LinkName, Mac};
use crate::validate::is_name;
use crate::{Family, marks};

/// Longest name of a resource, bytes.
const MAX_NAME: usize = 253;
/// Hexadecimal digits that keep a shortened name unique.
const SUFFIX: usize = 16;

/// Name of a workload's endpoint, as Calico builds it: the parts joined by dashes, their own dashes
/// doubled so that no two workloads share a name.
///
/// Where the parts would make no valid name (upper case, too long) the rest is replaced by a digest.
pub fn endpoint_name(node: &str, orchestrator: &str, workload: &str, endpoint: &str) -> String {
    let parts = [node, orchestrator, workload, endpoint];
    let name = parts.map(|p| p.replace('-', "--")).join("-");
    if is_name(&name) {
        return name;
    }
    let digest = hex(&digest(&parts), SUFFIX);
    let safe = name.to_ascii_lowercase();
    let safe: String = safe
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    let cut = safe.get(..MAX_NAME - SUFFIX - 1).unwrap_or(&safe);
    match cut.trim_matches('-') {
        "" => digest,
        readable => format!("{readable}-{digest}"),
    }
}

/// Host side of a workload's link: [`marks::WORKLOAD_PREFIX`] and twelve hexadecimal digits.
pub fn host_interface(namespace: &str, name: &str) -> LinkName {
    // A namespace has no dot, so the pair reads back in one way only.
    let digest = Sha256::digest(format!("{namespace}.{name}"));
    let text = marks::WORKLOAD_PREFIX.to_owned() + &hex(&digest, 12);
    let mut bytes = [b'0'; 15];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    LinkName::full(bytes)
}

/// MAC address of a node's VXLAN device over the underlay of a family: locally administered,
/// unicast, and never to be asked for on the wire.
pub fn vtep_mac(node: &str, family: Family) -> Mac {
    let tag = match family {
        Family::V4 => "vtep4",
        Family::V6 => "vtep6",
    };
    mac(&[tag, node])
}

/// MAC address inside a workload, by the handle of its attachment: asked for again, it is the same.
pub fn workload_mac(handle: &str) -> Mac {
    mac(&["workload", handle])
}

/// Locally administered, unicast.
fn mac(parts: &[&str]) -> Mac {
    let mut mac = [0; 6];
    for (to, from) in mac.iter_mut().zip(digest(parts)) {
        *to = from;
    }
    mac[0] = mac[0] & 0xfc | 0x02;
    Mac(mac)
}

/// Digest of several texts; their borders count.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part.len().to_be_bytes());
        sha.update(part);
    }
    sha.finalize().into()
}

fn hex(bytes: &[u8], digits: usize) -> String {
    let all: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    all.chars().take(digits).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn endpoints_are_named_as_calico_does() {
        assert_eq!(
            endpoint_name("rack1-a", "k8s", "web-7d9", "eth0"),
            "rack1--a-k8s-web--7d9-eth0"
        );
        assert_eq!(endpoint_name("n", "cni", "c", "eth0"), "n-cni-c-eth0");
        // The doubled dash keeps these apart.
        assert_ne!(
            endpoint_name("a-b", "c", "d", "e"),
            endpoint_name("a", "b-c", "d", "e")
        );
    }

    #[test]
    fn every_name_is_valid_and_its_own() {
        let long = "x".repeat(300);
        let workloads = [
            "", "-", "Web", "web", "a_b", "a.b", "../..", "é", &long, "x\0",
        ];
        let endpoints = ["eth0", "Net_1", "-"];
        let mut names = HashSet::new();
        for w in workloads {
            for e in endpoints {
                let name = endpoint_name("rack1-a", "cni", w, e);
                assert!(is_name(&name), "{name}");
                assert!(names.insert(name));
            }
        }
        assert!(is_name(&endpoint_name("", "", "", "")));
    }

    #[test]
    fn host_interfaces_carry_our_mark() {
        let link = host_interface("default", "web");
        assert_eq!(link.as_str(), "rtd50f2467a4ed5");
        assert!(marks::is_our_link(link.as_str()));
        assert_ne!(link, host_interface("default", "web2"));
    }

    #[test]
    fn vtep_macs_are_local_unicast() {
        let mut seen = HashSet::new();
        for i in 0..1000 {
            for family in Family::ALL {
                let mac = vtep_mac(&format!("node-{i}"), family);
                assert_eq!(mac.0[0] & 3, 2, "{mac}");
                assert!(seen.insert(mac));
            }
        }
        assert_eq!(vtep_mac("a", Family::V4), vtep_mac("a", Family::V4));
    }
}
