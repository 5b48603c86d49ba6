//! What an operator says about the speaker and its peers.

mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use model::bgp::PoolGuard;
pub use peer::{Bfd, Peer, Ttl};

use crate::rib::DecisionConfig;

/// The port of BGP.
pub const PORT: u16 = 179;
/// DSCP of routing protocols (RFC 2474): CS6.
pub const CS6: u8 = 48;

/// The speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our router id.
    pub router_id: Ipv4Addr,
    /// Our cluster, where we reflect routes; by default the router id.
    pub cluster_id: Option<u32>,
    /// How paths are chosen.
    pub decision: DecisionConfig,
    /// Addresses to listen at.
    pub listen: Vec<IpAddr>,
    /// Port to listen at; `None` for not listening at all.
    pub port: Option<u16>,
    /// We have just restarted and the kernel kept forwarding (RFC 4724): routes are chosen only once the peers that
    /// helped have sent theirs, and stay in the kernel until then. Heeded by [`super::Speaker::start`] only.
    pub restarted: bool,
    /// Longest wait for that: until then, what the kernel has from before stays.
    pub deferral: Duration,
    /// After this, those that are up are enough to choose routes and to announce; at most `deferral`.
    pub absent: Duration,
    /// Which learnt routes inside our own pools are used. A change costs as much as it changes.
    pub guard: Arc<PoolGuard>,
    /// Peers by name.
    pub peers: BTreeMap<String, Peer>,
}

impl Config {
    /// A speaker without peers that listens everywhere.
    pub fn new(router_id: Ipv4Addr) -> Config {
        Config {
            router_id,
            cluster_id: None,
            decision: DecisionConfig::default(),
            listen: vec![
                Ipv4Addr::UNSPECIFIED.into(),
                std::net::Ipv6Addr::UNSPECIFIED.into(),
            ],
            port: Some(PORT),
            restarted: false,
            deferral: Duration::from_secs(60),
            absent: Duration::from_secs(5),
            guard: Arc::default(),
            peers: BTreeMap::new(),
        }
    }

    /// Whether it can be.
    ///
    /// # Errors
    ///
    /// The first thing found that cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        for (name, peer) in &self.peers {
            let wrong = |why| ConfigError::Peer {
                peer: name.clone(),
                why,
            };
            peer.check().map_err(wrong)?;
            if !seen.insert((peer.address, &peer.interface)) {
                return Err(wrong("its address is another peer's: name it once"));
            }
        }
        if self.peers.len() >= usize::from(u16::MAX) {
            return Err(ConfigError::TooManyPeers(self.peers.len()));
        }
        if self.router_id.is_unspecified() {
            return Err(ConfigError::RouterId);
        }
        Ok(())
    }
}

/// Why a configuration cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// One peer's part.
    #[error("peer {peer}: {why}")]
    Peer {
        /// Its name.
        peer: String,
        /// What is wrong and what to do.
        why: &'static str,
    },
    /// More than can be told apart.
    #[error("{0} peers: at most 65534 can be told apart")]
    TooManyPeers(usize),
    /// Not an identifier.
    #[error("the router id is 0.0.0.0: give it any other address, one for each speaker")]
    RouterId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::SessionConfig;

    fn peer() -> Peer {
        let session = SessionConfig::new(64512, Ipv4Addr::new(10, 0, 0, 1), Some(65001));
        Peer::new(session, Ipv4Addr::new(10, 0, 0, 2).into())
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_peers_name() {
        type Change = fn(&mut Peer);
        let cases: [(&str, Change); 6] = [
            ("link-local", |p| p.address = "fe80::1".parse().unwrap()),
            ("our own", |p| p.local_address = Some(p.address)),
            ("another family", |p| p.local_address = "::1".parse().ok()),
            ("AS is 0", |p| p.session.peer_as = Some(0)),
            ("0 hops", |p| p.ttl = Ttl::Security(0)),
            ("hold time", |p| p.session.hold.offered = 2),
        ];
        for (words, change) in cases {
            let mut config = Config::new(Ipv4Addr::new(10, 0, 0, 1));
            config.peers.insert("tor-1".to_owned(), peer());
            assert_eq!(config.check(), Ok(()));
            change(config.peers.get_mut("tor-1").unwrap());
            let error = config.check().unwrap_err().to_string();
            assert!(
                error.contains("tor-1") && error.contains(words),
                "{words}: {error}"
            );
        }
    }

    #[test]
    fn two_peers_have_two_addresses() {
        let mut config = Config::new(Ipv4Addr::new(10, 0, 0, 1));
        config.peers.insert("a".to_owned(), peer());
        config.peers.insert("b".to_owned(), peer());
        assert!(config.check().is_err());
    }
}
