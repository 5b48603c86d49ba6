//! Whether a rule matches a packet.

use std::net::IpAddr;

use model::resources::workload_endpoint::Protocol;
use model::resources::{Action, EntityRule, IcmpFields, PolicyPort, Rule as Spec};
use model::selector::Selector;
use model::{Cidr, Family};

use super::order::selector;
use super::{Packet, Party};
use crate::problems::some_of;

/// A rule, its selectors read.
#[derive(Clone, Debug)]
pub(super) struct Rule<'a> {
    spec: &'a Spec,
    source: Entity<'a>,
    destination: Entity<'a>,
}

/// One end of a rule.
#[derive(Clone, Debug)]
struct Entity<'a> {
    spec: &'a EntityRule,
    selector: Option<Selector>,
    not_selector: Option<Selector>,
    namespace_selector: Option<Selector>,
}

/// Whether destination ports count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// They do.
    Count,
    /// What a rule says of them is taken to hold.
    Ignore,
}

/// A condition that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unmet {
    /// Of which end; of the rule as a whole without.
    pub(super) side: Option<Side>,
    /// Which one.
    pub(super) field: Field,
}

impl Unmet {
    /// The destination port.
    pub(super) const PORTS: Unmet = Unmet {
        side: Some(Side::Destination),
        field: Field::Ports,
    };
}

/// An end of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// A field of a rule, or of one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    IpVersion,
    Protocol,
    NotProtocol,
    Icmp,
    NotIcmp,
    Nets,
    NotNets,
    Selector,
    NotSelector,
    Ports,
    NotPorts,
}

impl Field {
    /// As it is written in a rule.
    pub(super) fn name(self) -> &'static str {
        match self {
            Field::IpVersion => "ipVersion",
            Field::Protocol => "protocol",
            Field::NotProtocol => "notProtocol",
            Field::Icmp => "icmp",
            Field::NotIcmp => "notICMP",
            Field::Nets => "nets",
            Field::NotNets => "notNets",
            Field::Selector => "selector",
            Field::NotSelector => "notSelector",
            Field::Ports => "ports",
            Field::NotPorts => "notPorts",
        }
    }
}

/// One end of a packet.
#[derive(Clone, Copy)]
struct End {
    ip: IpAddr,
    protocol: u8,
    port: u16,
}

