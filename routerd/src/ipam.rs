//! The task that owns this node's addresses: carries out what [`ipam::Allocator`] plans.
//!
//! Requests that wait while a transaction is under way go out together in the next one, which is
//! what makes many at once cheap.

mod records;
mod view;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datastore::{Datastore, Listing};
use ipam::{
    AllocError, Allocator, Assign, Assigned, Attach, Cleanup, Failure, Families, IpamView, Options,
    Release, Released, Reply, Request, RequestId, Seen, TxnId,
};
use model::block::Block;
use model::kv::{Event, Revision, TxnOutcome};
use model::resources::AllowedUse;
use model::{Cidr, Family, keys};
use tokio::sync::{mpsc, oneshot};

use crate::time::now_millis;
pub use records::read;
pub use view::view;

/// Requests that wait for the owner; then their senders wait.
const WAITING: usize = 4096;

/// Longest wait for the next requests of those who were answered together.
const GATHER: Duration = Duration::from_micros(300);

/// Between attempts to list the blocks.
const LIST_PAUSE: Duration = Duration::from_millis(500);

/// Why a request for addresses failed.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The allocator says no.
    #[error(transparent)]
    Alloc(#[from] AllocError),
    /// The daemon is stopping.
    #[error("routerd is stopping: try again when it runs")]
    Stopping,
}

impl IpamError {
    /// Whether the same request may succeed later with nothing mended.
    pub fn is_retryable(&self) -> bool {
        match self {
            IpamError::Alloc(e) => e.is_retryable(),
            IpamError::Stopping => true,
        }
    }
}

/// What the control loop tells IPAM, in the order in which it happened.
pub enum IpamInput {
    /// New pools, reservations or settings.
    View(Box<IpamView>),
    /// A block changed.
    Block(Event),
    /// Every block that stands at this revision was told.
    Listed(Revision),
    /// The store has another history: every block comes anew.
    Rewound,
    /// The node's name is claimed by a key of this revision.
    Claimed(Revision),
}

type Answer = oneshot::Sender<Result<Reply, AllocError>>;

enum Message {
    Input(IpamInput),
    Ask(Box<Request>, Answer),
    Stale(String, BTreeSet<String>, oneshot::Sender<Vec<String>>),
}

/// Handle of the owner.
#[derive(Clone)]
pub struct Ipam {
    tx: mpsc::Sender<Message>,
}

/// The receiving end of [`Ipam`].
pub struct Inbox(mpsc::Receiver<Message>);

impl Ipam {
    /// A handle, and what [`run`] needs.
    pub fn new() -> (Ipam, Inbox) {
        let (tx, rx) = mpsc::channel(WAITING);
        (Ipam { tx }, Inbox(rx))
    }

    /// Takes in what the store says.
    pub async fn input(&self, input: IpamInput) {
        // The owner ends only with the daemon.
        let _ = self.tx.send(Message::Input(input)).await;
    }

    /// Hands out addresses.
    pub async fn assign(&self, assign: Assign) -> Result<Assigned, IpamError> {
        match self.ask(Request::Assign(assign)).await? {
            Reply::Assigned(assigned) => Ok(assigned),
            Reply::Released(_) => Err(IpamError::Stopping),
        }
    }

    /// Frees what a handle holds, or an identity keeps.
    pub async fn release(&self, release: Release) -> Result<Released, IpamError> {
        self.released(Request::Release(release)).await
    }

    /// Frees one address, whoever holds it.
    pub async fn release_address(&self, ip: IpAddr) -> Result<Released, IpamError> {
        self.released(Request::ReleaseAddress(ip)).await
    }

    /// Frees everything of a node that was deleted; `cleanup` makes what rides along with a handle.
    pub async fn reclaim_node(
        &self,
        node: String,
        cleanup: Cleanup,
    ) -> Result<Released, IpamError> {
        self.released(Request::ReclaimNode(node, cleanup)).await
    }

    /// The address of this node's tunnel device; the same at every call.
    pub async fn tunnel(&self, node: &str, family: Family) -> Result<IpAddr, IpamError> {
        let handle = tunnel_handle(node, family);
        let assigned = self.assign(Assign::tunnel(handle.clone(), family)).await?;
        assigned
            .addresses
            .first()
            .copied()
            .ok_or(IpamError::Alloc(AllocError::NoAddress {
                handle,
                family: family.to_string(),
                pools: Vec::new(),
            }))
    }

