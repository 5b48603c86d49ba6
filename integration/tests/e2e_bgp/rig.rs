//! One link: our speaker at one end, a daemon at the other.

mod others;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bgp::attributes::Attributes;
use bgp::fsm::{SessionConfig, State};
use bgp::speaker::{Config, Peer, PeerStatus, RouteInfo, RouteQuery, Speaker, Via, View};
use integration::lab::{Lab, Netns, wait};
use model::Cidr;

use crate::table::Table;

pub(crate) use integration::lab::switches::{Bird, Frr, Gobgp, shows};
pub(crate) use others::{Exabgp, Openbgpd};

/// Long enough for a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(45);
pub(crate) const OUR_AS: u32 = 64512;
pub(crate) const THEIR_AS: u32 = 65001;
pub(crate) const US: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const THEM: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub(crate) const US6: &str = "fd99::1";
pub(crate) const THEM6: &str = "fd99::2";

impl Table {
    pub(crate) fn get(&self, prefix: &str) -> Vec<Via> {
        let routes = self.routes.lock().unwrap();
        routes.get(&cidr(prefix)).cloned().unwrap_or_default()
    }
}

pub(crate) fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// Two namespaces and a link.
pub(crate) struct Link {
    pub(crate) ours: Netns,
    pub(crate) theirs: Netns,
}

impl Link {
    pub(crate) fn new(lab: &Lab, name: &str) -> Result<Link> {
        let link = Link::bare(lab, name)?;
        // Until a kernel worker has looked at an address that may be a duplicate, nothing can listen at it.
        let addresses =
            |v4, v6| format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad");
        link.ours.ip(&addresses(US, US6))?;
        link.theirs.ip(&addresses(THEM, THEM6))?;
        Ok(link)
    }

    /// With link-local addresses only.
    pub(crate) fn bare(lab: &Lab, name: &str) -> Result<Link> {
        let (ours, theirs) = (lab.netns(&format!("{name}-us"))?, lab.netns(name)?);
        lab.veth((&ours, "eth0"), (&theirs, "eth0"), 1500)?;
        Ok(Link { ours, theirs })
    }
}

/// Our speaker, with one peer called `them`.
pub(crate) struct Us {
    ns: Netns,
    pub(crate) config: Config,
    pub(crate) table: Table,
    speaker: Option<Speaker>,
}

impl Us {
    pub(crate) fn new(link: &Link) -> Us {
        let mut session = SessionConfig::new(OUR_AS, US, Some(THEIR_AS));
        session.retry = Duration::from_secs(1);
        let mut config = Config::new(US);
        let peer = Peer::new(session, THEM.into());
        config.peers.insert("them".to_owned(), peer);
        Us {
            ns: link.ours.clone(),
            config,
            table: Table::default(),
            speaker: None,
        }
    }

    pub(crate) fn them(&mut self) -> &mut Peer {
        self.config.peers.get_mut("them").unwrap()
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let (config, table) = (self.config.clone(), self.table.clone());
        let start = || Ok(Speaker::start(config, Box::new(table))?);
        self.speaker = Some(self.ns.run(start)?);
        self.announce(&[("10.1.0.0/24", &[]), ("fd01::/64", &[])])
    }

    pub(crate) fn speaker(&self) -> &Speaker {
        self.speaker.as_ref().unwrap()
    }

    pub(crate) fn take(&mut self) -> Speaker {
        self.speaker.take().unwrap()
    }

    pub(crate) fn configure(&self) -> Result<()> {
        Ok(self.speaker().configure(self.config.clone())?)
    }

    pub(crate) fn announce(&self, routes: &[(&str, &[u32])]) -> Result<()> {
        let routes = routes.iter().map(|(prefix, communities)| {
            let attributes = Attributes {
                communities: communities.to_vec(),
                ..Attributes::default()
            };
            (cidr(prefix), attributes)
        });
        Ok(self.speaker().announce(routes.collect())?)
    }

    pub(crate) fn status(&self) -> Result<PeerStatus> {
        let peers = self.speaker().peers()?;
        peers
            .into_iter()
            .find(|p| p.name == "them")
            .context("no peer")
    }

    pub(crate) fn is_up(&self) -> Result<PeerStatus> {
        wait("the session to come up", LIMIT, || {
            let status = self.status()?;
            ensure!(status.state == State::Established, "{status:#?}");
            Ok(status)
        })
    }

    /// All that was said about what went wrong.
    pub(crate) fn words(&self) -> Result<String> {
        let status = self.status()?;
        let all = [status.last_down, status.last_failure];
        Ok(all
            .into_iter()
            .flatten()
            .map(|f| f.words)
            .collect::<Vec<_>>()
            .join("; "))
    }

    pub(crate) fn said(&self, wanted: &str) -> Result<()> {
        wait("the reason in words", LIMIT, || {
            let words = self.words()?;
            ensure!(words.contains(wanted), "it says: {words}");
            Ok(())
        })
    }

    /// The route of a prefix that came from `them`.
    pub(crate) fn learns(&self, prefix: &str) -> Result<RouteInfo> {
        let query = RouteQuery {
            prefix: Some(cidr(prefix)),
            ..RouteQuery::new(View::Received("them".to_owned()))
        };
        wait(&format!("{prefix} to be learnt"), LIMIT, || {
            let found = self.speaker().routes(query.clone())?.routes;
            found
                .into_iter()
                .next()
                .with_context(|| format!("{:#?}", self.status()))
        })
    }

    /// Waits until the kernel would have these ways.
    pub(crate) fn installs(&self, prefix: &str, gateways: &[&str]) -> Result<()> {
        wait(&format!("{prefix} in our kernel"), LIMIT, || {
            let ways = self.table.get(prefix);
            let mut have: Vec<String> = ways.iter().map(|v| v.gateway.to_string()).collect();
            have.sort();
            ensure!(have == gateways, "it has {have:?}");
            Ok(())
        })
    }
}
