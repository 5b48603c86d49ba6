//! Unnumbered peers: routers on a link find each other by router advertisements (RFC 4861), ours and theirs.
//!
//! Ours have a lifetime of zero, so that no host takes us for its default router.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

use super::datagram;
use super::engine::Dice;
use super::mailbox::{Receiver, Sender, mailbox};
use super::sys;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Type, code, checksum (the kernel's to fill in), hop limit, flags, lifetime, two timers: all unspecified.
const MESSAGE: [u8; 16] = [ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Advertisements sent fast, at first and to a router not heard before.
const FAST: u8 = 3;
const FAST_EVERY: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_secs(10);
/// Packets taken from a socket in one turn.
const TURN: usize = 64;

/// The engine's end; the thread ends with it.
pub(super) struct Routers(Sender<Vec<String>>);

impl Routers {
    /// Starts the thread. `found` is called with an interface and the router that was heard there.
    pub(super) fn start(found: impl Fn(&str, Ipv6Addr) + Send + 'static) -> io::Result<Routers> {
        let (sender, wanted) = mailbox()?;
        let thread = thread::Builder::new().name("bgp-routers".to_owned());
        thread.spawn(move || {
            let watch = Watch {
                wanted,
                found,
                links: BTreeMap::new(),
                dice: Dice::new(),
            };
            watch.run();
        })?;
        Ok(Routers(sender))
    }

    /// Replaces the interfaces on which routers are looked for.
    pub(super) fn watch(&self, interfaces: Vec<String>) {
        self.0.send(interfaces);
    }
}

struct Link {
    /// `None` while the interface is not there.
    socket: Option<Socket>,
    /// When the next advertisement is due, or the next attempt to open the socket.
    next: Instant,
    fast: u8,
    heard: Option<Ipv6Addr>,
}

struct Watch<F> {
    wanted: Receiver<Vec<String>>,
    found: F,
    links: BTreeMap<String, Link>,
    dice: Dice,
}

fn open(interface: &str) -> io::Result<Socket> {
    let index = if_nametoindex(interface)?;
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    sys::hear_only(&socket, &[SOLICITATION, ADVERTISEMENT])?;
    sys::tell_ttl(&socket, true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    // RFC 4861 §6.1: who hears another hop limit drops it.
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    Ok(socket)
}

fn advertise(socket: &Socket, interface: &str) -> io::Result<()> {
    let index = if_nametoindex(interface)?;
    let to = SocketAddrV6::new(ALL_NODES, 0, 0, index);
    socket.send_to(&MESSAGE, &SocketAddr::from(to).into())?;
    Ok(())
}

impl<F: Fn(&str, Ipv6Addr)> Watch<F> {
    fn run(mut self) {
        loop {
            self.wait();
            loop {
                match self.wanted.take() {
                    Ok(Some(interfaces)) => self.set(&interfaces),
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            self.hear();
            self.speak();
        }
    }

    fn wait(&self) {
        let mut fds = vec![PollFd::new(self.wanted.fd(), PollFlags::POLLIN)];
        let sockets = self.links.values().filter_map(|l| l.socket.as_ref());
        fds.extend(sockets.map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)));
        let timeout = match self.links.values().map(|l| l.next).min() {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                let millis = left.as_micros().div_ceil(1000);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        };
        if let Err(e) = poll(&mut fds, timeout)
            && e != nix::Error::EINTR
        {
            debug!("cannot wait for router advertisements: {e}");
            thread::sleep(FAST_EVERY);
        }
        self.wanted.hush();
    }

    fn set(&mut self, interfaces: &[String]) {
        self.links.retain(|name, _| interfaces.contains(name));
        for name in interfaces {
            self.links.entry(name.clone()).or_insert_with(|| Link {
                socket: None,
                next: Instant::now(),
                fast: FAST,
                heard: None,
            });
        }
    }

    fn hear(&mut self) {
        for (name, link) in &mut self.links {
            let Some(socket) = &link.socket else {
                continue;
            };
            for _ in 0..TURN {
                let Ok(Some(arrived)) = datagram::receive(socket) else {
                    break;
                };
                // From this link only, and from a router: both have a hop limit of 255 (RFC 4861 §6.1).
                let IpAddr::V6(from) = arrived.from.ip() else {
                    continue;
                };
                let kind = arrived.bytes().first().copied();
                if arrived.ttl != 255 {
                    continue;
                }
                if kind == Some(ADVERTISEMENT) && from.is_unicast_link_local() {
                    if link.heard.replace(from) != Some(from) {
                        debug!(interface = name, "router {from} is there");
                        link.next = Instant::now();
                        link.fast = FAST;
                    }
                    (self.found)(name, from);
                } else if kind == Some(SOLICITATION) && link.fast == 0 {
                    link.next = Instant::now();
                    link.fast = 1;
                }
            }
        }
    }

    fn speak(&mut self) {
        let now = Instant::now();
        for (name, link) in &mut self.links {
            if link.next > now {
                continue;
            }
            if link.socket.is_none() {
                link.socket = open(name)
                    .inspect_err(|e| debug!(interface = name, "cannot look for routers: {e}"))
                    .ok();
            }
            let sent = link.socket.as_ref().map(|s| advertise(s, name));
            if let Some(Err(e)) = sent {
                // No address yet, or the interface went and came back.
                debug!(interface = name, "cannot advertise: {e}");
                link.socket = None;
            }
            let every = if link.fast > 0 { FAST_EVERY } else { EVERY };
            link.fast = link.fast.saturating_sub(1);
            link.next = now + every.mul_f64(0.75 + 0.25 * self.dice.roll());
        }
    }
}
