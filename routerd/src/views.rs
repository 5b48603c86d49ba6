//! What the actors say of themselves, gathered for `status`, `/ready` and metrics.

use std::sync::Arc;

use datastore::{OwnershipState, SyncState};
use model::Family;
use model::api::{Health, Status, Subsystem};
use model::resources::Encryption;
use model::snapshot::Rejected;
use model::state::NodeState;
use tokio::sync::watch;

use crate::gone::Fate;
use crate::{policy, reconcile};

/// Whether this daemon is the node: nothing while it asks the store.
pub type Identity = Option<OwnershipState>;

/// What of the snapshot is shown.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The snapshot is complete.
    pub synced: bool,
    /// Its revision.
    pub revision: i64,
    /// Values that were skipped.
    pub rejected: Vec<Rejected>,
    /// This node is in it.
    pub published: bool,
    /// Number of the first desired state that was calculated with all of this node published.
    pub complete_from: Option<u64>,
    /// Revision of the last write of a pool.
    pub pools_guard: Option<i64>,
    /// Pools that ADD may use, enabled and for workloads: the family of each.
    pub usable_pools: Vec<Family>,
    /// Number of nodes, endpoints and blocks.
    pub nodes: usize,
    /// Endpoints on this node.
    pub local_endpoints: usize,
    /// Endpoints elsewhere.
    pub remote_endpoints: usize,
    /// Blocks of all nodes.
    pub blocks: usize,
}

/// The newest word of every actor.
#[derive(Clone)]
pub struct Views {
    /// Name of the node.
    pub node: Arc<str>,
    /// Whether this daemon is the node.
    pub identity: watch::Receiver<Identity>,
    /// The store.
    pub sync: watch::Receiver<SyncState>,
    /// Releases a held snapshot; whether there was one.
    pub accept: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The snapshot.
    pub facts: watch::Receiver<Facts>,
    /// The newest desired state.
    pub desired: watch::Receiver<Arc<NodeState>>,
    /// The kernel.
    pub reconcile: watch::Receiver<reconcile::Status>,
    /// Last error of publishing this node, if the last attempt failed.
    pub publish: watch::Receiver<Option<String>>,
    /// Preshared keys, where they are wanted.
    pub exchange: watch::Receiver<Option<Subsystem>>,
    /// BGP, where there is somebody to speak to.
    pub bgp: watch::Receiver<Option<Subsystem>>,
    /// Policy, once it is known what there is.
    pub policy: watch::Receiver<Option<policy::View>>,
    /// How the thread of policy ended.
    pub policy_fate: Fate,
    /// How the thread of flows ended.
    pub flows_fate: Fate,
}

impl Views {
    /// MTU for new workload interfaces, bytes.
    pub fn workload_mtu(&self) -> u32 {
        self.desired.borrow().workload_mtu
    }

    /// Whether workloads can be served.
    pub fn is_ready(&self) -> bool {
        self.identity.borrow().is_some()
            && self.facts.borrow().published
            && self.is_in_sync()
            && !self.is_cut_off()
            && self.policy_fate.subsystem().is_none()
    }

    /// Whether everything has to be encrypted, and nothing can be.
    fn is_cut_off(&self) -> bool {
        let required = self.desired.borrow().encryption == Encryption::Required;
        required && self.reconcile.borrow().lacks_tunnel()
    }

    /// Whether the kernel was brought to a state that lacks nothing: the snapshot was complete, and
    /// this node's own record in it, or that cannot be written and is reported.
    fn is_in_sync(&self) -> bool {
        let (facts, reconcile) = (self.facts.borrow(), self.reconcile.borrow());
        let complete = match facts.complete_from {
            Some(generation) => reconcile.generation >= generation,
            None => self.publish.borrow().is_some(),
        };
        facts.synced && reconcile.in_sync && complete
    }

    /// Lets a held-back snapshot through.
    pub fn accept_held(&self) -> Result<(), String> {
        match (self.accept)() {
            true => Ok(()),
            false => Err("no snapshot is held back: nothing to accept".to_owned()),
        }
    }

