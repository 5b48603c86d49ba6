//! What a rule asks for, in the four dimensions of the tables.
//!
//! A rule is one row, or several where it names ports by name: those are other numbers at other addresses, so
//! each number is a row for the addresses that have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::resources::workload_endpoint::Protocol;
use model::resources::{Action, EntityRule, IcmpFields, PolicyPort, PolicyType, Rule};
use model::selector::Selector;
use model::{Cidr, Family};

use super::ports::{self, ALL, PortSet, Ranges};
use super::world::{Atom, PortName, Scope, Term, World};
use crate::party::NamedPort;

/// Protocols that have type and code.
const ICMP: [u8; 2] = [1, 58];

/// One row of a rule. What is `None` is not asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The rule's place in its policy and direction.
    pub(super) index: u32,
    /// Atom of the source address.
    pub(super) source: Option<u32>,
    /// Atom of the destination address.
    pub(super) destination: Option<u32>,
    /// Protocol and source port.
    pub(super) source_port: Option<Arc<PortSet>>,
    /// Protocol and destination port, or type and code.
    pub(super) destination_port: Option<Arc<PortSet>>,
}

/// A rule has ports, or type and code, and no protocol to have them: validation refuses that, and
/// there are no tables for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeedsProtocol;

/// Where a rule stands.
pub(super) struct Place<'a> {
    pub(super) namespace: Option<&'a Arc<str>>,
    pub(super) direction: PolicyType,
    pub(super) index: u32,
}

/// The condition on an address; terms are not numbered yet.
#[derive(Clone, Default)]
struct Condition {
    family: Option<Family>,
    nets: Vec<Cidr>,
    not_nets: Vec<Cidr>,
    some: Option<Term>,
    none: Vec<Term>,
}

/// One way to match one end of a rule: at such an address, such ports.
type Way = (Condition, Option<Ranges>);

/// The rows of a rule; their atoms are held.
pub(super) fn rows(
    rule: &Rule,
    place: &Place<'_>,
    world: &mut World,
) -> Result<Vec<Row>, NeedsProtocol> {
    let Some(protocols) = Protocols::read(rule)? else {
        return Ok(Vec::new());
    };
    let families = families(rule);
    if families.is_empty() {
        return Ok(Vec::new());
    }
    let ways = |entity| ways(entity, place.namespace, protocols.only(), world);
    let (sources, destinations) = (ways(&rule.source), ways(&rule.destination));
    let mut rows = Vec::new();
    for (source, source_ports) in &sources {
        for (destination, ports) in &destinations {
            let mut ends = [source.clone(), destination.clone()];
            fit(&mut ends, &families, place.direction);
            let Some(destination_port) = protocols.ports(ports.as_ref()) else {
                continue;
            };
            // The protocol is asked for on the other side.
            let bounded = source_ports.as_ref().filter(|r| r[..] != [ALL]);
            let source_port = bounded.and_then(|ranges| protocols.ports(Some(ranges)));
            let [source, destination] = ends.map(|end| atom(end, world));
            rows.push(Row {
                index: place.index,
                source,
                destination,
                source_port: source_port.flatten().map(Arc::new),
                destination_port: destination_port.map(Arc::new),
            });
        }
    }
    Ok(rows)
}

/// The names of ports whose numbers a rule depends on.
pub(super) fn port_names(rule: &Rule) -> impl Iterator<Item = PortName> {
    let ends = [&rule.source, &rule.destination].into_iter();
    let ports = ends.flat_map(|end| end.ports.iter().chain(&end.not_ports));
    let protocol = rule.protocol.as_ref().and_then(Protocol::number);
    ports.filter_map(move |port| match port {
        PolicyPort::Named(name) => Some((name.clone(), protocol?)),
        PolicyPort::Range(..) => None,
    })
}

/// Whether a rule only logs.
pub(super) fn is_log(rule: &Rule) -> bool {
    rule.action == Action::Log
}

/// What a rule says of protocol, type and code.
enum Protocols {
    All,
    Only(u8, Ranges),
    Not(u8),
}

