//! The thread that owns the device: handshakes, timers, configuration. Curve operations happen here and
//! never on a data-path thread.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::device::Device;
use crate::entropy::Entropy;
use crate::keys::PrivateKey;
use crate::time::{Now, Time};

use super::inbox::{Inbox, Taken};
use super::rx::Rx;
use super::sys;
use super::tx::Tx;
use super::udp::{Outlet, Sockets, single};
use super::worker::{Bell, Counters, Shared, now};
use super::{Queue, TunnelEvent};

/// Something to do with the device, by somebody who waits for it.
pub(super) type Order = Box<dyn FnOnce(&mut Control) + Send>;

/// Idle lanes are told to let go of outdated snapshots this often at most.
const RING_EVERY: Duration = Duration::from_secs(1);

/// What the thread owns.
pub(super) struct Control {
    pub(super) device: Device,
    pub(super) queues: Vec<Queue>,
    pub(super) counters: Arc<Counters>,
    pub(super) is_ending: bool,
    inbox: Arc<Inbox<Order>>,
    outlet: Option<Outlet>,
    workers: Vec<Worker>,
    on_event: Box<dyn FnMut(TunnelEvent) + Send>,
    /// When lanes are to be rung; something has changed since they were.
    ring_at: Option<Time>,
    last_rung: Time,
}

struct Worker {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
}

impl Control {
    pub(super) fn new(
        device: Device,
        queues: Vec<Queue>,
        inbox: Arc<Inbox<Order>>,
        on_event: Box<dyn FnMut(TunnelEvent) + Send>,
    ) -> Control {
        Control {
            device,
            queues,
            counters: Arc::default(),
            is_ending: false,
            inbox,
            outlet: None,
            workers: Vec::new(),
            on_event,
            ring_at: None,
            last_rung: Time::ZERO,
        }
    }

    /// Works until an order says that it is enough.
    pub(super) fn run(&mut self) {
        let mut taken = Taken::default();
        while !self.is_ending {
            let due = [self.device.poll_timeout(), self.ring_at];
            let due = due.into_iter().flatten().min();
            let limit = due.map(|due| due.since(now().mono));
            self.inbox.take(limit, &mut taken);
            let now = now();
            for order in taken.orders.drain(..) {
                order(self);
                self.deliver();
            }
            let is_backlogged = taken.is_backlogged;
            for notice in taken.notices.drain(..) {
                self.device.handle_notice(now, notice);
                self.deliver();
            }
            for handshake in taken.handshakes.drain(..) {
                let (source, message) = (handshake.source, handshake.datagram());
                self.device
                    .handle_handshake(now, source, message, is_backlogged);
                self.deliver();
            }
            if self.device.poll_timeout().is_some_and(|at| at <= now.mono) {
                self.device.handle_timeout(now);
                self.deliver();
            }
            self.ring(now);
        }
        self.stop_workers();
    }

    /// Sends and tells what the device has to.
    fn deliver(&mut self) {
        while let Some(transmit) = self.device.poll_transmit() {
            let run = single(transmit.destination, transmit.ecn, &transmit.datagram);
            let unsent = self.outlet.as_mut().map_or(1, |outlet| outlet.send(&[run]));
            let counter = &self.counters.unsent;
            counter.fetch_add(unsent, std::sync::atomic::Ordering::Relaxed);
        }
        while let Some(event) = self.device.poll_event() {
            (self.on_event)(TunnelEvent::Device(event));
        }
        self.ring_at.get_or_insert(self.last_rung + RING_EVERY);
    }

    /// Lets idle lanes see what has changed, so that erased keys leave memory.
    fn ring(&mut self, now: Now) {
        if self.ring_at.take_if(|at| *at <= now.mono).is_some() {
            self.last_rung = now.mono;
            for worker in &self.workers {
                worker.bell.ring();
            }
        }
    }

    /// Starts a thread for each direction of each queue, and none when one cannot be started.
    pub(super) fn start_workers(&mut self) -> io::Result<()> {
        let started = self.try_start_workers();
        if started.is_err() {
            self.stop_workers();
        }
        started
    }