    /// Everything, as `routerctl status` shows it.
    pub fn status(&self) -> Status {
        let facts = self.facts.borrow().clone();
        let desired = Arc::clone(&self.desired.borrow());
        let reconcile = self.reconcile.borrow().clone();
        let mut subsystems = vec![self.datastore(), self.identity(&facts), self.ipam(&facts)];
        subsystems.extend(reconcile.subsystems_for(&desired.kernel));
        subsystems.extend(self.exchange.borrow().clone());
        subsystems.extend(self.bgp.borrow().clone());
        let policy = || Some(self.policy.borrow().as_ref()?.subsystem.clone());
        subsystems.extend(self.policy_fate.subsystem().or_else(policy));
        subsystems.extend(self.flows_fate.subsystem());
        Status {
            node: self.node.to_string(),
            ready: self.is_ready(),
            in_sync: self.is_in_sync(),
            revision: facts.revision,
            encryption: desired.encryption,
            subsystems,
            rejected: facts.rejected,
            drift: reconcile.drift,
            problems: desired.problems.clone(),
            workload_mtu: desired.workload_mtu,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            held: (self.sync.borrow().held.as_ref())
                .map(|held| held.message.clone())
                .unwrap_or_default(),
        }
    }

    fn datastore(&self) -> Subsystem {
        let sync = self.sync.borrow();
        let (state, message) = match (&sync.held, &sync.last_error) {
            (Some(held), _) => (Health::Failed, format!("held back: {}", held.message)),
            (None, Some(e)) if !sync.connected => (Health::Failed, e.clone()),
            (None, Some(e)) => (Health::Degraded, e.clone()),
            (None, None) if !sync.in_sync => (Health::Degraded, "reading".to_owned()),
            (None, None) => (Health::Ok, format!("in sync at revision {}", sync.revision)),
        };
        Subsystem {
            name: "datastore".into(),
            state,
            message,
        }
    }

    fn identity(&self, facts: &Facts) -> Subsystem {
        let (state, message) = match &*self.identity.borrow() {
            None => (Health::Degraded, "claiming the node's name".to_owned()),
            Some(OwnershipState::Held) => match &*self.publish.borrow() {
                None if !facts.published => {
                    (Health::Degraded, "writing the node to the store".to_owned())
                }
                None => (Health::Ok, format!("this daemon is node {}", self.node)),
                Some(e) => (Health::Degraded, e.clone()),
            },
            Some(OwnershipState::Unconfirmed(e)) => (Health::Degraded, e.clone()),
            Some(OwnershipState::Lost(e)) => (Health::Failed, e.to_string()),
        };
        Subsystem {
            name: "node".into(),
            state,
            message,
        }
    }

