//! What becomes of which port, where none is asked about.

use model::api::{ExplainPorts, ExplainVerdict};

use super::judge::{Judge, word};
use crate::policy::{Packet, World};

/// More ports than this are not told apart.
const MOST: usize = 128;

/// The ports that policy tells apart, as ranges.
///
/// # Errors
/// The number that there are more of.
pub(super) fn sorts(
    world: &World<'_>,
    ends: &[Judge<'_, '_>],
    packet: &Packet,
) -> Result<Vec<(u16, u16)>, usize> {
    let ends: Vec<_> = ends
        .iter()
        .map(|end| (end.party, end.direction, end.sees(packet)))
        .collect();
    world.sorts_of_ports(&ends, MOST).ok_or(MOST)
}

/// A port of the largest range: that of no rule, as a rule.
pub(super) fn widest(sorts: &[(u16, u16)]) -> Option<u16> {
    let widest = sorts.iter().max_by_key(|(first, last)| last - first);
    widest.map(|(first, _)| *first)
}

/// A port that is listed, and one that stands for it.
pub(super) struct Listed {
    pub(super) ports: ExplainPorts,
    pub(super) sample: u16,
}

/// The ports of which something else is said, or by something else, than of the widest range. `reachable`: nothing but
/// policy drops anything.
pub(super) fn list<'a>(
    world: &World<'a>,
    ends: &[Judge<'_, 'a>],
    packet: &Packet,
    sorts: &[(u16, u16)],
    reachable: bool,
) -> Vec<Listed> {
    let judge = |port| {
        let packet = Packet {
            destination_port: port,
            ..*packet
        };
        said(world, ends, &packet, reachable)
    };
    let base = widest(sorts).map(judge);
    let mut listed: Vec<Listed> = Vec::new();
    for (first, last) in sorts {
        let said = judge(*first);
        if base.as_ref() == Some(&said) {
            continue;
        }
        let range = match first == last {
            true => first.to_string(),
            false => format!("{first}:{last}"),
        };
        let (verdict, by) = said;
        let same = |l: &&mut Listed| (l.ports.verdict, &l.ports.by) == (verdict, &by);
        match listed.iter_mut().find(same) {
            Some(l) => l.ports.ports.push(range),
            None => listed.push(Listed {
                ports: ExplainPorts {
                    ports: vec![range],
                    verdict,
                    by,
                },
                sample: *first,
            }),
        }
    }
    listed
}

fn said<'a>(
    world: &World<'a>,
    ends: &[Judge<'_, 'a>],
    packet: &Packet,
    reachable: bool,
) -> (ExplainVerdict, String) {
    let decided: Vec<_> = ends
        .iter()
        .map(|end| (end.direction, end.judge(world, packet).decided))
        .collect();
    let text = |(direction, d): &(_, super::Decided)| format!("{} by {}", word(*direction), d.by);
    match decided.iter().find(|(_, d)| !d.allowed) {
        Some(denied) => (ExplainVerdict::Deny, text(denied)),
        None => {
            let verdict = match reachable {
                true => ExplainVerdict::Allow,
                false => ExplainVerdict::Deny,
            };
            let all: Vec<String> = decided.iter().map(text).collect();
            (verdict, all.join("; "))
        }
    }
}
