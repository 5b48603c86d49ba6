//! Why a packet goes where it goes: every decision on its way, as the store has it.
//!
//! ```text
//!  Question ─ends─► who both are, and which addresses they speak by
//!                        │
//!                        ▼
//!  egress policy ─► way (route, tunnel, encryption, NAT, MTU) ─► ingress policy ─► Explanation
//!                        │                                            │
//!                        └──────── Expected: what the kernel should say, for who can ask it
//! ```
//!
//! Nothing is assumed of the kernel here. All decisions are told, also those behind one that drops the packet.

mod ends;
mod error;
mod judge;
mod ports;
mod way;

use std::net::IpAddr;

use model::api::{
    AddressShow, ExplainAt, ExplainDecision, ExplainKind, ExplainPacket, ExplainPath, ExplainRoute,
    ExplainStaged, ExplainStep, Explanation,
};
use model::object::ObjectId;
use model::resources::{EndpointToHostAction, PolicyType};
use model::state::NodeState;

pub use ends::Ends;
pub use error::ExplainError;
pub use judge::{Decided, Decider};
pub use way::Way;

use crate::Inputs;
use crate::policy::{Mode, Packet, World};
use ends::{End, Who};
use judge::Judge;

/// Protocols with ports.
const WITH_PORTS: [u8; 4] = [6, 17, 132, 136];
/// The source port of who asks for none: one that clients use.
pub const SOURCE_PORT: u16 = 49_152;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Types of the request that `ping` sends, of ICMP and of ICMPv6; who asks for none asks about those, with code 0.
pub const ECHO: [u8; 2] = [8, 128];

/// What is asked. Ends are addresses, `NAMESPACE/NAME` of workloads, or names of nodes and host endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who sends.
    pub source: String,
    /// Who is to get it.
    pub destination: String,
    /// IP protocol number; ICMP stands for ICMPv6 too.
    pub protocol: u8,
    /// Destination port; any without.
    pub port: Option<u16>,
    /// Source port; one of those that clients use without.
    pub source_port: Option<u16>,
    /// Type of ICMP; an echo request without.
    pub icmp_type: Option<u8>,
    /// Code of ICMP.
    pub icmp_code: Option<u8>,
    /// Tell policies too that do not select an end.
    pub all: bool,
}

/// An explanation from the store alone, and what the kernel should say if it is right.
#[derive(Clone, Debug)]
pub struct Explained {
    /// For people and scripts; nothing of the kernel is in it yet.
    pub explanation: Explanation,
    /// The packet, one of any that are asked about.
    pub packet: Packet,
    /// The way.
    pub way: Way,
    /// What policy says at each end that has any.
    pub judged: Vec<Judged>,
    /// Whether the source is the host that `way` begins at, and not one of its workloads.
    pub from_host: bool,
    /// Interface of the source, where it is a workload of this node.
    pub source_interface: Option<String>,
}

/// What policy should say about a packet at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The endpoint.
    pub endpoint: ObjectId,
    /// Its node.
    pub node: String,
    /// Which way the packet goes there.
    pub direction: PolicyType,
    /// The packet.
    pub packet: Packet,
    /// By what, and whether it passes.
    pub decided: Decided,
}

/// What this node knows.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What its state is calculated from.
    pub inputs: Inputs<'a>,
    /// The state that it should have.
    pub state: &'a NodeState,
    /// What its host has to reach to be a node, beside what the mesh says: protocol and port.
    pub needs: &'a [(u8, u16)],
}