    /// Gives the tunnel address back.
    pub async fn release_tunnel(&self, node: &str, family: Family) -> Result<(), IpamError> {
        let release = Release {
            handle: tunnel_handle(node, family),
            node: Some(node.to_owned()),
            ..Release::default()
        };
        self.release(release).await.map(|_| ())
    }

    /// Handles of this node that begin with `prefix` and are not `valid`.
    pub async fn stale(
        &self,
        prefix: &str,
        valid: BTreeSet<String>,
    ) -> Result<Vec<String>, IpamError> {
        let (tx, rx) = oneshot::channel();
        let message = Message::Stale(prefix.to_owned(), valid, tx);
        self.tx
            .send(message)
            .await
            .map_err(|_| IpamError::Stopping)?;
        rx.await.map_err(|_| IpamError::Stopping)
    }

    async fn released(&self, request: Request) -> Result<Released, IpamError> {
        match self.ask(request).await? {
            Reply::Released(released) => Ok(released),
            Reply::Assigned(_) => Err(IpamError::Stopping),
        }
    }

    async fn ask(&self, request: Request) -> Result<Reply, IpamError> {
        let (tx, rx) = oneshot::channel();
        let message = Message::Ask(Box::new(request), tx);
        self.tx
            .send(message)
            .await
            .map_err(|_| IpamError::Stopping)?;
        Ok(rx.await.map_err(|_| IpamError::Stopping)??)
    }
}

fn tunnel_handle(node: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("tunnel4:{node}"),
        Family::V6 => format!("tunnel6:{node}"),
    }
}

/// What a workload asks for.
pub fn workload(
    handle: &str,
    request: &model::api::cni::Request,
    namespace: &str,
    endpoint: Attach,
) -> Assign {
    let named = |family, pools: &[String]| -> Vec<(Family, String)> {
        pools.iter().map(|pool| (family, pool.clone())).collect()
    };
    Assign {
        handle: handle.to_owned(),
        namespace: namespace.to_owned(),
        name: request.name.clone(),
        usage: AllowedUse::Workload,
        families: Families::Auto,
        addresses: request.ips.clone(),
        pools: [
            named(Family::V4, &request.ipv4_pools),
            named(Family::V6, &request.ipv6_pools),
        ]
        .concat(),
        identity: request
            .sticky
            .then(|| format!("sticky:{namespace}:{}", request.name)),
        extra: endpoint,
    }
}

/// What a task of the owner's comes back with.
enum Done {
    Txn(TxnId, Result<TxnOutcome, datastore::Error>),
    Listed(Listing),
}

/// The owner's state.
struct Owner {
    store: Arc<dyn Datastore>,
    allocator: Allocator,
    answers: HashMap<RequestId, Answer>,
    next_request: u64,
    /// A listing of the blocks is under way.
    listing: bool,
    done: mpsc::UnboundedSender<Done>,
}

/// Runs until every handle is gone. Sends nothing to the store before the first view.
pub async fn run(node: &str, store: Arc<dyn Datastore>, mut inbox: Inbox) {
    let incarnation = u64::from_ne_bytes(crate::random::bytes());
    // At most one transaction or listing is under way, so this never holds more than one.
    let (done, mut outcomes) = mpsc::unbounded_channel();
    let mut owner = Owner {
        store,
        allocator: Allocator::new(Options::new(node, incarnation)),
        answers: HashMap::new(),
        next_request: 0,
        listing: false,
        done,
    };
    let mut batch = Vec::new();
    loop {
        let wake = owner.allocator.poll_timeout();
        tokio::select! {
            taken = inbox.0.recv_many(&mut batch, WAITING) => {
                if taken == 0 {
                    return;
                }
                batch.drain(..).for_each(|message| owner.take(message));
            }
            Some(done) = outcomes.recv() => match done {
                Done::Txn(id, result) => {
                    let result = result.map_err(|e| failure(&e));
                    owner.allocator.handle_outcome(now_millis(), id, result);
                    let answered = owner.answer();
                    owner.gather(&mut inbox, answered).await;
                }
                Done::Listed(listing) => owner.listed(listing),
            },
            () = sleep_until(wake) => {}
        }
        owner.start();
        owner.answer();
    }
}

