//! The world of these tests, and whoever judges in it.

use std::collections::BTreeMap;

use policy_common::connection::{Connection, Key};
use policy_common::endpoint::{Endpoint, Settings, flag, setting};
use policy_common::event::Counter;
use policy_common::packet::{Bytes, forward};
use policy_common::reason::Reason;
use policy_common::tables::{
    Action, Cell, CellKey, Chain, ClassKey, Classes, MAX_STAGES, PortKey, Stage, mask, rule,
};
use policy_common::verdict::judge;
use policy_common::world::{Frame, Scratch};
use policy_ebpf::Op;
use policy_ebpf::kernel::Hook;
use policy_ebpf::memory::Memory;

use crate::frame::{HOST_MAC, MAC, TCP, UDP, ethernet, icmp_of, ip};

/// The interfaces of the workload, of another one, of the host, and one that nobody knows.
pub const WORKLOAD: u32 = 7;
pub const OTHER: u32 = 9;
pub const HOST: u32 = 2;
pub const STRANGER: u32 = 99;

/// Of the other workload.
pub const MAC_OF_OTHER: [u8; 6] = [2, 0, 0, 0, 0, 8];
/// A MAC address of nobody here.
pub const MAC_OF_NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 9];

pub const OWN4: &str = "10.0.0.7";
pub const OWN6: &str = "fd00::7";
pub const PEER4: &str = "10.0.0.9";
pub const PEER6: &str = "fd00::9";

/// Rules: what ingress lets the peer do, and what egress lets the workload do.
pub const WEB: u32 = rule::word(16, Action::Allow);
pub const PING: u32 = rule::word(17, Action::Allow);
pub const DNS: u32 = rule::word(18, Action::Allow);
pub const ASSOCIATE: u32 = rule::word(19, Action::Allow);
pub const NO_INGRESS: u32 = rule::word(20, Action::Deny);
pub const HTTPS: u32 = rule::word(21, Action::Allow);
pub const ANY_UDP: u32 = rule::word(22, Action::Allow);
pub const ANY_PING: u32 = rule::word(23, Action::Allow);
pub const NO_EGRESS: u32 = rule::word(24, Action::Deny);
pub const LOGGED: u32 = rule::log(25);
pub const ALSO_LOGGED: u32 = rule::log(26);
/// Behind the rule that decides.
pub const NOT_LOGGED: u32 = rule::log(27);
/// All three.
pub const LOGS: u32 = rule::log(rule::FIRST_LIST + 1);
/// Leaves a tier before that of egress to the next, and so does its end.
pub const PASSED: u32 = rule::word(28, Action::Pass);
const END_PASSES: u32 = rule::word(29, Action::Pass);
pub const STAGED_DENY: u32 = rule::word(30, Action::Deny);

/// Chains.
const INGRESS: u32 = 1;
const EGRESS: u32 = 2;
const STAGED: u32 = 3;
/// One that denies everything.
pub const CLOSED: u32 = 4;

/// A frame on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    pub hook: Hook,
    pub ifindex: u32,
    pub came_from: u32,
    pub for_host: bool,
    pub bytes: Vec<u8>,
}

/// What the workload sends.
pub fn out(packet: &[u8]) -> Sent {
    Sent {
        hook: Hook::FromWire,
        ifindex: WORKLOAD,
        came_from: WORKLOAD,
        for_host: false,
        bytes: ethernet(MAC, packet),
    }
}

/// What the workload gets from elsewhere.
pub fn into(packet: &[u8]) -> Sent {
    Sent {
        hook: Hook::ToWire,
        ifindex: WORKLOAD,
        came_from: HOST,
        for_host: false,
        bytes: ethernet(HOST_MAC, packet),
    }
}

/// What the other workload sends.
pub fn out_of_other(packet: &[u8]) -> Sent {
    Sent {
        ifindex: OTHER,
        came_from: OTHER,
        bytes: ethernet(MAC_OF_OTHER, packet),
        ..out(packet)
    }
}

