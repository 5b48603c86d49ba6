//! routerd's speaker in a process of its own, whose routes go nowhere; started by the bench from its own file.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bgp::fsm::SessionConfig;
use bgp::rib::filter::{Filter, Rule};
use bgp::speaker::{Config, Peer, RouteChange, RouteFailure, RouteSink, Speaker};

use super::session::SUBJECT;
use super::subject::Neighbour;

/// The word on the command line that makes the bench this.
pub const WORD: &str = "--speaker";
/// Of the subject, whoever it is.
pub(super) const AS: u32 = 64512;

/// Command line for a speaker that says at a socket how many paths it holds.
pub(super) fn arguments(counts: &Path, neighbours: &[Neighbour]) -> Vec<OsString> {
    let mut all = vec![WORD.into(), counts.into()];
    for n in neighbours {
        all.push(format!("{},{},{}", n.address, n.asn, n.hears).into());
    }
    all
}

/// Paths that the speaker with this socket holds.
pub(super) fn ask(counts: &Path) -> Result<usize> {
    let mut text = String::new();
    UnixStream::connect(counts)?.read_to_string(&mut text)?;
    Ok(text.parse()?)
}

struct Nowhere;

impl RouteSink for Nowhere {
    fn apply(&mut self, _: &[RouteChange]) -> Vec<RouteFailure> {
        Vec::new()
    }
}

/// Runs it; `args` are those behind the word.
///
/// # Errors
/// When it cannot.
pub fn run(args: &[String]) -> Result<()> {
    let (counts, neighbours) = args.split_first().context("no socket")?;
    let listener = UnixListener::bind(counts)?;
    let mut config = Config::new(SUBJECT);
    config.listen = vec![SUBJECT.into()];
    for text in neighbours {
        let (address, peer) = peer(text)?;
        config.peers.insert(address.to_string(), peer);
    }
    let speaker = Speaker::start(config, Box::new(Nowhere))?;
    for asker in listener.incoming() {
        let peers = speaker.peers()?;
        let held: u32 = peers.iter().map(|p| p.routes.v4.received).sum();
        write!(asker?, "{held}")?;
    }
    Ok(())
}

fn peer(text: &str) -> Result<(Ipv4Addr, Peer)> {
    let mut parts = text.split(',');
    let mut part = || parts.next().context("a neighbour is ADDRESS,AS,HEARS");
    let (address, asn, hears): (Ipv4Addr, u32, bool) =
        (part()?.parse()?, part()?.parse()?, part()?.parse()?);
    let mut session = SessionConfig::new(AS, SUBJECT, Some(asn));
    session.passive = true;
    session.hold.offered = 240;
    session.retry = Duration::from_secs(5);
    let mut peer = Peer::new(session, address.into());
    if !hears {
        let nothing = Rule {
            accept: false,
            ..Rule::default()
        };
        peer.export = Some(Arc::new(Filter {
            rules: vec![nothing],
        }));
    }
    Ok((address, peer))
}
