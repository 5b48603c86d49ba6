//! The tables that decide about the first packet of a connection.
//!
//! ```text
//!  address ──IDENTITY──► identity ─┐
//!                                  ├─CLASS (by program)──► source class, destination class ─┐
//!  protocol and port ──PORT (by program)──► source port class, destination port class ──────┼─► CELL ► rule
//!  masks of the stage: which of the four the rules of a group look at ──────────────────────┘
//! ```
//!
//! Rules of a tier are grouped by *mask*, the set of the four dimensions that they constrain; in each group one
//! look-up finds the first rule that matches, and the first of all groups decides. So the work is
//! bounded by the number of masks (16), however many rules there are.

/// No class: nothing of a program speaks of this value.
pub const NO_CLASS: u32 = 0;
/// An address of which nothing is known.
pub const NO_IDENTITY: u32 = 0;
/// Most tiers that can have a say about one endpoint in one direction.
pub const MAX_STAGES: usize = 16;

/// Dimensions of a mask.
pub mod mask {
    /// The rules look at the source address.
    pub const SOURCE: u16 = 1;
    /// At the destination address.
    pub const DESTINATION: u16 = 2;
    /// At the source port.
    pub const SOURCE_PORT: u16 = 4;
    /// At the protocol, the destination port, or type and code of ICMP.
    pub const DESTINATION_PORT: u16 = 8;
    /// How many masks there are.
    pub const COUNT: u16 = 16;
}

/// What a rule, or the end of a tier, does.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ends it: let through.
    Allow = 0,
    /// Ends it: dropped.
    Deny = 1,
    /// Goes on with the next tier.
    Pass = 2,
}

impl Action {
    /// What a rule's word says to do; what no compiler writes denies.
    pub const fn of(word: u32) -> Action {
        match word & 3 {
            0 => Action::Allow,
            2 => Action::Pass,
            _ => Action::Deny,
        }
    }
}

/// A rule as tables have it: its number on this node and, in the lowest two bits, its [`Action`], or that it only logs.
pub mod rule {
    use super::Action;

    /// The profile of an endpoint lets through what no tier decides.
    pub const PROFILE_ALLOW: u32 = word(1, Action::Allow);
    /// The profile of an endpoint drops what no tier decides.
    pub const PROFILE_DENY: u32 = word(2, Action::Deny);
    /// A port of the host that no policy closes.
    pub const FAILSAFE: u32 = word(3, Action::Allow);
    /// From the host itself to its own workload, and what it masquerades.
    pub const OF_HOST: u32 = word(4, Action::Allow);
    /// To the workload's own host, and the setting for that says no.
    pub const ENDPOINT_TO_HOST: u32 = word(5, Action::Deny);
    /// From an address that is the workload's no more.
    pub const SPOOFED: u32 = word(6, Action::Deny);
    /// The first number of rules and of the ends of tiers; those below are for reasons that need no compiler.
    pub const FIRST: u32 = 16;
    /// The first number of lists of `Log` rules.
    pub const FIRST_LIST: u32 = 1 << 29;
    /// In the place of an action: logs, and decides nothing.
    const LOG: u32 = 3;

    /// The word of a rule.
    pub const fn word(number: u32, action: Action) -> u32 {
        number << 2 | action as u32
    }

    /// The word of a `Log` rule, or of a list of such: see [`super::Cell::rule`].
    pub const fn log(number: u32) -> u32 {
        number << 2 | LOG
    }

    /// Whether a word is of what only logs.
    pub const fn is_log(word: u32) -> bool {
        word & 3 == LOG
    }

    /// The number in a word.
    pub const fn number(word: u32) -> u32 {
        word >> 2
    }
}

/// Key of CLASS: what an identity is to a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassKey {
    /// The program: the compiled rules of one tier for endpoints that have the same policies.
    pub program: u32,
    /// Of an address.
    pub identity: u32,
}

/// Value of CLASS; without an entry both are [`NO_CLASS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Classes {
    /// Where the address is the source.
    pub source: u32,
    /// Where it is the destination.
    pub destination: u32,
}

/// Key of PORT, a longest-prefix table: `prefix_len` counts the bits behind it. 40 stands for every
/// protocol that has no entry of its own, 48 for every port of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// Bits that count; 64 when looking up.
    pub prefix_len: u32,
    /// Program, in network byte order.
    pub program: [u8; 4],
    /// 0 for the source port, 1 for the destination port.
    pub side: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// Port, in network byte order; on the destination side of ICMP and ICMPv6 type and code; 0 elsewhere.
    pub port: [u8; 2],
}

/// Key of CELL. Dimensions that are not in the mask are [`NO_CLASS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    /// The program.
    pub program: u32,
    /// Which dimensions count.
    pub mask: u32,
    /// Class of the source address.
    pub source: u32,
    /// Class of the destination address.
    pub destination: u32,
    /// Class of the source port.
    pub source_port: u32,
    /// Class of protocol and destination port.
    pub destination_port: u32,
}

impl PortKey {
    /// Every bit of a key, behind `prefix_len`.
    pub const BITS: u32 = 64;
    /// `side` of the source port.
    pub const SOURCE: u8 = 0;
    /// `side` of the destination port.
    pub const DESTINATION: u8 = 1;
}

/// Value of CELL: the first rule of a mask that matches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Place among the rules of the program; the lowest of all masks decides.
    pub order: u32,
    /// The rule, for counters and events: see [`rule`]. In a program of `Log` rules that of a list, where several match.
    pub rule: u32,
}

/// One tier as an endpoint has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Program of the rules that decide.
    pub program: u32,
    /// Program of the rules that only log; 0 is none.
    pub log: u32,
    /// Bit `m` is set when `program` has rules with mask `m`.
    pub masks: u16,
    /// The same of `log`.
    pub log_masks: u16,
    /// What stands in for a rule when none matches; as in [`Cell::rule`].
    pub default: u32,
}

/// Value of CHAIN: what an endpoint has in one direction. What no stage decides is the profile's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Stages in use, from the first.
    pub length: u32,
    /// As a [`Cell::rule`]: what decides after the last stage.
    pub profile: u32,
    /// The tiers in order.
    pub stages: [Stage; MAX_STAGES],
}

/// An address; IPv4 as IPv4-mapped IPv6 (RFC 4291 2.5.5.2).
pub type Address = [u8; 16];

/// Where the tables are: maps of the kernel, or their copy in memory.
pub trait Tables {
    /// The longest prefix that holds an address.
    fn identity(&self, address: &Address) -> u32;
    /// What an identity is to a program.
    fn classes(&self, key: &ClassKey) -> Classes;
    /// Class of a port, or [`NO_CLASS`].
    fn port(&self, key: &PortKey) -> u32;
    /// The first rule of a mask.
    fn cell(&self, key: &CellKey) -> Option<Cell>;
}
