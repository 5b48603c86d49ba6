//! What policy says about a packet: an obvious first-match evaluator over the resources.
//!
//! ```text
//!  Snapshot ─World::new─► parties: workloads, hosts, network sets, with the labels that selectors see
//!                         tiers in order ─► policies in order ─► rules
//!                                │ evaluate(party, direction, packet)
//!                                ▼
//!                         Verdict: allowed? and each rule that had a say, the deciding one last
//! ```
//!
//! A tier whose policies apply to an endpoint in a direction decides: its first rule that matches, else its
//! default action. `Pass` goes on to the next tier, `Log` to the next rule. What no tier decides is left to
//! the profiles: workloads have one that allows, hosts only by name.
//!
//! This is what compiled policy must agree with, and what explains a verdict to people. It is plain rather
//! than fast: the work grows with policies, rules and endpoints.
//!
//! Beyond it, and the data path's own to do: whether a packet belongs to a connection that was let through, traffic
//! that a host only forwards, and what becomes of packets from a workload to its own host.

mod matching;
mod order;
mod party;
mod verdict;
mod walk;

pub use party::{Party, PartyId};
pub use verdict::{By, Step, Verdict};
pub use walk::{Depth, Look, Said};

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::Cidr;
use model::resources::{Action, HostPort, PolicyType, TierAction};
use model::snapshot::Snapshot;

use order::Tier;

/// A packet as policy sees it, the first of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port; 0 where the protocol has none.
    pub destination_port: u16,
    /// Type and code of ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
}

/// Which policies count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Those that are enforced.
    Enforced,
    /// Those that would be, were the staged ones put in force.
    Staged,
}

/// Everything that policy looks at.
#[derive(Clone, Debug)]
pub struct World<'a> {
    parties: Vec<Party<'a>>,
    tiers: Vec<Tier<'a>>,
    /// What no policy of a host closes, inbound and outbound.
    failsafe: [BTreeSet<(u8, u16)>; 2],
    /// What some hosts have to send besides, and their endpoints.
    needs: (BTreeSet<&'a str>, BTreeSet<(u8, u16)>),
}

/// Protocols and ports of a host that no policy closes, so that it can still be reached and mended. Calico's defaults.
pub const FAILSAFE_INBOUND: [(u8, u16); 9] = [
    (TCP, 22),
    (UDP, 68),
    (TCP, 179),
    (TCP, 2379),
    (TCP, 2380),
    (TCP, 5473),
    (TCP, 6443),
    (TCP, 6666),
    (TCP, 6667),
];
/// As [`FAILSAFE_INBOUND`], for what a host sends.
pub const FAILSAFE_OUTBOUND: [(u8, u16); 9] = [
    (UDP, 53),
    (UDP, 67),
    (TCP, 179),
    (TCP, 2379),
    (TCP, 2380),
    (TCP, 5473),
    (TCP, 6443),
    (TCP, 6666),
    (TCP, 6667),
];
const TCP: u8 = 6;
const UDP: u8 = 17;
/// BFD over one hop, its echo, and over many (RFC 5881, RFC 5883).
const BFD: [u16; 3] = [3784, 3785, 4784];

/// What no policy of a host closes, as protocol and port, inbound and outbound: what the mesh says, or Calico's defaults,
/// and always what a node needs to be one.
pub fn failsafe(snapshot: &Snapshot) -> [BTreeSet<(u8, u16)>; 2] {
    let mesh = &snapshot.mesh;
    let both = [
        (&mesh.failsafe_inbound_host_ports, FAILSAFE_INBOUND),
        (&mesh.failsafe_outbound_host_ports, FAILSAFE_OUTBOUND),
    ];
    let own: Vec<(u8, u16)> = tunnels(snapshot).chain(bgp(snapshot)).collect();
    both.map(|(written, usual)| {
        let asked = match written {
            Some(ports) => ports.iter().filter_map(number).collect(),
            None => usual.to_vec(),
        };
        asked.into_iter().chain(own.iter().copied()).collect()
    })
}

fn number(port: &HostPort) -> Option<(u8, u16)> {
    Some((port.protocol.number()?, port.port))
}

fn tunnels(snapshot: &Snapshot) -> impl Iterator<Item = (u8, u16)> {
    let mesh = &snapshot.mesh;
    let ports = [mesh.vxlan_port, mesh.wireguard_port, mesh.post_quantum_port];
    ports.into_iter().map(|port| (UDP, port))
}

/// Of all nodes and peers: either end may begin.
fn bgp(snapshot: &Snapshot) -> impl Iterator<Item = (u8, u16)> {
    let listening = snapshot.bgp_configurations.values();
    let listening = listening.filter_map(|c| c.spec.listen_port);
    let peers = snapshot.bgp_peers.values();
    let peers = peers.filter_map(|p| p.spec.peer_ip.as_ref()?.port);
    let sessions = listening.chain(peers).chain([model::bgp::PORT]);
    (sessions.map(|port| (TCP, port))).chain(BFD.map(|port| (UDP, port)))
}