impl<'a> Rule<'a> {
    pub(super) fn read(spec: &'a Spec) -> Rule<'a> {
        Rule {
            spec,
            source: Entity::read(&spec.source),
            destination: Entity::read(&spec.destination),
        }
    }

    pub(super) fn action(&self) -> Action {
        self.spec.action
    }

    /// Whether everything that it asks for holds.
    pub(super) fn matches(
        &self,
        namespace: Option<&str>,
        packet: &Packet,
        parties: &[Party<'_>],
    ) -> bool {
        self.unmet(namespace, packet, parties, Ports::Count)
            .is_none()
    }

    /// The first thing that it asks for and that does not hold.
    pub(super) fn unmet(
        &self,
        namespace: Option<&str>,
        packet: &Packet,
        parties: &[Party<'_>],
        destination_ports: Ports,
    ) -> Option<Unmet> {
        let Packet { protocol, icmp, .. } = *packet;
        let is = |wanted: &Protocol| wanted.number() == Some(protocol);
        let end = |ip, port| End { ip, protocol, port };
        let whole = |field| Some(Unmet { side: None, field });
        if !self.is_of_family(packet) {
            return whole(Field::IpVersion);
        }
        if !self.spec.protocol.as_ref().is_none_or(is) {
            return whole(Field::Protocol);
        }
        if self.spec.not_protocol.as_ref().is_some_and(is) {
            return whole(Field::NotProtocol);
        }
        if !self.spec.icmp.is_none_or(|wanted| is_icmp(wanted, icmp)) {
            return whole(Field::Icmp);
        }
        if (self.spec.not_icmp).is_some_and(|wanted| is_icmp(wanted, icmp)) {
            return whole(Field::NotIcmp);
        }
        let source = end(packet.source, packet.source_port);
        let destination = end(packet.destination, packet.destination_port);
        let of = |side| {
            move |field| Unmet {
                side: Some(side),
                field,
            }
        };
        let unmet = (self.source).unmet(namespace, source, parties, Ports::Count);
        unmet.map(of(Side::Source)).or_else(|| {
            let unmet =
                (self.destination).unmet(namespace, destination, parties, destination_ports);
            unmet.map(of(Side::Destination))
        })
    }

    /// Whether it asks for destination ports.
    pub(super) fn speaks_of_ports(&self) -> bool {
        let EntityRule {
            ports, not_ports, ..
        } = &self.spec.destination;
        !ports.is_empty() || !not_ports.is_empty()
    }

    /// The destination ports that it speaks of, as ranges; names stand for what those at this end have.
    pub(super) fn destination_ports(
        &self,
        packet: &Packet,
        parties: &[Party<'_>],
    ) -> Vec<(u16, u16)> {
        let EntityRule {
            ports, not_ports, ..
        } = &self.spec.destination;
        let owners = || parties.iter().filter(|p| p.has(packet.destination));
        let numbers = |port: &PolicyPort| match port {
            PolicyPort::Range(first, last) => vec![(*first, *last)],
            PolicyPort::Named(name) => {
                let numbers = owners().flat_map(|p| p.ports_named(name, packet.protocol));
                numbers.map(|port| (port, port)).collect()
            }
        };
        ports.iter().chain(not_ports).flat_map(numbers).collect()
    }

    /// What a condition asks for, as it is written.
    pub(super) fn wanted(&self, unmet: Unmet) -> String {
        let text = |value: Option<String>| value.unwrap_or_default();
        let entity = match unmet.side {
            Some(Side::Source) => &self.spec.source,
            Some(Side::Destination) | None => &self.spec.destination,
        };
        let icmp = |fields: Option<IcmpFields>| {
            let number = |n: Option<u8>| n.map_or("any".to_owned(), |n| n.to_string());
            text(fields.map(|f| format!("type {}, code {}", number(f.icmp_type), number(f.code))))
        };
        match unmet.field {
            Field::IpVersion => match self.spec.ip_version {
                Some(version) => format!("IPv{version}"),
                None => "the IP version of its nets".to_owned(),
            },
            Field::Protocol => text(self.spec.protocol.as_ref().map(ToString::to_string)),
            Field::NotProtocol => text(self.spec.not_protocol.as_ref().map(ToString::to_string)),
            Field::Icmp => icmp(self.spec.icmp),
            Field::NotIcmp => icmp(self.spec.not_icmp),
            Field::Nets => list(&entity.nets),
            Field::NotNets => list(&entity.not_nets),
            Field::Selector => match (&entity.selector, &entity.namespace_selector) {
                (Some(own), Some(of)) => format!("{own}, in namespaces {of}"),
                (Some(own), None) => own.clone(),
                (None, Some(of)) => format!("in namespaces {of}"),
                (None, None) => "somebody of its namespace".to_owned(),
            },
            Field::NotSelector => text(entity.not_selector.clone()),
            Field::Ports if entity.ports.is_empty() => {
                format!("other than {}", list(&entity.not_ports))
            }
            Field::Ports => list(&entity.ports),
            Field::NotPorts => list(&entity.not_ports),
        }
    }

    /// A rule with prefixes is about their family only, those that have to be missed included.
    fn is_of_family(&self, packet: &Packet) -> bool {
        let family = Family::of(packet.destination);
        let version = match family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        let lists = [
            &self.source.spec.nets,
            &self.source.spec.not_nets,
            &self.destination.spec.nets,
            &self.destination.spec.not_nets,
        ];
        let fits = |nets: &Vec<Cidr>| nets.is_empty() || nets.iter().any(|n| n.family() == family);
        self.spec.ip_version.is_none_or(|v| v == version) && lists.into_iter().all(fits)
    }
}

/// The first few of many.
fn list<T: std::fmt::Display>(items: &[T]) -> String {
    some_of(items.iter())
}

fn is_icmp(wanted: IcmpFields, packet: Option<(u8, u8)>) -> bool {
    let Some((icmp_type, code)) = packet else {
        return false;
    };
    wanted.icmp_type.is_none_or(|t| t == icmp_type) && wanted.code.is_none_or(|c| c == code)
}

impl<'a> Entity<'a> {
    fn read(spec: &'a EntityRule) -> Entity<'a> {
        Entity {
            spec,
            selector: selector(spec.selector.as_deref()),
            not_selector: selector(spec.not_selector.as_deref()),
            namespace_selector: selector(spec.namespace_selector.as_deref()),
        }
    }

    fn unmet(
        &self,
        namespace: Option<&str>,
        end: End,
        parties: &[Party<'_>],
        which: Ports,
    ) -> Option<Field> {
        let owners = || parties.iter().filter(|p| p.has(end.ip));
        let nets = &self.spec.nets;
        let ports = &self.spec.ports;
        // Whoever is behind the address counts, and all of them: a set may hold a workload's address.
        let chosen = || owners().filter(|p| self.chooses(namespace, p));
        if !nets.is_empty() && !nets.iter().any(|n| n.contains(end.ip)) {
            return Some(Field::Nets);
        }
        if self.spec.not_nets.iter().any(|n| n.contains(end.ip)) {
            return Some(Field::NotNets);
        }
        if self.asks_for_somebody(namespace) && chosen().next().is_none() {
            return Some(Field::Selector);
        }
        if (self.not_selector.as_ref()).is_some_and(|s| owners().any(|p| p.selected(s))) {
            return Some(Field::NotSelector);
        }
        if which == Ports::Ignore {
            return None;
        }
        if !ports.is_empty() && !ports.iter().any(|p| is_port(p, end, chosen())) {
            return Some(Field::Ports);
        }
        if (self.spec.not_ports.iter()).any(|p| is_port(p, end, owners())) {
            return Some(Field::NotPorts);
        }
        None
    }

    /// Whether it takes somebody that is known. In a namespace `notSelector` alone does, too: what is not
    /// selected is looked for in the policy's own namespace.
    fn asks_for_somebody(&self, namespace: Option<&str>) -> bool {
        self.selector.is_some()
            || self.namespace_selector.is_some()
            || namespace.is_some() && self.not_selector.is_some()
    }

    /// Whether it is about this party, as far as its selectors go.
    fn chooses(&self, namespace: Option<&str>, party: &Party<'_>) -> bool {
        let in_scope = match (&self.namespace_selector, namespace) {
            (Some(selector), _) => party.namespace_selected(selector),
            (None, Some(own)) if self.asks_for_somebody(namespace) => party.lives_in(own),
            (None, _) => true,
        };
        in_scope && (self.selector.as_ref()).is_none_or(|s| party.selected(s))
    }
}

fn is_port<'p>(
    port: &PolicyPort,
    end: End,
    mut parties: impl Iterator<Item = &'p Party<'p>>,
) -> bool {
    match port {
        PolicyPort::Range(first, last) => (*first..=*last).contains(&end.port),
        PolicyPort::Named(name) => parties.any(|p| p.has_port(name, end.protocol, end.port)),
    }
}
