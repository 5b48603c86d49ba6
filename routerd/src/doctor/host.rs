//! The host under the daemon: kernel, privileges, clock, disk, switches.

use std::path::Path;
use std::time::{Duration, SystemTime};

use model::api::{DoctorCheck, Health};
use model::kernel::KernelState;
use model::snapshot::Snapshot;
use netlink::probe;

use super::{check, ok};

/// Clocks of nodes may differ by this much.
const SKEW: Duration = Duration::from_secs(10);

pub(super) fn kernel() -> DoctorCheck {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match kernel_version(release) {
        Some(version) if version >= (5, 10) => ok("kernel", release),
        Some(_) => check(
            "kernel",
            Health::Degraded,
            format!("{release} is older than 5.10"),
            "run Linux 5.10 or newer: older ones lack strict netlink dumps and are not tested",
        ),
        None => check(
            "kernel",
            Health::Degraded,
            format!("{release:?} is no version"),
            "",
        ),
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What the kernel can do, tried.
pub(super) async fn features() -> Vec<DoctorCheck> {
    const NAME: &str = "features";
    let tried = tokio::task::spawn_blocking(probe::features).await;
    let features = match tried {
        Ok(Ok(features)) => features,
        Ok(Err(e)) => {
            let fix = "run routerd with CAP_SYS_ADMIN: it enters the namespaces of workloads";
            return vec![check(NAME, Health::Failed, e.to_string(), fix)];
        }
        // The daemon is stopping.
        Err(_) => return Vec::new(),
    };
    let works = features.iter().filter(|(_, result)| result.is_ok());
    let works: Vec<&str> = works.map(|(name, _)| *name).collect();
    let mut checks = vec![ok(NAME, works.join(", "))];
    for (name, result) in &features {
        if let Err(e) = result {
            let message = format!("no {name}: {e}");
            checks.push(check(NAME, Health::Degraded, message, fix_of(name)));
        }
    }
    checks
}

fn fix_of(feature: &str) -> &'static str {
    match feature {
        probe::VETH => "load the module veth: workloads are attached by it",
        probe::VXLAN_V4 | probe::VXLAN_V6 => {
            "load the module vxlan, or set vxlanMode: Never in every IPPool"
        }
        probe::IPV6 => "boot without ipv6.disable=1, or use IPv4 pools only",
        probe::MASQUERADE => {
            "load the modules nf_tables, nft_chain_nat and nft_masq, or set natOutgoing: false in every IPPool"
        }
        _ => "",
    }
}

/// What the daemon needs to be allowed, by its number in `linux/capability.h`.
const CAPABILITIES: [(u32, &str); 3] = [
    (12, "CAP_NET_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
];

pub(super) fn privileges() -> DoctorCheck {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status);
    match missing.is_empty() {
        true => ok("privileges", "all that are needed"),
        false => check(
            "privileges",
            Health::Failed,
            format!("without {}", missing.join(", ")),
            "run routerd as root, with the CapabilityBoundingSet of the packaged unit",
        ),
    }
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let effective = line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok());
    let has = |bit: u32| effective.unwrap_or(0) & (1 << bit) != 0;
    let missing = CAPABILITIES.into_iter().filter(|(bit, _)| !has(*bit));
    missing.map(|(_, name)| name).collect()
}

/// The node that was created last, and when.
pub(super) fn newest_node(snapshot: &Snapshot) -> Option<(String, String)> {
    let created = snapshot.nodes.values().filter_map(|node| {
        let at = node.metadata.creation_timestamp.clone()?;
        Some((at, node.name().to_owned()))
    });
    created.max()
}

/// Every record of the mesh is older than now on a host with a clock that is right.
pub(super) fn clock(now: SystemTime, newest: Option<(String, String)>) -> DoctorCheck {
    // Before the first release.
    const FIRST_RELEASE: &str = "2026-01-01T00:00:00Z";
    let shown = crate::time::rfc3339(now);
    if shown.as_str() < FIRST_RELEASE {
        let fix = "set the clock: leases, certificates and cooldowns need it";
        return check("clock", Health::Failed, shown, fix);
    }
    // Of this form, later is greater.
    let latest = crate::time::rfc3339(now + SKEW);
    match newest.filter(|(at, _)| *at > latest) {
        None => ok("clock", shown),
        Some((at, node)) => check(
            "clock",
            Health::Degraded,
            format!("{shown}, but Node/{node} was created at {at}"),
            format!("set the clock here or on {node}: run an NTP client on every node"),
        ),
    }
}

pub(super) fn state_dir(path: &Path) -> DoctorCheck {
    const LEAST_FREE: u64 = 64 << 20;
    let name = "state_dir";
    match nix::sys::statvfs::statvfs(path) {
        Err(e) => check(
            name,
            Health::Failed,
            format!("{}: {e}", path.display()),
            "make the directory readable",
        ),
        Ok(fs) => {
            let free = fs.blocks_available().saturating_mul(fs.fragment_size());
            let message = format!("{}: {} MiB free", path.display(), free >> 20);
            match free < LEAST_FREE {
                true => check(
                    name,
                    Health::Degraded,
                    message,
                    "free some space: the store needs it to write",
                ),
                false => ok(name, message),
            }
        }
    }
}

/// The host's switches are as this node needs them; those of interfaces are the reconciler's to tell.
pub(super) fn switches(wanted: &KernelState) -> DoctorCheck {
    let global = wanted.sysctls.iter().filter(|(path, _)| is_global(path));
    let mut seen = 0;
    let off: Vec<String> = global
        .filter_map(|(path, value)| {
            seen += 1;
            let found = std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
            let found = found.trim();
            (found != value).then(|| format!("{path} is {found}, not {value}"))
        })
        .collect();
    match off.is_empty() {
        true => ok("forwarding", format!("{seen} switches as needed")),
        false => check(
            "forwarding",
            Health::Failed,
            off.join("; "),
            "routerd sets it; find what sets it back (sysctl.d, a firewall)",
        ),
    }
}

fn is_global(path: &str) -> bool {
    matches!(path, "net/ipv4/ip_forward" | "net/ipv6/conf/all/forwarding")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read_from_release_names() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("5.10.0-28-cloud-amd64"), Some((5, 10)));
        assert_eq!(kernel_version("nonsense"), None);
    }

    #[test]
    fn missing_privileges_are_named() {
        let all = "Name:\trouterd\nCapEff:\t000001ffffffffff\n";
        assert!(missing_capabilities(all).is_empty());
        let net = format!("CapEff:\t{:016x}\n", 1u64 << 12);
        assert_eq!(
            missing_capabilities(&net),
            ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]
        );
        assert_eq!(missing_capabilities("").len(), 3);
    }

    #[test]
    fn a_clock_behind_the_mesh_is_noticed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let made = |secs| {
            let at = crate::time::rfc3339(now + Duration::from_secs(secs));
            Some((at, "n2".to_owned()))
        };
        assert_eq!(clock(now, made(0)).state, Health::Ok);
        assert_eq!(clock(now, made(9)).state, Health::Ok);
        let behind = clock(now, made(3600));
        assert_eq!(behind.state, Health::Degraded);
        assert!(behind.message.contains("Node/n2") && behind.fix.contains("NTP"));
        assert_eq!(clock(SystemTime::UNIX_EPOCH, None).state, Health::Failed);
    }
}
