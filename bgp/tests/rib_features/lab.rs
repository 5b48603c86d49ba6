//! A RIB, what neighbours say to it, and what each of them was told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use bgp::attributes::{AttrView, Attributes};
use bgp::rib::filter::{MatchOperator, PrefixMatch, Rule};
use bgp::rib::{
    Applied, Export, Import, NextHopMode, PeerConfig, PeerId, PeerKind, Rib, RibConfig, Route,
};
use bgp::wire::update::MpNlri;
use bgp::wire::{Context, frame, render, update};
use bgp::{Family, NextHop, PrefixKey, V4, V6};
use model::Cidr;

pub(crate) const OWN_AS: u32 = 64512;

pub(crate) fn config(n: u8, kind: PeerKind) -> PeerConfig {
    let address = Ipv4Addr::new(10, 0, 0, n);
    let external = kind == PeerKind::External;
    PeerConfig {
        address: address.into(),
        router_id: address,
        asn: if external {
            65000 + u32::from(n)
        } else {
            OWN_AS
        },
        import: Import::default(),
        export: Export {
            kind,
            local_as: OWN_AS,
            context: Context {
                ibgp: !external,
                extended_next_hop: true,
                ..Context::default()
            },
            role: None,
            filter: None,
            next_hop: NextHopMode::Auto,
            own_v4: Some(Ipv4Addr::new(10, 0, 0, 254)),
            own_v6: Some(NextHop::LinkLocal(link_local())),
            max_paths: 1,
        },
    }
}

pub(crate) fn link_local() -> Ipv6Addr {
    "fe80::fe".parse().unwrap()
}

pub(crate) fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

pub(crate) fn from_as(n: u8) -> Attributes {
    Attributes {
        as_path: vec![65000 + u32::from(n)],
        ..Attributes::default()
    }
}

pub(crate) struct Lab {
    pub(crate) rib: Rib,
    /// What each neighbour was told, by prefix.
    pub(crate) heard: BTreeMap<(u16, Cidr), (Attributes, NextHop)>,
    pub(crate) ends: u32,
}

impl Lab {
    pub(crate) fn new(peers: impl IntoIterator<Item = (u8, PeerConfig)>) -> Lab {
        let mut rib = Rib::new(RibConfig::new(Ipv4Addr::new(10, 0, 0, 254)));
        for (n, config) in peers {
            rib.peer_up(PeerId(n.into()), config);
        }
        Lab {
            rib,
            heard: BTreeMap::new(),
            ends: 0,
        }
    }

    pub(crate) fn announce(
        &mut self,
        n: u8,
        prefix: &str,
        attributes: &Attributes,
        hop: NextHop,
    ) -> Applied {
        let context = Context {
            extended_next_hop: true,
            ..Context::default()
        };
        let block = attributes.block().unwrap();
        let mut message = None;
        let send = |m| message = Some(m);
        match V4::from_cidr(&cidr(prefix)) {
            Some(key) => render::announce(&context, &block, &hop, std::iter::once((0, key)), send),
            None => {
                let key = V6::from_cidr(&cidr(prefix)).unwrap();
                render::announce(&context, &block, &hop, std::iter::once((0, key)), send)
            }
        }
        .unwrap();
        let message = message.unwrap();
        let frame = frame::next(&message, 4096).unwrap().unwrap();
        let mut scratch = Vec::new();
        let update = update::split(frame.body, &context, &mut scratch).unwrap();
        assert_eq!(update.faults, []);
        self.rib.apply(PeerId(n.into()), &update)
    }

    pub(crate) fn v4(&mut self, n: u8, prefix: &str, attributes: &Attributes) -> Applied {
        self.announce(
            n,
            prefix,
            attributes,
            NextHop::V4(Ipv4Addr::new(10, 0, 0, n)),
        )
    }

    pub(crate) fn settle(&mut self) {
        let context = Context {
            extended_next_hop: true,
            ..Context::default()
        };
        let (heard, ends) = (&mut self.heard, &mut self.ends);
        while self.rib.transmit(
            |_| true,
            |to, message| {
                let frame = frame::next(message, 4096).unwrap().unwrap();
                let mut scratch = Vec::new();
                let update = update::split(frame.body, &context, &mut scratch).unwrap();
                *ends += u32::from(update.end_of_rib.is_some());
                let what = Attributes::from(AttrView::new(update.block));
                for (_, key) in update.withdrawn.iter() {
                    heard.remove(&(to.0, key.cidr()));
                }
                if let Some(MpNlri::V6(nlri)) = update.mp_withdrawn {
                    for (_, key) in nlri.iter() {
                        heard.remove(&(to.0, key.cidr()));
                    }
                }
                for (_, key) in update.announced.iter() {
                    let hop = NextHop::V4(update.next_hop.unwrap());
                    heard.insert((to.0, key.cidr()), (what.clone(), hop));
                }
                match update.mp_announced {
                    Some((MpNlri::V4(nlri), hop)) => heard.extend(
                        nlri.iter()
                            .map(|(_, k)| ((to.0, k.cidr()), (what.clone(), hop))),
                    ),
                    Some((MpNlri::V6(nlri), hop)) => heard.extend(
                        nlri.iter()
                            .map(|(_, k)| ((to.0, k.cidr()), (what.clone(), hop))),
                    ),
                    None => {}
                }
            },
        ) {}
    }

    /// All routes, or those of one prefix.
    pub(crate) fn routes(&self, prefix: Option<&str>) -> Vec<Route<'_>> {
        let rows = match prefix {
            Some(prefix) => self
                .rib
                .row_of(&cidr(prefix))
                .map_or(0..0, |row| row..row + 1),
            None => 0..self.rib.rows(Family::V4),
        };
        self.rib.routes(Family::V4, rows, None)
    }

    pub(crate) fn told(&mut self, to: u8, prefix: &str) -> Option<(Attributes, NextHop)> {
        self.settle();
        self.heard.get(&(u16::from(to), cidr(prefix))).cloned()
    }
}

pub(crate) fn external(n: u8) -> (u8, PeerConfig) {
    (n, config(n, PeerKind::External))
}

pub(crate) fn reject(prefix: &str) -> Rule {
    Rule {
        accept: false,
        prefix: Some(PrefixMatch {
            cidr: cidr(prefix),
            operator: MatchOperator::In,
            min_len: None,
            max_len: None,
        }),
        ..Rule::default()
    }
}
