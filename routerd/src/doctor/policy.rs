//! Policy: programs, maps, endpoints.

use model::api::{DoctorCheck, Health};

use super::{check, ok};
use crate::flows::Measured;
use crate::policy::fill::Fill;
use crate::policy::several;

/// Share of a map from which on it is worth a look, in percent.
const FULL: usize = 80;

/// What is wrong with the programs, their maps and the endpoints that they are for.
pub(super) fn checks(fill: &Fill, seen: Option<&Measured>) -> Vec<DoctorCheck> {
    const NAME: &str = "policy";
    if let Some(why) = &fill.missing {
        let message = format!("the policy programs are not loaded: {why}");
        let fix = "see the kernel's log, and run a routerd that was built with `make`";
        let mut checks = vec![check(NAME, Health::Degraded, message, fix)];
        checks.extend(fill.cut_off.iter().map(|who| {
            check(
                NAME,
                Health::Degraded,
                format!("{who} is cut off: policies select it, or might, and this node cannot enforce them"),
                "mend the above and start routerd again, delete the policies, or run the workload on another node",
            )
        }));
        return checks;
    }
    let mut checks = Vec::new();
    if !fill.without.is_empty() {
        let who = several(&fill.without);
        checks.push(check(
            NAME,
            Health::Degraded,
            format!("{who}: its interface is not there, or has no programs"),
            "see interfaceName, or expectedIPs of a host, and the daemon's log",
        ));
    }
    // The oldest connections make way for new ones: a full table of them is no fault.
    let maps: Vec<_> = seen.into_iter().flat_map(|seen| fill.maps(seen)).collect();
    let share = |used: usize, room: usize| used.saturating_mul(100) / room.max(1);
    for (map, used, room) in maps.iter().copied() {
        let share = share(used, room);
        if share >= FULL && map != "CONNECTIONS" {
            checks.push(check(
                NAME,
                Health::Degraded,
                format!("the map {map} has {used} of {room} entries"),
                "use fewer prefixes and ports in policies and network sets: what does not fit is not put in force",
            ));
        }
    }
    if checks.is_empty() {
        let fullest = maps.iter().map(|(_, used, room)| share(*used, *room)).max();
        checks.push(ok(
            NAME,
            format!(
                "programs at {} interfaces, maps full to {} %",
                fill.interfaces,
                fullest.unwrap_or_default()
            ),
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_full_is_told() {
        let (seen, mut fill) = (Measured::default(), Fill::default());
        assert_eq!(checks(&fill, Some(&seen))[0].state, Health::Ok);
        fill.interfaces = 4000;
        let found = checks(&fill, Some(&seen));
        assert!(
            found[0].message.contains("ENDPOINTS has 4000 of 4096"),
            "{found:?}"
        );
        fill.without = vec!["HostEndpoint/a".to_owned(), "HostEndpoint/b".to_owned()];
        let found = checks(&fill, None);
        assert!(
            found[0].message.starts_with("HostEndpoint/a (and 1 more)"),
            "{found:?}"
        );
        fill.missing = Some("built without the policy programs".to_owned());
        let found = checks(&fill, None);
        assert_eq!((found.len(), found[0].state), (1, Health::Degraded));
        fill.cut_off = vec!["WorkloadEndpoint/shop/web".to_owned()];
        let found = checks(&fill, None);
        assert!(
            found[1]
                .message
                .starts_with("WorkloadEndpoint/shop/web is cut off"),
            "{found:?}"
        );
    }
}
