//! The one owner of every kernel write: makes the desired state true, and keeps it so.
//!
//! ```text
//!  calc ── desired (latest wins) ──┐                       ┌─► status (watch)
//!  Monitor ── changed ─────────────┤   ┌──────────────┐    │
//!  CNI ── protect, forget ─────────┼──►│ Core (pure)  ├────┤
//!                                  │   └──┬────────▲──┘    └─► log
//!                                  │   Observe,    │ results
//!                                  │   Apply(ops)  │
//!                                  │   ┌──▼────────┴──┐
//!                                  └───┤ this thread  ├──► Kernel
//!                                      └──────────────┘
//! ```
//!
//! Invariants:
//! * nothing is written before the first state that was computed from a complete snapshot;
//! * a run is observe → plan → apply; what fails stays wanted and blocks only what hangs on it;
//! * a link under attachment is never swept, though no desired state knows it yet;
//! * the encrypted tunnel knows a peer before a route leads to it, and until none does;
//! * stopping leaves the kernel as it is; only [`cleanup`] takes ours away.

pub mod cleanup;
mod core;
mod drift;
mod recurring;
mod schedule;
mod stages;
mod status;
mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use model::kernel::{ClearText, LinkName, Observed, Op};
use model::state::NodeState;
use model::tunnel::Tunnel;
use netlink::{Error, Kernel, Plan};
use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};
use wireguard::control::DeviceState;
use wireguard::postquantum::Install;

use crate::tunnel::{Keys, TunnelError, Tunnels};

pub use self::core::{Action, Core, Event};
pub use self::drift::Drift;
pub use self::schedule::{Now, Timing};
pub use self::status::Status;

/// What the reconciler needs of its host besides the kernel; injected so that tests rule it.
pub trait Host: Send {
    /// The time.
    fn now(&mut self) -> Now;
    /// Called before a kernel switch is written for the first time, with the value found if it was observed:
    /// keep the original, so that `cleanup` can put it back.
    fn keep_switch(&mut self, path: &str, found: Option<&str>);
}

enum Message {
    Desired(Arc<NodeState>, bool),
    Changed,
    Protect(LinkName, Option<u64>, oneshot::Sender<()>),
    Forget(LinkName, oneshot::Sender<()>),
    Diff(oneshot::Sender<Result<Plan, Error>>),
    Tunnel(oneshot::Sender<Option<DeviceState>>),
    Keys(Keys),
    Preshared(Vec<Install>, oneshot::Sender<bool>),
    ClearText(oneshot::Sender<Option<ClearText>>),
    Stop,
}

/// Sends to the reconciler; clones reach the same one.
///
/// Everything is a no-op once the reconciler has stopped.
#[derive(Clone, Debug)]
pub struct Handle {
    outbox: mpsc::Sender<Message>,
    status: watch::Receiver<Status>,
}

impl Handle {
    /// A new desired state; it replaces any that waits. One from a snapshot that is not `complete` is ignored.
    pub fn desired(&self, state: Arc<NodeState>, complete: bool) {
        self.send(Message::Desired(state, complete));
    }

    /// Somebody changed the kernel.
    pub fn changed(&self) {
        self.send(Message::Changed);
    }

    /// The CNI path is about to make `link` (`None`), or has committed its endpoint, which calculations
    /// know from that generation on: until a desired state of it or a later one came, nothing on the
    /// link is swept. A store revision would not do: other keys of the same transaction may be known
    /// before the endpoint is.
    ///
    /// Call it before the link is made; once it is, every call with `None` must be followed by one with the revision, or by
    /// [`Handle::forget`]. Who finds a left-over link of that name must await the answer
    /// before touching it: only then can no sweep of the left-over be under way.
    pub fn protect(&self, link: LinkName, committed: Option<u64>) -> oneshot::Receiver<()> {
        let (ack, answer) = oneshot::channel();
        self.send(Message::Protect(link, committed, ack));
        answer
    }

    /// The CNI path takes `link` away, or gave up making it: nothing on it is wanted any more.
    pub fn forget(&self, link: LinkName) -> oneshot::Receiver<()> {
        let (ack, answer) = oneshot::channel();
        self.send(Message::Forget(link, ack));
        answer
    }

