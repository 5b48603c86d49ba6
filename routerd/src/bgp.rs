//! BGP: makes the plan of the desired state true, and says how it is.
//!
//! ```text
//!  NodeState.bgp ─┐                                        ┌─► peers: TCP, BFD
//!  links ─────────┼──► this thread ── translate ──► Speaker┤
//!  passwords ─────┘        │  ▲ statuses                   └─► Fib (a thread) ──► kernel
//!                          ▼  │                                     ▲
//!        status, metrics, `bgp peers`, `bgp routes`        Monitor ─┘
//! ```
//!
//! The store stays the source of routes between nodes; what is learnt here has its own protocol number and a worse
//! metric. A daemon that stops says nothing to its peers: they keep its routes until it is back (RFC 4724), and the
//! kernel keeps theirs.

mod fib;
pub mod metrics;
mod routes;
mod status;
mod translate;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bgp::attributes::Attributes;
use bgp::speaker::{Config, Goodbye, PeerStatus, Speaker, SpeakerError};
use model::Cidr;
use model::api::{BgpPeersShow, BgpRoutesShow, Subsystem};
use model::bgp::Bgp;
use model::kernel::{Link, LinkName};
use model::marks;
use model::state::NodeState;
use netlink::LearntRoutes;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use crate::reconcile;
use fib::Fib;
pub use routes::{Cursor, NoCursor, RoutesQuery};

/// How often sessions are looked at for the status, and passwords for a change.
const TICK: Duration = Duration::from_secs(2);
/// Longest wait for the kernel to have what is announced first.
const FIRST: Duration = Duration::from_secs(5);

enum Message {
    Plan(Arc<NodeState>),
    Links(BTreeMap<LinkName, Link>),
    Peers(oneshot::Sender<BgpPeersShow>),
    Routes(RoutesQuery, oneshot::Sender<Result<BgpRoutesShow, String>>),
    Installed(oneshot::Sender<usize>),
    Stop,
}

/// Reaches the thread; clones reach the same one. Everything is a no-op once it has stopped.
#[derive(Clone, Debug)]
pub struct Handle {
    outbox: mpsc::Sender<Message>,
    fib: Fib,
}

impl Handle {
    /// Interfaces of the host and their addresses, whenever they change.
    pub fn links(&self, links: &BTreeMap<LinkName, Link>) {
        let others = links.iter();
        // A workload that comes or goes is nobody's next hop, and there may be hundreds a minute.
        let others = others.filter(|(name, _)| !marks::is_our_link(name.as_str()));
        let others = others.map(|(name, link)| (*name, link.clone())).collect();
        let _ = self.outbox.send(Message::Links(others));
    }

    /// Somebody changed routes in the kernel.
    pub fn routes_changed(&self) {
        self.fib.changed();
    }

    /// The sessions; `None` when the daemon stops.
    pub async fn peers(&self) -> Option<BgpPeersShow> {
        let (reply, answer) = oneshot::channel();
        let _ = self.outbox.send(Message::Peers(reply));
        answer.await.ok()
    }

    /// Number of learnt routes in the kernel.
    pub async fn installed(&self) -> Option<usize> {
        let (reply, answer) = oneshot::channel();
        let _ = self.outbox.send(Message::Installed(reply));
        answer.await.ok()
    }

