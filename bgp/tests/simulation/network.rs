//! Virtual time, links and connections.

mod driver;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use bgp::Family;
use bgp::arbiter::Side;
use bgp::fsm::{HelperOutput, Input, Output, Reason, Timer};
use bgp::wire::refresh::Refresh;
use bgp::wire::{Notification, frame, notification, update};
use bytes::Bytes;

use crate::speaker::{Speaker, session_config};

const MS: Duration = Duration::from_millis(1);
/// Messages that a connection takes before its socket is full.
const WINDOW: usize = 6;

pub(crate) type ConnId = usize;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40).unwrap() % end
    }

    fn index(&mut self, end: usize) -> usize {
        self.below(u32::try_from(end).unwrap()) as usize
    }

    fn jitter(&mut self) -> f64 {
        f64::from(self.below(1000)) / 1000.0
    }
}

/// A neighbour of a speaker: the speaker's number and the place in its list.
type Place = (usize, usize);

/// One end of a connection.
struct End {
    place: Place,
    side: Side,
    life: u64,
    open: bool,
    /// What it sent and what did not arrive yet.
    sent: VecDeque<Bytes>,
    /// When the last of them arrives: a stream keeps its order.
    last: Duration,
}

impl End {
    fn parts(&self) -> (Place, Side, u64, bool) {
        (self.place, self.side, self.life, self.open)
    }
}

#[derive(Clone, Copy)]
enum Event {
    ConnectFailed(Place, u64),
    Accept(ConnId),
    Connected(ConnId),
    /// To this end of a connection.
    Deliver(ConnId, usize),
    /// The other end closed, after all that it sent.
    Finished(ConnId, usize),
    Closed(ConnId, usize),
    Timer(Place, Side, Timer, u64, u64),
    Helper(Place, u64, u64),
    DeferralOver(usize, u64),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) collisions: u32,
    pub(crate) hold_expired: u32,
    pub(crate) restarts: u32,
    pub(crate) cuts: u32,
    pub(crate) full_sockets: u32,
    pub(crate) messages: u64,
}

pub(crate) struct Network {
    pub(crate) now: Duration,
    pub(crate) random: Random,
    pub(crate) speakers: Vec<Speaker>,
    pub(crate) counts: Counts,
    links: BTreeSet<(usize, usize)>,
    cut: BTreeSet<(usize, usize)>,
    conns: Vec<[End; 2]>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: HashMap<u64, Event>,
    sequence: u64,
}