/// What the other workload gets from the first one.
pub fn into_other(packet: &[u8]) -> Sent {
    Sent {
        ifindex: OTHER,
        came_from: WORKLOAD,
        ..into(packet)
    }
}

impl Sent {
    pub fn from(mut self, ifindex: u32) -> Sent {
        self.came_from = ifindex;
        self
    }

    pub fn on(mut self, ifindex: u32) -> Sent {
        self.ifindex = ifindex;
        self
    }

    pub fn for_the_host(mut self) -> Sent {
        self.for_host = true;
        self
    }

    pub fn of_host(mut self) -> Sent {
        self.came_from = 0;
        self
    }

    /// At the other program of the interface.
    pub fn turned(mut self) -> Sent {
        self.hook = match self.hook {
            Hook::FromWire => Hook::ToWire,
            Hook::ToWire => Hook::FromWire,
        };
        self
    }
}

/// Where a frame that passes goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    Routed,
    Straight(u32),
}

/// Whoever judges: the functions in this process, and perhaps the program in the kernel with them.
pub trait Judge {
    /// Starts anew.
    fn new() -> Self;
    /// What becomes of a frame.
    fn judge(&mut self, sent: &Sent) -> Result<Went, Reason>;
    /// Changes the tables.
    fn change(&mut self, change: impl FnOnce(&mut Memory));
    /// Lets time pass.
    fn pass(&mut self, seconds: u64);
    /// The tables.
    fn memory(&self) -> &Memory;

    fn passes(&mut self, sent: &Sent) {
        let verdict = self.judge(sent);
        assert_eq!(verdict, Ok(Went::Routed), "{sent:?}");
    }

    fn goes_straight(&mut self, sent: &Sent, to: u32) {
        let verdict = self.judge(sent);
        assert_eq!(verdict, Ok(Went::Straight(to)), "{sent:?}");
    }

    fn drops(&mut self, reason: Reason, sent: &Sent) {
        let verdict = self.judge(sent);
        assert_eq!(verdict, Err(reason), "{sent:?}");
    }

    /// The only connection.
    fn connection(&self) -> (Key, Connection) {
        let connections = self.memory().connections.borrow();
        assert_eq!(connections.len(), 1, "{connections:?}");
        let (key, connection) = connections.iter().next().unwrap_or_else(|| unreachable!());
        (*key, connection.copy())
    }

    fn connections(&self) -> usize {
        self.memory().connections.borrow().len()
    }
}

/// The functions in this process.
pub struct Functions {
    pub memory: Memory,
    pub scratch: Scratch,
}

impl Judge for Functions {
    fn new() -> Functions {
        Functions {
            memory: world(),
            scratch: Scratch::default(),
        }
    }

    fn judge(&mut self, sent: &Sent) -> Result<Went, Reason> {
        self.judge_bytes(sent, &Slice(&sent.bytes))
    }

    fn change(&mut self, change: impl FnOnce(&mut Memory)) {
        change(&mut self.memory);
    }

    fn pass(&mut self, seconds: u64) {
        self.memory.now += seconds * SECOND;
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Functions {
    /// Judges a frame by bytes that are read in a way of their own.
    pub fn judge_bytes(&mut self, sent: &Sent, bytes: &impl Bytes) -> Result<Went, Reason> {
        self.memory.for_host = sent.for_host;
        let frame = Frame {
            ifindex: sent.ifindex,
            length: u32::try_from(sent.bytes.len()).unwrap_or(u32::MAX),
            packets: 1,
            received: sent.hook == Hook::FromWire,
            came_from: sent.came_from,
            tagged: false,
        };
        self.memory.straight.set(None);
        judge(&self.memory, bytes, &frame, &mut self.scratch)?;
        let Some((to, asks)) = self.memory.straight.get() else {
            return Ok(Went::Routed);
        };
        if asks {
            judge(&self.memory, bytes, &frame.put_to(to), &mut self.scratch)?;
        }
        let mac = self.memory.endpoints[&to].mac;
        let head = bytes.load(0).and_then(|head| forward(head, HOST_MAC, mac));
        Ok(match head {
            Some(_) => Went::Straight(to),
            None => Went::Routed,
        })
    }
}

pub const SECOND: u64 = 1_000_000_000;

pub struct Slice<'a>(pub &'a [u8]);

impl Bytes for Slice<'_> {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = at as usize;
        self.0.get(at..at + N)?.try_into().ok()
    }
}

