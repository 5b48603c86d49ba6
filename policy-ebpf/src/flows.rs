//! Flows: who talked to whom, by which rule, from the table of connections and what programs tell of packets.
//!
//! ```text
//!  CONNECTIONS ─look─► open ──────────────► ended ─► ring of records
//!  EVENTS ──────hear─► denied ─────────────►   ▲         │
//!                        └── wanted ─► Names ──┘ name    └─► changes, for who follows
//! ```
//!
//! Pure: time comes with what is fed. A connection is one record at each endpoint of this node, since other rules decide
//! at either end; `outbound` says which end reports. What was dropped is one record for each attempt, however often it
//! is tried again.
//!
//! Held to: every connection that a look sees is in exactly one record, with the counts of the last look that saw
//! it; memory is bounded by the limits and the table.

mod denied;
mod open;
mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use policy_common::classify::Tuple;
use policy_common::connection::{Connection, Decided, Key};
use policy_common::event::{Counter, CounterKey, Event, kind};
use policy_common::tables::{Address, rule};

use denied::Denied;
use open::{Cut, Open, counts, read_judged};
pub use record::{Named, Names, Record, Said, Who};

/// A connection that both ends have closed is over when it was quiet for so long: the last acknowledgement is in.
const LINGER: u64 = 1_000_000_000;
/// A packet that was logged is in a record before that, or in none.
const PATIENCE: u64 = 20_000_000_000;
/// What is stamped just before a look may be in the table just after.
const SLACK: u64 = 500_000_000;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records that have ended.
    pub records: usize,
    /// Attempts that are denied, at one time.
    pub denied: usize,
    /// Records that have ended, and packets that were logged, until [`Recorder::name`] is called.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            records: 16_384,
            denied: 16_384,
            waiting: 65_536,
        }
    }
}

/// What records lack that [`Recorder::name`] is to bring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Addresses of which it is asked who has them.
    pub addresses: BTreeSet<IpAddr>,
    /// Interfaces of which it is asked whose they are.
    pub interfaces: BTreeSet<u32>,
    /// Numbers of rules.
    pub rules: BTreeSet<u32>,
    /// `Log` rules that matched, first of their packets: others may have matched behind them.
    pub logged: Vec<Logged>,
}

impl Wanted {
    /// Whether nothing is to be found out.
    pub fn is_empty(&self) -> bool {
        self.interfaces.is_empty() && self.logged.is_empty()
    }
}

/// A packet that a `Log` rule matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Logged {
    /// Nanoseconds of the monotonic clock.
    pub at: u64,
    /// The interface.
    pub ifindex: u32,
    /// The endpoint sends it.
    pub outbound: bool,
    /// The packet.
    pub tuple: Tuple,
    /// Word of the rule.
    pub rule: u32,
    /// Bytes.
    pub length: u32,
}

/// What matched a packet, and when, by its interface, whether the endpoint sends it, and what it is.
type Logs = HashMap<(u32, bool, Tuple), (u64, Vec<Arc<Said>>)>;

/// Keeps records.
#[derive(Debug)]
pub struct Recorder {
    limits: Limits,
    open: HashMap<Key, Open>,
    denied: Denied,
    cut: HashMap<Key, Cut>,
    ended: VecDeque<Arc<Record>>,
    /// Ended since the last [`Recorder::name`].
    ending: Vec<Record>,
    /// Opened, or decided by another rule, since then.
    unnamed: HashSet<Key>,
    logged: Vec<Logged>,
    /// What passed by rules behind the packets that they counted themselves, since it was last asked.
    passed: HashMap<CounterKey, Counter>,
    /// What logged a packet whose record is not there yet: that begins after.
    logs: Logs,
    looked: Option<u64>,
    looks: u64,
    next: u64,
    lost: u64,
}

impl Recorder {
    /// Without any.
    pub fn new(limits: Limits) -> Recorder {
        Recorder {
            limits,
            open: HashMap::new(),
            denied: Denied::new(limits.denied),
            cut: HashMap::new(),
            ended: VecDeque::new(),
            ending: Vec::new(),
            unnamed: HashSet::new(),
            logged: Vec::new(),
            passed: HashMap::new(),
            logs: HashMap::new(),
            looked: None,
            looks: 0,
            next: 1,
            lost: 0,
        }
    }