/// Lists the blocks, however long the store takes.
async fn list(store: Arc<dyn Datastore>, done: mpsc::UnboundedSender<Done>) {
    loop {
        match store.list(keys::BLOCKS).await {
            Ok(listing) => {
                let _ = done.send(Done::Listed(listing));
                return;
            }
            Err(e) => tracing::debug!(error = %e, "the blocks cannot be listed"),
        }
        tokio::time::sleep(LIST_PAUSE).await;
    }
}

async fn sleep_until(millis: Option<u64>) {
    match millis {
        Some(at) => {
            let wait = at.saturating_sub(now_millis()).max(1);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        None => std::future::pending().await,
    }
}

fn failure(e: &datastore::Error) -> Failure {
    if e.is_ambiguous() {
        Failure::Ambiguous(e.to_string())
    } else if e.is_retryable() {
        Failure::Unavailable(e.to_string())
    } else {
        Failure::Refused(e.to_string())
    }
}

impl Owner {
    fn take(&mut self, message: Message) {
        match message {
            Message::Input(IpamInput::View(view)) => self.allocator.set_view(*view),
            Message::Input(IpamInput::Block(event)) => self.block(&event),
            Message::Input(IpamInput::Listed(revision)) => self.allocator.listed(revision),
            Message::Input(IpamInput::Claimed(revision)) => self.allocator.claimed(revision),
            Message::Input(IpamInput::Rewound) => self.allocator.rewound(),
            Message::Ask(request, answer) => {
                let id = RequestId(self.next_request);
                self.next_request += 1;
                self.answers.insert(id, answer);
                self.allocator.submit(now_millis(), id, *request);
            }
            Message::Stale(prefix, valid, answer) => {
                let stale = self.allocator.stale(&prefix, &valid);
                // The asker may have gone.
                let _ = answer.send(stale.into_iter().map(|s| s.handle).collect());
            }
        }
    }

    fn block(&mut self, event: &Event) {
        let Some(cidr) = keys::parse_block(&event.key) else {
            return;
        };
        let decoded = event.value.as_deref().map(Block::decode);
        let seen = |seen: Seen<'_>, allocator: &mut Allocator| {
            allocator.block_event(cidr, seen, event.revision);
        };
        match decoded {
            Some(Ok(block)) => seen(Seen::Is(&block), &mut self.allocator),
            Some(Err(e)) => seen(Seen::Unreadable(&e.to_string()), &mut self.allocator),
            None => seen(Seen::Gone, &mut self.allocator),
        }
    }

    /// Starts the transaction that became ready.
    fn start(&mut self) {
        while let Some((id, txn)) = self.allocator.poll_txn(now_millis()) {
            let (store, done) = (Arc::clone(&self.store), self.done.clone());
            tokio::spawn(async move {
                let outcome = store.txn(txn).await;
                // The owner is gone only when the daemon ends.
                let _ = done.send(Done::Txn(id, outcome));
            });
        }
        if self.allocator.wants_listing() && !self.listing {
            self.listing = true;
            tokio::spawn(list(Arc::clone(&self.store), self.done.clone()));
        }
    }

    /// Takes in the blocks that stand. Those that do not come out by the watch.
    fn listed(&mut self, listing: Listing) {
        self.listing = false;
        for kv in listing.items {
            self.block(&Event {
                key: kv.key,
                value: Some(kv.value),
                revision: kv.mod_revision,
            });
        }
        self.allocator.listed(listing.revision);
    }

    /// Answers who is served, and says how many.
    fn answer(&mut self) -> usize {
        let mut answered = 0;
        while let Some((id, reply)) = self.allocator.poll_reply() {
            if let Some(answer) = self.answers.remove(&id) {
                let _ = answer.send(reply);
                answered += 1;
            }
        }
        answered
    }

    /// Takes what comes at once from those who were just answered. Without it the first of them
    /// starts the next transaction alone, and a crowd travels in two halves for ever.
    async fn gather(&mut self, inbox: &mut Inbox, answered: usize) {
        if answered < 2 {
            return;
        }
        let end = Instant::now() + GATHER;
        let mut came = 0;
        while came < answered && Instant::now() < end {
            match inbox.0.try_recv() {
                Ok(message) => {
                    came += 1;
                    self.take(message);
                }
                // They run meanwhile; a timer would be too coarse.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

/// The addresses as host prefixes.
pub fn host_cidrs(assigned: &Assigned) -> Vec<Cidr> {
    assigned.addresses.iter().copied().map(Cidr::host).collect()
}