/// Explains. `records` is what the address records say of ends that nobody is known to have.
///
/// # Errors
/// There is nothing to explain.
pub fn explain(
    known: &Known<'_>,
    question: &Question,
    ends: &Ends,
    records: &[AddressShow],
) -> Result<Explained, ExplainError> {
    let Known {
        inputs,
        state,
        needs,
    } = known;
    let find = |ip| End::at(inputs, ip);
    let (mut source, destination) = (find(ends.source), find(ends.destination));
    let nobody = |e: &End<'_>| matches!(e.who, Who::Outside);
    if nobody(&source) && nobody(&destination) {
        return Err(ExplainError::NothingOfOurs {
            from: source.ip,
            to: destination.ip,
        });
    }
    let way = way::find(inputs, state, &source, &destination);
    if let (Who::Node { .. }, Some(ip)) = (&source.who, way.route.as_ref().and_then(|r| r.src)) {
        // A host speaks by the address that the route names.
        source = End {
            ip,
            who: source.who,
            ..find(ip)
        };
    }
    let packet = packet(question, source.ip, destination.ip);
    let any_port = question.port.is_none() && WITH_PORTS.contains(&packet.protocol);
    let seen = [source.ip, destination.ip];
    let seen: Vec<IpAddr> = seen.into_iter().chain(way.masquerade).collect();
    let case = Case {
        inputs,
        source: &source,
        destination: &destination,
        way: &way,
        any_port,
        all: question.all,
    };

    let world = |mode| {
        World::around(inputs.snapshot, mode, &seen).needing(inputs.snapshot, inputs.node, needs)
    };
    let (world, staged) = (world(Mode::Enforced), world(Mode::Staged));
    let ends_of_policy = case.ends_of_policy(&world);
    let sorts = match any_port {
        true => ports::sorts(&world, &ends_of_policy, &packet),
        false => Ok(Vec::new()),
    };
    // The packet that stands for any port has one that no rule names, if there is one.
    let packet = match &sorts {
        Ok(sorts) => ports::widest(sorts).map_or(packet, |port| with_port(packet, port)),
        Err(_) => packet,
    };
    let steps = case.steps(&world, &packet, records);
    let (verdict, summary) = judge::verdict(&steps);
    let is_way = |s: &ExplainStep| !matches!(s.at, ExplainAt::Egress | ExplainAt::Ingress);
    let mut way_steps = steps.iter().filter(|s| is_way(s));
    let reachable = !way_steps.any(|s| s.decision == ExplainDecision::Deny);
    let listed = match &sorts {
        Ok(sorts) => ports::list(&world, &ends_of_policy, &packet, sorts, reachable),
        Err(_) => Vec::new(),
    };

    let staged = case.staged(&staged, &packet, records, &steps);
    let mut judged = Vec::new();
    let mut asked = vec![packet];
    asked.extend(listed.iter().map(|l| with_port(packet, l.sample)));
    for packet in &asked {
        judged.extend(ends_of_policy.iter().map(|end| end.judge(&world, packet)));
    }
    let mut not_checked = Vec::new();
    if let Err(most) = sorts {
        not_checked.push(format!(
            "rules name more than {most} ports: ask again with --port to know what becomes of one"
        ));
    }
    let explanation = Explanation {
        verdict,
        summary,
        packet: shown(&packet, any_port),
        source: source.shown(inputs, &world, records),
        destination: destination.shown(inputs, &world, records),
        steps,
        ports: listed.into_iter().map(|l| l.ports).collect(),
        route: way.shown(inputs.snapshot.encryption()),
        mtu: way.mtu,
        staged,
        kernel_agrees: false,
        kernel: Vec::new(),
        not_checked,
    };
    let interface = source.local_interface(inputs);
    let from_host = matches!(source.who, Who::Node { .. }) && source.node() == Some(&*way.node);
    Ok(Explained {
        explanation,
        packet,
        way,
        judged,
        from_host,
        source_interface: interface.map(str::to_owned),
    })
}

fn with_port(packet: Packet, port: u16) -> Packet {
    Packet {
        destination_port: port,
        ..packet
    }
}

fn packet(question: &Question, source: IpAddr, destination: IpAddr) -> Packet {
    let protocol = match (question.protocol, destination) {
        (ICMP, IpAddr::V6(_)) => ICMPV6,
        (protocol, _) => protocol,
    };
    let has_ports = WITH_PORTS.contains(&protocol);
    let [v4, v6] = ECHO;
    let echo = if protocol == ICMPV6 { v6 } else { v4 };
    let icmp = match question.icmp_type {
        Some(icmp_type) => (icmp_type, question.icmp_code.unwrap_or(0)),
        None => (echo, 0),
    };
    let port = |port: Option<u16>, default| match has_ports {
        true => port.unwrap_or(default),
        false => 0,
    };
    Packet {
        source,
        destination,
        protocol,
        source_port: port(question.source_port, SOURCE_PORT),
        destination_port: port(question.port, 0),
        icmp: matches!(protocol, ICMP | ICMPV6).then_some(icmp),
    }
}