fn link(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    pub(crate) fn new(count: usize, mut random: Random) -> Network {
        // A tree, so that it is connected, and as many links again.
        let mut links = BTreeSet::new();
        for at in 1..count {
            links.insert(link(at, random.index(at)));
        }
        for _ in 0..count {
            let (a, b) = (random.index(count), random.index(count));
            if a != b {
                links.insert(link(a, b));
            }
        }
        let mut network = Network {
            now: Duration::ZERO,
            random,
            speakers: Vec::new(),
            counts: Counts::default(),
            links,
            cut: BTreeSet::new(),
            conns: Vec::new(),
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
        };
        for number in 0..count {
            let list = network.places_of(number);
            network.speakers.push(Speaker::new(number, &list, 0));
        }
        for number in 0..count {
            network.start(number);
        }
        network
    }

    pub(crate) fn neighbours_of(&self, number: usize) -> Vec<usize> {
        let links = self.links.iter();
        let other = links.filter_map(|(a, b)| match number {
            n if n == *a => Some(*b),
            n if n == *b => Some(*a),
            _ => None,
        });
        other.collect()
    }

    fn places_of(&self, number: usize) -> Vec<Place> {
        let place = |neighbour: usize| {
            let back = self
                .neighbours_of(neighbour)
                .iter()
                .position(|n| *n == number);
            (neighbour, back.unwrap())
        };
        self.neighbours_of(number).into_iter().map(place).collect()
    }

    fn start(&mut self, number: usize) {
        for at in 0..self.speakers[number].neighbours.len() {
            let jitter = self.random.jitter();
            let out = self.speakers[number].neighbours[at].arbiter.start(jitter);
            self.obey((number, at), out, None);
        }
    }

    fn later(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn delay(&mut self) -> Duration {
        MS * (1 + self.random.below(30))
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((at, sequence))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at;
            let event = self.events.remove(&sequence).unwrap();
            self.happen(event);
        }
        self.now = end;
    }

    /// Something bad, or something good.
    pub(crate) fn disturb(&mut self) {
        let links: Vec<_> = self.links.iter().copied().collect();
        let random_link = links[self.random.index(links.len())];
        let number = self.random.index(self.speakers.len());
        match self.random.below(12) {
            0..4 => {
                self.counts.cuts += u32::from(self.cut.insert(random_link));
            }
            4..8 => {
                self.cut.remove(&random_link);
            }
            8 => self.restart(number),
            9 => {
                let at = self.random.index(self.speakers[number].neighbours.len());
                let stop = Notification::with_reason(notification::cease::ADMIN_RESET, "test");
                let out = self.speakers[number].neighbours[at].arbiter.stop(&stop);
                self.obey((number, at), out, None);
                let out = self.speakers[number].neighbours[at].arbiter.start(0.5);
                self.obey((number, at), out, None);
            }
            _ => {
                let at = self.random.index(self.speakers[number].neighbours.len());
                self.ask_refresh((number, at));
            }
        }
    }

    fn ask_refresh(&mut self, (number, at): Place) {
        let neighbour = &self.speakers[number].neighbours[at];
        let Some((side, _)) = &neighbour.up else {
            return;
        };
        let (side, conn) = (*side, neighbour.conns[side]);
        for family in Family::ALL {
            if let Some(message) = self.speakers[number].neighbours[at]
                .arbiter
                .session(side)
                .ask_refresh(family)
            {
                self.send(conn, (number, at), message);
            }
        }
    }

    /// The process dies without a word and comes back with nothing.
    fn restart(&mut self, number: usize) {
        self.counts.restarts += 1;
        let life = self.speakers[number].life + 1;
        for conn in 0..self.conns.len() {
            for end in 0..2 {
                if self.conns[conn][end].place.0 == number {
                    self.close(conn, end);
                }
            }
        }
        let list = self.places_of(number);
        self.speakers[number] = Speaker::new(number, &list, life);
        self.later(MS * 8000, Event::DeferralOver(number, life));
        self.start(number);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ConnectFailed(place, life) => {
                self.input(place, life, Side::Outgoing, Input::ConnectFailed);
            }
            Event::Accept(conn) => self.accept(conn),
            Event::Connected(conn) => {
                let (place, side, life, _) = self.conns[conn][0].parts();
                if self.conns[conn][0].open && self.alive(place, life) {
                    self.neighbour(place).conns.insert(side, conn);
                    self.input(place, life, side, Input::Connected);
                }
            }
            Event::Deliver(conn, end) => self.deliver(conn, end),
            Event::Finished(conn, end) => {
                if !self.conns[conn][end].open {
                    return;
                }
                if self.conns[conn][1 - end].sent.is_empty() {
                    self.happen(Event::Closed(conn, end));
                } else {
                    self.later(MS * 100, Event::Finished(conn, end));
                }
            }
            Event::Closed(conn, end) => {
                let (place, side, life, open) = self.conns[conn][end].parts();
                if open {
                    self.conns[conn][end].open = false;
                    if self.alive(place, life)
                        && self.neighbour(place).conns.get(&side) == Some(&conn)
                    {
                        self.neighbour(place).conns.remove(&side);
                        self.input(place, life, side, Input::Closed);
                    }
                }
            }
            Event::Timer(place, side, timer, armed, life) => {
                if self.alive(place, life)
                    && self.neighbour(place).armed.get(&(side, timer)) == Some(&armed)
                {
                    self.counts.hold_expired += u32::from(timer == Timer::Hold);
                    self.input(place, life, side, Input::Expired(timer));
                }
            }
            Event::Helper(place, armed, life) => {
                if self.alive(place, life) && self.neighbour(place).helper_armed == armed {
                    let out = self.neighbour(place).helper.expired();
                    self.help(place, out);
                    self.pump(place.0);
                }
            }
            Event::DeferralOver(number, life) => {
                if self.speakers[number].life == life {
                    self.speakers[number].rib.set_deferred(false);
                    self.pump(number);
                }
            }
        }
    }

    fn alive(&self, (number, _): Place, life: u64) -> bool {
        self.speakers[number].life == life
    }

    fn neighbour(&mut self, (number, at): Place) -> &mut crate::speaker::Neighbour {
        &mut self.speakers[number].neighbours[at]
    }

    fn is_cut(&self, conn: ConnId) -> bool {
        let [a, b] = &self.conns[conn];
        self.cut.contains(&link(a.place.0, b.place.0))
    }

    fn accept(&mut self, conn: ConnId) {
        let place = self.conns[conn][1].place;
        let life = self.speakers[place.0].life;
        let welcome = self.neighbour(place).arbiter.welcomes();
        if self.is_cut(conn) || !welcome || !self.conns[conn][0].open {
            self.conns[conn][0].open = false;
            let (place, _, life, _) = self.conns[conn][0].parts();
            self.later(MS * 500, Event::ConnectFailed(place, life));
            return;
        }
        self.conns[conn][1].open = true;
        self.conns[conn][1].life = life;
        self.neighbour(place).conns.insert(Side::Incoming, conn);
        self.input(place, life, Side::Incoming, Input::Connected);
        let delay = self.delay();
        let arrives = self.now + delay;
        // What the other side says does not overtake the connection.
        self.conns[conn][1].last = self.conns[conn][1].last.max(arrives);
        self.at(arrives, Event::Connected(conn));
    }

    fn deliver(&mut self, conn: ConnId, end: usize) {
        if self.is_cut(conn) {
            // TCP tries again, as long as somebody listens. A stream keeps its order all the same.
            if self.conns[conn].iter().any(|e| e.open) {
                self.later(MS * 200, Event::Deliver(conn, end));
            } else {
                self.conns[conn][1 - end].sent.clear();
            }
            return;
        }
        let sender = &mut self.conns[conn][1 - end];
        let Some(bytes) = sender.sent.pop_front() else {
            return;
        };
        let (sender, is_open) = (sender.place.0, sender.open);
        let (place, side, life, open) = self.conns[conn][end].parts();
        if !open || !self.alive(place, life) {
            self.later(MS, Event::Closed(conn, 1 - end));
            return;
        }
        self.counts.messages += 1;
        let max = self.neighbour(place).arbiter.session(side).max_len();
        let frame = frame::next(&bytes, max).unwrap().unwrap();
        assert_eq!(frame.len, bytes.len());
        self.input(place, life, side, Input::Message(frame));
        if is_open {
            self.pump(sender);
        }
    }
}
