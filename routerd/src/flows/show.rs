//! Records as they are shown.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::api::{Flow, FlowBy, FlowEnd, FlowStaged, FlowVerdict, Reporter};
use model::object::ObjectId;
use policy_ebpf::Rule;
use policy_ebpf::common::tables::Action;
use policy_ebpf::flows::{Record, Said, Who, ip};

use crate::time::rfc3339_millis;

/// Which records are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what was denied.
    pub denied: bool,
    /// Only what staged policies would have decided.
    pub staged: bool,
    /// Only what was seen in this time.
    pub since: Option<Duration>,
}

/// The same moment by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub(super) wall: SystemTime,
    /// Nanoseconds.
    pub(super) monotonic: u64,
}

impl Filter {
    /// Whether a record is.
    pub fn wants(&self, record: &Record, clock: &Clock) -> bool {
        let age = Duration::from_nanos(clock.monotonic.saturating_sub(record.last));
        self.is_about(record) && self.since.is_none_or(|since| age <= since)
    }

    /// Whether it is, whenever it was seen.
    pub(super) fn is_about(&self, record: &Record) -> bool {
        let other = self.denied && record.allowed || self.staged && record.decided.staged == 0;
        !other
    }
}

impl Clock {
    fn show(&self, at: u64) -> String {
        let shown = match at.checked_sub(self.monotonic) {
            Some(ahead) => self.wall + Duration::from_nanos(ahead),
            None => self.wall - Duration::from_nanos(self.monotonic - at),
        };
        rfc3339_millis(shown)
    }
}

/// A record for people and scripts.
pub fn flow(record: &Record, node: &str, clock: &Clock) -> Flow {
    let tuple = &record.tuple;
    let is_icmp = matches!(tuple.protocol, 1 | 58);
    let has_ports = matches!(tuple.protocol, 6 | 17 | 132 | 136);
    let [packets, reply_packets] = record.packets;
    let [bytes, reply_bytes] = record.bytes;
    let names = &record.names;
    Flow {
        id: record.id,
        start: clock.show(record.start),
        end: record.end.map(|end| clock.show(end)),
        last_seen: clock.show(record.last),
        source: end(ip(&tuple.source), names.source.as_ref()),
        destination: end(ip(&tuple.destination), names.destination.as_ref()),
        protocol: protocol(tuple.protocol),
        port: has_ports.then_some(tuple.destination_port),
        source_port: has_ports.then_some(tuple.source_port),
        icmp: is_icmp.then(|| tuple.destination_port.to_be_bytes()),
        verdict: verdict(record.allowed),
        by: by(names.rule.as_deref()),
        reason: record.reason.map(|r| format!("{r:?}")),
        kept: record.kept,
        bytes: bytes + reply_bytes,
        packets: packets + reply_packets,
        reply_bytes,
        reply_packets,
        reporter: match record.outbound {
            true => Reporter::Source,
            false => Reporter::Destination,
        },
        node: node.to_owned(),
        staged: (record.decided.staged != 0).then(|| FlowStaged {
            verdict: verdict(Action::of(record.decided.staged) == Action::Allow),
            by: by(names.staged.as_deref()),
        }),
        logged: names.logged.iter().map(|said| by(Some(said))).collect(),
    }
}

fn end(ip: IpAddr, who: Option<&Arc<Who>>) -> FlowEnd {
    let id = who.map(|w| &w.id);
    FlowEnd {
        ip,
        kind: id.map(|id| id.kind.to_string()).unwrap_or_default(),
        namespace: id.and_then(|id| id.namespace.clone()).unwrap_or_default(),
        name: who.map(|w| w.called.clone()).unwrap_or_default(),
        endpoint: id.map(|id| id.name.clone()).unwrap_or_default(),
        labels: who.map(|w| (*w.labels).clone()).unwrap_or_default(),
    }
}

/// A verdict.
pub(crate) fn verdict(allowed: bool) -> FlowVerdict {
    match allowed {
        true => FlowVerdict::Allow,
        false => FlowVerdict::Deny,
    }
}

/// What decided, in words.
pub(crate) fn by(said: Option<&Said>) -> FlowBy {
    let other = |by: &str| FlowBy {
        by: by.to_owned(),
        ..FlowBy::default()
    };
    match said {
        None => FlowBy::default(),
        Some(Said::Rule(Rule::Of {
            tier,
            policy,
            index,
            ..
        })) => FlowBy {
            by: "Rule".to_owned(),
            tier: Some(tier.clone()),
            kind: Some(policy.kind.to_string()),
            policy: Some(policy_name(policy)),
            rule: Some(*index),
        },
        Some(Said::Rule(Rule::EndOfTier { tier, .. })) => FlowBy {
            tier: Some(tier.clone()),
            ..other("EndOfTier")
        },
        Some(Said::Profile) => other("Profile"),
        Some(Said::Failsafe) => other("Failsafe"),
        Some(Said::Host) => other("Host"),
        Some(Said::EndpointToHost) => other("EndpointToHost"),
        Some(Said::Spoofed) => other("Spoofed"),
    }
}

/// `NAME`, or `NAMESPACE/NAME`.
pub(crate) fn policy_name(id: &ObjectId) -> String {
    match &id.namespace {
        Some(namespace) => format!("{namespace}/{}", id.name),
        None => id.name.clone(),
    }
}

/// The name of a protocol, or its number.
pub(crate) fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPv6",
        132 => "SCTP",
        136 => "UDPLite",
        other => return other.to_string(),
    }
    .to_owned()
}