impl<'a> World<'a> {
    /// Reads the policy of a snapshot.
    pub fn new(snapshot: &'a Snapshot, mode: Mode) -> World<'a> {
        World::of(snapshot, mode, |_| true)
    }

    /// Reads what matters for packets between some addresses: of workloads and sets, only those that have one.
    pub fn around(snapshot: &'a Snapshot, mode: Mode, ips: &[IpAddr]) -> World<'a> {
        World::of(snapshot, mode, |net| ips.iter().any(|ip| net.contains(*ip)))
    }

    fn of(snapshot: &'a Snapshot, mode: Mode, wanted: impl Fn(Cidr) -> bool) -> World<'a> {
        World {
            parties: party::all(snapshot, wanted),
            tiers: order::tiers(snapshot, mode),
            failsafe: failsafe(snapshot),
            needs: Default::default(),
        }
    }

    /// What the host of a node has to reach beside what the mesh says of all, such as its store, as protocol and port: no
    /// policy closes that either.
    #[must_use]
    pub fn needing(mut self, snapshot: &'a Snapshot, node: &str, ports: &[(u8, u16)]) -> World<'a> {
        let hosts = snapshot.host_endpoints.iter();
        let its = hosts.filter(|(_, host)| host.spec.node == node);
        let its = its.map(|(name, _)| name.as_str());
        self.needs = (its.collect(), ports.iter().copied().collect());
        self
    }

    /// A workload.
    pub fn workload(&self, namespace: &str, name: &str) -> Option<&Party<'a>> {
        self.party(PartyId::Workload(namespace, name))
    }

    /// A host endpoint.
    pub fn host(&self, name: &str) -> Option<&Party<'a>> {
        self.party(PartyId::Host(name))
    }

    fn party(&self, id: PartyId<'_>) -> Option<&Party<'a>> {
        self.parties.iter().find(|p| p.id == id)
    }

    /// The workload that has an address; the first by namespace and name where several claim it.
    pub fn workload_at(&self, ip: IpAddr) -> Option<&Party<'a>> {
        let mut parties = self.parties.iter();
        parties.find(|p| matches!(p.id, PartyId::Workload(..)) && p.has(ip))
    }

    /// The network sets that have an address.
    pub fn sets_at(&self, ip: IpAddr) -> impl Iterator<Item = &Party<'a>> {
        let parties = self.parties.iter();
        parties.filter(move |p| matches!(p.id, PartyId::Set(..)) && p.has(ip))
    }

    /// The host endpoints that have an address.
    pub fn hosts_at(&self, ip: IpAddr) -> impl Iterator<Item = &Party<'a>> {
        self.parties
            .iter()
            .filter(move |p| p.is_host() && p.has(ip))
    }

    /// The policies that apply to an endpoint in a direction: tiers in order, in each its policies in order.
    pub fn policies<'w>(
        &'w self,
        endpoint: &'w Party<'a>,
        direction: PolicyType,
    ) -> impl Iterator<Item = (&'w str, Vec<&'a model::object::ObjectId>)> {
        self.tiers.iter().filter_map(move |tier| {
            let ids = tier.policies(endpoint, direction).map(|p| p.id);
            let ids: Vec<_> = ids.collect();
            (!ids.is_empty()).then_some((tier.name, ids))
        })
    }

    /// What becomes of a packet at an endpoint.
    pub fn evaluate(
        &self,
        endpoint: &Party<'a>,
        direction: PolicyType,
        packet: &Packet,
    ) -> Verdict<'a> {
        let mut steps = Vec::new();
        if self.is_failsafe(endpoint, direction, packet) {
            return Verdict::end(steps, By::Failsafe, true);
        }
        'tiers: for tier in &self.tiers {
            let mut last = None;
            for policy in tier.policies(endpoint, direction) {
                last = Some(policy.id);
                for (index, rule) in policy.rules(direction).iter().enumerate() {
                    if !rule.matches(policy.namespace(), packet, &self.parties) {
                        continue;
                    }
                    let by = By::Rule {
                        tier: tier.name,
                        policy: policy.id,
                        rule: index,
                    };
                    match rule.action() {
                        Action::Allow => return Verdict::end(steps, by, true),
                        Action::Deny => return Verdict::end(steps, by, false),
                        action @ Action::Log => steps.push(Step { by, action }),
                        action @ Action::Pass => {
                            steps.push(Step { by, action });
                            continue 'tiers;
                        }
                    }
                }
            }
            // A tier that has nothing to say about the endpoint is not there for it.
            let Some(policy) = last else { continue };
            let by = By::EndOfTier {
                tier: tier.name,
                policy,
            };
            match tier.default_action {
                TierAction::Deny => return Verdict::end(steps, by, false),
                TierAction::Pass => steps.push(Step {
                    by,
                    action: Action::Pass,
                }),
            }
        }
        Verdict::end(steps, By::Profile, endpoint.default_allow)
    }

    /// What becomes of a packet between workloads: the sender's egress and the receiver's ingress both have to
    /// let it through. `None` for an end that is no workload.
    pub fn between(&self, packet: &Packet) -> [Option<Verdict<'a>>; 2] {
        let judge = |ip, direction| {
            let party = self.workload_at(ip)?;
            Some(self.evaluate(party, direction, packet))
        };
        [
            judge(packet.source, PolicyType::Egress),
            judge(packet.destination, PolicyType::Ingress),
        ]
    }

    fn is_failsafe(&self, endpoint: &Party<'_>, direction: PolicyType, packet: &Packet) -> bool {
        let asked = (packet.protocol, packet.destination_port);
        self.failsafe_of(endpoint, direction)
            .any(|open| open.contains(&asked))
    }

    /// What no policy of an endpoint closes.
    fn failsafe_of(
        &self,
        endpoint: &Party<'_>,
        direction: PolicyType,
    ) -> impl Iterator<Item = &BTreeSet<(u8, u16)>> {
        let [inbound, outbound] = &self.failsafe;
        let (hosts, needs) = &self.needs;
        let (all, own) = match (endpoint.id, direction) {
            (PartyId::Host(_), PolicyType::Ingress) => (Some(inbound), None),
            (PartyId::Host(name), PolicyType::Egress) => {
                (Some(outbound), hosts.contains(name).then_some(needs))
            }
            _ => (None, None),
        };
        all.into_iter().chain(own)
    }
}
