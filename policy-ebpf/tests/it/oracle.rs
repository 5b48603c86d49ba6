//! What both say about a packet, in one form.

use calc::policy::{By, Mode, Packet, Party, PartyId, Verdict, World};
use model::Kind;
use model::object::ObjectId;
use model::resources::{Action, PolicyType};
use model::snapshot::Snapshot;
use policy_common::classify::{Tuple, Work, ask, classify, identify, judge};
use policy_common::tables::{Action as TableAction, Chain, rule};
use policy_ebpf::mirror::{Mirror, address};
use policy_ebpf::{Chains, Engine, Rule};

/// A verdict in words: whether, by whom, the first `Log` rule, every `Pass` on the way, and all that counts, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) allowed: bool,
    pub(crate) by: String,
    logged: Option<String>,
    passed: Vec<String>,
    counted: Vec<String>,
}

pub(crate) fn endpoints<'w>(
    world: &'w World<'_>,
    s: &'w Snapshot,
) -> Vec<(ObjectId, &'w Party<'w>)> {
    let id = |kind, namespace: Option<&str>, name: &str| ObjectId {
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    };
    let workloads = s.local_endpoints.keys().map(|key| {
        let party = world.workload(&key.namespace, &key.name).unwrap();
        (
            id(Kind::WorkloadEndpoint, Some(&key.namespace), &key.name),
            party,
        )
    });
    let here = s
        .host_endpoints
        .iter()
        .filter(|(_, r)| r.spec.node == super::samples::HERE);
    let hosts = here.map(|(name, _)| {
        (
            id(Kind::HostEndpoint, None, name),
            world.host(name).unwrap(),
        )
    });
    workloads.chain(hosts).collect()
}

/// What the evaluator says; `None` for a port of a host that no policy closes, which is not the tables' to know.
pub(crate) fn expected(
    world: &World<'_>,
    party: &Party<'_>,
    direction: PolicyType,
    packet: &Packet,
) -> Option<Told> {
    assert!(matches!(party.id, PartyId::Workload(..) | PartyId::Host(_)));
    let Verdict { allowed, by, steps } = world.evaluate(party, direction, packet);
    let name = |by: &By<'_>| match by {
        By::Rule { tier, policy, rule } => format!("{tier} {policy} {direction:?} {rule}"),
        By::EndOfTier { tier, .. } => format!("end of {tier} {direction:?}"),
        By::Profile => "profile".to_owned(),
        By::Failsafe => "failsafe".to_owned(),
    };
    if by == By::Failsafe {
        return None;
    }
    let of = |action| {
        steps
            .iter()
            .filter(move |s| s.action == action)
            .map(|s| name(&s.by))
    };
    Some(Told {
        allowed,
        by: name(&by),
        logged: of(Action::Log).next(),
        passed: of(Action::Pass).collect(),
        counted: {
            let by = [Action::Log, Action::Pass].into_iter().flat_map(of);
            let mut counted: Vec<_> = by.collect();
            counted.sort();
            counted
        },
    })
}

/// The question as the tables know it.
pub(crate) fn work(tables: &Mirror, packet: &Packet) -> Work {
    let of_icmp = packet.icmp.map(|(t, c)| u16::from_be_bytes([t, c]));
    let mut work = Work {
        tuple: Tuple {
            source: address(packet.source),
            destination: address(packet.destination),
            source_port: packet.source_port,
            destination_port: of_icmp.unwrap_or(packet.destination_port),
            protocol: packet.protocol,
            pad: [0; 3],
        },
        ..Work::default()
    };
    identify(tables, &mut work);
    work
}

/// The chain that an endpoint has.
pub(crate) fn chain<'t>(
    tables: &'t Mirror,
    id: &ObjectId,
    direction: PolicyType,
    mode: Mode,
) -> Option<&'t Chain> {
    let Chains {
        ingress,
        egress,
        staged_ingress,
        staged_egress,
        ..
    } = tables.endpoints.get(id)?;
    let (enforced, staged) = match direction {
        PolicyType::Ingress => (ingress, staged_ingress),
        PolicyType::Egress => (egress, staged_egress),
    };
    let number = match (mode, staged) {
        (Mode::Enforced, _) | (Mode::Staged, 0) => enforced,
        (Mode::Staged, staged) => staged,
    };
    Some(
        tables
            .chains
            .get(number)
            .expect("an endpoint's chain is in the tables"),
    )
}

/// What the tables say.
pub(crate) fn compiled(engine: &Engine, tables: &Mirror, chain: &Chain, packet: &Packet) -> Told {
    let name = |word| described(engine, word);
    let mut work = work(tables, packet);
    let mut passed = Vec::new();
    let length = chain.length as usize;
    for stage in &chain.stages[..length] {
        work.logged = 0;
        ask(tables, stage, &mut work);
        if TableAction::of(work.rule) != TableAction::Pass {
            break;
        }
        passed.push(name(work.rule));
        judge(tables, stage.program, stage.masks, &mut work);
    }
    classify(tables, chain, &mut work);
    let members = |number| tables.lists[&number].iter().copied();
    let mut counted: Vec<_> = work.trail.words(members).map(name).collect();
    counted.sort();
    Told {
        allowed: work.allowed(),
        by: name(work.rule),
        logged: (work.logged != 0).then(|| name(work.logged)),
        passed,
        counted,
    }
}

/// What a rule's word stands for, in words.
pub(crate) fn described(engine: &Engine, word: u32) -> String {
    if [rule::PROFILE_ALLOW, rule::PROFILE_DENY].contains(&word) {
        return "profile".to_owned();
    }
    match engine.describe(rule::number(word)) {
        Some(Rule::Of {
            tier,
            policy,
            direction,
            index,
        }) => format!("{tier} {policy} {direction:?} {index}"),
        Some(Rule::EndOfTier { tier, direction }) => format!("end of {tier} {direction:?}"),
        None => panic!("nothing has the number of {word}"),
    }
}
