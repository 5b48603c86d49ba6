//! Why a packet is dropped.

/// Why a packet is dropped; the numbers are those of the counters.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A rule, the end of a tier or a profile says so.
    Policy = 0,
    /// Nothing is known of the interface.
    UnknownEndpoint = 1,
    /// The interface is known, and its policy is not there yet.
    NotProgrammed = 2,
    /// Headers that are cut off or contradict themselves.
    Malformed = 3,
    /// A frame with a VLAN tag.
    Vlan = 4,
    /// Neither IP nor ARP.
    EtherType = 5,
    /// From a MAC address that is not the workload's.
    SpoofedMac = 6,
    /// From an IP address that is not the workload's.
    SpoofedAddress = 7,
    /// ARP or neighbour discovery that speaks for somebody else, or as a router.
    SpoofedNeighbour = 8,
    /// More IPv6 extension headers than are walked.
    ExtensionHeaders = 9,
    /// An IPv6 routing header that has way stations left.
    RoutingHeader = 10,
    /// A fragment whose first one was not seen, or that reaches into the header of TCP.
    Fragment = 11,
    /// It begins no connection and belongs to none.
    OutOfState = 12,
    /// TCP flags that nobody sends in good faith.
    TcpFlags = 13,
    /// An ICMP error about no connection.
    UnrelatedError = 14,
    /// To the workload's own host, and the setting for that says no.
    EndpointToHost = 15,
    /// The table of connections would not take another.
    TableFull = 16,
}

impl Reason {
    /// How many there are.
    pub const COUNT: u32 = 17;
    /// Behind them in DROPS: connections that were let through.
    pub const ADMITTED: u32 = Self::COUNT;
    /// All, by number.
    pub const ALL: [Reason; Self::COUNT as usize] = [
        Reason::Policy,
        Reason::UnknownEndpoint,
        Reason::NotProgrammed,
        Reason::Malformed,
        Reason::Vlan,
        Reason::EtherType,
        Reason::SpoofedMac,
        Reason::SpoofedAddress,
        Reason::SpoofedNeighbour,
        Reason::ExtensionHeaders,
        Reason::RoutingHeader,
        Reason::Fragment,
        Reason::OutOfState,
        Reason::TcpFlags,
        Reason::UnrelatedError,
        Reason::EndpointToHost,
        Reason::TableFull,
    ];
}