    fn try_start_workers(&mut self) -> io::Result<()> {
        if let Some(queue) = self.queues.first() {
            self.outlet = Some(Outlet::new(queue.sockets.try_clone()?));
        }
        for (nth, queue) in self.queues.iter().enumerate() {
            let shared = self.shared()?;
            let tx = Tx {
                tun: queue.tun.try_clone()?,
                outlet: Outlet::new(queue.sockets.try_clone()?),
                lane: self.device.lane(),
                shared: shared.clone(),
            };
            let worker = self.spawn(format!("wg-tx-{nth}"), shared, move || tx.run())?;
            self.workers.push(worker);
            let shared = self.shared()?;
            let rx = Rx {
                tun: queue.tun.try_clone()?,
                sockets: queue.sockets.try_clone()?,
                lane: self.device.lane(),
                shared: shared.clone(),
            };
            let worker = self.spawn(format!("wg-rx-{nth}"), shared, move || rx.run())?;
            self.workers.push(worker);
        }
        Ok(())
    }

    fn shared(&self) -> io::Result<Shared> {
        Ok(Shared {
            inbox: Arc::clone(&self.inbox),
            counters: Arc::clone(&self.counters),
            bell: Arc::new(Bell::new()?),
        })
    }

    fn spawn(
        &self,
        name: String,
        shared: Shared,
        work: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Worker> {
        let inbox = shared.inbox;
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            if let Err(error) = work() {
                inbox.order(Box::new(|control: &mut Control| {
                    (control.on_event)(TunnelEvent::InterfaceLost(error));
                }));
            }
        })?;
        Ok(Worker {
            bell: shared.bell,
            thread,
        })
    }

    /// Ends the data path; nothing is lost that has been taken from interface or network.
    pub(super) fn stop_workers(&mut self) {
        for worker in &self.workers {
            worker.bell.stop();
        }
        for worker in self.workers.drain(..) {
            if worker.thread.join().is_err() {
                tracing::error!("a data-path thread has panicked");
            }
        }
        self.outlet = None;
    }

    /// The mark of what is sent.
    pub(super) fn mark(&self) -> u32 {
        self.queues.first().map_or(0, |q| q.sockets.mark())
    }

    /// Marks what is sent from now on.
    pub(super) fn set_mark(&self, mark: u32) -> io::Result<()> {
        let mut sockets = self.queues.iter().map(|q| &q.sockets);
        sockets.try_for_each(|s| s.set_mark(mark))
    }

    /// The port that peers reach this tunnel at.
    pub(super) fn port(&self) -> Option<u16> {
        self.queues.first().and_then(|q| q.sockets.port())
    }

    /// Moves to other sockets, which get the mark; sessions go on. On failure the old ones stay.
    pub(super) fn rebind(&mut self, sockets: Vec<Sockets>) -> io::Result<()> {
        if sockets.len() != self.queues.len() {
            let message = format!(
                "{} sets of sockets for {} queues",
                sockets.len(),
                self.queues.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mark = self.mark();
        if mark != 0 {
            sockets.iter().try_for_each(|s| s.set_mark(mark))?;
        }
        self.stop_workers();
        let mut others = sockets;
        self.exchange(&mut others);
        let started = self.start_workers();
        if started.is_err() {
            self.exchange(&mut others);
            self.start_workers()?;
        }
        started
    }

    fn exchange(&mut self, others: &mut [Sockets]) {
        for (queue, other) in self.queues.iter_mut().zip(others) {
            std::mem::swap(&mut queue.sockets, other);
        }
    }
}

/// A fresh key of the kernel's random bytes; waits for its generator after a boot.
///
/// # Errors
/// Where there is no such generator.
pub fn random_key() -> io::Result<PrivateKey> {
    Ok(PrivateKey::generate(&mut KernelEntropy::new()?))
}

/// The kernel's random bytes.
#[derive(Debug)]
pub struct KernelEntropy(());

impl KernelEntropy {
    /// Fails where there is no such source, so that [`Entropy::fill`] need not.
    ///
    /// # Errors
    /// Where there is no such source.
    pub fn new() -> io::Result<KernelEntropy> {
        sys::random(&mut [0; 32])?;
        Ok(KernelEntropy(()))
    }
}

impl Entropy for KernelEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        // It worked once and has no other way to fail than to be interrupted; never go on without.
        while sys::random(bytes).is_err() {
            std::thread::yield_now();
        }
    }
}