impl Protocols {
    /// `None` when no packet matches.
    fn read(rule: &Rule) -> Result<Option<Protocols>, NeedsProtocol> {
        let has_ports = |e: &EntityRule| !e.ports.is_empty() || !e.not_ports.is_empty();
        let has_ports = has_ports(&rule.source) || has_ports(&rule.destination);
        let needs = has_ports || rule.icmp.is_some() || rule.not_icmp.is_some();
        // A name that nobody knows is of no packet.
        let not = rule.not_protocol.as_ref().and_then(Protocol::number);
        let Some(protocol) = &rule.protocol else {
            return match (needs, not) {
                (true, _) => Err(NeedsProtocol),
                (false, Some(not)) => Ok(Some(Protocols::Not(not))),
                (false, None) => Ok(Some(Protocols::All)),
            };
        };
        let Some(number) = protocol.number().filter(|p| Some(*p) != not) else {
            return Ok(None);
        };
        let mut types = vec![ALL];
        if ICMP.contains(&number) {
            if has_ports {
                return Err(NeedsProtocol);
            }
            if let Some(wanted) = rule.icmp {
                types = icmp(wanted);
            }
            if let Some(unwanted) = rule.not_icmp {
                types = ports::without(&types, &icmp(unwanted));
            }
        } else if rule.icmp.is_some() {
            return Ok(None);
        }
        Ok(Some(Protocols::Only(number, types)))
    }

    /// The only protocol.
    fn only(&self) -> Option<u8> {
        match self {
            Protocols::Only(number, _) => Some(*number),
            _ => None,
        }
    }

    /// With ports: `None` when no packet matches, `Some(None)` when nothing is asked for.
    fn ports(&self, ranges: Option<&Ranges>) -> Option<Option<PortSet>> {
        let set = |others, protocol, ranges| PortSet {
            others,
            protocols: BTreeMap::from([(protocol, ranges)]),
        };
        match self {
            Protocols::All => Some(None),
            Protocols::Not(number) => Some(Some(set(true, *number, Vec::new()))),
            Protocols::Only(number, types) => {
                // What has ports has no types.
                let ranges = ranges.unwrap_or(types).clone();
                (!ranges.is_empty()).then(|| Some(set(false, *number, ranges)))
            }
        }
    }
}

fn icmp(fields: IcmpFields) -> Ranges {
    let IcmpFields { icmp_type, code } = fields;
    let types = icmp_type.map_or(0..=u8::MAX, |t| t..=t);
    let codes = code.map_or((0, u8::MAX), |c| (c, c));
    let join = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    ports::normal(
        types
            .map(|t| (join(t, codes.0), join(t, codes.1)))
            .collect(),
    )
}

/// The families of packets that a rule is about: prefixes of one family make it be about that one.
fn families(rule: &Rule) -> Vec<Family> {
    let lists = [
        &rule.source.nets,
        &rule.source.not_nets,
        &rule.destination.nets,
        &rule.destination.not_nets,
    ];
    let is_version = |family| match rule.ip_version {
        Some(4) => family == Family::V4,
        Some(6) => family == Family::V6,
        Some(_) => false,
        None => true,
    };
    let has = |nets: &Vec<Cidr>, family| nets.iter().any(|n| n.family() == family);
    let fits = |family: &Family| {
        is_version(*family) && (lists.iter()).all(|nets| nets.is_empty() || has(nets, *family))
    };
    Family::ALL.into_iter().filter(fits).collect()
}

/// Brings the family of a rule into the conditions of its two ends.
fn fit(ends: &mut [Condition; 2], families: &[Family], direction: PolicyType) {
    for end in &mut *ends {
        for nets in [&mut end.nets, &mut end.not_nets] {
            nets.retain(|n| families.contains(&n.family()));
            minimise(nets);
        }
    }
    let &[only] = families else {
        return;
    };
    for end in &mut *ends {
        if !end.nets.is_empty() || !end.not_nets.is_empty() {
            end.family = Some(only);
        }
        // All addresses of the family.
        if end.nets.iter().any(|n| n.prefix_len() == 0) {
            end.nets.clear();
        }
    }
    let [source, destination] = ends;
    let asks = |c: &Condition| {
        !c.nets.is_empty() || !c.not_nets.is_empty() || c.some.is_some() || !c.none.is_empty()
    };
    // One end tells the family of both. One that asks for more anyhow costs no class of its own, and of the
    // endpoint itself there are fewer than of others.
    let tells = |c: &Condition| c.family.is_some() && asks(c);
    let told = tells(source) || tells(destination);
    for end in [&mut *source, &mut *destination] {
        if !asks(end) {
            end.family = None;
        }
    }
    if told {
        return;
    }
    let only_one_asks = asks(source) != asks(destination);
    let takes_source = match only_one_asks {
        true => asks(source),
        false => direction == PolicyType::Egress,
    };
    let end = if takes_source { source } else { destination };
    end.family = Some(only);
}

/// Puts prefixes in order, without those that others hold.
fn minimise(nets: &mut Vec<Cidr>) {
    nets.sort_unstable();
    let mut last: Option<Cidr> = None;
    nets.retain(|net| {
        let held = last.is_some_and(|l| l.covers(net));
        if !held {
            last = Some(*net);
        }
        !held
    });
}

