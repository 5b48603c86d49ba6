//! What is told about single packets, and how much of it.

use crate::tables::Address;

/// An entry of EVENTS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub at: u64,
    /// The interface.
    pub ifindex: u32,
    /// What decided, or the `Log` rule; as in [`crate::tables::Cell::rule`], 0 where no rule had a say.
    pub rule: u32,
    /// What would have decided, were the staged policies in force; 0 where there are none.
    pub staged: u32,
    /// Bytes of the packet.
    pub length: u32,
    /// Of [`kind`].
    pub kind: u8,
    /// Of a drop, as [`crate::reason::Reason`].
    pub reason: u8,
    /// 1 of what the endpoint sends.
    pub outbound: u8,
    /// IP protocol number; with all that follows 0 where the packet was not read so far.
    pub protocol: u8,
    /// Where it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// Port.
    pub source_port: u16,
    /// Port.
    pub destination_port: u16,
    /// Type and code of ICMP.
    pub icmp: [u8; 2],
    /// Zero.
    pub pad: [u8; 6],
}

/// What an [`Event`] tells.
pub mod kind {
    /// A packet was dropped.
    pub const DROP: u8 = 1;
    /// A rule with `Log` matched.
    pub const LOG: u8 = 2;
    /// A connection was cut that had been let through.
    pub const CUT: u8 = 3;
}

/// How many events may still be told in this second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    second: u64,
    told: u64,
}

impl Budget {
    /// Whether one more may be told.
    #[inline(always)]
    pub fn take(&mut self, now: u64, most: u32) -> bool {
        let second = now / 1_000_000_000;
        if self.second != second {
            self.second = second;
            self.told = 0;
        }
        if self.told >= u64::from(most) {
            return false;
        }
        self.told += 1;
        true
    }
}

/// Key of COUNTERS.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// As in [`crate::tables::Cell::rule`].
    pub rule: u32,
    /// 1 of what would have decided, were the staged policies in force.
    pub staged: u32,
    /// The trail that led there, by its [`crate::classify::Trail::id`]; TRAILS has its steps.
    pub trail: u64,
}

/// Value of COUNTERS, of each CPU: what a rule decided at the end of a trail. Later packets of what it let through are in the connections.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counter {
    /// Packets that began a connection, or were dropped.
    pub packets: u64,
    /// Their bytes, with Ethernet headers.
    pub bytes: u64,
    /// Connections that it let through, or cut.
    pub connections: u64,
}

impl Counter {
    /// Adds another.
    #[inline(always)]
    pub fn add(&mut self, more: &Counter) {
        self.packets += more.packets;
        self.bytes += more.bytes;
        self.connections += more.connections;
    }
}
