//! Asks the others for names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use calc::policy::{By, Mode, Packet, World};
use model::Kind;
use model::object::ObjectId;
use model::resources::{Action, PolicyType};
use model::snapshot::Snapshot;
use policy_ebpf::Rule;
use policy_ebpf::common::connection::Judged;
use policy_ebpf::common::event::CounterKey;
use policy_ebpf::common::tables::rule;
use policy_ebpf::flows::{Logged, Names, Said, Wanted, Who, ip};

use super::people;
use super::show::{policy_name, protocol};
use crate::control::Control;
use crate::gone::Gone;
use crate::policy::{self, Seen};

/// Packets for which all `Log` rules that match are found, of those that come at once; of the others, the first.
const EVALUATED: usize = 256;

/// What was asked for.
#[derive(Default)]
pub(super) struct Known {
    first_world: u32,
    who: HashMap<IpAddr, Arc<Who>>,
    at: HashMap<u32, Arc<Who>>,
    generations: BTreeMap<u32, u32>,
    rules: HashMap<u32, Arc<Said>>,
    counted_by: HashMap<CounterKey, Vec<u32>>,
    policies: BTreeSet<ObjectId>,
    logged: Vec<(Logged, Vec<Arc<Said>>)>,
    /// Where each stands there.
    places: HashMap<Logged, usize>,
}

/// Interfaces with the programs, and the generation of each endpoint.
pub(super) fn interfaces(seen: &Seen<'_>) -> BTreeMap<u32, u32> {
    let each = seen.attached.iter();
    each.map(|(id, interface)| {
        let chains = seen.engine.chains(id).unwrap_or_default();
        (interface.ifindex, chains.generation)
    })
    .collect()
}

impl Known {
    /// Asks the owner of policy and control.
    ///
    /// # Errors
    /// They have ended.
    pub(super) fn ask(
        first_world: u32,
        wanted: Wanted,
        counters: Vec<CounterKey>,
        (control, policy, runtime): (&Control, &policy::Handle, &tokio::runtime::Handle),
    ) -> Result<Known, Gone> {
        let Wanted {
            addresses,
            interfaces: ifindexes,
            mut rules,
            logged,
        } = wanted;
        let asked = policy.ask(move |seen| {
            let of_counter = |key: CounterKey| {
                let words = seen.kernel.ok().and_then(|k| k.counted_by(&key).ok());
                (key, words.unwrap_or_else(|| vec![key.rule]))
            };
            let counted_by: HashMap<_, _> = counters.into_iter().map(of_counter).collect();
            rules.extend(
                counted_by
                    .values()
                    .flatten()
                    .map(|word| rule::number(*word)),
            );
            let described = |n: u32| Some((n, Arc::new(Said::Rule(seen.engine.describe(n)?))));
            let attached = seen.attached.iter();
            let ids: Vec<(u32, ObjectId)> = attached
                .filter(|(_, i)| ifindexes.contains(&i.ifindex))
                .map(|(id, i)| (i.ifindex, id.clone()))
                .collect();
            let rules: HashMap<_, _> = rules.into_iter().filter_map(described).collect();
            let policies: BTreeSet<ObjectId> = seen.engine.policies().cloned().collect();
            (interfaces(seen), ids, rules, counted_by, policies)
        });
        let (generations, ids, rules, counted_by, policies) = runtime.block_on(asked)?;
        let mut known = Known {
            first_world,
            who: HashMap::new(),
            at: HashMap::new(),
            generations,
            rules,
            counted_by,
            policies,
            logged: Vec::new(),
            places: HashMap::new(),
        };
        if addresses.is_empty() && ids.is_empty() {
            return Ok(known);
        }
        let has_logs = !logged.is_empty();
        let asked = control.query(move |snapshot, _| {
            let who = people::who(snapshot, &addresses);
            let local =
                |(ifindex, id): &(u32, ObjectId)| Some((*ifindex, people::local(snapshot, id)?));
            let at: HashMap<_, _> = ids.iter().filter_map(local).collect();
            let about = has_logs.then(|| people::about(snapshot, &addresses));
            (who, at, about)
        });
        let (who, at, about) = runtime.block_on(asked).ok_or(Gone::Stopping)?;
        (known.who, known.at) = (who, at);
        if let Some(about) = about {
            known.take_logged(&about, logged);
        }
        Ok(known)
    }

