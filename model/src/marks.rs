//! How everything in the kernel that is ours is marked. Nothing else in the tree holds such a number.
//!
//! `docs/kernel-objects.md` is this file for operators.

/// `rtm_protocol` of the routes computed from the store. Free in iproute2's `rt_protos`.
pub const ROUTE_PROTOCOL: u8 = 82;
/// `rtm_protocol` of the routes learnt by BGP.
pub const BGP_ROUTE_PROTOCOL: u8 = 83;
/// Metric of those: behind every route of the store and of the administrator, and shared with nobody.
pub const BGP_METRIC: u32 = 83_000;
/// First routing table of our range.
pub const TABLE_FIRST: u32 = 8200;
/// Last routing table of our range.
pub const TABLE_LAST: u32 = 8215;
/// Every interface we create starts with this.
pub const LINK_PREFIX: &str = "rtd";
/// Host side of a workload's veth pair: this and twelve hexadecimal digits.
pub const WORKLOAD_PREFIX: &str = "rtd";
/// The VXLAN device over the IPv4 underlay.
pub const VXLAN_V4: &str = "rtd.vxlan4";
/// The VXLAN device over the IPv6 underlay.
pub const VXLAN_V6: &str = "rtd.vxlan6";
/// The encrypted tunnel: one device, whichever family is inside or outside.
pub const WIREGUARD: &str = "rtd.wg";
/// Mark of the datagrams that [`WIREGUARD`] sends, so that rules can tell them from everything else.
pub const WIREGUARD_FWMARK: u32 = 0x2000_0000;
/// Metric of the routes that catch what no other route takes: last of all.
pub const LAST_METRIC: u32 = u32::MAX;
/// The nftables table that masquerades, family `inet`.
pub const NFT_TABLE: &str = "routerd";
/// The nftables table that watches over what leaves in clear, family `inet`. It is one of its own, so that its
/// counters outlive a change of the other.
pub const NFT_GUARD: &str = "routerd_guard";
/// The nftables table that cuts workloads off which policies select where nothing enforces them, family `inet`. It has
/// an owner of its own.
pub const NFT_CUTOFF: &str = "routerd_cutoff";

/// Names of the policy programs' links and maps, below the BPF file system.
pub const BPF_DIRECTORY: &str = "/sys/fs/bpf/routerd";
/// Priority and handle of the policy programs' filters, where the kernel has no links for them (before Linux 6.6).
pub const TC_PRIORITY: u16 = 82;

/// Default gateway of every workload: never on a wire, always a permanent neighbour.
pub const GATEWAY_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 1, 1);
/// IPv6 counterpart of [`GATEWAY_V4`].
pub const GATEWAY_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// MAC address of the host side of every workload link.
pub const GATEWAY_MAC: crate::kernel::Mac =
    crate::kernel::Mac([0xee, 0xee, 0xee, 0xee, 0xee, 0xee]);

/// Default VXLAN network identifier.
pub const DEFAULT_VNI: u32 = 4096;
/// Default VXLAN UDP port (IANA).
pub const DEFAULT_VXLAN_PORT: u16 = 4789;

/// Default UDP port of [`WIREGUARD`].
pub const DEFAULT_WIREGUARD_PORT: u16 = 51820;

/// Default UDP port at which nodes agree on preshared keys.
pub const DEFAULT_POST_QUANTUM_PORT: u16 = 51821;

/// Whether an address is [`GATEWAY_V4`] or [`GATEWAY_V6`].
pub fn is_gateway(ip: std::net::IpAddr) -> bool {
    ip == GATEWAY_V4 || ip == GATEWAY_V6
}

/// Whether an interface of this name is the host side of a workload's link.
pub fn is_workload_link(name: &str) -> bool {
    name.starts_with(WORKLOAD_PREFIX) && ![VXLAN_V4, VXLAN_V6, WIREGUARD].contains(&name)
}

/// Whether an interface of this name is ours.
pub fn is_our_link(name: &str) -> bool {
    name.starts_with(LINK_PREFIX)
}
