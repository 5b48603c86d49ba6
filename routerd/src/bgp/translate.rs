//! The plan in the speaker's words. Pure: what only the host knows is an argument.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use bgp::PerFamily;
use bgp::attributes::{Attributes, NextHop};
use bgp::fsm::SessionConfig;
use bgp::speaker::{Bfd, Config, ConfigError, Password, Peer, Ttl};
use model::bgp::{ANY_HOPS, Announcement, Bgp, Neighbour};
use model::kernel::{Link, LinkName};
use model::{Cidr, Family};
use zeroize::Zeroizing;

/// After a restart: longest wait for what peers have to say before what they said earlier leaves the kernel.
const DEFERRAL: Duration = Duration::from_secs(20);
/// And until those that are there are told our routes without waiting for those that are not: long enough for a peer
/// that is slow to notice that we are back.
const ABSENT: Duration = Duration::from_secs(5);

/// What only the host knows.
pub(super) struct Host<'a> {
    /// Its interfaces.
    pub(super) links: &'a BTreeMap<LinkName, Link>,
    /// Whether it speaks IPv6 at all.
    pub(super) ipv6: bool,
    /// Reads a file with a password.
    pub(super) read: &'a dyn Fn(&Path) -> Result<Vec<u8>, String>,
}

/// What became of a plan.
#[derive(Debug)]
pub(super) struct Translated {
    /// For the speaker.
    pub(super) config: Config,
    /// Peers that are left out, and why.
    pub(super) refused: BTreeMap<String, String>,
}

/// The configuration. A peer that cannot be is left out; so is one whose password cannot be had: without it, it must
/// not be spoken to.
pub(super) fn config(bgp: &Bgp, host: &Host<'_>) -> Translated {
    let mut config = Config::new(bgp.router_id);
    config.cluster_id = bgp.cluster_id;
    config.guard = std::sync::Arc::clone(&bgp.guard);
    config.port = bgp.listen;
    config.deferral = DEFERRAL;
    config.absent = ABSENT;
    config.decision.multipath = bgp.multipath.max(1);
    if !bgp.listen_addresses.is_empty() {
        config.listen = bgp.listen_addresses.iter().copied().collect();
    }
    config.listen.retain(|ip| ip.is_ipv4() || host.ipv6);
    let mut refused = BTreeMap::new();
    for (name, neighbour) in &bgp.peers {
        match peer(bgp, neighbour, host) {
            Ok(peer) => {
                config.peers.insert(name.to_string(), peer);
            }
            Err(why) => {
                refused.insert(name.to_string(), why);
            }
        }
    }
    while let Err(ConfigError::Peer { peer, why }) = config.check() {
        config.peers.remove(&peer);
        refused.insert(peer, why.to_owned());
    }
    Translated { config, refused }
}

fn peer(bgp: &Bgp, n: &Neighbour, host: &Host<'_>) -> Result<Peer, String> {
    let mut session = SessionConfig::new(n.local_as, bgp.router_id, n.asn);
    session.hold.offered = n.hold_time;
    session.restart_time = n.restart_time;
    session.extended_next_hop = n.extended_next_hop;
    session.families = PerFamily::from_fn(|f| n.families.contains(&f));
    let address = n.address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    let mut peer = Peer::new(session, address);
    peer.interface = n.interface.map(|name| name.to_string());
    peer.port = n.port;
    peer.local_address = n.source;
    peer.password = password(n, host)?;
    peer.ttl = match n.ttl {
        model::bgp::Ttl::Auto if is_near(n, host) => Ttl::Direct,
        model::bgp::Ttl::Auto => Ttl::Multihop(ANY_HOPS),
        model::bgp::Ttl::Direct => Ttl::Direct,
        model::bgp::Ttl::Multihop(hops) => Ttl::Multihop(hops),
        model::bgp::Ttl::Security(hops) => Ttl::Security(hops),
    };
    let interval = |ms: u32| Duration::from_millis(ms.into());
    peer.bfd = n.bfd.map(|bfd| Bfd {
        transmit: interval(bfd.transmit_ms),
        receive: interval(bfd.receive_ms),
        multiplier: bfd.multiplier,
    });
    peer.import.filter.clone_from(&n.import);
    peer.import.allowed_own_as = n.allowed_own_as;
    peer.import.max_prefixes = PerFamily::from_fn(|_| Some(n.max_prefixes));
    peer.export.clone_from(&n.export);
    peer.client = n.client;
    peer.next_hop = n.next_hop;
    peer.own_v4 = n.own_v4;
    peer.own_v6 = n.own_v6.map(|global| NextHop::V6 {
        global,
        link_local: None,
    });
    Ok(peer)
}

/// Whether a neighbour is on a link of this host: without an address or with a link-local one, or inside the subnet
/// of an address of ours.
fn is_near(n: &Neighbour, host: &Host<'_>) -> bool {
    let Some(address) = n.address else {
        return true;
    };
    let link_local = match address {
        IpAddr::V4(ip) => Ipv4Addr::is_link_local(&ip),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let mut addresses = host.links.values().flat_map(|l| &l.addresses);
    link_local
        || addresses.any(|own| {
            Family::of(own.ip) == Family::of(address)
                && Cidr::containing(own.ip, own.prefix).is_some_and(|net| net.contains(address))
        })
}

fn password(n: &Neighbour, host: &Host<'_>) -> Result<Option<Password>, String> {
    let read;
    let (bytes, from) = match &n.password {
        None => return Ok(None),
        Some(model::bgp::Password::File(path)) => {
            let from = format!("password file {}", path.display());
            let bytes = (host.read)(path).map_err(|e| format!("{from}: {e}"))?;
            read = Zeroizing::new(bytes);
            let line = read.split(|b| matches!(b, b'\n' | b'\r')).next();
            (line.unwrap_or_default(), from)
        }
        Some(model::bgp::Password::Secret { name, key, value }) => {
            (value.expose(), format!("Secret/{name} {key}"))
        }
    };
    let password = Password::new(bytes).map_err(|e| format!("{from}: {e}"))?;
    Ok(Some(password))
}

/// The routes of our own.
pub(super) fn announcements(bgp: &Bgp) -> BTreeMap<Cidr, Attributes> {
    let attributes = |a: &Announcement| Attributes {
        local_pref: a.local_pref,
        communities: a.communities.clone(),
        large_communities: a.large_communities.clone(),
        ..Attributes::default()
    };
    let all = bgp.announce.iter();
    all.map(|(prefix, a)| (*prefix, attributes(a))).collect()
}
