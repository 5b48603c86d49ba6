//! Requests as the kernel reads them (`linux/wireguard.h`, `linux/genetlink.h`, `linux/if_link.h`).

use std::net::{IpAddr, SocketAddr};

use model::Cidr;
use zeroize::Zeroizing;

use super::attr::Writer;
use crate::control::{AllowedIpChange, PeerChange, PeerRequest, SetRequest};
use crate::keys::{KEY_LEN, PresharedKey, PrivateKey};

pub(super) const AF_INET: u16 = 2;
pub(super) const AF_INET6: u16 = 10;

/// `struct genlmsghdr`: command, version, reserved.
pub(super) const GENERIC_HEADER: usize = 4;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;
const VERSION: u8 = 1;

/// `WGDEVICE_A_*`.
pub(super) mod device {
    pub(in crate::kernel) const IFNAME: u16 = 2;
    pub(in crate::kernel) const PRIVATE_KEY: u16 = 3;
    pub(in crate::kernel) const FLAGS: u16 = 5;
    pub(in crate::kernel) const LISTEN_PORT: u16 = 6;
    pub(in crate::kernel) const FWMARK: u16 = 7;
    pub(in crate::kernel) const PEERS: u16 = 8;
    /// `WGDEVICE_F_REPLACE_PEERS`.
    pub(in crate::kernel) const REPLACE_PEERS: u32 = 1;
}

/// `WGPEER_A_*`.
pub(super) mod peer {
    pub(in crate::kernel) const PUBLIC_KEY: u16 = 1;
    pub(in crate::kernel) const PRESHARED_KEY: u16 = 2;
    pub(in crate::kernel) const FLAGS: u16 = 3;
    pub(in crate::kernel) const ENDPOINT: u16 = 4;
    pub(in crate::kernel) const KEEPALIVE: u16 = 5;
    pub(in crate::kernel) const LAST_HANDSHAKE: u16 = 6;
    pub(in crate::kernel) const RX_BYTES: u16 = 7;
    pub(in crate::kernel) const TX_BYTES: u16 = 8;
    pub(in crate::kernel) const ALLOWED_IPS: u16 = 9;
    /// `WGPEER_F_*`.
    pub(in crate::kernel) const REMOVE_ME: u32 = 1;
    pub(in crate::kernel) const REPLACE_ALLOWED_IPS: u32 = 2;
    pub(in crate::kernel) const UPDATE_ONLY: u32 = 4;
}

/// `WGALLOWEDIP_A_*`.
pub(super) mod allowed_ip {
    pub(in crate::kernel) const FAMILY: u16 = 1;
    pub(in crate::kernel) const ADDRESS: u16 = 2;
    pub(in crate::kernel) const LENGTH: u16 = 3;
}

/// Bytes of a peer but for its allowed IPs, at most.
pub(super) const PEER_ROOM: usize = 160;
/// Bytes of an allowed IP, at most.
pub(super) const ALLOWED_IP_ROOM: usize = 44;
const DEVICE_ROOM: usize = 128;

/// Asks for the number of WireGuard's family.
pub(super) fn get_family() -> Zeroizing<Vec<u8>> {
    let mut out = Writer::new(&[CTRL_CMD_GETFAMILY, VERSION, 0, 0], 32);
    out.put_text(CTRL_ATTR_FAMILY_NAME, "wireguard");
    out.finish()
}

/// Asks for all of a device.
pub(super) fn get_device(name: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Writer::new(&[WG_CMD_GET_DEVICE, VERSION, 0, 0], 32);
    out.put_text(device::IFNAME, name);
    out.finish()
}

/// A link by its name; as a new one, of the kind WireGuard.
pub(super) fn link(name: &str, is_new: bool) -> Zeroizing<Vec<u8>> {
    const IFINFO: usize = 16;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    let mut out = Writer::new(&[0; IFINFO], 64);
    out.put_text(IFLA_IFNAME, name);
    if is_new {
        out.nest(IFLA_LINKINFO, |out| out.put(IFLA_INFO_KIND, b"wireguard"));
    }
    out.finish()
}

