//! Policy: compiles what the store says and keeps it enforced at every interface.
//!
//! ```text
//!  control ── a change for each event of the store ──► this thread: Engine ── writes ──► maps
//!  Monitor ── interfaces changed ────────────────────►     │        places ── attach ──► programs
//!  CNI ADD ── hold (link is down), admit (addresses) ─►    └─► status
//! ```
//!
//! An interface is held before anything can pass it: programs are attached that know nothing of the endpoint, and so let
//! nothing through. It is admitted once its address is known, by the same change that the store will tell later.
//! The programs of a daemon before judge by its maps until this one has written all of its own. Stopping changes nothing.
//! Where there are no programs, `barrier` closes the interfaces of workloads that policies select.

mod attach;
mod barrier;
mod cutoff;
mod enforce;
pub mod feed;
pub mod fill;
mod handle;
pub mod judge;
mod links;
pub mod metrics;
pub mod show;
mod status;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use model::api::Health;
use model::object::{ObjectId, Resource};
use model::resources::WorkloadEndpointSpec;
use model::{Cidr, Kind};
use policy_ebpf::kernel::{Attached, Interface, Programs};
use policy_ebpf::{Change, Engine, Party, Role, Settings, Update};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::gone::Watched;
use crate::metrics::Metrics;
use barrier::Barrier;
#[cfg(test)]
pub(crate) use barrier::tests::FakeBar;
pub use barrier::{Bar, Nft};
pub use enforce::{Enforce, load};
pub use feed::{Input, Place, Wanted};
use handle::{Answer, Message};
pub use handle::{Handle, Seen};
pub use status::View;
pub(crate) use status::several;

/// Pause before what failed is tried again.
const TICK: Duration = Duration::from_secs(2);
/// How things are without the thread.
const LEFT: &str = "what is in force stays so, and neither workloads nor policies can be added";

/// Makes what enforces policy, or says why it cannot.
type Load = Box<dyn FnOnce() -> Result<Box<dyn Enforce>, String> + Send>;

/// The thread's side.
pub struct Owner {
    inbox: mpsc::Receiver<Message>,
    node: String,
    /// What this host has to reach to be a node, beside what the mesh says: protocol and port.
    needs: Vec<(u8, u16)>,
    load: Option<Load>,
    engine: Engine,
    /// The kernel, or why there is nothing to enforce policy with.
    kernel: Result<Box<dyn Enforce>, String>,
    /// Everything was told once, so that what is enforced is not less than before.
    listed: bool,
    /// The kernel has taken over from the daemon before.
    taken_over: bool,
    /// Where endpoints of this node are to be found.
    places: BTreeMap<ObjectId, Place>,
    /// Where the programs are.
    attached: Attached,
    /// What closes interfaces where there is no kernel to enforce with.
    barrier: Barrier,
    /// Workloads that ADD is at, and of which the store has not told yet.
    added: BTreeMap<ObjectId, Vec<Cidr>>,
    /// Why they are not where they should be.
    unattached: BTreeMap<ObjectId, String>,
    /// Writes that failed, and those behind them.
    unwritten: Vec<Update>,
    /// Why the first of them failed.
    failed: Option<String>,
    wanted: Option<Wanted>,
    /// The kernel has it.
    configured: bool,
    view: watch::Sender<Option<View>>,
    metrics: Metrics,
    watched: Option<Watched>,
}

impl Owner {
    /// Nothing is touched before [`Owner::run`] is told what there is.
    pub fn new(
        node: &str,
        needs: Vec<(u8, u16)>,
        load: impl FnOnce() -> Result<Box<dyn Enforce>, String> + Send + 'static,
        bar: impl Bar + 'static,
    ) -> (Owner, Handle, watch::Receiver<Option<View>>) {
        let (outbox, inbox) = mpsc::channel();
        let (view, seen) = watch::channel(None);
        let (watched, fate) = Watched::new("policy", LEFT);
        let owner = Owner {
            inbox,
            node: node.to_owned(),
            needs,
            engine: Engine::new(Settings::default()),
            kernel: Err("the programs are not loaded yet".to_owned()),
            load: Some(Box::new(load)),
            listed: false,
            taken_over: false,
            places: BTreeMap::new(),
            attached: Attached::default(),
            barrier: Barrier::new(bar),
            added: BTreeMap::new(),
            unattached: BTreeMap::new(),
            unwritten: Vec::new(),
            failed: None,
            wanted: None,
            configured: false,
            view,
            metrics: Metrics::default(),
            watched: Some(watched),
        };
        (owner, Handle { outbox, fate }, seen)
    }

