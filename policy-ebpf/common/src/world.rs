//! Everything outside a packet that its verdict depends on: maps and clock in the kernel, plain
//! tables in tests.

use core::ops::Deref;

use crate::classify::{Trail, Work, classify};
use crate::connection::{Connection, Fragment, FragmentKey, Key};
use crate::endpoint::{Endpoint, FailsafeKey, OwnKey, Settings};
use crate::event::{Budget, Counter, CounterKey, Event};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::tables::{Chain, Tables};

/// What a verdict reads and writes.
pub trait World: Tables + Sized {
    /// A connection of the table.
    type Held: Deref<Target = Connection>;

    /// Nanoseconds of the monotonic clock.
    fn now(&self) -> u64;
    /// GLOBAL.
    fn settings(&self) -> Option<&Settings>;
    /// ENDPOINTS.
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint>;
    /// CHAIN.
    fn chain(&self, number: u32) -> Option<&Chain>;
    /// Whether OWN has a prefix that holds it.
    fn is_own(&self, key: &OwnKey) -> bool;
    /// Whether FAILSAFE has it.
    fn is_failsafe(&self, key: &FailsafeKey) -> bool;
    /// Whether a packet that came in is for this host rather than for somebody behind it.
    fn is_for_host(&self, packet: &Packet) -> bool;

    /// CONNECTIONS.
    fn connection(&self, key: &Key) -> Option<Self::Held>;
    /// Puts a connection into CONNECTIONS; `false` when there is no room.
    fn admit(&self, key: &Key, connection: &Connection) -> bool;
    /// FRAGMENTS.
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;
    /// Puts a datagram into FRAGMENTS.
    fn remember(&self, key: &FragmentKey, fragment: &Fragment);

    /// Adds to COUNTERS; `false` when there is no such counter yet.
    fn count(&self, key: &CounterKey, more: &Counter) -> bool;
    /// Begins a counter.
    fn begin_count(&self, key: &CounterKey, more: &Counter);
    /// Puts the trail of a counter into TRAILS; `false` when there is no room.
    fn describe(&self, key: &CounterKey, trail: &Trail) -> bool;
    /// Adds to DROPS.
    fn count_drop(&self, reason: Reason);
    /// Adds to what was let through, in DROPS.
    fn count_admitted(&self);
    /// Puts an event into EVENTS, if there is room.
    fn tell(&self, event: &Event);

    /// Has the frame go straight to the workload behind an interface, rather than where routing takes it.
    fn go_straight(&self, to: u32, endpoint: &Endpoint);
    /// The same, but only if the frame passes there: it is to be judged once more, by [`Frame::put_to`].
    fn ask_there(&self, to: u32);

    /// Asks the chain of a number about the packet in `work`; `false` when there is no such chain.
    #[inline(always)]
    fn ask(&self, number: u32, work: &mut Work) -> bool {
        match self.chain(number) {
            Some(chain) => {
                classify(self, chain, work);
                true
            }
            None => false,
        }
    }
}

/// A frame, besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The interface.
    pub ifindex: u32,
    /// Bytes, of all its segments.
    pub length: u32,
    /// Segments that it stands for.
    pub packets: u32,
    /// The interface got it from its wire; otherwise the host puts it there.
    pub received: bool,
    /// The interface that it came to the host by; 0 where the host made it itself.
    pub came_from: u32,
    /// It has a VLAN tag that the kernel took off.
    pub tagged: bool,
}

impl Frame {
    /// The host made it itself, rather than forwarding it.
    #[inline(always)]
    pub fn is_from_host(&self) -> bool {
        !self.received && self.came_from == 0
    }

    /// As it would be put to another interface, after it came to this one.
    #[inline(always)]
    pub fn put_to(&self, ifindex: u32) -> Frame {
        Frame {
            ifindex,
            received: false,
            came_from: self.ifindex,
            ..*self
        }
    }
}

/// Memory for one verdict, of one CPU. Nothing but the budget is kept from one to the next.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Scratch {
    /// The packet.
    pub packet: Packet,
    /// What it quotes, if it is an ICMP error.
    pub quoted: Packet,
    /// Its connection.
    pub key: Key,
    /// The datagram that it is a piece of.
    pub fragment_key: FragmentKey,
    /// What the pieces of the datagram share.
    pub fragment: Fragment,
    /// The question to the rules, and their answer.
    pub work: Work,
    /// A connection that begins.
    pub connection: Connection,
    /// What is told.
    pub event: Event,
    /// How much is told.
    pub budget: Budget,
}
