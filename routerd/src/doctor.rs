//! `routerctl doctor`: what is wrong on this host, and the fix.

use std::path::Path;
use std::time::Duration;

use model::api::{Doctor, DoctorCheck, Health};
use model::state::{Underlay, UnderlayLink};

use crate::services::Services;

/// An answer of the store slower than this is worth a look.
const SLOW_STORE: Duration = Duration::from_millis(50);
/// The smallest underlay MTU that still carries IPv6 inside VXLAN over IPv6 (RFC 8200: 1280).
const LEAST_UNDERLAY_MTU: u32 = 1350;

/// Looks at everything that is known to go wrong.
pub async fn examine(s: &Services) -> Doctor {
    let underlay = s
        .control
        .query(|_, underlay| underlay.clone())
        .await
        .unwrap_or_default();
    let mut checks = vec![kernel()];
    checks.extend(underlay_checks(&underlay));
    checks.push(clock());
    checks.push(store(s).await);
    checks.push(state_dir(&s.config.state_dir));
    checks.push(forwarding());
    checks.extend(status(s));
    Doctor { checks }
}

fn check(
    name: &str,
    state: Health,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> DoctorCheck {
    DoctorCheck {
        name: name.to_owned(),
        state,
        message: message.into(),
        fix: fix.into(),
    }
}

fn ok(name: &str, message: impl Into<String>) -> DoctorCheck {
    check(name, Health::Ok, message, "")
}

fn kernel() -> DoctorCheck {
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

fn underlay_checks(underlay: &Underlay) -> Vec<DoctorCheck> {
    if underlay.v4.is_none() && underlay.v6.is_none() {
        return vec![check(
            "underlay",
            Health::Failed,
            "this host has no address that other nodes could use",
            "give an interface an address, or set underlay.ipv4 or underlay.ipv6 in routerd.toml",
        )];
    }
    [&underlay.v4, &underlay.v6]
        .into_iter()
        .flatten()
        .map(underlay_link)
        .collect()
}

fn underlay_link(link: &UnderlayLink) -> DoctorCheck {
    let message = format!("{} on {}, MTU {}", link.address, link.interface, link.mtu);
    match link.mtu >= LEAST_UNDERLAY_MTU {
        true => ok("underlay", message),
        false => check(
            "underlay",
            Health::Degraded,
            message,
            format!(
                "raise the MTU of {} to {LEAST_UNDERLAY_MTU} or more: tunnels carry IPv6 only from there on",
                link.interface
            ),
        ),
    }
}

/// The build is older than now on every host with a clock that is right.
fn clock() -> DoctorCheck {
    // 2026-01-01, before the first release.
    const FIRST_RELEASE: u64 = 1_767_225_600_000;
    let now = crate::time::rfc3339(std::time::SystemTime::now());
    match crate::time::now_millis() >= FIRST_RELEASE {
        true => ok("clock", now),
        false => check(
            "clock",
            Health::Failed,
            now,
            "set the clock: leases, certificates and cooldowns need it",
        ),
    }
}

async fn store(s: &Services) -> DoctorCheck {
    match s.store.health().await {
        Err(e) => check(
            "datastore",
            Health::Failed,
            e.to_string(),
            "see datastore in routerd.toml, and that etcd runs",
        ),
        Ok(h) if !h.leader => check(
            "datastore",
            Health::Failed,
            format!("{}: no leader", h.endpoint),
            "bring back a majority of etcd's members",
        ),
        Ok(h) => {
            let message = format!(
                "{}: revision {}, {:.1} ms",
                h.endpoint,
                h.revision,
                h.latency.as_secs_f64() * 1e3
            );
            match h.latency > SLOW_STORE {
                true => check(
                    "datastore",
                    Health::Degraded,
                    message,
                    "look at etcd's disk and at the network to it",
                ),
                false => ok("datastore", message),
            }
        }
    }
}

fn state_dir(path: &Path) -> DoctorCheck {
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

fn forwarding() -> DoctorCheck {
    let switches = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
    let off: Vec<&str> = switches
        .into_iter()
        .filter(|path| {
            std::fs::read_to_string(Path::new("/proc/sys").join(path))
                .is_ok_and(|v| v.trim() == "0")
        })
        .collect();
    match off.is_empty() {
        true => ok("forwarding", "on"),
        false => check(
            "forwarding",
            Health::Failed,
            format!("{} off", off.join(", ")),
            "routerd turns it on; find what turns it off again (sysctl.d, a firewall)",
        ),
    }
}

/// What the running daemon knows of itself.
fn status(s: &Services) -> Vec<DoctorCheck> {
    let status = s.views.status();
    let subsystems = status
        .subsystems
        .into_iter()
        .filter(|s| s.state != Health::Ok)
        .map(|s| check(&s.name, s.state, s.message, "see `routerctl status`"));
    let rejected = status.rejected.into_iter().map(|r| {
        check(
            "stored objects",
            Health::Degraded,
            format!("{}/{}: {}", r.kind, r.name, r.message),
            format!(
                "apply it again, or `routerctl delete {} {}`",
                r.kind, r.name
            ),
        )
    });
    let problems = status.problems.into_iter().map(|p| {
        check(
            "mesh",
            Health::Degraded,
            format!("{}: {}", p.object, p.message),
            "",
        )
    });
    subsystems.chain(rejected).chain(problems).collect()
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
    fn a_host_without_an_address_is_told_the_fix() {
        let checks = underlay_checks(&Underlay::default());
        assert_eq!(checks[0].state, Health::Failed);
        assert!(checks[0].fix.contains("routerd.toml"));
    }
}