    /// Finds all `Log` rules that match what the kernel told about the first of.
    fn take_logged(&mut self, about: &Snapshot, logged: Vec<Logged>) {
        let world = World::new(about, Mode::Enforced);
        for (place, one) in logged.into_iter().enumerate() {
            let all = (place < EVALUATED).then(|| self.matching(&world, &one));
            let mut rules = all.flatten().unwrap_or_default();
            let first = self.said(one.rule);
            // Policy may have changed since.
            if rules.first() != first.as_ref() {
                rules = first.into_iter().collect();
            }
            self.places.entry(one).or_insert(self.logged.len());
            self.logged.push((one, rules));
        }
    }

    fn matching(&self, world: &World<'_>, logged: &Logged) -> Option<Vec<Arc<Said>>> {
        let id = &self.at.get(&logged.ifindex)?.id;
        let party = match id.kind {
            Kind::HostEndpoint => world.host(&id.name)?,
            _ => world.workload(id.namespace.as_deref().unwrap_or_default(), &id.name)?,
        };
        let direction = match logged.outbound {
            true => PolicyType::Egress,
            false => PolicyType::Ingress,
        };
        let verdict = world.evaluate(party, direction, &packet(logged));
        let logs = verdict.steps.iter().filter(|s| s.action == Action::Log);
        let said = logs.filter_map(|step| match step.by {
            By::Rule { tier, policy, rule } => Some(Arc::new(Said::Rule(Rule::Of {
                tier: tier.to_owned(),
                policy: policy.clone(),
                direction,
                index: u32::try_from(rule).unwrap_or(u32::MAX),
            }))),
            _ => None,
        });
        Some(said.collect())
    }

    /// What a word stands for now.
    pub(super) fn said(&self, word: u32) -> Option<Arc<Said>> {
        let built_in = Said::built_in(word).map(Arc::new);
        built_in.or_else(|| self.rules.get(&rule::number(word)).cloned())
    }

    /// All that a counter is for.
    pub(super) fn counted_by(&self, key: &CounterKey) -> impl Iterator<Item = Arc<Said>> {
        let words = self.counted_by.get(key).into_iter().flatten();
        words.filter_map(|word| self.said(*word))
    }

    /// Whether there is such a rule still, as far as its policy goes.
    pub(super) fn is_there(&self, said: &Said) -> bool {
        match said {
            Said::Rule(Rule::Of { policy, .. }) => self.policies.contains(policy),
            _ => true,
        }
    }

    /// A line for each packet that was logged.
    pub(super) fn log_lines(&self) -> Vec<String> {
        self.logged
            .iter()
            .map(|(l, rules)| self.line(l, rules))
            .collect()
    }

    fn line(&self, logged: &Logged, rules: &[Arc<Said>]) -> String {
        let tuple = &logged.tuple;
        let has_ports = matches!(tuple.protocol, 6 | 17 | 132 | 136);
        let end = |address, port: u16, is_own| {
            let own = self.at.get(&logged.ifindex).filter(|_| is_own);
            let who = own.or_else(|| self.who.get(&ip(address)));
            let who = who.map(|w| format!(" ({})", called(w))).unwrap_or_default();
            match has_ports {
                true => format!("{} port {port}{who}", ip(address)),
                false => format!("{}{who}", ip(address)),
            }
        };
        let source = end(&tuple.source, tuple.source_port, logged.outbound);
        let destination = end(&tuple.destination, tuple.destination_port, !logged.outbound);
        let rules: Vec<String> = rules.iter().filter_map(|said| named(said)).collect();
        format!(
            "{} from {source} to {destination}, {} bytes: logged by {}",
            protocol(tuple.protocol),
            logged.length,
            match rules.as_slice() {
                [] => "a rule that is gone".to_owned(),
                rules => rules.join(", "),
            }
        )
    }
}

/// A workload as people call it, and all else by kind and name.
fn called(who: &Who) -> String {
    match &who.id.namespace {
        Some(namespace) if who.id.kind == Kind::WorkloadEndpoint => {
            format!("{namespace}/{}", who.called)
        }
        _ => who.id.to_string(),
    }
}

fn named(said: &Said) -> Option<String> {
    match said {
        Said::Rule(Rule::Of {
            policy,
            direction,
            index,
            ..
        }) => {
            let direction = match direction {
                PolicyType::Ingress => "ingress",
                PolicyType::Egress => "egress",
            };
            let name = policy_name(policy);
            Some(format!("{} {name} {direction}[{index}]", policy.kind))
        }
        _ => None,
    }
}

/// The packet as the evaluator has it.
pub(super) fn packet(logged: &Logged) -> Packet {
    let tuple = &logged.tuple;
    let is_icmp = matches!(tuple.protocol, 1 | 58);
    let [icmp_type, code] = tuple.destination_port.to_be_bytes();
    Packet {
        source: ip(&tuple.source),
        destination: ip(&tuple.destination),
        protocol: tuple.protocol,
        source_port: tuple.source_port,
        destination_port: if is_icmp { 0 } else { tuple.destination_port },
        icmp: is_icmp.then_some((icmp_type, code)),
    }
}

