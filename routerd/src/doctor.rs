//! `routerctl doctor`: what is wrong on this host, and the fix.

mod bgp;
mod host;
mod policy;

use std::time::{Duration, SystemTime};

use model::api::{Doctor, DoctorCheck, Health};
use model::state::{Underlay, UnderlayLink};

use crate::services::Services;

/// An answer of the store slower than this is worth a look.
const SLOW_STORE: Duration = Duration::from_millis(50);
/// Time for the reconciler to carry out what is wanted.
const SETTLE: Duration = Duration::from_secs(2);
/// The smallest underlay MTU that still carries IPv6 inside VXLAN over IPv6 (RFC 8200: 1280).
const LEAST_UNDERLAY_MTU: u32 = 1350;

/// Looks at everything that is known to go wrong.
pub async fn examine(s: &Services) -> Doctor {
    let underlay = s
        .control
        .query(|_, underlay| underlay.clone())
        .await
        .unwrap_or_default();
    let newest = s.control.query(|snapshot, _| host::newest_node(snapshot));
    let newest = newest.await.flatten();
    let mut checks = vec![host::kernel(), host::privileges()];
    checks.extend(host::features().await);
    checks.extend(underlay_checks(&underlay));
    checks.push(host::clock(SystemTime::now(), newest));
    checks.push(store(s).await);
    checks.push(host::state_dir(&s.config.state_dir));
    let desired = s.views.desired.borrow().clone();
    // What was wanted only now is not wrong for not being there yet.
    let mut reconcile = s.views.reconcile.clone();
    let applied = reconcile.wait_for(|r| r.generation >= desired.generation);
    let _ = tokio::time::timeout(SETTLE, applied).await;
    checks.push(host::switches(&desired.kernel));
    if let Some(peers) = s.bgp.peers().await {
        let netstat = std::fs::read_to_string("/proc/net/netstat").unwrap_or_default();
        checks.extend(bgp::checks(&peers, &netstat));
    }
    if let Ok(fill) = s.policy.ask(crate::policy::fill::Fill::of).await {
        let seen = s.flows.measured().await.ok();
        checks.extend(policy::checks(&fill, seen.as_ref()));
    }
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
    fn a_host_without_an_address_is_told_the_fix() {
        let checks = underlay_checks(&Underlay::default());
        assert_eq!(checks[0].state, Health::Failed);
        assert!(checks[0].fix.contains("routerd.toml"));
    }
}
