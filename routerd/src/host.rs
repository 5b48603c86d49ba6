//! What of this host is read from `/proc`, and what `cleanup` needs to put back there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use model::kernel::{Link, LinkName};
use model::state::Underlay;
use model::{Family, marks};
use netlink::plan::sysctl_link;

use crate::reconcile;
use crate::state_dir::write_durably;

/// Beside the interfaces: what choosing an underlay needs.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Interfaces that a default route of a family leaves by.
    pub default_routes: BTreeSet<(Family, LinkName)>,
    /// Interfaces that take router advertisements.
    pub takes_ra: BTreeSet<LinkName>,
}

impl HostFacts {
    /// Reads them for this network namespace.
    pub fn read(links: &BTreeMap<LinkName, Link>) -> HostFacts {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let v4 = ipv4_defaults(&text("/proc/net/route"));
        let v6 = ipv6_defaults(&text("/proc/net/ipv6_route"));
        let takes_ra = |link: &&LinkName| {
            let conf = |name: &str| text(&format!("/proc/sys/net/ipv6/conf/{link}/{name}"));
            // No link of ours is an underlay, and there may be hundreds.
            !marks::is_our_link(link.as_str())
                && takes_ra(conf("accept_ra").trim(), conf("forwarding").trim())
        };
        HostFacts {
            default_routes: (v4.into_iter().map(|l| (Family::V4, l)))
                .chain(v6.into_iter().map(|l| (Family::V6, l)))
                .collect(),
            takes_ra: links.keys().filter(takes_ra).copied().collect(),
        }
    }

    /// Whether the IPv6 underlay's interface takes router advertisements.
    pub fn accepts_ra(&self, underlay: &Underlay) -> bool {
        underlay
            .v6
            .as_ref()
            .is_some_and(|l| self.takes_ra.contains(&l.interface))
    }
}

/// `accept_ra` 1 counts only where nothing is forwarded; 2 always (ip-sysctl).
fn takes_ra(accept_ra: &str, forwarding: &str) -> bool {
    accept_ra == "2" || (accept_ra == "1" && forwarding == "0")
}

/// `/proc/net/route`: interface, destination, gateway, flags, …, mask as the eighth column.
fn ipv4_defaults(table: &str) -> Vec<LinkName> {
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| match row.as_slice() {
        [link, "00000000", _, _, _, _, _, "00000000", ..] => link.parse().ok(),
        _ => None,
    })
    .collect()
}

/// `/proc/net/ipv6_route`: destination, its length, …, flags and interface last.
fn ipv6_defaults(table: &str) -> Vec<LinkName> {
    const RTF_REJECT: u32 = 0x200;
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| match row.as_slice() {
        [dst, "00", .., flags, link] if dst.bytes().all(|b| b == b'0') => {
            let flags = u32::from_str_radix(flags, 16).ok()?;
            (flags & RTF_REJECT == 0).then(|| link.parse().ok())?
        }
        _ => None,
    })
    .collect()
}

/// The reconciler's clock, its dice, and its memory of kernel switches.
pub struct ReconcileHost {
    start: Instant,
    switches: PathBuf,
    kept: BTreeMap<String, String>,
}

impl ReconcileHost {
    /// With what an earlier run has kept.
    pub fn new(switches: PathBuf) -> ReconcileHost {
        ReconcileHost {
            start: Instant::now(),
            kept: read_switches(&switches),
            switches,
        }
    }
}

impl reconcile::Host for ReconcileHost {
    fn now(&mut self) -> reconcile::Now {
        reconcile::Now {
            since_start: self.start.elapsed(),
            wall: SystemTime::now(),
        }
    }

    fn keep_switch(&mut self, path: &str, found: Option<&str>) {
        // The switches of our own links end with them.
        let ours = sysctl_link(path).is_some_and(|l| marks::is_our_link(l.as_str()));
        if ours || self.kept.contains_key(path) {
            return;
        }
        let read = || std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok();
        let Some(found) = found.map(str::to_owned).or_else(read) else {
            return;
        };
        self.kept.insert(path.to_owned(), found.trim().to_owned());
        let saved = serde_json::to_vec_pretty(&self.kept)
            .map_err(std::io::Error::from)
            .and_then(|json| write_durably(&self.switches, &json));
        if let Err(e) = saved {
            tracing::warn!(switch = path, error = %e, "its value before us was not saved; cleanup will not put it back");
        }
    }
}

/// Kernel switches as they were before us; none when nothing was kept.
pub fn read_switches(path: &Path) -> BTreeMap<String, String> {
    std::fs::read(path)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

/// Kernel switches that an earlier run may have set: those kept, and those of links of ours.
pub fn switches_set(kept: &Path) -> BTreeSet<String> {
    let links = std::fs::read_dir("/proc/sys/net/ipv4/conf");
    let of_links = (links.into_iter().flatten().flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|link| marks::is_our_link(link))
        .map(|link| format!("net/ipv4/conf/{link}/rp_filter"));
    read_switches(kept).into_keys().chain(of_links).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(links: &[LinkName]) -> Vec<&str> {
        links.iter().map(LinkName::as_str).collect()
    }

    #[test]
    fn default_routes_are_found_in_both_tables() {
        let v4 = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                  eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n\
                  eth1 0000000A 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
        assert_eq!(names(&ipv4_defaults(v4)), ["eth0"]);
        let zero = "00000000000000000000000000000000";
        let v6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n\
             fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 eth1\n"
        );
        assert_eq!(names(&ipv6_defaults(&v6)), ["eth0"]);
        assert!(ipv4_defaults("").is_empty() && ipv6_defaults("garbage\n").is_empty());
    }

    #[test]
    fn forwarding_ends_router_advertisements_unless_told_otherwise() {
        assert!(takes_ra("1", "0") && takes_ra("2", "1"));
        assert!(!takes_ra("1", "1") && !takes_ra("0", "0"));
    }
}