    fn ipam(&self, facts: &Facts) -> Subsystem {
        let (state, message) = match (facts.synced, facts.usable_pools.len()) {
            (false, _) => (Health::Degraded, "waiting for the snapshot".to_owned()),
            (true, 0) => (
                Health::Degraded,
                "no IPPool for workloads: apply one, see `routerctl validate`".to_owned(),
            ),
            (true, 1) => (Health::Ok, "1 pool".to_owned()),
            (true, n) => (Health::Ok, format!("{n} pools")),
        };
        Subsystem {
            name: "ipam".into(),
            state,
            message,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::gone::Watched;

    /// The sending ends of [`Views`].
    pub(crate) struct Actors {
        identity: watch::Sender<Identity>,
        sync: watch::Sender<SyncState>,
        facts: watch::Sender<Facts>,
        desired: watch::Sender<Arc<NodeState>>,
        pub(crate) reconcile: watch::Sender<reconcile::Status>,
        publish: watch::Sender<Option<String>>,
        exchange: watch::Sender<Option<Subsystem>>,
        bgp: watch::Sender<Option<Subsystem>>,
        policy: watch::Sender<Option<policy::View>>,
    }

    impl Actors {
        pub(crate) fn new() -> Actors {
            Actors {
                identity: watch::Sender::new(None),
                sync: watch::Sender::default(),
                facts: watch::Sender::default(),
                desired: watch::Sender::default(),
                reconcile: watch::Sender::default(),
                publish: watch::Sender::default(),
                exchange: watch::Sender::default(),
                bgp: watch::Sender::default(),
                policy: watch::Sender::default(),
            }
        }

        pub(crate) fn views(&self) -> Views {
            Views {
                node: "n1".into(),
                identity: self.identity.subscribe(),
                sync: self.sync.subscribe(),
                accept: Arc::new(|| false),
                facts: self.facts.subscribe(),
                desired: self.desired.subscribe(),
                reconcile: self.reconcile.subscribe(),
                publish: self.publish.subscribe(),
                exchange: self.exchange.subscribe(),
                bgp: self.bgp.subscribe(),
                policy: self.policy.subscribe(),
                policy_fate: Fate::untroubled(),
                flows_fate: Fate::untroubled(),
            }
        }
    }

    #[test]
    fn an_owner_that_ended_by_a_defect_is_in_the_status() {
        let mut views = Actors::new().views();
        let named = |views: &Views, name: &str| {
            let all = views.status().subsystems.into_iter();
            let of: Vec<Subsystem> = all.filter(|s| s.name == name).collect();
            of
        };
        assert_eq!(
            (named(&views, "policy").len(), named(&views, "flows").len()),
            (0, 0)
        );
        for name in ["policy", "flows"] {
            let (watched, fate) = Watched::new(name, "all is well otherwise");
            match name {
                "policy" => views.policy_fate = fate,
                _ => views.flows_fate = fate,
            }
            watched.run(|| panic!("a test of defects"));
            let [only] = &named(&views, name)[..] else {
                panic!("{:?}", views.status());
            };
            assert_eq!(only.state, Health::Failed);
            assert!(only.message.contains("a test of defects"), "{only:?}");
        }
    }

    #[test]
    fn without_the_tunnel_that_is_required_nothing_can_be_served() {
        let actors = Actors::new();
        let views = actors.views();
        actors.identity.send_replace(Some(OwnershipState::Held));
        actors.facts.send_modify(|f| {
            (f.synced, f.published, f.complete_from) = (true, true, Some(1));
        });
        let tunnels = |state| Subsystem {
            name: "tunnels".into(),
            state,
            message: String::new(),
        };
        for (encryption, state, ready) in [
            (Encryption::Required, Health::Failed, false),
            (Encryption::Required, Health::Degraded, true),
            (Encryption::Preferred, Health::Failed, true),
        ] {
            actors.desired.send_replace(Arc::new(NodeState {
                encryption,
                ..NodeState::default()
            }));
            actors.reconcile.send_modify(|r| {
                (r.in_sync, r.generation) = (true, 1);
                r.subsystems = vec![tunnels(state)];
            });
            assert_eq!(views.is_ready(), ready, "{encryption:?} {state:?}");
        }
    }

    #[test]
    fn in_sync_is_a_state_that_lacked_nothing() {
        let actors = Actors::new();
        let views = actors.views();
        actors.identity.send_replace(Some(OwnershipState::Held));
        actors.facts.send_modify(|f| {
            f.synced = true;
            f.published = true;
        });
        // The kernel has what was wanted before this node had an address for its tunnel.
        actors.reconcile.send_modify(|r| {
            r.in_sync = true;
            r.generation = 1;
        });
        assert!(!views.is_ready() && !views.status().in_sync);
        actors.facts.send_modify(|f| f.complete_from = Some(2));
        assert!(!views.is_ready() && !views.status().in_sync);
        actors.reconcile.send_modify(|r| r.generation = 2);
        assert!(views.is_ready() && views.status().in_sync);
        // What cannot be had is reported, and keeps the node from nothing else.
        actors.facts.send_modify(|f| f.complete_from = None);
        assert!(!views.is_ready());
        let error = "no address for the IPv4 tunnel".to_owned();
        actors.publish.send_replace(Some(error));
        assert!(views.is_ready() && views.status().in_sync);
    }
}