/// A request that fits into one message and takes no allowed IPs away.
pub(super) fn set_device(name: &str, request: &SetRequest) -> Zeroizing<Vec<u8>> {
    let room: usize = request.peers.iter().map(room_for).sum();
    let mut out = Writer::new(&[WG_CMD_SET_DEVICE, VERSION, 0, 0], DEVICE_ROOM + room);
    out.put_text(device::IFNAME, name);
    if let Some(key) = &request.private_key {
        let none = [0; KEY_LEN];
        let key = key.as_ref().map_or(&none, PrivateKey::expose);
        out.put(device::PRIVATE_KEY, key);
    }
    if let Some(port) = request.listen_port {
        out.put(device::LISTEN_PORT, &port.to_ne_bytes());
    }
    if let Some(fwmark) = request.fwmark {
        out.put(device::FWMARK, &fwmark.to_ne_bytes());
    }
    if request.replace_peers {
        out.put(device::FLAGS, &device::REPLACE_PEERS.to_ne_bytes());
    }
    if !request.peers.is_empty() {
        out.nest(device::PEERS, |out| {
            for peer in &request.peers {
                out.nest(0, |out| put_peer(out, peer));
            }
        });
    }
    out.finish()
}

/// Bytes that a peer takes, at most.
pub(super) fn room_for(peer: &PeerRequest) -> usize {
    match peer {
        PeerRequest::Set(change) => PEER_ROOM + ALLOWED_IP_ROOM * change.allowed_ips.len(),
        PeerRequest::Remove(_) => PEER_ROOM,
    }
}

fn put_peer(out: &mut Writer, peer: &PeerRequest) {
    let change = match peer {
        PeerRequest::Set(change) => change,
        PeerRequest::Remove(key) => {
            out.put(peer::PUBLIC_KEY, key.as_bytes());
            return out.put(peer::FLAGS, &peer::REMOVE_ME.to_ne_bytes());
        }
    };
    out.put(peer::PUBLIC_KEY, change.public_key.as_bytes());
    let flags = flags(change);
    if flags != 0 {
        out.put(peer::FLAGS, &flags.to_ne_bytes());
    }
    if let Some(key) = &change.preshared_key {
        let none = [0; KEY_LEN];
        let key = key.as_ref().map_or(&none, PresharedKey::expose);
        out.put(peer::PRESHARED_KEY, key);
    }
    if let Some(endpoint) = change.endpoint {
        out.put(peer::ENDPOINT, &socket_address(endpoint));
    }
    if let Some(seconds) = change.persistent_keepalive {
        out.put(peer::KEEPALIVE, &seconds.to_ne_bytes());
    }
    if !change.allowed_ips.is_empty() {
        out.nest(peer::ALLOWED_IPS, |out| {
            for change in &change.allowed_ips {
                if let AllowedIpChange::Add(prefix) = change {
                    out.nest(0, |out| put_allowed_ip(out, prefix));
                }
            }
        });
    }
}

fn flags(change: &PeerChange) -> u32 {
    let replace = if change.replace_allowed_ips {
        peer::REPLACE_ALLOWED_IPS
    } else {
        0
    };
    let update = if change.update_only {
        peer::UPDATE_ONLY
    } else {
        0
    };
    replace | update
}

fn put_allowed_ip(out: &mut Writer, prefix: &Cidr) {
    match prefix.network() {
        IpAddr::V4(ip) => {
            out.put(allowed_ip::FAMILY, &AF_INET.to_ne_bytes());
            out.put(allowed_ip::ADDRESS, &ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put(allowed_ip::FAMILY, &AF_INET6.to_ne_bytes());
            out.put(allowed_ip::ADDRESS, &ip.octets());
        }
    }
    out.put(allowed_ip::LENGTH, &[prefix.prefix_len()]);
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
pub(super) fn socket_address(at: SocketAddr) -> Vec<u8> {
    match at {
        SocketAddr::V4(at) => [
            &AF_INET.to_ne_bytes()[..],
            &at.port().to_be_bytes(),
            &at.ip().octets(),
            &[0; 8],
        ]
        .concat(),
        SocketAddr::V6(at) => [
            &AF_INET6.to_ne_bytes()[..],
            &at.port().to_be_bytes(),
            &[0; 4],
            &at.ip().octets(),
            &at.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}
