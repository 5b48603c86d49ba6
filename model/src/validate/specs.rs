//! The values of every other kind.

use std::net::IpAddr;

use super::pool::unusable;
use super::{Check, is_name};
use crate::kernel::{LinkName, Mac};
use crate::resources::node::InterfaceAddress;
use crate::resources::workload_endpoint::{EndpointPort, Protocol};
use crate::resources::{
    AsNumber, Encryption, HostPort, IpReservationSpec, IpamConfigurationSpec,
    MeshConfigurationSpec, Mtu, NodeSpec, PostQuantum, WorkloadEndpointSpec,
};
use crate::{Cidr, Family, marks};

/// A day: an address that rests longer is as good as lost.
const MAX_COOLDOWN: u32 = 86_400;
const MAX_BLOCKS: u32 = 1_000_000;
/// Least MTU of IPv6, RFC 8200 section 5.
const MIN_MTU: u32 = 1280;
const MAX_MTU: u32 = 65_535;
const MAX_VNI: u32 = (1 << 24) - 1;
/// With those of the mesh itself they fit into a map of the kernel.
const MAX_FAILSAFE: usize = 64;
const TCP: u8 = 6;
const UDP: u8 = 17;

pub(super) fn node(check: &mut Check, spec: &NodeSpec) {
    if let Some(bgp) = &spec.bgp {
        for (field, address, family) in [
            ("spec.bgp.ipv4Address", bgp.ipv4_address, Family::V4),
            ("spec.bgp.ipv6Address", bgp.ipv6_address, Family::V6),
        ] {
            if let Some(address) = address {
                underlay(check, field, address, family);
            }
        }
        if let Some(asn) = bgp.as_number.filter(|n| AsNumber(*n).is_reserved()) {
            check.fault(
                "spec.bgp.asNumber",
                asn,
                "is reserved",
                "write a private one, such as 64512",
            );
        }
    }
    for (field, family) in [
        ("spec.ipv4VXLANTunnelAddr", Family::V4),
        ("spec.ipv6VXLANTunnelAddr", Family::V6),
    ] {
        if let Some(ip) = spec.tunnel_addr(family) {
            host_address(check, field, ip);
        }
    }
    mac(check, "spec.vxlanTunnelMACAddr", spec.vxlan_tunnel_mac_addr);
    mac(
        check,
        "spec.vxlanTunnelMACAddrV6",
        spec.vxlan_tunnel_mac_addr_v6,
    );
    for (i, a) in spec.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{i}].address");
        address_text(check, &field, &a.address);
        check.text(
            &format!("spec.addresses[{i}].type"),
            a.address_type.as_deref().unwrap_or_default(),
        );
    }
    check.unique("spec.addresses", &spec.addresses);
    for (i, interface) in spec.interfaces.iter().enumerate() {
        check.text(&format!("spec.interfaces[{i}].name"), &interface.name);
        for (j, a) in interface.addresses.iter().enumerate() {
            address_text(check, &format!("spec.interfaces[{i}].addresses[{j}]"), a);
        }
    }
    for (i, orch) in spec.orch_refs.iter().enumerate() {
        check.text(
            &format!("spec.orchRefs[{i}].orchestrator"),
            &orch.orchestrator,
        );
        check.text(
            &format!("spec.orchRefs[{i}].nodeName"),
            orch.node_name.as_deref().unwrap_or_default(),
        );
    }
}

fn underlay(check: &mut Check, field: &str, address: InterfaceAddress, family: Family) {
    let actual = Family::of(address.ip);
    if actual == family {
        host_address(check, field, address.ip);
    } else {
        let problem = format!("is an {actual} address");
        check.fault(
            field,
            address,
            problem,
            format!("write an {family} address with its prefix length"),
        );
    }
}

fn address_text(check: &mut Check, field: &str, text: &str) {
    let good = text.parse::<InterfaceAddress>().is_ok();
    let mend = "write an IP address, with or without its prefix length";
    check.that(good, field, format!("{text:?}"), "is no address", mend);
}

/// An address that one host can have.
pub(super) fn host_address(check: &mut Check, field: &str, ip: IpAddr) {
    if let Some((range, what)) = unusable(&Cidr::host(ip)) {
        let problem = format!("lies in {range}, which is {what}");
        check.fault(field, ip, problem, "write a unicast address");
    }
}

