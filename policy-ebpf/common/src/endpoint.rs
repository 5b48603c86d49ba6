//! What is known of an interface, and what holds for all of them.

use crate::packet::ETHERNET;
use crate::tables::Address;
use crate::world::Frame;

/// Value of ENDPOINTS, by interface index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Raised with every change of its chains, so that its connections are judged again.
    pub generation: u32,
    /// Of [`flag`].
    pub flags: u32,
    /// Key of CHAIN, for what goes to the endpoint.
    pub ingress: u32,
    /// Key of CHAIN, for what comes from it.
    pub egress: u32,
    /// As `ingress`, with the staged policies in force; 0 for none.
    pub staged_ingress: u32,
    /// As `egress`, with the staged policies in force; 0 for none.
    pub staged_egress: u32,
    /// The MAC address of the workload; zeros where nobody said it, and then any will do.
    pub mac: [u8; 6],
    /// Bytes of the largest packet that may go straight to the workload from another one of this host; 0 where none may,
    /// nor from it.
    pub mtu: u16,
}

/// Flags of an [`Endpoint`].
pub mod flag {
    /// The interface is the host's own, and the host is the endpoint; otherwise a workload is behind it.
    pub const HOST: u32 = 1;
}

impl Endpoint {
    /// Whether the workload may have this MAC address.
    #[inline(always)]
    pub fn has_mac(&self, mac: [u8; 6]) -> bool {
        self.mac == mac || self.mac == [0; 6]
    }

    /// The same of an address as it is in memory, in two words.
    #[inline(always)]
    pub fn has_mac_of(&self, mac: (u32, u16)) -> bool {
        let [a, b, c, d, e, f] = self.mac;
        let own = (u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([e, f]));
        own == mac || own == (0, 0)
    }

    /// Whether frames may go straight to the workload, and from it: of two, both are such, or connection tracking would
    /// see but one direction.
    #[inline(always)]
    pub fn goes_straight(&self) -> bool {
        self.mtu != 0 && self.mac != [0; 6] && !self.is_host()
    }

    /// Whether this frame may go to it. Of one that stands for several packets nobody knows how large they are: the
    /// sender, which has an interface of the same kind, does.
    #[inline(always)]
    pub fn takes(&self, frame: &Frame) -> bool {
        let most = u32::from(self.mtu) + ETHERNET;
        self.goes_straight() && (frame.packets > 1 || frame.length <= most)
    }

    /// Whether the host itself is the endpoint.
    #[inline(always)]
    pub fn is_host(&self) -> bool {
        self.flags & flag::HOST != 0
    }
}

/// Value of GLOBAL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Nanoseconds of the monotonic clock until which TCP may go on that began before there was policy.
    pub grace_until: u64,
    /// Raised with every change of the tables of identities, so that all connections are judged again.
    pub world: u32,
    /// Of [`setting`].
    pub flags: u32,
    /// Most events in a second, of each CPU.
    pub events: u32,
    /// Zero.
    pub pad: u32,
}

/// Flags of [`Settings`].
pub mod setting {
    /// Workloads may reach their own host, if their egress policy lets them. Calico's
    /// `defaultEndpointToHostAction`: `Accept` with it and `Drop` without.
    pub const ENDPOINT_TO_HOST: u32 = 1;
    /// A connection that was let through goes on until it ends, whatever later policy says.
    pub const KEEP_CONNECTIONS: u32 = 2;
    /// What goes from one workload of this host to another may go straight, past the host's routing.
    pub const STRAIGHT: u32 = 4;
}

/// Key of OWN, a longest-prefix table: the addresses that a workload may send from, and those of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnKey {
    /// Bits that count: 32 and those of the address; [`OwnKey::BITS`] when looking up.
    pub prefix_len: u32,
    /// Index of the interface, in network byte order.
    pub ifindex: [u8; 4],
    /// The address or prefix.
    pub address: Address,
}

impl OwnKey {
    /// All that counts of a whole address.
    pub const BITS: u32 = 160;
}

/// Key of FAILSAFE: a port that no policy of the host closes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailsafeKey {
    /// 1 for what the host sends, 0 for what is sent to it.
    pub outbound: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
}
