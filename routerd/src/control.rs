//! The owner of the snapshot: takes in what changes, hands out what follows from it.
//!
//! ```text
//!  Syncer ─events─►┐                    ┌─► desired state ─► reconcile
//!  Monitor ─links─►│ snapshot, underlay │─► view, blocks  ─► ipam;     each change ─► policy
//!  CNI ─own write─►┘                    └─► wanted node   ─► publish;  facts ─► status
//! ```
//!
//! Inputs that wait are taken in together and calculated once: the newest state wins.

mod mailbox;

use std::collections::BTreeMap;
use std::sync::Arc;

use calc::{Inputs, underlay};
use datastore::Update;
use model::kernel::{Guard, Link, LinkName};
use model::kv::{Event, Revision};
use model::object::ObjectId;
use model::resources::{AllowedUse, Encryption, PostQuantum, VxlanMode};
use model::snapshot::{Changed, Snapshot};
use model::state::{NodeState, Problem, Underlay};
use model::{Family, Kind, keys};
use tokio::sync::{oneshot, watch};

use crate::host::HostFacts;
use crate::ipam::{Ipam, IpamInput};
use crate::policy;
use crate::publish::Wanted;
use crate::reconcile;
use crate::tunnel::PublicKeys;
use crate::views::Facts;
pub use mailbox::{Control, Inbox};
use mailbox::{Input, Review};

/// Number of a desired state: grows with every calculation.
pub type Generation = u64;

/// What the control loop tells others.
pub struct Outputs {
    /// To reconcile.
    pub reconcile: reconcile::Handle,
    /// To status: what was last computed.
    pub desired: watch::Sender<Arc<NodeState>>,
    /// To status.
    pub facts: watch::Sender<Facts>,
    /// To publish.
    pub wanted: watch::Sender<Option<Wanted>>,
    /// To IPAM.
    pub ipam: Ipam,
    /// To policy.
    pub policy: policy::Handle,
}

/// The control loop's state.
pub struct Loop {
    node: Arc<str>,
    underlay_config: underlay::Config,
    public_keys: PublicKeys,
    outputs: Outputs,
    snapshot: Snapshot,
    /// The store has told everything once.
    synced: bool,
    /// The kernel has told its interfaces once.
    links_seen: bool,
    underlay: Underlay,
    /// The IPv6 underlay took router advertisements before forwarding was on.
    accepts_ra: bool,
    /// Why there is no underlay, when that is so.
    underlay_error: Option<String>,
    witnesses: calc::Witnesses,
    /// Revision of the key that every write of a pool bumps.
    pools_guard: Option<Revision>,
    generation: Generation,
    /// The first desired state that was calculated with all of this node published.
    complete_from: Option<Generation>,
    /// Something that calculation reads has changed.
    dirty: bool,
    /// Something that the IPAM view reads has changed.
    view_dirty: bool,
    /// Something that status shows has changed.
    facts_dirty: bool,
    /// Who is to be told the number of the next calculation.
    echoed: Vec<oneshot::Sender<Generation>>,
    /// Questions about the next calculation.
    reviews: Vec<Review>,
}

impl Loop {
    /// A loop that knows nothing yet.
    pub fn new(node: Arc<str>, underlay_config: underlay::Config, outputs: Outputs) -> Loop {
        Loop {
            node,
            underlay_config,
            public_keys: PublicKeys::default(),
            outputs,
            snapshot: Snapshot::default(),
            synced: false,
            links_seen: false,
            underlay: Underlay::default(),
            accepts_ra: false,
            underlay_error: None,
            witnesses: calc::Witnesses::default(),
            pools_guard: None,
            generation: 0,
            complete_from: None,
            dirty: false,
            view_dirty: false,
            facts_dirty: true,
            echoed: Vec::new(),
            reviews: Vec::new(),
        }
    }

    /// Has this node publish the keys of its tunnel.
    #[must_use]
    pub fn with_public_keys(mut self, keys: PublicKeys) -> Loop {
        self.public_keys = keys;
        self
    }

