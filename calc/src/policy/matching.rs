//! Whether a rule matches a packet.

use std::net::IpAddr;

use model::resources::workload_endpoint::Protocol;
use model::resources::{Action, EntityRule, IcmpFields, PolicyPort, Rule as Spec};
use model::selector::Selector;
use model::{Cidr, Family};

use super::order::selector;
use super::{Packet, Party};

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
        let Packet { protocol, icmp, .. } = *packet;
        let is = |wanted: &Protocol| wanted.number() == Some(protocol);
        let end = |ip, port| End { ip, protocol, port };
        self.is_of_family(packet)
            && self.spec.protocol.as_ref().is_none_or(is)
            && !self.spec.not_protocol.as_ref().is_some_and(is)
            && self.spec.icmp.is_none_or(|wanted| is_icmp(wanted, icmp))
            && !self
                .spec
                .not_icmp
                .is_some_and(|wanted| is_icmp(wanted, icmp))
            && (self.source).matches(namespace, end(packet.source, packet.source_port), parties)
            && (self.destination).matches(
                namespace,
                end(packet.destination, packet.destination_port),
                parties,
            )
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

    fn matches(&self, namespace: Option<&str>, end: End, parties: &[Party<'_>]) -> bool {
        let owners = || parties.iter().filter(|p| p.has(end.ip));
        let nets = &self.spec.nets;
        let ports = &self.spec.ports;
        // Whoever is behind the address counts, and all of them: a set may hold a workload's address.
        let chosen = || owners().filter(|p| self.chooses(namespace, p));
        (nets.is_empty() || nets.iter().any(|n| n.contains(end.ip)))
            && !self.spec.not_nets.iter().any(|n| n.contains(end.ip))
            && (!self.asks_for_somebody(namespace) || chosen().next().is_some())
            && !(self.not_selector.as_ref()).is_some_and(|s| owners().any(|p| p.selected(s)))
            && (ports.is_empty() || ports.iter().any(|p| is_port(p, end, chosen())))
            && !(self.spec.not_ports.iter()).any(|p| is_port(p, end, owners()))
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
