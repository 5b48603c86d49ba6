//! Policy as metrics.

use policy_ebpf::common::reason::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::fill::Fill;
use crate::flows::Measured;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Map {
    map: &'static str,
}

/// Adds what the programs have seen, and how full their maps are.
pub fn register(registry: &mut Registry, seen: &Measured, fill: &Fill) {
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let drops = Family::<Why, Counter>::default();
    for (reason, count) in &seen.drops {
        let reason = format!("{reason:?}");
        drops.get_or_create(&Why { reason }).inc_by(*count);
    }
    let verdicts = Family::<Verdict, Counter>::default();
    let denied = seen.drops.iter().find(|(r, _)| *r == Reason::Policy);
    for (verdict, count) in [
        ("Allow", seen.admitted),
        ("Deny", denied.map_or(0, |(_, count)| *count)),
    ] {
        verdicts.get_or_create(&Verdict { verdict }).inc_by(count);
    }
    let (entries, room) = (
        Family::<Map, Gauge>::default(),
        Family::<Map, Gauge>::default(),
    );
    for (map, used, most) in fill.maps(seen) {
        entries.get_or_create(&Map { map }).set(number(used));
        room.get_or_create(&Map { map }).set(number(most));
    }
    let lost = Counter::<u64>::default();
    lost.inc_by(seen.lost);
    let (generation, look) = (
        Gauge::<i64>::default(),
        Gauge::<f64, std::sync::atomic::AtomicU64>::default(),
    );
    generation.set(i64::from(fill.generation));
    look.set(seen.look.as_secs_f64());
    registry.register(
        "policy_drops",
        "Packets that the policy programs dropped",
        drops,
    );
    registry.register(
        "policy_verdicts",
        "Connections that were let through, and packets that policy denied",
        verdicts,
    );
    registry.register(
        "policy_map_entries",
        "Entries of a map of the policy programs",
        entries,
    );
    registry.register(
        "policy_map_room",
        "Most entries of a map of the policy programs",
        room,
    );
    registry.register(
        "policy_generation",
        "Batches of changes that policy was compiled for",
        generation,
    );
    registry.register(
        "flow_records_dropped",
        "Flows that are not remembered any more, or that somebody who follows was too slow for",
        lost,
    );
    registry.register_with_unit(
        "flow_look",
        "Time that the last look at the table of connections took",
        Unit::Seconds,
        look,
    );
}

/// Something of everything.
#[cfg(test)]
pub(crate) fn sample() -> (Measured, Fill) {
    let seen = Measured {
        drops: vec![(Reason::Policy, 2)],
        admitted: 3,
        ..Measured::default()
    };
    (seen, Fill::default())
}