impl Names for Known {
    fn who(&self, ip: IpAddr) -> Option<Arc<Who>> {
        self.who.get(&ip).cloned()
    }

    fn at(&self, ifindex: u32) -> Option<Arc<Who>> {
        self.at.get(&ifindex).cloned()
    }

    fn rule(&self, word: u32, ifindex: u32, judged: Option<Judged>) -> Option<Arc<Said>> {
        if let Some(judged) = judged {
            let is_current = self.generations.get(&ifindex) == Some(&judged.generation);
            let is_of_others = judged.world.wrapping_sub(self.first_world) > u32::MAX / 2;
            if !is_current || is_of_others {
                return None;
            }
        }
        self.said(word)
    }

    fn logged(&self, logged: &Logged) -> Vec<Arc<Said>> {
        let place = self.places.get(logged).copied();
        let found = place.and_then(|place| self.logged.get(place));
        found.map(|(_, rules)| rules.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use model::keys;
    use model::kv::Event;
    use policy_ebpf::common::classify::Tuple;
    use policy_ebpf::common::packet::mapped;

    use super::*;

    fn store(snapshot: &mut Snapshot, text: &str) {
        let objects = model::manifest::parse(text).unwrap();
        let event = Event {
            key: keys::resource(&objects[0].id()),
            value: Some(model::manifest::encode_stored(&objects[0])),
            revision: 1,
        };
        snapshot.apply("n1", &event);
        assert!(snapshot.rejected.is_empty(), "{:?}", snapshot.rejected);
    }

    /// Two rules log what comes to a workload at interface 7, and the kernel tells of the first of them.
    fn known(count: u16) -> (Known, Vec<Logged>) {
        let mut about = Snapshot::default();
        store(
            &mut about,
            "{apiVersion: routerd/v1, kind: WorkloadEndpoint, metadata: {name: web, namespace: shop}, \
             spec: {node: n1, containerID: c, interfaceName: veth0, ipNetworks: [10.0.0.5/32], \
             mac: '02:00:00:00:00:05', workload: w, endpoint: eth0}}",
        );
        store(
            &mut about,
            "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: logs}, \
             spec: {types: [Ingress], ingress: [{action: Log}, {action: Log, protocol: TCP}, {action: Allow}]}}",
        );
        let id = about.local_endpoints.keys().next().unwrap();
        let id = ObjectId {
            kind: Kind::WorkloadEndpoint,
            namespace: Some(id.namespace.to_string()),
            name: id.name.to_string(),
        };
        let first = Said::Rule(Rule::Of {
            tier: "default".to_owned(),
            policy: about.policies.keys().next().unwrap().clone(),
            direction: PolicyType::Ingress,
            index: 0,
        });
        let mut known = Known {
            at: [(7, people::local(&about, &id).unwrap())].into(),
            rules: [(20, Arc::new(first))].into(),
            ..Known::default()
        };
        let logged = (1..=count).map(|port| Logged {
            at: 1,
            ifindex: 7,
            outbound: false,
            tuple: Tuple {
                source: mapped([10, 0, 0, 9]),
                destination: mapped([10, 0, 0, 5]),
                source_port: port,
                destination_port: 80,
                protocol: 6,
                pad: [0; 3],
            },
            rule: rule::word(20, policy_ebpf::common::tables::Action::Pass),
            length: 60,
        });
        let logged: Vec<Logged> = logged.collect();
        known.take_logged(&about, logged.clone());
        (known, logged)
    }

    #[test]
    fn every_logged_packet_has_its_rules_and_of_a_flood_only_the_first() {
        let (known, logged) = known(300);
        let rules: Vec<usize> = logged.iter().map(|l| known.logged(l).len()).collect();
        assert_eq!(
            (&rules[..EVALUATED], rules.len()),
            (&[2; EVALUATED][..], 300)
        );
        assert!(rules[EVALUATED..].iter().all(|n| *n == 1));
        let lines = known.log_lines();
        let end =
            "to 10.0.0.5 port 80 (shop/c), 60 bytes: logged by GlobalNetworkPolicy logs ingress[0]";
        assert!(lines[299].ends_with(end), "{}", lines[299]);
        assert!(
            lines[0].ends_with(&format!("{end}, GlobalNetworkPolicy logs ingress[1]")),
            "{}",
            lines[0]
        );
    }
}
