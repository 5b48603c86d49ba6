//! Peers that keep to the rules for as long as it suits them: sockets, and messages made by hand.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bgp::fsm::SessionConfig;
use bgp::wire::{Context, frame, open, render};
use bgp::{Attributes, NextHop, PrefixKey, V4};
use integration::lab::{Lab, Mesh, Netns};
use socket2::{Domain, Socket, Type};

/// The AS of all of them.
pub(crate) const AS: u32 = 65066;
/// The first of their addresses.
const FIRST: u8 = 200;

/// A host in the first rack, with many addresses of one interface.
pub(crate) struct Crowd {
    ns: Netns,
}

impl Crowd {
    pub(crate) fn new(lab: &Lab, mesh: &Mesh, size: u8) -> Result<Crowd> {
        let ns = lab.netns("crowd")?;
        lab.veth((&ns, "eth0"), (&mesh.router, "crowd"), 1500)?;
        mesh.router.ip("link set crowd master br1")?;
        for n in 0..size {
            ns.ip(&format!("addr add {}/24 dev eth0", Crowd::address(n)))?;
        }
        Ok(Crowd { ns })
    }

    pub(crate) fn address(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, 1, FIRST + n)
    }

    /// Connects to a node at `to`, says what a peer says first, and KEEPALIVEs from then on.
    pub(crate) fn speak(&self, n: u8, to: Ipv4Addr) -> Result<Raw> {
        let own = Crowd::address(n);
        let stream = self.ns.run(|| dial(own, to))?;
        // What cannot be written for this long never will be.
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        let mut hello = SessionConfig::new(AS, own, Some(64512));
        hello.restart_time = 0;
        let mut raw = Raw {
            own,
            stream,
            quiet: Arc::default(),
            alive: None,
        };
        raw.write(&open::encode(&hello.open()))?;
        raw.write(&frame::keepalive())?;
        Ok(raw)
    }
}

fn dial(from: Ipv4Addr, to: Ipv4Addr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    let at = SocketAddr::from((to, 179)).into();
    socket.connect(&at).context("connect")?;
    Ok(socket.into())
}

/// One of them, with a connection.
pub(crate) struct Raw {
    own: Ipv4Addr,
    stream: TcpStream,
    quiet: Arc<AtomicBool>,
    alive: Option<JoinHandle<()>>,
}

impl Raw {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("write to the daemon")
    }

    /// Announces prefixes with these communities.
    pub(crate) fn announce(&mut self, prefixes: &[[u8; 4]], communities: &[u32]) -> Result<()> {
        let attributes = Attributes {
            as_path: vec![AS],
            communities: communities.to_vec(),
            ..Attributes::default()
        };
        let block = attributes.block().context("too many attributes")?;
        let hop = NextHop::V4(self.own);
        let keys: Option<Vec<_>> = prefixes
            .iter()
            .map(|p| Some((0, V4::from_bits(32, p)?)))
            .collect();
        let keys = keys.context("no prefix")?.into_iter();
        let mut out = Vec::new();
        render::announce(&Context::default(), &block, &hop, keys, |message| {
            out.extend_from_slice(&message);
        })
        .map_err(|_| anyhow!("the attributes leave no room for a prefix"))?;
        self.write(&out)
    }

    /// Nothing but KEEPALIVEs from now on, until it is dropped; what comes is not read.
    pub(crate) fn idle(mut self) -> Result<Raw> {
        let (mut stream, quiet) = (self.stream.try_clone()?, Arc::clone(&self.quiet));
        self.alive = Some(std::thread::spawn(move || {
            while !quiet.load(Ordering::Relaxed) && stream.write_all(&frame::keepalive()).is_ok() {
                std::thread::park_timeout(Duration::from_secs(2));
            }
        }));
        Ok(self)
    }

    /// Everything that comes until the end of the connection, read meanwhile.
    pub(crate) fn listen(&self) -> Result<JoinHandle<Vec<u8>>> {
        let mut stream = self.stream.try_clone()?;
        Ok(std::thread::spawn(move || {
            let mut all = Vec::new();
            // A reset ends it too.
            let _ = stream.read_to_end(&mut all);
            all
        }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.quiet.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(alive) = self.alive.take() {
            alive.thread().unpark();
            let _ = alive.join();
        }
    }
}
