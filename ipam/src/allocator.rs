//! The owner of this node's addresses: a state machine without I/O that turns requests into
//! transactions, as many requests as possible into each.
//!
//! ```text
//!  set_view, block_event ──►┌───────────┐
//!  submit(Request) ────────►│ Allocator │──► poll_txn(now) ──► the store
//!  handle_outcome ─────────►│           │──► poll_reply() ───► who asked
//!                           └───────────┘──► poll_timeout() ─► when to poll_txn next
//! ```
//!
//! One transaction is under way at a time; what arrives meanwhile goes into the next, which is what
//! makes it fast: measured against etcd, a second one in flight gained nothing at 64 requests.
//!
//! **Fate of a transaction.** Every transaction that writes compares and puts the node's *fence*, with
//! a number in it. When the answer is lost, the next transaction compares the same fence: if it still
//! stands, the lost one was not applied and, the fence being written, never will be, however late it
//! arrives; else the number in it tells that it was. So nothing is replanned or answered in doubt, and
//! a daemon that starts takes the fence first, which makes an end of what its predecessor left on the way.
//!
//! **Who has what.** Only the holder of the node's fence hands out addresses to that node. So once the
//! fence is held, and every block is known as of the last write of whoever held it before, the blocks in
//! memory say what each handle of this node holds: no record of the handle has to be read or written.

mod assign;
mod draft;
mod outcome;
mod pending;
mod pick;
mod plan;
mod queue;
mod reclaim;
mod release;
mod upkeep;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::Cidr;
use model::kv::{Compare, Op, Revision, Txn};

use crate::blocks::Reserved;
use crate::error::AllocError;
use crate::request::{Reply, Request, RequestId};
use crate::view::IpamView;
use draft::Draft;
pub use outcome::Failure;
use pending::{Origin, Pending, Reclaim, Work};
pub use upkeep::Stale;
pub use world::Seen;
use world::World;

/// What an allocator is and how patient it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of this node.
    pub node: String,
    /// Different for every start of the daemon, such as a random number.
    pub incarnation: u64,
    /// How long a block stays empty before it goes back, milliseconds.
    pub grace_ms: u64,
    /// How long a request waits for what it needs, milliseconds.
    pub patience_ms: u64,
}

impl Options {
    /// With every default: 5 minutes of grace, 10 seconds of patience.
    pub fn new(node: impl Into<String>, incarnation: u64) -> Options {
        Options {
            node: node.into(),
            incarnation,
            grace_ms: 300_000,
            patience_ms: 10_000,
        }
    }
}

/// Names a transaction until its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub u64);

/// The transaction under way.
struct Flight {
    id: TxnId,
    what: What,
}

enum What {
    /// Takes the fence.
    Take,
    /// Does requests, reads keys, or both.
    Batch(Box<InDoubt>),
    /// Finds out what became of [`Allocator::in_doubt`].
    Settle,
}

/// A transaction and what its outcome means.
struct InDoubt {
    id: TxnId,
    draft: Draft,
    /// Keys compared, then keys read, in the order of the failure branch.
    compared: Vec<Compare>,
    reads: Vec<String>,
    /// Which requests wait for which reads.
    readers: queue::Readers,
}

/// A request that others do the work of.
struct Parent {
    pending: Pending,
    outstanding: usize,
    error: Option<AllocError>,
}

#[derive(Default)]
struct Fence {
    /// Revision last seen; `None`: absent.
    seen: Option<Revision>,
    /// Written by this allocator.
    held: bool,
    /// The newest of those that it wrote.
    own: Option<Revision>,
    /// Held since this revision, but the blocks are not known as of it.
    unseen: Option<Revision>,
}