    /// Takes in the whole table of connections as it was from `now` on, in nanoseconds of the monotonic clock, and the
    /// interfaces that are there, with the generations of their endpoints.
    pub fn look(
        &mut self,
        now: u64,
        interfaces: &BTreeMap<u32, u32>,
        entries: impl IntoIterator<Item = (Key, Connection)>,
    ) {
        self.looks += 1;
        for (key, connection) in entries {
            let generation = interfaces.get(&key.ifindex).copied();
            self.see(now, key, &connection, generation);
        }
        self.looked = Some(now);
        let (looks, mut left) = (self.looks, Vec::new());
        self.open.retain(|_, open| {
            let there = open.seen == looks;
            if !there {
                left.push(std::mem::take(&mut open.record));
            }
            there
        });
        for record in left {
            let end = record.last;
            self.end(record, end);
        }
        self.cut.retain(|_, cut| cut.seen == looks);
        let open = &self.open;
        self.unnamed.retain(|key| open.contains_key(key));
    }

    fn see(&mut self, now: u64, key: Key, connection: &Connection, generation: Option<u32>) {
        let (began, last) = (connection.began.get(), connection.last.get());
        let looks = self.looks;
        let known = self.cut.get_mut(&key).filter(|cut| cut.began == began);
        let stands = connection.is_cut() || generation.is_none();
        if let (true, Some(cut)) = (stands, known) {
            cut.seen = looks;
            return;
        }
        let quiet = now.saturating_sub(last);
        let over = generation.is_none()
            || connection.is_over(key.protocol, now)
            || connection.is_closed() && quiet > LINGER;
        if self.open.get(&key).is_some_and(|o| o.began != began)
            && let Some(open) = self.open.remove(&key)
        {
            // Another has come in its place.
            let end = open.record.last;
            self.end(open.record, end);
        }
        if !self.open.contains_key(&key) {
            if !self.is_new(connection, over) {
                if connection.is_cut() {
                    self.note_cut(key, connection);
                }
                return;
            }
            self.open_record(key, connection);
        }
        let Some(open) = self.open.get_mut(&key) else {
            return;
        };
        open.seen = looks;
        open.update(connection);
        // What was judged before the last change may be under the number of another rule by now. It waits.
        let judged = read_judged(connection.judged.get());
        if generation.is_none_or(|g| g == judged.generation) {
            open.count(connection, &mut self.passed);
        }
        if connection.is_cut() {
            if let Some(open) = self.open.remove(&key) {
                self.end(open.record, now);
            }
            self.note_cut(key, connection);
            return;
        }
        if open.take_decision(connection) {
            self.unnamed.insert(key);
        }
        if over && let Some(open) = self.open.remove(&key) {
            self.end(open.record, last);
            if generation.is_none() {
                self.note_cut(key, connection);
            }
        }
    }

    /// What of a cut connection, or of one whose endpoint is gone, is in a record: it may come back.
    fn note_cut(&mut self, key: Key, connection: &Connection) {
        let (packets, bytes) = counts(connection);
        let cut = Cut {
            began: connection.began.get(),
            seen: self.looks,
            packets,
            bytes,
        };
        self.cut.insert(key, cut);
    }

    /// Whether an entry without a record is to get one.
    fn is_new(&self, connection: &Connection, over: bool) -> bool {
        let Some(before) = self.looked else {
            // What had ended before anybody looked is of the past.
            return !over && !connection.is_closed() && !connection.is_cut();
        };
        let is_young = connection.began.get() + SLACK >= before;
        let ended = over || connection.is_closed() || connection.is_cut();
        let lives = !ended && connection.last.get() + SLACK >= before;
        is_young || lives
    }