    /// Notes there how long it compiles.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Owner {
        self.metrics = metrics;
        self
    }

    /// Works until it is stopped or every [`Handle`] is gone. Blocks: give it a thread, in the network namespace of
    /// the host.
    pub fn run(mut self) {
        if let Some(watched) = self.watched.take() {
            // What waits for an answer is dropped after the reason is known.
            watched.run(|| self.work());
        }
    }

    fn work(&mut self) {
        if let Some(load) = self.load.take() {
            self.kernel = load();
        }
        if let Err(why) = &self.kernel {
            warn!("policy cannot be enforced: {why}");
        }
        loop {
            let message = match self.is_settled() {
                true => (self.inbox.recv()).map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                false => self.inbox.recv_timeout(TICK),
            };
            let first = match message {
                Ok(message) => Some(message),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let retry = first.is_none();
            let mut look = retry;
            let waiting: Vec<Message> = first.into_iter().chain(self.inbox.try_iter()).collect();
            for message in waiting {
                match message {
                    Message::Stop => return,
                    Message::Look => look = true,
                    Message::LookAtBarrier => self.barrier.forget(),
                    message => self.take(message),
                }
            }
            if retry {
                self.configure();
                self.write();
            }
            if look && self.listed {
                self.look();
            }
            self.bar();
            self.tell();
        }
    }

    fn is_configured(&self) -> bool {
        self.configured || self.wanted.is_none()
    }

    /// Whether there is nothing to be tried again.
    fn is_settled(&self) -> bool {
        self.unwritten.is_empty()
            && self.unattached.is_empty()
            && self.barrier.failed.is_none()
            && (self.is_configured() || self.kernel.is_err())
            && (self.taken_over || !self.listed || self.kernel.is_err())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Fed(inputs) => self.fed(inputs),
            Message::Listed(mut inputs) => {
                let there: BTreeSet<ObjectId> = inputs.iter().filter_map(Input::id).collect();
                let gone = policy_ebpf::feed::known(&self.engine).into_iter();
                let gone = gone.filter(|id| !there.contains(id));
                let gone = gone.filter(|id| !self.added.contains_key(id));
                inputs.extend(gone.filter_map(|id| Input::gone(&id)));
                self.fed(inputs);
                self.listed = true;
                self.look();
            }
            Message::Hold(id, interface, reply) => {
                // Who asked may have gone.
                let _ = reply.send(self.hold(&id, interface));
            }
            Message::Admit(endpoint, reply) => {
                let _ = reply.send(self.admit(&endpoint));
            }
            Message::Release(id) => self.fed(Input::gone(&id).into_iter().collect()),
            Message::Ask(ask) => ask(&Seen {
                engine: &self.engine,
                attached: &self.attached,
                places: &self.places,
                barrier: &self.barrier,
                kernel: self.kernel.as_deref().map_err(String::as_str),
            }),
            Message::Look | Message::LookAtBarrier | Message::Stop => {}
        }
    }

    fn fed(&mut self, inputs: Vec<Input>) {
        let mut changes = Vec::new();
        let mut moved = Vec::new();
        for input in inputs {
            match input {
                Input::Change(change) => {
                    match &change {
                        Change::Party(id, None) => self.leave(id),
                        Change::Party(id, Some(p)) if p.role == Role::Elsewhere => self.leave(id),
                        _ => {}
                    }
                    changes.push(change);
                }
                Input::Place(id, place) => {
                    self.added.remove(&id);
                    self.places.insert(id.clone(), place);
                    moved.push(id);
                }
                Input::Wanted(mut wanted) => {
                    wanted.failsafe[1].extend(&self.needs);
                    if self.wanted.as_ref() != Some(&wanted) {
                        self.wanted = Some(wanted);
                        self.configured = false;
                    }
                    self.configure();
                }
            }
        }
        self.compile(changes);
        if self.listed {
            moved.iter().for_each(|id| self.settle(id));
            let is_lasting = |id| self.places.get(id).is_some_and(|p: &Place| !p.of_cni);
            if moved.iter().any(is_lasting) {
                self.settle_everywhere();
            }
        }
    }

    fn configure(&mut self) {
        let (Ok(kernel), Some(wanted)) = (&mut self.kernel, &self.wanted) else {
            return;
        };
        if self.configured {
            return;
        }
        match kernel.configure(wanted) {
            Ok(()) => self.configured = true,
            Err(e) => warn!("policy settings: {e}"),
        }
    }

    fn compile(&mut self, changes: Vec<Change>) {
        let began = Instant::now();
        let update = self.engine.apply(changes);
        self.metrics.policy_compiled(began.elapsed());
        if self.kernel.is_ok() && !update.is_empty() {
            self.unwritten.push(update);
        }
        self.write();
    }

    /// Writes what is not written yet, in order.
    fn write(&mut self) {
        let Ok(kernel) = &mut self.kernel else {
            return;
        };
        let mut written = 0;
        let mut failed = None;
        for update in &self.unwritten {
            match kernel.apply(update) {
                Ok(()) => written += 1,
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        self.unwritten.drain(..written);
        if let Some(why) = failed
            .as_ref()
            .filter(|why| self.failed.as_ref() != Some(why))
        {
            warn!("policy is not in force as wanted: {why}");
        }
        self.failed = failed;
    }

    fn hold(&mut self, id: &ObjectId, mut interface: Interface) -> Answer {
        // Of an earlier ADD, or of this one: addresses may be known before there is an interface.
        interface.own = self.added.entry(id.clone()).or_default().clone();
        let Ok(kernel) = &mut self.kernel else {
            // Whether it matters is known once the workload's labels are.
            return Ok(());
        };
        kernel.attach(id, &interface)?;
        let ifindex = interface.ifindex;
        self.attached.put(id, interface);
        self.unattached.remove(id);
        // Those of an earlier ADD.
        let of = self.attached.of(id).map(|i| i.ifindex);
        let old: Vec<u32> = of.filter(|old| *old != ifindex).collect();
        for old in old {
            self.attached.remove(id, old);
            kernel.detach(id, old)?;
        }
        Ok(())
    }

    fn admit(&mut self, endpoint: &Resource<WorkloadEndpointSpec>) -> Answer {
        let id = ObjectId {
            kind: Kind::WorkloadEndpoint,
            namespace: endpoint.metadata.namespace.clone(),
            name: endpoint.metadata.name.clone(),
        };
        self.compile(vec![Change::Party(
            id.clone(),
            Some(Party::local(endpoint)),
        )]);
        let Ok(kernel) = &mut self.kernel else {
            return self.unenforced(&id);
        };
        let place = Place::of_workload(endpoint);
        let held = self.attached.of(&id).next().cloned();
        if let Some(mut interface) = held {
            interface.own.clone_from(&place.own);
            if !place.goes_straight {
                interface.mtu = 0;
            }
            kernel.attach(&id, &interface)?;
            self.attached.put(&id, interface);
        }
        self.added.insert(id.clone(), place.own);
        if let Some(why) = &self.failed {
            return Err(format!("its policy is not in force: {why}"));
        }
        if self.engine.chains(&id).is_some() {
            return Ok(());
        }
        let problem = self.engine.problems().find(|(of, _)| **of == id);
        Err(match problem {
            Some((_, error)) => error.to_string(),
            None => "there are policies that cannot be read: see `routerctl status`".to_owned(),
        })
    }

    /// A workload that no policy is about needs nobody to enforce any.
    fn unenforced(&self, id: &ObjectId) -> Answer {
        let why = match &self.kernel {
            Err(why) if self.engine.is_in_doubt() || self.is_selected(id) => why,
            _ => return Ok(()),
        };
        Err(format!("policies select it that nothing enforces: {why}"))
    }

    /// The policies in force that select an endpoint.
    fn selecting(&self, id: &ObjectId) -> impl Iterator<Item = &ObjectId> {
        let policies = self.engine.selecting(id);
        policies.filter(|policy| !policy.kind.is_staged())
    }

    fn is_selected(&self, id: &ObjectId) -> bool {
        self.selecting(id).next().is_some()
    }

    fn tell(&self) {
        if !self.listed {
            return;
        }
        let hosts = self.places.iter().filter(|(_, place)| place.host);
        let open = |id: &ObjectId| self.kernel.is_err() && self.is_selected(id);
        let subsystem = status::subsystem(&status::Facts {
            node: &self.node,
            missing: self.kernel.as_ref().err().map(String::as_str),
            open: hosts.filter(|(id, _)| open(id)).count(),
            barrier: &self.barrier,
            endpoints: self.attached.len(),
            policies: self.engine.policies().count(),
            problems: self.engine.problems().map(|(_, e)| e.to_string()).collect(),
            in_doubt: self.engine.is_in_doubt(),
            failed: self.failed.as_deref(),
            unattached: self.unattached.values().next().map(String::as_str),
        });
        let view = View {
            subsystem,
            missing: self.kernel.as_ref().err().cloned(),
            cut_off: self.barrier.cut_off().count(),
        };
        self.view.send_if_modified(|old| {
            let new = old.as_ref() != Some(&view);
            // The numbers of policies and interfaces change with every workload.
            let state = |view: &View| view.subsystem.state;
            if old.as_ref().map(state) != Some(state(&view)) || state(&view) != Health::Ok && new {
                let subsystem = &view.subsystem;
                info!(state = ?subsystem.state, "policy: {}", subsystem.message);
            }
            *old = Some(view);
            new
        });
    }
}

/// Removes everything of policy from the kernel.
///
/// # Errors
/// When the kernel refuses.
pub fn clean_up(directory: &std::path::Path) -> anyhow::Result<()> {
    let mut cutoff = netlink::Cutoff::open();
    if cutoff.observe()?.is_some() {
        cutoff.set(&BTreeSet::new())?;
    }
    match policy_ebpf::kernel::is_present(directory) {
        true => Ok(Programs::clean_up(directory)?),
        false => Ok(()),
    }
}