    /// What the next run would do; the kernel is looked at, not changed.
    pub fn diff(&self) -> oneshot::Receiver<Result<Plan, Error>> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Diff(reply));
        answer
    }

    /// The device of the encrypted tunnel; `None`: there is none, or it cannot be asked.
    pub fn tunnel(&self) -> oneshot::Receiver<Option<DeviceState>> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Tunnel(reply));
        answer
    }

    /// The tunnel has these keys from now on.
    pub fn keys(&self, keys: Keys) {
        self.send(Message::Keys(keys));
    }

    /// The tunnel tries these preshared keys from now on; whether its device does when this is answered.
    pub fn preshared(&self, installs: Vec<Install>) -> oneshot::Receiver<bool> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Preshared(installs, reply));
        answer
    }

    /// What left in clear; `None`: nobody counts.
    pub fn clear_text(&self) -> oneshot::Receiver<Option<ClearText>> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::ClearText(reply));
        answer
    }

    /// Ends [`Reconciler::run`] after the run under way.
    pub fn stop(&self) {
        self.send(Message::Stop);
    }

    /// How things are, and a way to await changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    fn send(&self, message: Message) {
        if self.outbox.send(message).is_err() {
            debug!("the reconciler has stopped");
        }
    }
}

/// The thread's side.
pub struct Reconciler<K, H> {
    kernel: K,
    tunnels: Option<Tunnels>,
    host: H,
    core: Core,
    inbox: mpsc::Receiver<Message>,
    status: watch::Sender<Status>,
    stopping: bool,
    /// Questions that wait for the end of the run under way.
    diffs: Vec<oneshot::Sender<Result<Plan, Error>>>,
}

impl<K: Kernel, H: Host> Reconciler<K, H> {
    /// A reconciler and the way to reach it. Nothing happens before [`Reconciler::run`].
    ///
    /// `seed` is any number that differs from node to node.
    pub fn new(kernel: K, host: H, timing: Timing, seed: u64) -> (Reconciler<K, H>, Handle) {
        let (outbox, inbox) = mpsc::channel();
        let core = Core::new(timing, seed);
        let (status, watcher) = watch::channel(core.status());
        let handle = Handle {
            outbox,
            status: watcher,
        };
        let this = Reconciler {
            kernel,
            tunnels: None,
            host,
            core,
            inbox,
            status,
            stopping: false,
            diffs: Vec::new(),
        };
        (this, handle)
    }

    /// Gives it the device of the encrypted tunnel to look after.
    #[must_use]
    pub fn with_tunnels(mut self, tunnels: Tunnels) -> Self {
        if tunnels.has_single_keys() {
            self.core.see_keys();
        }
        self.tunnels = Some(tunnels);
        self
    }

    /// Works until it is stopped or every [`Handle`] is gone. Blocks: give it a thread, in the network
    /// namespace of the kernel it was given.
    pub fn run(mut self) {
        while !self.stopping {
            let now = self.host.now();
            match self.core.poll_action(now) {
                Some(action) => self.act(action),
                None => self.rest(now),
            }
        }
    }