fn mac(check: &mut Check, field: &str, mac: Option<Mac>) {
    let Some(mac) = mac else { return };
    let multicast = mac.0.first().is_some_and(|b| b & 1 == 1);
    if multicast || mac.0 == [0; 6] {
        let mend = "write a unicast MAC address, such as 02:00:00:00:00:01";
        check.fault(field, mac, "is no unicast MAC address", mend);
    }
}

pub(super) fn reservation(check: &mut Check, spec: &IpReservationSpec) {
    check.unique("spec.reservedCIDRs", &spec.reserved_cidrs);
}

pub(super) fn ipam(check: &mut Check, spec: &IpamConfigurationSpec) {
    let seconds = spec.cooldown_seconds;
    check.that(
        seconds <= MAX_COOLDOWN,
        "spec.cooldownSeconds",
        seconds,
        "is more than a day",
        format!("write 0 to {MAX_COOLDOWN}"),
    );
    let blocks = spec.max_blocks_per_host;
    check.that(
        blocks <= MAX_BLOCKS,
        "spec.maxBlocksPerHost",
        blocks,
        "is more than a node can hold",
        format!("write 1 to {MAX_BLOCKS}, or 0 for no limit"),
    );
}

fn failsafe(check: &mut Check, list: &str, ports: &Option<Vec<HostPort>>) {
    for (i, port) in ports.iter().flatten().enumerate() {
        let protocol = &port.protocol;
        check.that(
            matches!(protocol.number(), Some(TCP | UDP)),
            format!("{list}[{i}].protocol"),
            protocol,
            "is not a protocol that hosts have failsafe ports of",
            "write TCP or UDP",
        );
        check.that(
            port.port != 0,
            format!("{list}[{i}].port"),
            0,
            "is no port",
            "write 1 to 65535",
        );
    }
    let count = ports.as_ref().map_or(0, Vec::len);
    check.that(
        count <= MAX_FAILSAFE,
        list,
        format!("{count} ports"),
        "are more than a node keeps open",
        format!("write up to {MAX_FAILSAFE}"),
    );
}

pub(super) fn mesh(check: &mut Check, spec: &MeshConfigurationSpec) {
    failsafe(
        check,
        "spec.failsafeInboundHostPorts",
        &spec.failsafe_inbound_host_ports,
    );
    failsafe(
        check,
        "spec.failsafeOutboundHostPorts",
        &spec.failsafe_outbound_host_ports,
    );
    if let Mtu::Bytes(mtu) = spec.mtu {
        let problem = "is no MTU that carries IPv4 and IPv6 (RFC 8200)";
        let mend = format!("write auto, or {MIN_MTU} to {MAX_MTU}");
        check.that(
            (MIN_MTU..=MAX_MTU).contains(&mtu),
            "spec.mtu",
            mtu,
            problem,
            mend,
        );
    }
    check.that(
        spec.vxlan_port != 0,
        "spec.vxlanPort",
        0,
        "is no port",
        "write 1 to 65535",
    );
    let wireguard_port = spec.wireguard_port;
    check.that(
        wireguard_port != 0 && wireguard_port != spec.vxlan_port,
        "spec.wireguardPort",
        wireguard_port,
        "is no port, or that of VXLAN",
        "write 1 to 65535, and another than spec.vxlanPort",
    );
    let port = spec.post_quantum_port;
    check.that(
        spec.post_quantum == PostQuantum::Off
            || ![0, spec.vxlan_port, spec.wireguard_port].contains(&port),
        "spec.postQuantumPort",
        port,
        "is no port, or that of VXLAN or WireGuard",
        "write 1 to 65535, and another than spec.vxlanPort and spec.wireguardPort",
    );
    check.that(
        spec.post_quantum == PostQuantum::Off || spec.encryption != Encryption::Off,
        "spec.postQuantum",
        format!("{:?}", spec.post_quantum),
        "has no effect without encryption",
        "set spec.encryption to Preferred or Required, or this to Off",
    );
    let vni = spec.vxlan_vni;
    let mend = format!("write 1 to {MAX_VNI}");
    check.that(
        (1..=MAX_VNI).contains(&vni),
        "spec.vxlanVNI",
        vni,
        "is no VXLAN identifier",
        mend,
    );
}