fn shown(packet: &Packet, any_port: bool) -> ExplainPacket {
    let has_ports = WITH_PORTS.contains(&packet.protocol);
    ExplainPacket {
        protocol: packet.protocol,
        port: Some(packet.destination_port).filter(|_| has_ports && !any_port),
        source_port: Some(packet.source_port).filter(|_| has_ports),
        icmp_type: packet.icmp.map(|(icmp_type, _)| icmp_type),
        icmp_code: packet.icmp.map(|(_, code)| code),
    }
}

/// What all steps hang on.
struct Case<'c, 'a> {
    inputs: &'c Inputs<'a>,
    source: &'c End<'a>,
    destination: &'c End<'a>,
    way: &'c Way,
    any_port: bool,
    all: bool,
}

impl<'a> Case<'_, 'a> {
    /// Where policy is asked: what the source sends, and what the destination gets.
    fn ends_of_policy<'w>(&self, world: &'w World<'a>) -> Vec<Judge<'w, 'a>> {
        let way = self.way;
        // A host's own programs are at its physical interfaces: they see what a tunnel carries by its outside.
        let is_bare = matches!(way.path, ExplainPath::Direct | ExplainPath::Host);
        let same_node =
            self.source.node().is_some() && self.source.node() == self.destination.node();
        let mut ends = Vec::new();
        match self.source.who {
            Who::Workload { .. } => {
                ends.extend(Judge::workload(world, self.source, PolicyType::Egress));
            }
            Who::Node { .. } if is_bare => {
                ends.extend(Judge::host(
                    self.inputs,
                    world,
                    self.source,
                    way,
                    PolicyType::Egress,
                ));
            }
            _ => {}
        }
        match self.destination.who {
            // What a host sends to its own workload passes always.
            Who::Workload { .. } if same_node && self.source.is_host() => {}
            Who::Workload { .. } => {
                ends.extend(Judge::workload(
                    world,
                    self.destination,
                    PolicyType::Ingress,
                ));
            }
            Who::Node { .. } | Who::Host { .. }
                if !same_node && (is_bare || self.source.node().is_none()) =>
            {
                ends.extend(Judge::host(
                    self.inputs,
                    world,
                    self.destination,
                    way,
                    PolicyType::Ingress,
                ));
            }
            _ => {}
        }
        for end in &mut ends {
            if end.direction == PolicyType::Ingress {
                end.seen_from = way.masquerade;
            }
        }
        ends
    }

    /// Every step of the way.
    fn steps(
        &self,
        world: &World<'a>,
        packet: &Packet,
        records: &[AddressShow],
    ) -> Vec<ExplainStep> {
        let ends = self.ends_of_policy(world);
        let walk = |direction| {
            let end = ends.iter().find(|e| e.direction == direction)?;
            Some(end.walk(world, packet, self.any_port, self.all))
        };
        let mut steps = Vec::new();
        if let Who::Nobody = self.source.who {
            let why = self.source.nobody(self.inputs, records);
            let why = format!("{why}: whoever sent from it would be dropped as a spoofer");
            steps.push(step(ExplainAt::Source, ExplainDecision::Deny, why));
        }
        let egress = walk(PolicyType::Egress);
        steps.extend(egress.unwrap_or_else(|| no_policy(ExplainAt::Egress, self.source)));
        steps.extend(self.way.steps(self.inputs.snapshot.encryption()));
        let ingress = walk(PolicyType::Ingress);
        steps.extend(ingress.unwrap_or_else(|| self.no_ingress()));
        steps.extend(self.arrival(records));
        steps
    }

    fn no_ingress(&self) -> Vec<ExplainStep> {
        let is_workload = matches!(self.destination.who, Who::Workload { .. });
        if is_workload && self.source.is_host() {
            let why = "from the host itself to its own workload, which passes always";
            let why = why.to_owned();
            return vec![step(ExplainAt::Ingress, ExplainDecision::Allow, why)];
        }
        no_policy(ExplainAt::Ingress, self.destination)
    }

    /// What becomes of it at its end, after all policy.
    fn arrival(&self, records: &[AddressShow]) -> Option<ExplainStep> {
        let at = ExplainAt::Destination;
        let (decision, why) = match self.destination.who {
            Who::Nobody => {
                let why = self.destination.nobody(self.inputs, records);
                (ExplainDecision::Deny, why)
            }
            Who::Node { .. } if self.is_to_own_host() => {
                let action = self.inputs.snapshot.mesh.default_endpoint_to_host_action;
                let why = format!(
                    "from a workload to its own host: defaultEndpointToHostAction is {action:?}"
                );
                match action {
                    EndpointToHostAction::Drop => (ExplainDecision::Deny, why),
                    EndpointToHostAction::Return | EndpointToHostAction::Accept => {
                        (ExplainDecision::Allow, why)
                    }
                }
            }
            _ => return None,
        };
        Some(step(at, decision, why))
    }

    fn is_to_own_host(&self) -> bool {
        matches!(self.source.who, Who::Workload { .. })
            && self.source.node() == self.destination.node()
    }

    /// What staged policies would say; nothing where it is the same by the same rules.
    fn staged(
        &self,
        world: &World<'a>,
        packet: &Packet,
        records: &[AddressShow],
        enforced: &[ExplainStep],
    ) -> Option<ExplainStaged> {
        let steps = self.steps(world, packet, records);
        if judge::deciding(&steps).eq(judge::deciding(enforced)) {
            return None;
        }
        let (verdict, summary) = judge::verdict(&steps);
        let of_policy = |s: &ExplainStep| matches!(s.at, ExplainAt::Egress | ExplainAt::Ingress);
        Some(ExplainStaged {
            verdict,
            summary,
            steps: steps.into_iter().filter(of_policy).collect(),
        })
    }
}

