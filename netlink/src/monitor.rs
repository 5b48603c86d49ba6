//! What changes in the kernel, told as it happens.
//!
//! A notification says that something changed; what is there now is always read anew. So a lost
//! one costs a look too many, never a wrong picture.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::Instant;

use model::kernel::{Link, LinkName};
use model::marks;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::attr::{Attrs, u16_at, u32_at};
use crate::observe;
use crate::socket::{Header, Listener, Socket};
use crate::{Error, Refusal, nft};

/// Milliseconds after a first notification in which others join it: one change in the kernel is
/// several notifications, and one by an operator several changes.
const SETTLE: u16 = 10;
/// A look is followed by a pause of this many times what it took: many changes to many links cost
/// a fifth of one core at most.
const REST: u32 = 4;
/// Longest such pause, milliseconds.
const REST_MAX: u16 = 500;
/// Milliseconds before listening again after it failed.
const BACK_OFF: u16 = 1000;

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All links with their addresses: at the start, and whenever they differ from the last.
    Links(BTreeMap<LinkName, Link>),
    /// A route outside the local table.
    RoutesChanged,
    /// A neighbour or forwarding entry that is permanent, ours or on a link of ours.
    NeighboursChanged,
    /// One of our nftables tables.
    NatChanged,
    /// Notifications were lost: anything may have changed.
    Overrun,
}

/// Listens until dropped.
pub struct Monitor {
    /// Closed to stop the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts to listen in the network namespace of this thread, on a thread of its own.
    ///
    /// `on_event` is called on that thread and should only hand the event on. Changes of routes,
    /// neighbours and nftables made by the netlink `ports` are left out: those of
    /// [`Netlink::ports`](crate::Netlink::ports), whose owner knows what it did.
    ///
    /// # Errors
    /// When there is no rtnetlink or no thread to be had.
    pub fn spawn(
        ports: Vec<u32>,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Result<Monitor, Error> {
        let failed = |e: Refusal| e.during("listen to", "netlink notifications");
        let route = Listener::open(netlink_sys::protocols::NETLINK_ROUTE, &ROUTE_GROUPS);
        let socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE);
        let route = route.inspect(|listener| listener.ignore_routes_of(&ports));
        let (stopped, stop) = std::io::pipe().map_err(|e| failed(e.into()))?;
        let watch = Watch {
            route: route.map_err(failed)?,
            // A kernel without nftables has no table of ours to change.
            nftables: Listener::open(netlink_sys::protocols::NETLINK_NETFILTER, &[NFT_GROUP]).ok(),
            socket: socket.map_err(failed)?,
            stopped,
            ports,
            links: None,
            ours: BTreeSet::new(),
            on_event,
        };
        let thread = std::thread::Builder::new()
            .name("netlink-monitor".to_owned())
            .spawn(|| watch.run())
            .map_err(|e| failed(e.into()))?;
        Ok(Monitor {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the netlink monitor panicked");
        }
    }
}

/// `RTNLGRP_LINK`, `NEIGH`, and of either family `IFADDR` and `ROUTE`.
const ROUTE_GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
/// `NFNLGRP_NFTABLES`.
const NFT_GROUP: u32 = 7;

struct Watch<F> {
    route: Listener,
    nftables: Option<Listener>,
    socket: Socket,
    stopped: PipeReader,
    ports: Vec<u32>,
    /// As last told.
    links: Option<BTreeMap<LinkName, Link>>,
    /// Indexes of our links.
    ours: BTreeSet<u32>,
    on_event: F,
}

/// What notifications said.
#[derive(Default)]
struct Changed {
    links: bool,
    routes: bool,
    neighbours: bool,
    nat: bool,
    lost: bool,
}

impl<F: FnMut(Event)> Watch<F> {
    fn run(mut self) {
        let all = Changed {
            links: true,
            ..Changed::default()
        };
        let mut wait = self.look(|_| Ok(all));
        loop {
            // First for something to happen, then for more of it.
            if wait.is_ok() && !self.awaited() {
                return;
            }
            if self.stopped_within(*wait.as_ref().unwrap_or(&BACK_OFF)) {
                return;
            }
            wait = self.look(Self::drain);
            if let Err(e) = &wait {
                tracing::warn!(error = %e, "cannot follow the kernel's changes for now");
                (self.on_event)(Event::Overrun);
            }
        }
    }

