//! Explanations of random worlds: they say what the evaluator says, by whom it says so.

use calc::Inputs;
use calc::explain::{Decider, Ends, Explained, Known, Question, explain};
use calc::policy::{By, Depth, Mode, Packet, Said, World};
use model::api::{ExplainVerdict, Explanation};
use model::resources::{Action, PolicyType};
use model::snapshot::Snapshot;
use model::state::{NodeState, Underlay};

use super::dice::Dice;
use super::oracle::endpoints;
use super::samples::{self, HERE};

use ExplainVerdict::{Allow, Deny};

const WORLDS: u64 = 150;
const PACKETS: usize = 40;

#[test]
fn a_walk_ends_where_the_evaluator_does() {
    let mut seen = [0; 6];
    for seed in 0..WORLDS {
        let mut dice = Dice::new(seed);
        let snapshot = samples::world(&mut dice, 20);
        let packets: Vec<_> = (0..PACKETS).map(|_| samples::packet(&mut dice)).collect();
        for mode in [Mode::Enforced, Mode::Staged] {
            let world = World::new(&snapshot, mode);
            for (id, party) in endpoints(&world, &snapshot) {
                for direction in [PolicyType::Ingress, PolicyType::Egress] {
                    for packet in &packets {
                        let verdict = world.evaluate(party, direction, packet);
                        let depth = Depth {
                            any_port: dice.one_in(2),
                            all: dice.one_in(2),
                        };
                        let looks = world.walk(party, direction, packet, depth);
                        let says: Vec<_> = (looks.iter())
                            .filter_map(|look| match look.said {
                                Said::Does(action) => Some((action, look)),
                                Said::NoMatch | Said::NotSelected => None,
                            })
                            .collect();
                        let at = format!("seed {seed}: {id} {direction:?} {mode:?} {packet:?}");
                        assert_eq!(says.len(), verdict.steps.len(), "{at}");
                        for ((action, look), step) in says.iter().zip(&verdict.steps) {
                            let (tier, policy, rule) = match step.by {
                                By::Rule { tier, policy, rule } => {
                                    (Some(tier), Some(policy), Some(rule))
                                }
                                By::EndOfTier { tier, .. } => (Some(tier), None, None),
                                By::Profile | By::Failsafe => (None, None, None),
                            };
                            let told = (look.tier, look.policy, look.rule);
                            assert_eq!(
                                (*action, told),
                                (step.action, (tier, policy, rule)),
                                "{at}"
                            );
                        }
                        let last = looks.last().unwrap();
                        let allows = last.said == Said::Does(Action::Allow);
                        assert_eq!(allows, verdict.allowed, "{at}");
                        for look in &looks {
                            let sort = match look.said {
                                Said::Does(action) => action as usize,
                                Said::NoMatch => 4,
                                Said::NotSelected => 5,
                            };
                            seen[sort] += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 1000), "{seen:?}");
}

fn ask(snapshot: &Snapshot, packet: &Packet, port: Option<u16>) -> Option<Explained> {
    let underlay = Underlay::default();
    let inputs = Inputs {
        node: HERE,
        snapshot,
        underlay: &underlay,
        accepts_ra: false,
    };
    let question = Question {
        source: packet.source.to_string(),
        destination: packet.destination.to_string(),
        protocol: packet.protocol,
        port,
        source_port: Some(packet.source_port),
        icmp_type: packet.icmp.map(|(t, _)| t),
        icmp_code: packet.icmp.map(|(_, c)| c),
        all: false,
    };
    let ends = Ends::find(&inputs, &question).ok()?;
    // Without nodes and pools no route is in the way.
    let known = Known {
        inputs,
        state: &NodeState::default(),
        needs: &[],
    };
    explain(&known, &question, &ends, &[]).ok()
}

/// What the evaluator says about the ends that an explanation names.
fn expected(world: &World<'_>, e: &Explanation, packet: &Packet) -> ExplainVerdict {
    let source = world.workload(&e.source.namespace, &e.source.name);
    let destination = match e.destination.namespace.is_empty() {
        true => world.host(&e.destination.name),
        false => world.workload(&e.destination.namespace, &e.destination.name),
    };
    let says = |party, direction| world.evaluate(party, direction, packet).allowed;
    let out = source.is_none_or(|p| says(p, PolicyType::Egress));
    let into = destination.is_none_or(|p| says(p, PolicyType::Ingress));
    if out && into { Allow } else { Deny }
}

#[test]
fn an_explanation_says_what_the_evaluator_says() {
    let (mut allowed, mut denied, mut ports) = (0, 0, 0);
    for seed in 0..WORLDS {
        let mut dice = Dice::new(seed);
        let snapshot = samples::world(&mut dice, 20);
        let enforced = World::new(&snapshot, Mode::Enforced);
        let staged = World::new(&snapshot, Mode::Staged);
        for _ in 0..PACKETS {
            let mut packet = samples::packet(&mut dice);
            if packet.protocol == 1 && packet.source.is_ipv6() {
                packet.protocol = 58;
            }
            let Some(one) = ask(&snapshot, &packet, Some(packet.destination_port)) else {
                continue;
            };
            let e = &one.explanation;
            let at = format!("seed {seed}: {packet:?}\n{e:#?}");
            assert_eq!(one.packet, packet, "{at}");
            assert_eq!(e.verdict, expected(&enforced, e, &packet), "{at}");
            let would = e.staged.as_ref().map_or(e.verdict, |s| s.verdict);
            assert_eq!(would, expected(&staged, e, &packet), "{at}");
            let all_pass = one.judged.iter().all(|j| j.decided.allowed);
            assert_eq!(all_pass, e.verdict == Allow, "{at}");
            let by = |j: &calc::explain::Judged| match &j.decided.by {
                Decider::Rule { policy, index, .. } => format!("[{index}] of {} ", policy.kind),
                Decider::EndOfTier { tier } => format!("the end of tier {tier},"),
                Decider::Profile | Decider::Failsafe => String::new(),
            };
            if let Some(denies) = one.judged.iter().find(|j| !j.decided.allowed) {
                assert!(e.summary.contains(&by(denies)), "{at}");
            }
            match e.verdict {
                Allow => allowed += 1,
                Deny => denied += 1,
            }
            // Of all ports at once the same is said about each.
            if let Some(all) = ask(&snapshot, &packet, None)
                && all.explanation.packet.source_port.is_some()
            {
                let port = packet.destination_port;
                let has = |range: &String| {
                    let (first, last) = range.split_once(':').unwrap_or((range, range));
                    let number = |s: &str| s.parse::<u16>().unwrap();
                    (number(first)..=number(last)).contains(&port)
                };
                let listed = all.explanation.ports.iter();
                let mut listed = listed.filter(|p| p.ports.iter().any(has));
                let said = listed.next().map_or(all.explanation.verdict, |p| p.verdict);
                assert_eq!((said, listed.next()), (e.verdict, None), "{at}");
                ports += all.explanation.ports.len();
            }
        }
    }
    assert!(
        allowed > 500 && denied > 500 && ports > 50,
        "{allowed} {denied} {ports}"
    );
}
