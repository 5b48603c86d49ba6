//! `bgp`: sessions and routes.

use client::{Client, Target, paths};
use model::Cidr;
use model::api::{BfdState, BgpPeerShow, BgpPeersShow, BgpRouteShow, BgpState};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::age::span;
use crate::args::{Bgp, OutputFormat};
use crate::failure::{Done, Failure};
use crate::output::{Colour, Out};
use crate::table::{Cell, Table};

pub(super) fn run(client: &Client, command: Bgp, out: &mut Out) -> Result<Done, Failure> {
    match command {
        Bgp::Peers(format) => peers(client, format.output, out),
        Bgp::Routes {
            prefix,
            peer,
            advertised,
            format,
        } => {
            let target = || {
                let mut target = paths::bgp_routes();
                if let Some(prefix) = prefix {
                    target = target.query("prefix", &prefix.to_string());
                }
                if let Some(peer) = &peer {
                    target = target.query("peer", peer);
                }
                match advertised {
                    true => target.query("advertised", "true"),
                    false => target,
                }
            };
            if format.output == OutputFormat::Table {
                let routes = all(client, target, |route: &BgpRouteShow| Some(route.prefix))?;
                show_routes(&routes, advertised, out);
            } else {
                // As the daemon says it, with what only a newer one knows.
                let prefix = |route: &Value| route["prefix"].as_str()?.parse().ok();
                let routes: Vec<Value> = all(client, target, prefix)?;
                super::print_value(&json!({"routes": routes}), format.output, out)?;
            }
            Ok(Done::Well)
        }
    }
}

/// A part of the table.
#[derive(Deserialize)]
struct Page<T> {
    routes: Vec<T>,
    next: Option<String>,
}

/// The routes of all parts, by prefix.
fn all<T: DeserializeOwned>(
    client: &Client,
    target: impl Fn() -> Target,
    prefix: impl Fn(&T) -> Option<Cidr>,
) -> Result<Vec<T>, Failure> {
    let (mut routes, mut next): (Vec<T>, Option<String>) = (Vec::new(), None);
    loop {
        let target = match &next {
            Some(after) => target().query("after", after),
            None => target(),
        };
        let page: Page<T> = super::typed(super::get(client, &target)?)?;
        routes.extend(page.routes);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    // Those of one prefix are in order already.
    routes.sort_by_key(prefix);
    Ok(routes)
}

fn peers(client: &Client, format: OutputFormat, out: &mut Out) -> Result<Done, Failure> {
    let value: Value = super::get(client, &paths::bgp_peers())?;
    if super::print_value(&value, format, out)? {
        return Ok(Done::Well);
    }
    let shown: BgpPeersShow = super::typed(value)?;
    if shown.peers.is_empty() {
        out.line(
            "no BGP peers: there is no other node to speak to, and no BGPPeer selects this one",
        );
        return Ok(Done::Well);
    }
    let mut table = Table::new([
        "PEER",
        "NAME",
        "AS",
        "STATE",
        "UP",
        "RECEIVED",
        "ADVERTISED",
        "BFD",
        "LAST DOWN",
    ]);
    shown.peers.iter().for_each(|p| table.push(peer(p)));
    out.text(&table.render(out.colour()));
    Ok(Done::Well)
}

fn peer(peer: &BgpPeerShow) -> Vec<Cell> {
    let state = format!("{:?}", peer.state);
    let down = peer
        .last_down
        .as_ref()
        .map(|why| match peer.last_down_seconds {
            Some(ago) => format!("{} ago: {why}", span(ago)),
            None => why.clone(),
        });
    let received = match peer.filtered {
        0 => peer.received.to_string(),
        n => format!("{} ({n} refused)", peer.received),
    };
    vec![
        Cell::new(&peer.peer),
        Cell::new(&peer.name),
        Cell::new(peer.as_number.map(|n| n.to_string()).unwrap_or_default()),
        match peer.state {
            BgpState::Established => Cell::coloured(state, Colour::Green),
            BgpState::OpenSent | BgpState::OpenConfirm => Cell::new(state),
            _ => Cell::coloured(state, Colour::Red),
        },
        Cell::new(peer.uptime_seconds.map(span).unwrap_or_default()),
        Cell::new(received),
        Cell::new(peer.advertised.to_string()),
        match peer.bfd {
            BfdState::Up => Cell::coloured("Up", Colour::Green),
            BfdState::Down => Cell::coloured("Down", Colour::Red),
            BfdState::Off => Cell::new("Off"),
        },
        match &peer.fault {
            Some(fault) => Cell::coloured(fault.clone(), Colour::Red),
            None => Cell::new(down.unwrap_or_default()),
        },
    ]
}

fn show_routes(routes: &[BgpRouteShow], advertised: bool, out: &mut Out) {
    let peer = if advertised { "TO" } else { "FROM" };
    let mut table = Table::new([
        "PREFIX",
        "NEXT HOP",
        peer,
        "AS PATH",
        "COMMUNITIES",
        "PREF",
        "MED",
        "STATE",
    ]);
    routes.iter().for_each(|r| table.push(route(r)));
    out.text(&table.render(out.colour()));
}

fn route(route: &BgpRouteShow) -> Vec<Cell> {
    let words = [
        (route.best, "best"),
        (route.installed, "installed"),
        (route.filtered, "refused"),
        (route.stale, "stale"),
    ];
    let words: Vec<&str> = words
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, w)| *w)
        .collect();
    let mut words = words.join(", ");
    if let Some(note) = &route.note {
        words.push_str(&format!(": {note}"));
    }
    let path: Vec<String> = route.as_path.iter().map(u32::to_string).collect();
    let number = |n: Option<u32>| Cell::new(n.map(|n| n.to_string()).unwrap_or_default());
    vec![
        Cell::new(route.prefix.to_string()),
        Cell::new(
            route
                .next_hop
                .map_or("this node".to_owned(), |ip| ip.to_string()),
        ),
        Cell::new(route.peer.as_deref().unwrap_or("this node")),
        Cell::new(path.join(" ")),
        Cell::new(route.communities.join(" ")),
        number(route.local_pref),
        number(route.med),
        match (route.installed, route.filtered) {
            (true, _) => Cell::coloured(words, Colour::Green),
            (_, true) => Cell::coloured(words, Colour::Red),
            _ => Cell::new(words),
        },
    ]
}