/// See the module's page. Not shared: its owner hands inputs in and takes outputs out.
pub struct Allocator {
    options: Options,
    world: World,
    view: Option<IpamView>,
    queue: BTreeMap<u64, Pending>,
    parents: BTreeMap<u64, Parent>,
    /// A parent came back into the queue.
    resumed: bool,
    replies: VecDeque<(RequestId, Result<Reply, AllocError>)>,
    flight: Option<Flight>,
    in_doubt: Option<Box<InDoubt>>,
    fence: Fence,
    /// Every block is known as of this revision.
    known_to: Revision,
    /// Revision of the claim on the node's name, where there is one.
    claim: Option<Revision>,
    next_seq: u64,
    next_txn: u64,
    searched: RefCell<BTreeMap<Cidr, plan::Searched>>,
    /// Blocks that housekeeping is giving back.
    going_back: BTreeSet<Cidr>,
    next_tick: u64,
    /// Nothing is sent before, after a failure; else 0.
    retry_at: u64,
    failures: u32,
}

impl Allocator {
    /// An allocator that knows nothing yet. Give it every block by [`Allocator::block_event`], then
    /// the first view; it sends nothing before.
    pub fn new(options: Options) -> Allocator {
        Allocator {
            world: World::new(&options.node),
            options,
            view: None,
            queue: BTreeMap::new(),
            parents: BTreeMap::new(),
            resumed: false,
            replies: VecDeque::new(),
            flight: None,
            in_doubt: None,
            fence: Fence::default(),
            known_to: 0,
            claim: None,
            next_seq: 0,
            next_txn: 0,
            searched: RefCell::default(),
            going_back: BTreeSet::new(),
            next_tick: 0,
            retry_at: 0,
            failures: 0,
        }
    }

    /// New pools, reservations or settings. See [`IpamView`] for the order with block events.
    pub fn set_view(&mut self, view: IpamView) {
        self.world.reserve(Reserved::new(view.reservations.clone()));
        self.searched.borrow_mut().clear();
        self.view = Some(view);
    }

    /// The node's name is claimed by a key written at `revision`. Whoever is the node next takes the
    /// fence, and it is not taken back without this claim.
    pub fn claimed(&mut self, revision: Revision) {
        self.claim = Some(revision);
    }

    /// The store has another history, as after a restore: nothing that was seen compares with what it
    /// says. Every block follows anew, then a view.
    pub fn rewound(&mut self) {
        let removals = self.world.removals + 1;
        self.world = World::new(&self.options.node);
        self.world.removals = removals;
        self.fence = Fence::default();
        self.known_to = 0;
        self.searched.borrow_mut().clear();
        self.going_back.clear();
        if let Some(view) = &self.view {
            self.world.reserve(Reserved::new(view.reservations.clone()));
        }
    }

    /// A block of any node as listed or watched, in the order of revisions.
    pub fn block_event(&mut self, cidr: Cidr, seen: Seen<'_>, revision: Revision) {
        self.world.event(cidr, seen, revision);
    }

    /// Every block that stands at `revision` was handed over.
    pub fn listed(&mut self, revision: Revision) {
        self.known_to = self.known_to.max(revision);
        self.fence.unseen = self.fence.unseen.filter(|needed| *needed > self.known_to);
    }

    /// Whether all blocks must be listed and handed over before anything goes on: another daemon was
    /// this node until a moment ago.
    pub fn wants_listing(&self) -> bool {
        self.fence.unseen.is_some()
    }

    /// Takes a request; its reply comes by [`Allocator::poll_reply`], always and once.
    pub fn submit(&mut self, now: u64, id: RequestId, request: Request) {
        let mut patience = self.options.patience_ms;
        let mut only_if_gone = None;
        let work = match request {
            Request::Assign(assign) => Work::Assign(assign),
            Request::Release(release) => Work::Release(release),
            Request::ReleaseAddress(ip) => Work::ReleaseAddress(ip),
            Request::ReleaseBlock(cidr) => Work::ReleaseBlock(cidr),
            Request::ReclaimNode(node, cleanup) => {
                patience = patience.saturating_mul(6);
                only_if_gone = Some(node.clone());
                Work::Reclaim(Reclaim {
                    node,
                    cleanup,
                    rounds: 0,
                    released: crate::request::Released::default(),
                })
            }
        };
        let deadline = now.saturating_add(patience);
        self.enqueue(now, deadline, Origin::Caller(id), work, only_if_gone);
    }