fn step(at: ExplainAt, decision: ExplainDecision, reason: String) -> ExplainStep {
    ExplainStep {
        at,
        decision,
        tier: None,
        policy: None,
        policy_kind: None,
        rule: None,
        by_port: false,
        reason,
    }
}

/// The step of an end that no policy is about.
fn no_policy(at: ExplainAt, end: &End<'_>) -> Vec<ExplainStep> {
    let why = match end.who {
        Who::Outside | Who::Nobody => return Vec::new(),
        Who::Workload { .. } => "its policy is not known".to_owned(),
        Who::Node { .. } | Who::Host { .. } => {
            "no host endpoint has a say: none is at the interface that it goes by".to_owned()
        }
    };
    vec![step(at, ExplainDecision::Allow, why)]
}

impl Way {
    fn shown(&self, encryption: model::resources::Encryption) -> ExplainRoute {
        let hop = self.hop();
        ExplainRoute {
            node: self.node.clone(),
            path: self.path,
            next_node: self.next.clone(),
            prefix: self.key.map(|k| k.dst),
            via: hop.and_then(|h| h.via),
            device: hop.filter(|_| self.is_here).map(|h| h.dev.to_string()),
            tunnel_endpoint: self.carried_to,
            encrypted: self.path == ExplainPath::WireGuard,
            encryption,
            masquerade: self.masquerade,
            mtu_reason: self.mtu_reason.clone(),
        }
    }
}

/// The kind that an end is shown as.
fn kind(who: &Who<'_>) -> ExplainKind {
    match who {
        Who::Workload { .. } => ExplainKind::Workload,
        Who::Node { .. } => ExplainKind::Node,
        Who::Host { .. } => ExplainKind::Host,
        Who::Nobody => ExplainKind::Unassigned,
        Who::Outside => ExplainKind::Outside,
    }
}