pub(super) fn endpoint(check: &mut Check, spec: &WorkloadEndpointSpec) {
    if spec.node.is_empty() {
        check.fault(
            "spec.node",
            "",
            "is required",
            "name the node that hosts the workload",
        );
    } else if !is_name(&spec.node) {
        let shown = format!("{:?}", spec.node);
        check.fault(
            "spec.node",
            shown,
            "cannot name a node",
            "write the name of a Node",
        );
    }
    interface(check, &spec.interface_name);
    for (field, text) in [
        ("spec.orchestrator", &spec.orchestrator),
        ("spec.workload", &spec.workload),
        ("spec.containerID", &spec.container_id),
        ("spec.pod", &spec.pod),
        ("spec.endpoint", &spec.endpoint),
        ("spec.serviceAccountName", &spec.service_account_name),
    ] {
        check.text(field, text);
    }
    for (i, net) in spec.ip_networks.iter().enumerate() {
        let field = format!("spec.ipNetworks[{i}]");
        if net.is_host() {
            host_address(check, &field, net.network());
        } else {
            let mend = format!("write {}/{}", net.network(), net.family().bits());
            check.fault(field, net, "is more than one address", mend);
        }
    }
    check.unique("spec.ipNetworks", &spec.ip_networks);
    mac(check, "spec.mac", spec.mac);
    check.unique("spec.profiles", &spec.profiles);
    for (i, profile) in spec.profiles.iter().enumerate() {
        check.text(&format!("spec.profiles[{i}]"), profile);
    }
    for (i, p) in spec.ports.iter().enumerate() {
        port(check, &format!("spec.ports[{i}]"), p);
    }
    check.unique("spec.ports", &spec.ports);
    check.unique(
        "spec.allowSpoofedSourcePrefixes",
        &spec.allow_spoofed_source_prefixes,
    );
}

fn interface(check: &mut Check, name: &str) {
    let (problem, mend) = if name.is_empty() {
        (
            "is required",
            "name the interface on the host, such as tap80",
        )
    } else if name.parse::<LinkName>().is_err() {
        let mend = "write 1 to 15 bytes without '/', ':' and white space";
        ("cannot name an interface", mend)
    } else if name == "lo" || marks::is_our_link(name) && !is_workload_link(name) {
        // Our prefix on anything else would be taken for a leftover and removed.
        let mend = "write the workload's own interface; names in rtd are the daemon's";
        ("is no workload's interface", mend)
    } else {
        return;
    };
    let shown = if name.is_empty() {
        String::new()
    } else {
        format!("{name:?}")
    };
    check.fault("spec.interfaceName", shown, problem, mend);
}

/// A name that [`crate::names::host_interface`] gives.
fn is_workload_link(name: &str) -> bool {
    name.strip_prefix(marks::WORKLOAD_PREFIX)
        .is_some_and(|hex| hex.len() == 12 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(super) fn port(check: &mut Check, field: &str, p: &EndpointPort) {
    check.that(
        p.port != 0,
        format!("{field}.port"),
        p.port,
        "is no port",
        "write 1 to 65535",
    );
    check.text(&format!("{field}.name"), &p.name);
    let place = format!("{field}.protocol");
    match &p.protocol {
        Protocol::Number(0) => check.fault(place, 0, "is no protocol", "write 1 to 255"),
        Protocol::Number(_) => {}
        Protocol::Name(name) => {
            let good = p.protocol.number().is_some();
            let known = Protocol::names().collect::<Vec<_>>().join(", ");
            let mend = format!("write one of {known}, or a number");
            check.that(
                good,
                place,
                format!("{name:?}"),
                "is no known protocol",
                mend,
            );
        }
    }
    // Go writes an empty string for none.
    if let Some(ip) = p.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
        let good = ip.parse::<IpAddr>().is_ok();
        check.that(
            good,
            format!("{field}.hostIP"),
            format!("{ip:?}"),
            "is no address",
            "write an IP address",
        );
    }
}