fn atom(end: Condition, world: &mut World) -> Option<u32> {
    let some = end.some.map(|t| world.hold_term(t));
    let mut none = BTreeSet::new();
    for term in end.none {
        let number = world.hold_term(term);
        if !none.insert(number) {
            world.release_term(number); // it is there already
        }
    }
    let atom = Atom {
        family: end.family,
        nets: end.nets,
        not_nets: end.not_nets,
        some,
        none: none.into_iter().collect(),
    };
    (!atom.is_empty()).then(|| world.hold_atom(atom))
}

/// The ways to match one end.
fn ways(
    entity: &EntityRule,
    namespace: Option<&Arc<str>>,
    protocol: Option<u8>,
    world: &World,
) -> Vec<Way> {
    let (chosen, condition) = condition(entity, namespace);
    let Some(protocol) = protocol else {
        return vec![(condition, None)];
    };
    if entity.ports.is_empty() && entity.not_ports.is_empty() {
        return vec![(condition, None)];
    }
    let numbers = |name: &str| world.numbers(&(name.into(), protocol));
    let port = |name: &str, port| NamedPort {
        name: name.into(),
        protocol,
        port,
    };
    let (ranges, named) = split(&entity.ports);
    let mut ways = Vec::new();
    match entity.ports.is_empty() {
        true => ways.push((condition.clone(), vec![ALL])),
        false => ways.push((condition.clone(), ranges)),
    }
    for name in named {
        for number in numbers(name) {
            let mut condition = condition.clone();
            let port = Some(port(name, number));
            condition.some = Some(Term {
                port,
                ..chosen.clone()
            });
            ways.push((condition, vec![(number, number)]));
        }
    }
    let (not_ranges, not_named) = split(&entity.not_ports);
    let mut excluded: BTreeMap<u16, Vec<Term>> = BTreeMap::new();
    for name in not_named {
        for number in numbers(name) {
            let term = Term {
                scope: Scope::Anywhere,
                selector: None,
                port: Some(port(name, number)),
            };
            excluded.entry(number).or_default().push(term);
        }
    }
    let doubtful: Ranges = excluded.keys().map(|n| (*n, *n)).collect();
    let mut split = Vec::new();
    for (condition, ranges) in ways {
        let ranges = ports::without(&ranges, &not_ranges);
        split.push((condition.clone(), Some(ports::without(&ranges, &doubtful))));
        for (number, terms) in &excluded {
            if ranges.iter().any(|(a, b)| (*a..=*b).contains(number)) {
                let mut condition = condition.clone();
                condition.none.extend(terms.iter().cloned());
                split.push((condition, Some(vec![(*number, *number)])));
            }
        }
    }
    split.retain(|(_, ranges)| ranges.as_ref().is_none_or(|r| !r.is_empty()));
    split
}

fn split(ports: &[PolicyPort]) -> (Ranges, BTreeSet<&str>) {
    let mut ranges = Vec::new();
    let mut names = BTreeSet::new();
    for port in ports {
        match port {
            PolicyPort::Range(first, last) => ranges.push((*first, *last)),
            PolicyPort::Named(name) => {
                names.insert(&**name);
            }
        }
    }
    (ports::normal(ranges), names)
}

/// Whom an end is about, and what that asks of the address.
fn condition(entity: &EntityRule, namespace: Option<&Arc<str>>) -> (Term, Condition) {
    let selector = selector(entity.selector.as_deref());
    let unwanted = self::selector(entity.not_selector.as_deref());
    let namespaces = self::selector(entity.namespace_selector.as_deref());
    // In a namespace `notSelector` alone asks for somebody, too: in the namespace.
    let asks =
        selector.is_some() || namespaces.is_some() || namespace.is_some() && unwanted.is_some();
    let scope = match (namespaces, namespace) {
        (Some(selector), _) => Scope::Selected(selector),
        (None, Some(own)) if asks => Scope::In(own.clone()),
        (None, _) => Scope::Anywhere,
    };
    let chosen = Term {
        scope,
        selector,
        port: None,
    };
    let unwanted = unwanted.map(|selector| Term {
        scope: Scope::Anywhere,
        selector: Some(selector),
        port: None,
    });
    let condition = Condition {
        family: None,
        nets: entity.nets.clone(),
        not_nets: entity.not_nets.clone(),
        some: asks.then(|| chosen.clone()),
        none: unwanted.into_iter().collect(),
    };
    (chosen, condition)
}

/// Reads a selector. Stored ones are checked; should one not parse all the same, it selects nothing.
pub(super) fn selector(text: Option<&str>) -> Option<Selector> {
    let nothing = || "!all()".parse().unwrap_or_default();
    text.map(|text| text.parse().unwrap_or_else(|_| nothing()))
}