    /// Waits for a message or the time of the next run.
    fn rest(&mut self, now: Now) {
        self.publish();
        self.answer_diffs();
        let message = match self.core.poll_timeout() {
            Some(at) => {
                let wait = at.saturating_sub(now.since_start);
                self.inbox.recv_timeout(wait.max(Duration::from_millis(1)))
            }
            None => (self.inbox.recv()).map_err(|_| RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(message) => self.handle(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.stopping = true,
        }
        self.drain();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Raise(state) => {
                let result = self.tunnel(&state, Tunnels::raise, false);
                let found = self.tunnels.as_mut().map(Tunnels::take_findings);
                self.drain();
                self.core.handle_raised(result, found.unwrap_or_default());
            }
            Action::Look(state) => {
                let differs =
                    self.tunnel(&state, |t, wanted, now| Ok(t.differs(wanted, now)), false);
                let now = self.host.now();
                self.core.handle_looked(differs != Ok(false), now);
            }
            Action::Retire(state) => {
                let result = self.tunnel(&state, Tunnels::retire, ());
                self.drain();
                let now = self.host.now();
                self.core.handle_retired(result, now);
            }
            Action::Observe => {
                let observed = self.kernel.observe();
                // A link seen just now may be protected by a message that waits; see `Handle::protect`.
                self.drain();
                let now = self.host.now();
                self.core.handle_observed(observed, now);
            }
            Action::Apply { ops, observed } => {
                self.keep_switches(&ops, &observed);
                let results = self.kernel.apply(&ops);
                // What came meanwhile counts for the stages to come.
                self.drain();
                self.core.handle_applied(ops, results);
            }
        }
    }

    /// Does something to the tunnel of `state`; `idle` where it has none.
    fn tunnel<T>(
        &mut self,
        state: &NodeState,
        step: fn(&mut Tunnels, &Tunnel, Duration) -> Result<T, TunnelError>,
        idle: T,
    ) -> Result<T, String> {
        let Some(wanted) = &state.tunnel else {
            return Ok(idle);
        };
        let unix = self.host.now().wall.duration_since(SystemTime::UNIX_EPOCH);
        let done = match &mut self.tunnels {
            Some(tunnels) => step(tunnels, wanted, unix.unwrap_or_default()),
            None => Err(TunnelError::NoBackend(model::marks::WIREGUARD)),
        };
        done.map_err(|e| e.to_string())
    }

    fn keep_switches(&mut self, ops: &[Op], observed: &Observed) {
        for op in ops {
            if let Op::SetSysctl(path, _) = op {
                let found = observed.ours.sysctls.get(path).map(String::as_str);
                self.host.keep_switch(path, found);
            }
        }
    }

    fn drain(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.handle(message);
        }
    }

    fn handle(&mut self, message: Message) {
        let now = self.host.now();
        match message {
            Message::Desired(state, complete) => self.core.handle_desired(state, complete, now),
            Message::Changed => self.core.handle_changed(now),
            Message::Protect(link, committed, ack) => {
                self.core.protect(link, committed);
                let _ = ack.send(()); // nobody has to wait for it
            }
            Message::Forget(link, ack) => {
                self.core.forget(link, now);
                let _ = ack.send(());
            }
            Message::Diff(reply) => self.diffs.push(reply),
            Message::Tunnel(reply) => {
                let state = self.tunnels.as_mut().map(Tunnels::observe);
                let _ = reply.send(state.and_then(Result::ok).flatten());
            }
            Message::Keys(keys) => {
                if let Some(tunnels) = &mut self.tunnels {
                    tunnels.set_keys(keys);
                }
                self.core.handle_changed(now);
            }
            Message::Preshared(installs, reply) => {
                let done = self.tunnels.as_mut().map(|t| t.press(installs));
                if let Some(Err(e)) = &done {
                    debug!(error = %e, "preshared keys come with the next run");
                    self.core.handle_changed(now);
                }
                let _ = reply.send(matches!(done, Some(Ok(()))));
            }
            Message::ClearText(reply) => {
                let _ = reply.send(self.kernel.clear_text().ok().flatten());
            }
            Message::Stop => self.stopping = true,
        }
    }

    fn answer_diffs(&mut self) {
        for reply in std::mem::take(&mut self.diffs) {
            let plan = self.kernel.observe().map(|o| self.core.plan(&o));
            let _ = reply.send(plan);
        }
    }

    fn publish(&mut self) {
        for event in self.core.poll_events() {
            log(&event);
        }
        let status = self.core.status();
        self.status.send_if_modified(|old| {
            let new = *old != status;
            if new {
                *old = status;
            }
            new
        });
    }
}

fn log(event: &Event) {
    match event {
        Event::Applied { ops, revision } => info!(ops, revision, "kernel changed"),
        Event::InSync { revision } => info!(revision, "kernel in sync"),
        Event::Drifted { total, first } => warn!(total, %first, "kernel objects changed by others"),
        Event::Failing { total, first } => warn!(total, %first, "kernel changes fail"),
        Event::Conflicting { total, first } => warn!(total, %first, "kernel changes impossible"),
        Event::Blind { error } => warn!(%error, "the kernel cannot be read"),
    }
}
