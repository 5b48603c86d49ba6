//! Neighbours that say what they are told to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bgp::fsm::SessionConfig;
use bgp::wire::{Context, frame, open, render};
use bgp::{Attributes, NextHop, PerFamily, PrefixKey, V4};
use integration::lab::{Netns, wait};
use socket2::{Domain, Socket, Type};

use crate::rig::{LIMIT, OUR_AS};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feeder {
    pub(crate) n: u8,
    pub(crate) asn: u32,
    /// The first AS of its paths, where that has to be one.
    pub(crate) neighbour: u32,
    /// Last part of its router id: not in the order of addresses.
    id: u8,
}

const fn feeder(n: u8, asn: u32, neighbour: u32, id: u8) -> Feeder {
    Feeder {
        n,
        asn,
        neighbour,
        id,
    }
}

pub(crate) const FEEDERS: [Feeder; 5] = [
    feeder(0, 65001, 65001, 9),
    feeder(1, 65001, 65001, 3),
    feeder(2, 65002, 65002, 5),
    feeder(3, OUR_AS, 65001, 7),
    feeder(4, OUR_AS, 65003, 1),
];

impl Feeder {
    pub(crate) fn name(&self) -> String {
        format!("f{}", self.n)
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, 20 + self.n)
    }

    /// A prefix that only this one announces.
    pub(crate) fn marker(&self) -> String {
        format!("10.6.{}.0/24", self.n)
    }

    /// Connects, and says KEEPALIVEs for as long as the session is kept.
    pub(crate) fn connect(&self, ns: &Netns, to: Ipv4Addr) -> Result<Session> {
        let own = self.address();
        let dial = || -> Result<TcpStream> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((own, 0)).into())?;
            socket.connect(&SocketAddr::from((to, 179)).into())?;
            Ok(socket.into())
        };
        let mut hello = SessionConfig::new(self.asn, [10, 7, 1, self.id].into(), Some(OUR_AS));
        hello.families = PerFamily {
            v4: true,
            v6: false,
        };
        hello.restart_time = 0;
        // Nothing has to be said while the test thinks.
        hello.hold.offered = 0;
        let stream = wait(&format!("{own} to reach {to}"), LIMIT, || {
            let mut stream = ns.run(dial)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(&open::encode(&hello.open()))?;
            stream.write_all(&frame::keepalive())?;
            // Whoever is not ready for it closes at once.
            let mut first = [0; 19];
            stream.read_exact(&mut first).context("no OPEN")?;
            Ok(stream)
        })?;
        // What comes is read and forgotten.
        let mut other = stream.try_clone()?;
        other.set_read_timeout(None)?;
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while other.read(&mut bytes).is_ok_and(|n| n > 0) {}
        });
        Ok(Session {
            stream,
            hop: Ipv4Addr::new(10, 99, 0, 120 + self.n),
            context: Context {
                ibgp: self.asn == OUR_AS,
                ..Context::default()
            },
        })
    }
}

/// With one of the two that listen.
pub(crate) struct Session {
    stream: TcpStream,
    hop: Ipv4Addr,
    context: Context,
}

impl Session {
    /// Announces a /24, or withdraws it.
    pub(crate) fn say(&mut self, prefix: [u8; 4], what: Option<&Attributes>) -> Result<()> {
        let key = V4::from_bits(24, &prefix).context("no prefix")?;
        let key = std::iter::once((0, key));
        let mut out = Vec::new();
        match what {
            None => render::withdraw(&self.context, key, |m| out.extend_from_slice(&m)),
            Some(attributes) => {
                let block = attributes.block()?;
                let hop = NextHop::V4(self.hop);
                let told = render::announce(&self.context, &block, &hop, key, |m| {
                    out.extend_from_slice(&m);
                });
                told.map_err(|_| anyhow!("the attributes leave no room for a prefix"))?;
            }
        }
        self.stream.write_all(&out).context("write")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
