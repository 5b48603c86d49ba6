//! BFD over UDP (RFC 5881, RFC 5883) on a thread of its own: nothing that BGP has to do delays a packet.

mod target;
mod udp;

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

use super::datagram::{self, Arrived};
use super::engine::Dice;
use super::mailbox::{Receiver, Sender, mailbox};
use crate::bfd::{Config, Event, Packet, Session, State};
use crate::rib::PeerId;
pub(super) use target::Target;

/// Packets taken from a socket in one turn.
const TURN: usize = 64;
/// Until a socket that could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The engine's end. When it goes, the neighbours hear that their sessions are taken down.
pub(super) struct BfdThread {
    targets: Option<Sender<Vec<Target>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for BfdThread {
    fn drop(&mut self) {
        self.targets = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by its thread.
            let _ = thread.join();
        }
    }
}

impl BfdThread {
    /// Starts the thread; it ends with its handle. `report` is called when a session changes.
    pub(super) fn start(
        report: impl Fn(PeerId, State, Option<Event>) + Send + 'static,
    ) -> io::Result<BfdThread> {
        let (sender, receiver) = mailbox()?;
        let thread = thread::Builder::new().name("bfd".to_owned());
        let thread = thread.spawn(move || {
            let now = Instant::now();
            let watch = Watch {
                targets: receiver,
                report,
                watched: Vec::new(),
                heard: Vec::new(),
                start: now,
                next_discriminator: 0,
                dice: Dice::new(),
            };
            watch.run();
        })?;
        Ok(BfdThread {
            targets: Some(sender),
            thread: Some(thread),
        })
    }

    /// Replaces what is watched.
    pub(super) fn watch(&self, targets: Vec<Target>) {
        if let Some(sender) = &self.targets {
            sender.send(targets);
        }
    }
}

struct Watched {
    target: Target,
    session: Session,
    discriminator: u32,
    /// `None` while it could not be made.
    socket: Option<UdpSocket>,
    retry: Duration,
    told: Option<State>,
}

struct Watch<F> {
    targets: Receiver<Vec<Target>>,
    report: F,
    watched: Vec<Watched>,
    /// Sockets that hear, by port and family.
    heard: Vec<(u16, bool, UdpSocket)>,
    start: Instant,
    next_discriminator: u32,
    dice: Dice,
}

