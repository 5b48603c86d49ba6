//! How others reach the control loop.

use std::collections::BTreeMap;

use calc::Inputs;
use datastore::Update;
use model::kernel::{Link, LinkName};
use model::kv::Event;
use model::snapshot::Snapshot;
use model::state::{NodeState, Underlay};
use tokio::sync::{mpsc, oneshot};

use super::Generation;
use crate::host::HostFacts;
use crate::tunnel::PublicKeys;

/// Inputs that wait for the owner; then their senders wait.
const WAITING: usize = 1024;

type Question = Box<dyn FnOnce(&Snapshot, &Underlay) + Send>;
pub(super) type Review = Box<dyn FnOnce(&Inputs<'_>, &NodeState) + Send>;

pub(super) enum Input {
    Store(Update),
    Links(BTreeMap<LinkName, Link>, HostFacts),
    Echo(Vec<Event>, oneshot::Sender<Generation>),
    Query(Question),
    Review(Review),
    Keys(PublicKeys),
}

/// Handle of the control loop.
#[derive(Clone)]
pub struct Control {
    tx: mpsc::Sender<Input>,
}

impl Control {
    /// A handle, and what [`Loop::run`](super::Loop::run) needs.
    pub fn new() -> (Control, Inbox) {
        let (tx, rx) = mpsc::channel(WAITING);
        (Control { tx }, Inbox(rx))
    }

    /// Takes in what the store says.
    pub async fn store(&self, update: Update) {
        self.send(Input::Store(update)).await;
    }

    /// Takes in the interfaces of this host. Blocks: for the thread that listens to the kernel.
    pub fn blocking_links(&self, links: BTreeMap<LinkName, Link>) {
        let facts = HostFacts::read(&links);
        // The loop ends only with the daemon.
        let _ = self.tx.blocking_send(Input::Links(links, facts));
    }

    /// Takes in writes of our own before the watch brings them. When this returns, calculation and
    /// IPAM know of them; returns the number of the first desired state that does.
    pub async fn echo(&self, events: Vec<Event>) -> Generation {
        let (tx, rx) = oneshot::channel();
        self.send(Input::Echo(events, tx)).await;
        rx.await.unwrap_or(Generation::MAX)
    }

    /// Takes in other keys of this node, to be published.
    pub async fn keys(&self, keys: PublicKeys) {
        self.send(Input::Keys(keys)).await;
    }

    /// Asks the snapshot something.
    pub async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Snapshot, &Underlay) -> T + Send + 'static,
    ) -> Option<T> {
        let (tx, rx) = oneshot::channel();
        let ask = Box::new(move |snapshot: &Snapshot, underlay: &Underlay| {
            let _ = tx.send(ask(snapshot, underlay));
        });
        self.send(Input::Query(ask)).await;
        rx.await.ok()
    }

    /// Asks about the newest desired state and what it was calculated from; of generation 0 before anything is known.
    pub async fn review<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Inputs<'_>, &NodeState) -> T + Send + 'static,
    ) -> Option<T> {
        let (tx, rx) = oneshot::channel();
        let ask = Box::new(move |inputs: &Inputs<'_>, state: &NodeState| {
            let _ = tx.send(ask(inputs, state));
        });
        self.send(Input::Review(ask)).await;
        rx.await.ok()
    }

    async fn send(&self, input: Input) {
        // The loop ends only with the daemon.
        let _ = self.tx.send(input).await;
    }
}

/// The receiving end of [`Control`].
pub struct Inbox(mpsc::Receiver<Input>);

impl Inbox {
    /// Adds all that waits, at least one; false when nobody can send any more.
    pub(super) async fn receive(&mut self, batch: &mut Vec<Input>) -> bool {
        self.0.recv_many(batch, WAITING).await > 0
    }
}