/// A workload behind one interface and a host with another: web, ping and DNS of a peer come in, HTTPS, UDP and
/// ping go out. The peer may be another workload, behind an interface of the same host.
pub fn world() -> Memory {
    let mut memory = Memory {
        now: 1_000_000 * SECOND,
        room: 100_000,
        trail_room: 100_000,
        settings: Settings {
            events: u32::MAX,
            world: 1,
            flags: setting::STRAIGHT,
            ..Settings::default()
        },
        ..Memory::default()
    };
    let endpoint = Endpoint {
        generation: 1,
        ingress: INGRESS,
        egress: EGRESS,
        staged_ingress: STAGED,
        mac: MAC,
        mtu: 1500,
        ..Endpoint::default()
    };
    memory.endpoints.insert(WORKLOAD, endpoint);
    // Lets in what the first one may send.
    let other = Endpoint {
        ingress: EGRESS,
        staged_ingress: 0,
        mac: MAC_OF_OTHER,
        ..endpoint
    };
    memory.endpoints.insert(OTHER, other);
    let host = Endpoint {
        flags: flag::HOST,
        staged_ingress: 0,
        ..endpoint
    };
    memory.endpoints.insert(HOST, host);
    memory.own = vec![
        (WORKLOAD, ip(OWN4), 32),
        (WORKLOAD, ip(OWN6), 128),
        (OTHER, ip(PEER4), 32),
        (OTHER, ip(PEER6), 128),
    ];
    for peer in [PEER4, PEER6] {
        know(&mut memory, peer, Some(1));
    }
    ingress(&mut memory);
    egress(&mut memory);
    chain(&mut memory, INGRESS, 1, NO_INGRESS);
    chain(&mut memory, EGRESS, 2, NO_EGRESS);
    chain(&mut memory, STAGED, 0, STAGED_DENY);
    chain(&mut memory, CLOSED, 0, NO_INGRESS);
    memory
}

/// Gives an address an identity, or takes it away.
pub fn know(memory: &mut Memory, address: &str, identity: Option<u32>) {
    let prefix = model::Cidr::host(ip(address));
    memory.tables.apply(&Op::Identity(prefix, identity));
}

/// The peer may do four things, and one of its packets is logged.
fn ingress(memory: &mut Memory) {
    let of_peer = Classes {
        source: 1,
        destination: 0,
    };
    for program in [1, 9] {
        let key = ClassKey {
            program,
            identity: 1,
        };
        memory.tables.classes.insert(key, of_peer);
    }
    port(memory, 1, TCP, Some(80), 2);
    port(memory, 1, icmp_of(ip(OWN4)), None, 3);
    port(memory, 1, icmp_of(ip(OWN6)), None, 3);
    port(memory, 1, UDP, Some(53), 4);
    port(memory, 1, crate::frame::SCTP, Some(99), 5);
    for (order, word) in [(1, WEB), (2, PING), (3, DNS), (4, ASSOCIATE)] {
        cell(
            memory,
            1,
            mask::SOURCE | mask::DESTINATION_PORT,
            1,
            order,
            word,
        );
    }
    port(memory, 9, TCP, Some(80), 1);
    cell(memory, 9, mask::SOURCE | mask::DESTINATION_PORT, 1, 0, LOGS);
    let list = [(0, LOGGED), (0, ALSO_LOGGED), (1, NOT_LOGGED)];
    let list = list.map(|(order, rule)| Cell { order, rule });
    let number = rule::number(LOGS);
    (memory.tables.lists).insert(number, Box::new(list));
}