    /// A page of routes; `None` when the daemon stops.
    ///
    /// # Errors
    /// When there is no such peer.
    pub async fn routes(&self, query: RoutesQuery) -> Option<Result<BgpRoutesShow, String>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.outbox.send(Message::Routes(query, reply));
        answer.await.ok()
    }

    /// Follows the desired state until the daemon stops. The first is passed on once the kernel has it: what is
    /// announced should be there.
    pub async fn follow(
        self,
        mut desired: watch::Receiver<Arc<NodeState>>,
        mut reconciled: watch::Receiver<reconcile::Status>,
    ) {
        if desired.changed().await.is_err() {
            return;
        }
        let first = desired.borrow().generation;
        let applied = reconciled.wait_for(|r| r.generation >= first);
        let _ = tokio::time::timeout(FIRST, applied).await;
        loop {
            let state = Arc::clone(&desired.borrow_and_update());
            let _ = self.outbox.send(Message::Plan(state));
            if desired.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends it; the kernel and the peers keep the routes.
    pub fn stop(&self) {
        let _ = self.outbox.send(Message::Stop);
    }
}

/// The thread's side.
pub struct Owner {
    inbox: mpsc::Receiver<Message>,
    fib: Fib,
    fib_thread: JoinHandle<()>,
    /// File that says in which boot BGP ran last.
    ran: PathBuf,
    /// The kernel, or the peers, may have routes of an earlier run.
    restarted: bool,
    links: BTreeMap<LinkName, Link>,
    plan: Option<Bgp>,
    /// What an operator may want to know.
    advice: Vec<String>,
    /// Whether there was one, or one that says that there is nothing to do.
    planned: bool,
    running: Option<Running>,
    /// Why there is no speaker though one is wanted.
    failed: Option<String>,
    /// Peers that are left out, and why.
    refused: BTreeMap<String, String>,
    status: watch::Sender<Option<Subsystem>>,
}

/// A speaker, and what it was told.
struct Running {
    speaker: Speaker,
    config: Config,
    announced: BTreeMap<Cidr, Attributes>,
    /// Somebody else has the port.
    deaf: Option<String>,
}

impl Owner {
    /// Takes over what is in the kernel; nothing is spoken before [`Owner::run`]. `ran` is a file of the daemon.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn new(
        routes: LearntRoutes,
        ran: PathBuf,
    ) -> anyhow::Result<(Owner, Handle, watch::Receiver<Option<Subsystem>>)> {
        let (fib, kept, fib_thread) = Fib::start(routes)?;
        let (outbox, inbox) = mpsc::channel();
        let (status, view) = watch::channel(None);
        let restarted = kept > 0 || read(&ran).is_some_and(|boot| Some(boot) == boot_id());
        let owner = Owner {
            inbox,
            fib: fib.clone(),
            fib_thread,
            ran,
            restarted,
            links: BTreeMap::new(),
            plan: None,
            advice: Vec::new(),
            planned: false,
            running: None,
            failed: None,
            refused: BTreeMap::new(),
            status,
        };
        Ok((owner, Handle { outbox, fib }, view))
    }

    /// Works until it is stopped or every [`Handle`] is gone. Blocks: give it a thread, in the network namespace of
    /// the host.
    pub fn run(mut self) {
        loop {
            let message = match self.plan {
                None => (self.inbox.recv()).map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(_) => self.inbox.recv_timeout(TICK),
            };
            let mut messages = match message {
                Ok(message) => vec![message],
                Err(mpsc::RecvTimeoutError::Timeout) => Vec::new(),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            messages.extend(self.inbox.try_iter());
            // Of the plans only the newest counts.
            let (mut stop, mut questions) = (false, Vec::new());
            for message in messages {
                match message {
                    // What could not be read may be why it has no plan: that is no reason to fall silent.
                    Message::Plan(state) if state.partial && state.bgp.is_none() => {}
                    Message::Plan(state) => {
                        self.planned = true;
                        self.advice.clone_from(&state.advice);
                        self.plan.clone_from(&state.bgp);
                    }
                    Message::Links(links) => {
                        if self.links != links {
                            self.links = links;
                            self.fib.changed();
                        }
                    }
                    Message::Stop => stop = true,
                    question => questions.push(question),
                }
            }
            if stop {
                break;
            }
            if self.planned {
                self.obey();
            }
            let peers = self.peers();
            self.tell(&peers);
            for question in questions {
                self.answer(question, &peers);
            }
        }
        if let Some(running) = self.running.take() {
            running.speaker.stop(Goodbye::Restart);
        }
        self.fib.stop();
        if self.fib_thread.join().is_err() {
            tracing::error!("the owner of the learnt routes panicked");
        }
    }

    /// Makes the plan true, as far as it is not.
    fn obey(&mut self) {
        let Some(plan) = &self.plan else {
            self.silence();
            return;
        };
        let host = translate::Host {
            links: &self.links,
            ipv6: Path::new("/proc/net/if_inet6").exists(),
            read: &|path| std::fs::read(path).map_err(|e| e.to_string()),
        };
        let translate::Translated {
            mut config,
            refused,
        } = translate::config(plan, &host);
        for (peer, why) in &refused {
            if self.refused.get(peer) != Some(why) {
                warn!(peer, "BGP peer is left out: {why}");
            }
        }
        self.refused = refused;
        let announced = translate::announcements(plan);
        let result = match &mut self.running {
            Some(running) => {
                config.restarted = running.config.restarted;
                running.change(config, announced)
            }
            None => {
                config.restarted = self.restarted;
                self.start(config, announced)
            }
        };
        let failed = result.err().map(|e| e.to_string());
        if let Some(why) = failed
            .as_ref()
            .filter(|why| self.failed.as_ref() != Some(why))
        {
            warn!("BGP: {why}");
        }
        self.failed = failed;
    }

    fn start(
        &mut self,
        config: Config,
        announced: BTreeMap<Cidr, Attributes>,
    ) -> Result<(), SpeakerError> {
        let sink = || Box::new(self.fib.clone());
        let (speaker, deaf) = match Speaker::start(config.clone(), sink()) {
            Err(e @ SpeakerError::Listen { .. }) => {
                // Others may still be spoken to.
                let port = None;
                let deaf = Config {
                    port,
                    ..config.clone()
                };
                (Speaker::start(deaf, sink())?, Some(e.to_string()))
            }
            started => (started?, None),
        };
        if let Some(why) = &deaf {
            warn!("BGP: {why}");
        }
        let (peers, routes) = (config.peers.len(), announced.len());
        info!(
            peers,
            routes,
            restarted = config.restarted,
            "BGP speaker started"
        );
        speaker.announce(announced.clone())?;
        self.running = Some(Running {
            speaker,
            config,
            announced,
            deaf,
        });
        // Only a start may be the return of one that was away.
        self.restarted = true;
        if let Some(boot) = boot_id()
            && let Err(e) = std::fs::write(&self.ran, boot)
        {
            warn!(
                "{}: {e}: a restart looks like a start to BGP peers",
                self.ran.display()
            );
        }
        Ok(())
    }

    /// Nothing is to be said any more, and nothing that was heard is to be kept.
    fn silence(&mut self) {
        self.failed = None;
        self.refused.clear();
        if let Some(running) = self.running.take() {
            info!("BGP speaker stopped: nobody is to be spoken to");
            let why = "BGP is switched off on this node";
            running.speaker.stop(Goodbye::Shutdown(why.to_owned()));
        }
        if std::mem::take(&mut self.restarted) {
            self.fib.clear();
            let _ = std::fs::remove_file(&self.ran);
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let running = self.running.as_ref();
        running
            .and_then(|r| r.speaker.peers().ok())
            .unwrap_or_default()
    }

    fn tell(&self, peers: &[PeerStatus]) {
        let shown = view::peers(self.plan.as_ref(), peers, &self.refused);
        let deaf = self.running.as_ref().and_then(|r| r.deaf.as_deref());
        let subsystem = status::subsystem(&status::Facts {
            plan: self.plan.as_ref(),
            shown: &shown,
            failed: self.failed.as_deref(),
            deaf,
            running: self.running.is_some(),
            advice: &self.advice,
        });
        self.status.send_if_modified(|old| {
            let new = *old != subsystem;
            *old = subsystem;
            new
        });
    }

    /// Who asked may have gone.
    fn answer(&self, question: Message, peers: &[PeerStatus]) {
        match question {
            Message::Peers(reply) => {
                let _ = reply.send(view::peers(self.plan.as_ref(), peers, &self.refused));
            }
            Message::Routes(query, reply) => {
                let shown = match &self.running {
                    None => Ok(BgpRoutesShow::default()),
                    Some(r) => {
                        let installed = |prefixes| self.fib.installed(prefixes);
                        let source = routes::Source {
                            speaker: &r.speaker,
                            statuses: peers,
                            plan: self.plan.as_ref(),
                        };
                        routes::page(&source, &query, installed)
                    }
                };
                let _ = reply.send(shown);
            }
            Message::Installed(reply) => {
                let _ = reply.send(self.fib.count());
            }
            Message::Plan(_) | Message::Links(_) | Message::Stop => {}
        }
    }
}

impl Running {
    fn change(
        &mut self,
        config: Config,
        announced: BTreeMap<Cidr, Attributes>,
    ) -> Result<(), SpeakerError> {
        if self.config != config || self.deaf.is_some() {
            match self.speaker.configure(config.clone()) {
                Err(e @ SpeakerError::Listen { .. }) => {
                    let port = None;
                    let deaf = Config {
                        port,
                        ..config.clone()
                    };
                    self.speaker.configure(deaf)?;
                    self.deaf = Some(e.to_string());
                }
                done => {
                    done?;
                    self.deaf = None;
                }
            }
            self.config = config;
        }
        if self.announced != announced {
            self.speaker.announce(announced.clone())?;
            self.announced = announced;
        }
        Ok(())
    }
}

/// A number of this boot of the host.
fn boot_id() -> Option<String> {
    read(Path::new("/proc/sys/kernel/random/boot_id"))
}

fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