    fn enqueue(
        &mut self,
        now: u64,
        deadline: u64,
        origin: Origin,
        work: Work,
        only_if_gone: Option<String>,
    ) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let pending = Pending {
            seq,
            origin,
            work,
            only_if_gone,
            since: now,
            deadline,
            attempts: 0,
            alone: false,
            read: BTreeSet::new(),
            waiting_for: "the datastore",
        };
        self.queue.insert(seq, pending);
    }

    /// The next reply.
    pub fn poll_reply(&mut self) -> Option<(RequestId, Result<Reply, AllocError>)> {
        self.replies.pop_front()
    }

    /// When to call [`Allocator::poll_txn`] again though nothing happened, milliseconds since the epoch.
    pub fn poll_timeout(&self) -> Option<u64> {
        let waiting = self.queue.values().map(|p| p.deadline);
        let doubtful = self.in_doubt.iter().flat_map(|d| &d.draft.entries);
        let deadline = waiting.chain(doubtful.map(|e| e.pending.deadline)).min();
        let free = self.flight.is_none() && self.view.is_some() && !self.wants_listing();
        let retry = (free && self.retry_at > 0).then_some(self.retry_at);
        let steady = free && self.retry_at == 0 && self.fence.held && self.in_doubt.is_none();
        let tick = self.upkeep_due().filter(|_| steady);
        [deadline, retry, tick].into_iter().flatten().min()
    }

    /// Whether nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.flight.is_none()
            && self.in_doubt.is_none()
            && self.parents.is_empty()
    }

    /// The next transaction to carry out; its outcome goes to [`Allocator::handle_outcome`], whose
    /// call may make another one ready. To be called after every input and at [`Allocator::poll_timeout`].
    pub fn poll_txn(&mut self, now: u64) -> Option<(TxnId, Txn)> {
        self.expire(now);
        let blind = self.view.is_none() || self.wants_listing();
        if self.flight.is_some() || blind || now < self.retry_at {
            return None;
        }
        self.retry_at = 0;
        let id = TxnId(self.next_txn);
        let (what, txn) = if self.in_doubt.is_some() {
            (What::Settle, self.settle_txn(id)?)
        } else if !self.fence.held {
            (What::Take, self.take_txn(id))
        } else {
            self.upkeep(now);
            let (mut draft, mut readers) = self.fill(now);
            // A reclaim whose last part was answered without a transaction is planned on.
            while draft.is_empty() && std::mem::take(&mut self.resumed) {
                (draft, readers) = self.fill(now);
            }
            if draft.is_empty() {
                return None;
            }
            let key = model::keys::fence(&self.options.node);
            let fence = self
                .fence
                .seen
                .map(|rev| (&*key, rev, self.fence_value(id)));
            let txn = draft.txn(fence);
            let batch = InDoubt {
                id,
                compared: txn.compares.clone(),
                reads: draft.reads.iter().cloned().collect(),
                draft,
                readers,
            };
            (What::Batch(Box::new(batch)), txn)
        };
        self.next_txn += 1;
        self.flight = Some(Flight { id, what });
        Some((id, txn))
    }

    fn fence_value(&self, id: TxnId) -> Vec<u8> {
        let (incarnation, txn) = (self.options.incarnation, id.0);
        format!(r#"{{"version":1,"incarnation":"{incarnation:016x}","txn":{txn}}}"#).into_bytes()
    }

    fn take_txn(&self, id: TxnId) -> Txn {
        let key = model::keys::fence(&self.options.node);
        let compare = match self.fence.seen {
            Some(rev) => Compare::ModRevision(key.clone(), rev),
            None => Compare::Absent(key.clone()),
        };
        let txn = Txn::new()
            .when(compare)
            .then(Op::put(key.clone(), self.fence_value(id)))
            .otherwise(Op::Get(key));
        match self.claim {
            Some(rev) => {
                let owner = model::keys::owner(&self.options.node);
                txn.when(Compare::ModRevision(owner, rev))
            }
            None => txn,
        }
    }
}