fn egress(memory: &mut Memory) {
    port(memory, 3, UDP, None, 2);
    cell(memory, 3, mask::DESTINATION_PORT, 0, 1, PASSED);
    port(memory, 2, TCP, Some(443), 2);
    port(memory, 2, UDP, None, 3);
    port(memory, 2, icmp_of(ip(OWN4)), None, 4);
    port(memory, 2, icmp_of(ip(OWN6)), None, 4);
    for (order, word) in [(1, HTTPS), (2, ANY_UDP), (3, ANY_PING)] {
        cell(memory, 2, mask::DESTINATION_PORT, 0, order, word);
    }
}

fn port(memory: &mut Memory, program: u32, protocol: u8, port: Option<u16>, class: u32) {
    let key = PortKey {
        prefix_len: port.map_or(48, |_| PortKey::BITS),
        program: program.to_be_bytes(),
        side: PortKey::DESTINATION,
        protocol,
        port: port.unwrap_or_default().to_be_bytes(),
    };
    memory.tables.ports.insert(key, class);
}

/// A rule for a class of ports, which is higher by one than its order.
fn cell(memory: &mut Memory, program: u32, mask: u16, source: u32, order: u32, word: u32) {
    let key = CellKey {
        program,
        mask: u32::from(mask),
        source,
        destination: 0,
        source_port: 0,
        destination_port: order + 1,
    };
    (memory.tables.cells).insert(key, Cell { order, rule: word });
}

fn chain(memory: &mut Memory, number: u32, program: u32, default: u32) {
    let masks = match program {
        1 => 1 << (mask::SOURCE | mask::DESTINATION_PORT),
        2 => 1 << mask::DESTINATION_PORT,
        _ => 0,
    };
    let log = match program {
        1 => 9,
        _ => 0,
    };
    let mut stages = [Stage::default(); MAX_STAGES];
    stages[0] = Stage {
        program,
        log,
        masks,
        log_masks: if log == 0 { 0 } else { masks },
        default,
    };
    let mut length = 1;
    if program == 2 {
        stages[1] = stages[0];
        stages[0] = Stage {
            program: 3,
            masks: 1 << mask::DESTINATION_PORT,
            default: END_PASSES,
            ..Stage::default()
        };
        length = 2;
    }
    let chain = Chain {
        length,
        profile: rule::PROFILE_ALLOW,
        stages,
    };
    memory.tables.chains.insert(number, chain);
}

/// What rules counted, by word, of the rules in force or of what would be with staged ones.
pub fn counted(memory: &Memory) -> BTreeMap<(u32, u32), Counter> {
    let mut counted: BTreeMap<(u32, u32), Counter> = BTreeMap::new();
    let trails = memory.trails.borrow();
    for (key, counter) in memory.counters.borrow().iter() {
        let members = |number| memory.tables.lists[&number].iter().copied();
        let trail = trails.get(key).into_iter();
        let words = trail.flat_map(|trail| trail.words(members));
        for word in words.chain([key.rule]) {
            let of_rule = counted.entry((word, key.staged)).or_default();
            of_rule.add(counter);
        }
    }
    counted
}

/// Closes the workload, as a new policy would.
pub fn close(memory: &mut Memory) {
    if let Some(endpoint) = memory.endpoints.get_mut(&WORKLOAD) {
        endpoint.generation += 1;
        endpoint.ingress = CLOSED;
        endpoint.egress = CLOSED;
    }
}

/// Opens it again.
pub fn open(memory: &mut Memory) {
    if let Some(endpoint) = memory.endpoints.get_mut(&WORKLOAD) {
        endpoint.generation += 1;
        endpoint.ingress = INGRESS;
        endpoint.egress = EGRESS;
    }
}