    /// Runs until every handle is gone.
    pub async fn run(mut self, mut inbox: Inbox) {
        let mut batch = Vec::new();
        while inbox.receive(&mut batch).await {
            for input in batch.drain(..) {
                self.take(input).await;
            }
            self.settle().await;
        }
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Store(Update::Events { events, .. }) => {
                for event in events {
                    self.event(event).await;
                }
            }
            Input::Store(Update::Rewound) => {
                tracing::warn!("the store has another history: all of it is taken in anew");
                self.pools_guard = None;
                self.outputs.ipam.input(IpamInput::Rewound).await;
            }
            Input::Store(Update::InSync { revision }) => {
                let changed = self.snapshot.listed(&self.node, revision);
                self.changed(changed);
                let everything = policy::feed::everything(&self.snapshot, &self.node);
                self.outputs.policy.listed(everything);
                self.outputs.ipam.input(IpamInput::Listed(revision)).await;
                if !self.synced {
                    tracing::info!(
                        revision,
                        nodes = self.snapshot.nodes.len(),
                        "snapshot is complete"
                    );
                }
                self.synced = true;
                self.dirty = true;
                self.view_dirty = true;
            }
            Input::Links(links, facts) => self.choose_underlay(&links, &facts),
            Input::Echo(events, answer) => {
                for event in events {
                    if event.key == keys::POOLS_GUARD {
                        self.bump_guard(&event);
                    } else {
                        let changed = self.snapshot.echo(&self.node, &event);
                        self.changed(changed);
                        self.tell_policy(&event.key, changed);
                    }
                }
                // The answer promises a calculation, whatever changed.
                self.dirty = true;
                self.echoed.push(answer);
            }
            Input::Keys(keys) => {
                self.dirty |= keys != self.public_keys;
                self.public_keys = keys;
            }
            Input::Query(ask) => ask(&self.snapshot, &self.underlay),
            Input::Review(ask) => self.reviews.push(ask),
        }
    }

    async fn event(&mut self, event: Event) {
        if event.key == keys::POOLS_GUARD {
            self.bump_guard(&event);
            return;
        }
        let changed = self.snapshot.apply(&self.node, &event);
        self.changed(changed);
        self.tell_policy(&event.key, changed);
        if event.key.starts_with(keys::BLOCKS) {
            self.outputs.ipam.input(IpamInput::Block(event)).await;
        }
    }

    /// Before everything was listed there is nothing to compare with: policy then hears all at once.
    fn tell_policy(&self, key: &str, changed: Changed) {
        if !self.synced || changed.is_empty() {
            return;
        }
        let id = keys::parse_resource(key);
        let inputs = id.map(|id| policy::feed::inputs(&self.snapshot, &self.node, &id));
        let unknown =
            (changed.any(Changed::REJECTED)).then(|| policy::feed::unknown(&self.snapshot));
        let settings = Changed::MESH | Changed::BGP;
        let wanted = (changed.any(settings)).then(|| policy::feed::wanted(&self.snapshot));
        let all = inputs.into_iter().flatten().chain(unknown).chain(wanted);
        self.outputs.policy.feed(all.collect());
    }

    /// The guard is never deleted in the life of a store; one that is gone, or older than an echo,
    /// comes right with the next write of a pool.
    fn bump_guard(&mut self, event: &Event) {
        self.pools_guard = event
            .value
            .is_some()
            .then_some(event.revision)
            .max(self.pools_guard.filter(|_| event.value.is_some()));
        self.view_dirty = true;
    }

    fn changed(&mut self, changed: Changed) {
        // Endpoints of other nodes are stood for by their blocks.
        self.dirty |= changed.any(
            Changed::NODES
                | Changed::POOLS
                | Changed::MESH
                | Changed::LOCAL_ENDPOINTS
                | Changed::BLOCKS
                | Changed::BGP
                | Changed::SECRETS
                | Changed::REJECTED,
        );
        self.facts_dirty |= !changed.is_empty();
        self.view_dirty |= changed.any(
            Changed::POOLS
                | Changed::RESERVATIONS
                | Changed::IPAM
                | Changed::NODES
                | Changed::NAMESPACES,
        );
    }

    fn choose_underlay(&mut self, links: &BTreeMap<LinkName, Link>, facts: &HostFacts) {
        let host = underlay::Host {
            links,
            default_routes: &facts.default_routes,
        };
        match underlay::choose(&self.underlay_config, host) {
            Ok((underlay, reasons)) => {
                self.underlay_error = None;
                if underlay != self.underlay {
                    reasons
                        .iter()
                        .for_each(|reason| tracing::info!("underlay: {reason}"));
                    self.underlay = underlay;
                    self.dirty = true;
                }
            }
            Err(e) => {
                let e = e.to_string();
                if self.underlay_error.as_ref() != Some(&e) {
                    tracing::warn!(error = %e, "no underlay; keeping what was known");
                    self.dirty = true;
                }
                self.underlay_error = Some(e);
            }
        }
        let accepts_ra = facts.accepts_ra(&self.underlay);
        self.dirty |= accepts_ra != self.accepts_ra || !self.links_seen;
        self.accepts_ra = accepts_ra;
        self.links_seen = true;
    }

    /// Whether both sides are known. Calculated without its interfaces, a host has no underlay: a
    /// restart would take down every tunnel and publish a node without addresses.
    fn is_whole(&self) -> bool {
        self.synced && self.links_seen
    }

    async fn settle(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty && self.is_whole() {
            self.calculate();
        }
        // After the calculation: who has an address of a new pool finds how that pool is guarded.
        if self.view_dirty && self.synced {
            self.view_dirty = false;
            let view = crate::ipam::view(&self.node, &self.snapshot, self.pools_guard);
            self.outputs
                .ipam
                .input(IpamInput::View(Box::new(view)))
                .await;
        }
        if dirty || std::mem::take(&mut self.facts_dirty) {
            self.outputs.facts.send_replace(self.facts());
        }
        for answer in self.echoed.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(self.generation);
        }
        let state = Arc::clone(&self.outputs.desired.borrow());
        for ask in std::mem::take(&mut self.reviews) {
            ask(&self.inputs(), &state);
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            node: &self.node,
            snapshot: &self.snapshot,
            underlay: &self.underlay,
            accepts_ra: self.accepts_ra,
        }
    }

    fn calculate(&mut self) {
        self.generation += 1;
        let mut state = calc::desired_state(&self.inputs());
        state.generation = self.generation;
        state.guarded_from = {
            let before = self.outputs.desired.borrow();
            let (guard, drops) = (&state.kernel.guard, |g: &Guard| g.drop);
            let is_new = guard.as_ref().is_some_and(drops) && before.kernel.guard != *guard;
            if is_new {
                self.generation
            } else {
                before.guarded_from
            }
        };
        let unselected = self.witnesses.unselected(&self.snapshot);
        state.problems.extend(unselected);
        if let Some(message) = &self.underlay_error {
            let object = format!("Node/{}", self.node);
            state.problems.insert(
                0,
                Problem {
                    object,
                    message: message.clone(),
                },
            );
        }
        let state = Arc::new(state);
        self.outputs.reconcile.desired(Arc::clone(&state), true);
        self.outputs.desired.send_replace(state);
        let wanted = self.wanted();
        if self.complete_from.is_none() && Self::is_published(&wanted) {
            self.complete_from = Some(self.generation);
        }
        self.outputs.wanted.send_if_modified(|old| {
            let new = Some(wanted);
            let changed = *old != new;
            *old = new;
            changed
        });
    }

    fn wanted(&self) -> Wanted {
        let encrypts = self.snapshot.encryption() != Encryption::Off;
        let tunnels = Family::ALL
            .into_iter()
            .filter(|family| {
                self.snapshot.pools.values().any(|p| {
                    p.spec.cidr.family() == *family
                        && !p.spec.disabled
                        && (p.spec.vxlan_mode != VxlanMode::Never
                            || encrypts && p.spec.allowed_uses.contains(&AllowedUse::Tunnel))
                })
            })
            .collect();
        Wanted {
            underlay: self.underlay.clone(),
            tunnels,
            public_key: self.public_keys.current,
            next_public_key: self.public_keys.next,
            encapsulation_key: (self.public_keys.encapsulation.clone())
                .filter(|_| self.snapshot.mesh.post_quantum != PostQuantum::Off),
            stored: self.snapshot.nodes.get(&*self.node).cloned(),
            unreadable: self.snapshot.rejected.contains_key(&self.node_key()),
        }
    }

    fn node_key(&self) -> String {
        keys::resource(&ObjectId {
            kind: Kind::Node,
            namespace: None,
            name: self.node.to_string(),
        })
    }

    /// Whether the store has all that this node has to say: without the address of a tunnel device
    /// there is no device, and so no route that goes by it.
    fn is_published(wanted: &Wanted) -> bool {
        let stored = wanted.stored.as_ref();
        stored.is_some_and(|node| {
            let mut tunnels = wanted.tunnels.iter();
            tunnels.all(|family| node.spec.tunnel_addr(*family).is_some())
        })
    }

    fn facts(&self) -> Facts {
        let s = &self.snapshot;
        let usable = |p: &&model::Resource<model::resources::IpPoolSpec>| {
            !p.spec.disabled && p.spec.allowed_uses.contains(&AllowedUse::Workload)
        };
        Facts {
            synced: self.is_whole(),
            revision: s.revision,
            rejected: s.rejected.values().cloned().collect(),
            published: s.nodes.contains_key(&*self.node),
            complete_from: self.complete_from,
            pools_guard: self.pools_guard,
            usable_pools: s
                .pools
                .values()
                .filter(usable)
                .map(|p| p.spec.cidr.family())
                .collect(),
            nodes: s.nodes.len(),
            local_endpoints: s.local_endpoints.len(),
            remote_endpoints: s.remote_endpoints.len(),
            blocks: s.blocks.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink::FakeKernel;

    use super::*;
    use crate::reconcile::{Reconciler, Timing};

    struct NoHost;

    impl reconcile::Host for NoHost {
        fn now(&mut self) -> reconcile::Now {
            unreachable!("the reconciler does not run")
        }

        fn keep_switch(&mut self, _: &str, _: Option<&str>) {}
    }

    #[tokio::test]
    async fn nothing_is_decided_before_both_store_and_interfaces_are_known() {
        for store_first in [true, false] {
            let (_reconciler, reconcile) =
                Reconciler::new(FakeKernel::new(), NoHost, Timing::default(), 1);
            let (desired, _desired) = watch::channel(Arc::default());
            let (facts, facts_view) = watch::channel(Facts::default());
            let (wanted, wanted_view) = watch::channel(None);
            let (ipam, _ipam) = Ipam::new();
            let (_policy, policy, _) = policy::Owner::new(
                "n1",
                Vec::new(),
                || Err("no kernel".to_owned()),
                policy::FakeBar::default(),
            );
            let outputs = Outputs {
                reconcile,
                desired,
                facts,
                wanted,
                ipam,
                policy,
            };
            let mut this = Loop::new("n1".into(), underlay::Config::default(), outputs);
            let mut inputs = [
                Input::Store(Update::InSync { revision: 7 }),
                Input::Links(BTreeMap::new(), HostFacts::default()),
            ];
            if !store_first {
                inputs.reverse();
            }
            for (at, input) in inputs.into_iter().enumerate() {
                this.take(input).await;
                this.settle().await;
                let whole = at == 1;
                assert_eq!(this.generation, u64::from(whole));
                assert_eq!(wanted_view.borrow().is_some(), whole);
                assert_eq!(facts_view.borrow().synced, whole);
            }
        }
    }
}