    /// Looks at what changed and tells it; how long to let the next changes gather, milliseconds.
    fn look(
        &mut self,
        what: impl FnOnce(&mut Self) -> Result<Changed, Error>,
    ) -> Result<u16, Error> {
        let start = Instant::now();
        let changed = what(self)?;
        self.tell(&changed)?;
        let rest = u16::try_from((start.elapsed() * REST).as_millis()).unwrap_or(REST_MAX);
        Ok(rest.clamp(SETTLE, REST_MAX))
    }

    /// Waits for a notification; false when told to stop.
    fn awaited(&self) -> bool {
        let fd = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![fd(self.stopped.as_fd()), fd(self.route.as_fd())];
        fds.extend(self.nftables.iter().map(|n| fd(n.as_fd())));
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {
                    return fds.first().and_then(PollFd::any) == Some(false);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn stopped_within(&self, milliseconds: u16) -> bool {
        let mut fds = [PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
        // Interrupted is a little early, which does no harm.
        poll(&mut fds, milliseconds).is_ok_and(|n| n > 0)
    }

    fn drain(&mut self) -> Result<Changed, Error> {
        let failed = |e: Refusal| e.during("read", "netlink notifications");
        let mut changed = Changed::default();
        let (ports, ours) = (&self.ports, &self.ours);
        let lost = self.route.drain(|header, payload| match header.kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => {
                changed.links = true;
            }
            _ if ports.contains(&header.port) => {}
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => changed.routes |= is_planned(payload),
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
                changed.neighbours |= matters(header, payload, ours);
            }
            _ => {}
        });
        changed.lost = lost.map_err(failed)?;
        if let Some(nftables) = &mut self.nftables {
            let lost = nftables.drain(|header, payload| {
                changed.nat |= !ports.contains(&header.port) && nft::is_our_table(payload);
            });
            changed.lost |= lost.map_err(failed)?;
        }
        Ok(changed)
    }

    fn tell(&mut self, changed: &Changed) -> Result<(), Error> {
        if changed.links || changed.lost {
            let links: BTreeMap<LinkName, Link> = observe::links(&mut self.socket)?
                .into_iter()
                .map(|found| (found.link.name, found.link))
                .collect();
            let of_ours = links
                .values()
                .filter(|l| marks::is_our_link(l.name.as_str()));
            self.ours = of_ours.map(|l| l.index).collect();
            if self.links.as_ref() != Some(&links) {
                self.links = Some(links.clone());
                (self.on_event)(Event::Links(links));
            }
        }
        for (happened, event) in [
            (changed.routes, Event::RoutesChanged),
            (changed.neighbours, Event::NeighboursChanged),
            (changed.nat, Event::NatChanged),
            (changed.lost, Event::Overrun),
        ] {
            if happened {
                (self.on_event)(event);
            }
        }
        Ok(())
    }
}

/// Whether a route is one that could be planned, or be in the way of one.
fn is_planned(payload: &[u8]) -> bool {
    const RTM_F_CLONED: u32 = 0x200;
    let local = payload.get(4) == Some(&libc::RT_TABLE_LOCAL);
    let cloned = u32_at(payload, 8).is_some_and(|flags| flags & RTM_F_CLONED != 0);
    !local && !cloned
}

/// Whether a neighbour is more than what the kernel resolves as it goes.
fn matters(header: &Header, payload: &[u8], ours: &BTreeSet<u32>) -> bool {
    const HEADER: usize = 12;
    const NDA_PROTOCOL: u16 = 12;
    let permanent = u16_at(payload, 8).is_some_and(|state| state & libc::NUD_PERMANENT != 0);
    let protocol = Attrs::after(payload, HEADER).find(NDA_PROTOCOL);
    let of_ours = u32_at(payload, 4).is_some_and(|index| ours.contains(&index));
    permanent
        || protocol == Some(&[marks::ROUTE_PROTOCOL])
        || (header.kind == libc::RTM_DELNEIGH && of_ours)
}