impl<F: Fn(PeerId, State, Option<Event>)> Watch<F> {
    fn run(mut self) {
        loop {
            self.wait();
            loop {
                match self.targets.take() {
                    Ok(Some(targets)) => self.set(targets),
                    Ok(None) => break,
                    Err(_) => {
                        // Neighbours hear that this is no failure of the path (RFC 5882 §3.2).
                        self.set(Vec::new());
                        return;
                    }
                }
            }
            self.hear();
            self.speak();
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits for a packet, for new targets or for the next deadline.
    fn wait(&self) {
        let mut fds = vec![PollFd::new(self.targets.fd(), PollFlags::POLLIN)];
        for (_, _, socket) in &self.heard {
            fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        }
        let deadline = |w: &Watched| match w.socket {
            Some(_) => w.session.poll_timeout(),
            None => Some(w.retry),
        };
        let next = self.watched.iter().filter_map(deadline).min();
        let timeout = match next {
            None => PollTimeout::NONE,
            Some(at) => {
                let millis = at.saturating_sub(self.now()).as_micros().div_ceil(1000);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => {
                warn!("cannot wait for BFD sockets: {e}");
                thread::sleep(Duration::from_millis(100));
            }
        }
        self.targets.hush();
    }

    fn set(&mut self, targets: Vec<Target>) {
        let now = self.now();
        let old = std::mem::take(&mut self.watched);
        let mut gone = old;
        for target in targets {
            let known = gone.iter().position(|w| w.target.same_path(&target));
            let watched = match known {
                Some(at) => {
                    let mut watched = gone.swap_remove(at);
                    let bfd = target.bfd;
                    watched
                        .session
                        .set_intervals(bfd.transmit, bfd.receive, now);
                    watched.target = target;
                    watched
                }
                None => self.begin(target, now),
            };
            self.watched.push(watched);
        }
        for watched in &mut gone {
            // It is no failure of the path: the neighbour should keep its routes.
            watched.session.set_admin_down(true, now);
            if let Some(socket) = &watched.socket
                && let Some(packet) = watched.session.poll_transmit(now, self.dice.roll())
            {
                let _ = socket.send(&packet);
            }
        }
        self.listen();
    }

    fn begin(&mut self, target: Target, now: Duration) -> Watched {
        self.next_discriminator = self.next_discriminator.wrapping_add(1).max(1);
        let discriminator = self.next_discriminator;
        let config = Config {
            discriminator,
            transmit: target.bfd.transmit,
            receive: target.bfd.receive,
            multiplier: target.bfd.multiplier,
            hops: target.hops(),
        };
        Watched {
            session: Session::new(config, now),
            socket: None,
            retry: now,
            target,
            discriminator,
            told: None,
        }
    }

    /// Opens the sockets that are needed to hear, and closes those that are not.
    fn listen(&mut self) {
        let of = |w: &Watched| (w.target.port(), w.target.address.is_ipv6());
        let mut needed: Vec<_> = self.watched.iter().map(of).collect();
        needed.sort_unstable();
        needed.dedup();
        self.heard
            .retain(|(port, v6, _)| needed.contains(&(*port, *v6)));
        for (port, v6) in needed {
            if self.heard.iter().any(|(p, f, _)| (*p, *f) == (port, v6)) {
                continue;
            }
            match udp::listen(port, v6) {
                Ok(socket) => self.heard.push((port, v6, socket)),
                Err(e) => {
                    warn!(
                        "cannot hear BFD at UDP port {port}: {e}; is another BFD daemon running?"
                    );
                }
            }
        }
    }

    fn hear(&mut self) {
        let heard = std::mem::take(&mut self.heard);
        for (port, _, socket) in &heard {
            for _ in 0..TURN {
                match datagram::receive(socket) {
                    Ok(Some(arrived)) => self.packet(*port, &arrived),
                    Ok(None) => break,
                    Err(e) => {
                        debug!("cannot receive BFD: {e}");
                        break;
                    }
                }
            }
        }
        self.heard = heard;
    }

    fn packet(&mut self, port: u16, arrived: &Arrived) {
        let (now, from, ttl) = (self.now(), arrived.from, arrived.ttl);
        let packet = match Packet::decode(arrived.bytes()) {
            Ok(packet) => packet,
            Err(e) => {
                debug!("BFD packet from {from} dropped: {e}");
                return;
            }
        };
        // By our number for it, or by where it comes from while the neighbour does not know that (RFC 5880 §6.8.6).
        // The address is looked at in either case: numbers are easy to guess.
        let ours = packet.your_discriminator;
        let found = self.watched.iter_mut().find(|w| {
            w.target.port() == port
                && udp::is_from(&w.target, from)
                && (ours == 0 || ours == w.discriminator)
        });
        if let Some(watched) = found
            && let Err(e) = watched.session.handle_packet(&packet, ttl, now)
        {
            debug!("BFD packet from {from} dropped: {e}");
        }
    }

    fn speak(&mut self) {
        let now = self.now();
        for watched in &mut self.watched {
            if watched.socket.is_none() && watched.retry <= now {
                watched.socket = udp::speak(&watched.target)
                    .inspect_err(|e| debug!("cannot send BFD to {}: {e}", watched.target.address))
                    .ok();
                watched.retry = now + AGAIN;
            }
            watched.session.handle_timeout(now);
            while let Some(packet) = watched.session.poll_transmit(now, self.dice.roll()) {
                // A refusal is the neighbour's ICMP error; what does not arrive is what BFD is about.
                let sent = watched.socket.as_ref().map(|s| s.send(&packet));
                if let Some(Err(e)) = sent
                    && e.raw_os_error() == Some(libc::ENODEV)
                {
                    watched.socket = None;
                }
            }
            let event = watched.session.poll_event();
            let state = watched.session.state();
            if event.is_some() || watched.told != Some(state) {
                watched.told = Some(state);
                (self.report)(watched.target.peer, state, event);
            }
        }
    }
}