    fn open_record(&mut self, key: Key, connection: &Connection) {
        let began = connection.began.get();
        let before = self.cut.remove(&key).filter(|cut| cut.began == began);
        let outbound = connection.is_outbound();
        let mut tuple = Tuple::default();
        tuple.of_connection(&key, connection, outbound);
        let start = match before {
            Some(_) => connection.last.get(),
            None => began,
        };
        let record = Record {
            id: self.number(),
            ifindex: key.ifindex,
            outbound,
            tuple,
            start,
            allowed: true,
            ..Record::default()
        };
        let (packets, bytes) = counts(connection);
        let counted = match (self.looked, before) {
            // What passed before anybody looked was counted by others, or is in an earlier record.
            (None, _) | (_, Some(_)) => [packets.iter().sum(), bytes.iter().sum()],
            _ => [
                u64::from(connection.first_packets),
                u64::from(connection.first_bytes),
            ],
        };
        let open = Open {
            record,
            counted,
            began,
            packets: before.map_or([0; 2], |c| c.packets),
            bytes: before.map_or([0; 2], |c| c.bytes),
            seen: self.looks,
            told: false,
        };
        self.open.insert(key, open);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Takes in what a program told of a packet.
    pub fn hear(&mut self, event: &Event) {
        if event.protocol == 0 {
            return; // a frame that was not read: its reason is counted
        }
        let tuple = tuple_of(event);
        match event.kind {
            kind::LOG if self.logged.len() >= self.limits.waiting => {}
            kind::LOG => self.logged.push(Logged {
                at: event.at,
                ifindex: event.ifindex,
                outbound: event.outbound != 0,
                tuple,
                rule: event.rule,
                length: event.length,
            }),
            kind::DROP => {
                let id = self.next;
                match self.denied.hear(event, tuple, id) {
                    denied::Heard::Known => {}
                    denied::Heard::New => self.next += 1,
                    denied::Heard::NoRoom(record) => {
                        self.next += 1;
                        let end = record.last;
                        self.end(*record, end);
                    }
                }
            }
            // What is dropped of it is told as well.
            _ => {}
        }
    }

    /// Ends what was denied and is not tried again.
    pub fn settle(&mut self, now: u64) {
        self.logs
            .retain(|_, (at, _)| now.saturating_sub(*at) < PATIENCE);
        for record in self.denied.settle(now) {
            let end = record.last;
            self.end(record, end);
        }
    }

    fn end(&mut self, mut record: Record, at: u64) {
        record.end = Some(at.max(record.last));
        match self.ending.len() < self.limits.waiting {
            true => self.ending.push(record),
            false => self.lost += 1,
        }
    }

    /// What has to be found out for records that are new.
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted {
            logged: self.logged.clone(),
            ..Wanted::default()
        };
        let open = self.unnamed.iter().filter_map(|key| self.open.get(key));
        let records = open.map(|o| &o.record).chain(&self.ending);
        for record in records.chain(self.denied.unnamed()) {
            record.want(&mut wanted);
        }
        for logged in &self.logged {
            wanted.addresses.insert(ip(&logged.tuple.source));
            wanted.addresses.insert(ip(&logged.tuple.destination));
            wanted.rules.insert(rule::number(logged.rule));
            wanted.interfaces.insert(logged.ifindex);
        }
        wanted
    }

    /// Gives names to what is new and puts what has ended into the ring. Gives back what began or ended since the last
    /// time, in that state.
    pub fn name(&mut self, names: &impl Names) -> Vec<Arc<Record>> {
        let mut changes = Vec::new();
        for logged in std::mem::take(&mut self.logged) {
            let about = (logged.ifindex, logged.outbound, logged.tuple);
            if self.logs.len() < self.limits.denied {
                self.logs.insert(about, (logged.at, names.logged(&logged)));
            }
        }
        for key in std::mem::take(&mut self.unnamed) {
            if let Some(open) = self.open.get_mut(&key) {
                open.record.take_names(names);
                open.record.take_log(&mut self.logs);
                if !std::mem::replace(&mut open.told, true) {
                    changes.push(Arc::new(open.record.clone()));
                }
            }
        }
        changes.extend(self.denied.name(names, &mut self.logs));
        for mut record in std::mem::take(&mut self.ending) {
            record.take_names(names);
            record.take_log(&mut self.logs);
            let record = Arc::new(record);
            changes.push(Arc::clone(&record));
            self.ended.push_back(record);
        }
        while self.ended.len() > self.limits.records {
            self.ended.pop_front();
            self.lost += 1;
        }
        changes.sort_by_key(|r| (r.end.unwrap_or(r.start), r.id));
        changes
    }

    /// All that are kept: those that have ended, oldest first, and then those that go on.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let open = self.open.values().map(|o| &o.record);
        let ended = self.ended.iter().map(|r| &**r);
        ended.chain(open).chain(self.denied.records())
    }

    /// Connections that go on, as of the last look.
    pub fn connections(&self) -> impl Iterator<Item = (&Key, &Record)> {
        self.open.iter().map(|(key, open)| (key, &open.record))
    }

    /// What passed by each rule behind the packets that it counted itself, since the last time.
    pub fn take_passed(&mut self) -> HashMap<CounterKey, Counter> {
        std::mem::take(&mut self.passed)
    }

    /// Records that there was no room for any more.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

fn tuple_of(event: &Event) -> Tuple {
    let icmp = matches!(event.protocol, 1 | 58);
    Tuple {
        source: event.source,
        destination: event.destination,
        source_port: if icmp { 0 } else { event.source_port },
        destination_port: match icmp {
            true => u16::from_be_bytes(event.icmp),
            false => event.destination_port,
        },
        protocol: event.protocol,
        pad: [0; 3],
    }
}

/// What decided, of an event.
fn decided_of(event: &Event) -> Decided {
    Decided {
        rule: event.rule,
        staged: event.staged,
        trails: [0; 2],
    }
}

/// An address as people know it.
pub fn ip(address: &Address) -> IpAddr {
    Ipv6Addr::from(*address).to_canonical()
}
