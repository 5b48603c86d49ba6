//! Makes the actors and the channels between them; nothing runs before [`Actors::start`].

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use datastore::{Datastore, SyncConfig, SyncHandle, SyncState};
use model::keys;
use netlink::Netlink;
use netlink::monitor::{Event, Monitor};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bgp;
use crate::cni::Cni;
use crate::config::{Config, LogFormat};
use crate::control::{self, Control, Loop, Outputs};
use crate::flows;
use crate::host::{ReconcileHost, switches_set};
use crate::ipam::{self, Ipam};
use crate::metrics::Metrics;
use crate::policy;
use crate::publish::Publisher;
use crate::reconcile::{Handle, Reconciler, Timing};
use crate::services::Services;
use crate::state_dir::StateDir;
use crate::tunnel::exchange::Exchanger;
use crate::tunnel::rotation::{Rotation, Rotator};
use crate::tunnel::{self, PublicKeys, Tunnels};
use crate::views::{Facts, Identity, Views};

/// Everything that waits for the node to be claimed.
pub(super) struct Actors {
    services: Services,
    control: (Loop, control::Inbox),
    ipam: ipam::Inbox,
    publisher: Publisher,
    rotator: Rotator,
    exchanger: Exchanger,
    reconciler: Reconciler<Netlink, ReconcileHost>,
    /// Netlink ports whose changes are our own.
    ports: Vec<u32>,
    sync: watch::Sender<SyncState>,
    syncer: Arc<OnceLock<SyncHandle>>,
    guarded: crate::state_dir::Guarded,
    bgp: bgp::Owner,
    policy: policy::Owner,
    flows: flows::Inbox,
}

/// The actors at work; dropping it stops listening to the store and to the kernel.
pub(super) struct Running {
    reconcile: Handle,
    reconciler: std::thread::JoinHandle<()>,
    bgp: bgp::Handle,
    bgp_thread: std::thread::JoinHandle<()>,
    policy: policy::Handle,
    policy_thread: std::thread::JoinHandle<()>,
    flows: flows::Handle,
    flows_thread: std::thread::JoinHandle<()>,
    _monitor: Monitor,
}

/// Makes everything that requests are served with, and what waits to be started.
pub(super) fn wire(
    config: Config,
    state: &StateDir,
    store: Arc<dyn Datastore>,
    identity: watch::Receiver<Identity>,
    metrics: Metrics,
) -> anyhow::Result<(Services, Actors)> {
    let node: Arc<str> = config.node.as_str().into();
    // What an earlier run has set is looked at before it is written again.
    let kernel = Netlink::open(switches_set(&state.switches())).context("opening netlink")?;
    let mut ports = kernel.ports();
    let learnt = netlink::LearntRoutes::open().context("opening netlink")?;
    ports.push(learnt.port());
    let (bgp_owner, bgp, bgp_view) =
        bgp::Owner::new(learnt, state.bgp()).context("routes learnt by BGP")?;
    let directory = config.bpf_dir.clone();
    let (flows, flows_inbox) = flows::channel();
    let seen_by = flows.clone();
    // The kernel takes as long to verify the programs as the store to answer. Nothing is attached by it.
    let loading = std::thread::Builder::new()
        .name("policy-load".to_owned())
        .spawn(move || policy::load(&directory, &seen_by))
        .context("starting the thread that loads the programs of policy")?;
    let load = move || {
        let ended = |_| Err("loading the programs ended by a defect: report it".to_owned());
        loading.join().unwrap_or_else(ended)
    };
    let needs = policy::feed::needs(&config.datastore);
    let bar = policy::Nft::open(config.bpf_dir.clone());
    ports.extend(bar.port());
    let (policy_owner, policy, policy_view) = policy::Owner::new(&node, needs, load, bar);
    let policy_owner = policy_owner.with_metrics(metrics.clone());
    let host = ReconcileHost::new(state.switches());
    let seed = u64::from_ne_bytes(crate::random::bytes());
    let (reconciler, reconcile) = Reconciler::new(kernel, host, Timing::default(), seed);
    let rotation = Rotation::load(state.wireguard_keys()).context("WireGuard key")?;
    let (tunnels, has_tunnel) = tunnels(&config, &rotation);
    let public_keys = match has_tunnel {
        true => rotation.public_keys(),
        false => PublicKeys::default(),
    };
    let reconciler = reconciler.with_tunnels(tunnels);

    let (control, control_inbox) = Control::new();
    let (ipam, ipam_inbox) = Ipam::new();
    let (desired, desired_view) = watch::channel(Arc::default());
    let (facts, facts_view) = watch::channel(Facts::default());
    let (wanted, wanted_view) = watch::channel(None);
    let (publish, publish_view) = watch::channel(None);
    let (sync, sync_view) = watch::channel(SyncState::default());
    let syncer = Arc::new(OnceLock::<SyncHandle>::new());

    let accept = {
        let syncer = Arc::clone(&syncer);
        Arc::new(move || syncer.get().is_some_and(SyncHandle::accept))
    };
    let underlay = config.underlay.choice();
    let outputs = Outputs {
        reconcile: reconcile.clone(),
        desired,
        facts,
        wanted,
        ipam: ipam.clone(),
        policy: policy.clone(),
    };
    let (exchanger, exchange, exchange_view) = Exchanger::new(
        Arc::clone(&node),
        rotation.secrets(),
        config.wireguard.preshared_rotate_every.map(|every| every.0),
        desired_view.clone(),
        reconcile.clone(),
    );
    let views = Views {
        node: Arc::clone(&node),
        identity,
        sync: sync_view,
        accept,
        facts: facts_view,
        desired: desired_view,
        reconcile: reconcile.status(),
        publish: publish_view,
        exchange: exchange_view,
        bgp: bgp_view,
        policy: policy_view,
        policy_fate: policy.fate(),
        flows_fate: flows.fate(),
    };
    let control_loop = Loop::new(Arc::clone(&node), underlay, outputs);
    let control_loop = control_loop.with_public_keys(public_keys);
    let (rotator, rotation) = Rotator::new(
        Arc::clone(&node),
        rotation,
        has_tunnel,
        config.wireguard.rotate_every.map(|every| every.0),
        (control.clone(), reconcile.clone(), exchange.clone()),
    );
    let publisher = Publisher {
        node: Arc::clone(&node),
        instance: state.instance_id()?,
        store: Arc::clone(&store),
        ipam: ipam.clone(),
        wanted: wanted_view,
        health: publish,
    };
    let cni = Cni::start(
        node.to_string(),
        Arc::clone(&store),
        ipam.clone(),
        control.clone(),
        (reconcile.clone(), policy.clone()),
        views.clone(),
        metrics,
    );
    let config = Arc::new(config);
    let services = Services {
        config,
        store,
        views,
        control,
        ipam,
        reconcile,
        rotation,
        exchange,
        bgp,
        policy,
        flows,
        cni,
        stop: CancellationToken::new(),
    };
    let actors = Actors {
        services: services.clone(),
        control: (control_loop, control_inbox),
        ipam: ipam_inbox,
        publisher,
        rotator,
        exchanger,
        reconciler,
        ports,
        sync,
        syncer,
        guarded: state.guarded(),
        bgp: bgp_owner,
        policy: policy_owner,
        flows: flows_inbox,
    };
    Ok((services, actors))
}

/// The tunnel's device, and whether there is something to implement it: only then is the key published.
fn tunnels(config: &Config, rotation: &Rotation) -> (Tunnels, bool) {
    // Who cannot ask the kernel, as without privileges, finds out when it is told to.
    let json = config.log.format == LogFormat::Json;
    let backend = tunnel::backend::choose(config.wireguard.backend, json).unwrap_or_else(|e| {
        tracing::warn!(error = %e, "no encryption between nodes");
        None
    });
    let has_tunnel = backend.is_some();
    let keepalive = config.wireguard.persistent_keepalive;
    let tunnels = Tunnels::new(backend, rotation.keys()).with_keepalive(keepalive);
    (tunnels, has_tunnel)
}

impl Actors {
    /// Sets everything to work.
    pub(super) fn start(self) -> anyhow::Result<Running> {
        let Services {
            store,
            control,
            ipam: _,
            reconcile,
            views,
            bgp,
            policy,
            flows,
            ..
        } = self.services;
        let node = views.node.to_string();
        let (control_loop, control_inbox) = self.control;
        tokio::spawn(control_loop.run(control_inbox));
        {
            let (store, inbox) = (Arc::clone(&store), self.ipam);
            tokio::spawn(async move { ipam::run(&node, store, inbox).await });
        }
        tokio::spawn(self.publisher.run());
        tokio::spawn(self.rotator.run());
        tokio::spawn(self.exchanger.run());
        let reconciler = std::thread::Builder::new()
            .name("reconcile".to_owned())
            .spawn(|| self.reconciler.run())
            .context("starting the thread that changes the kernel")?;
        let follow_plan = bgp
            .clone()
            .follow(views.desired.clone(), views.reconcile.clone());
        tokio::spawn(follow_plan);
        let bgp_owner = self.bgp;
        let bgp_thread = std::thread::Builder::new()
            .name("bgp-owner".to_owned())
            .spawn(|| bgp_owner.run())
            .context("starting the thread of BGP")?;
        let policy_owner = self.policy;
        let policy_thread = std::thread::Builder::new()
            .name("policy".to_owned())
            .spawn(|| policy_owner.run())
            .context("starting the thread of policy")?;
        let runtime = tokio::runtime::Handle::current();
        let flows_owner = flows::Owner::new(self.flows, control.clone(), policy.clone(), runtime);
        let flows_thread = std::thread::Builder::new()
            .name("flows".to_owned())
            .spawn(|| flows_owner.run())
            .context("starting the thread of flows")?;
        let told = (reconcile.clone(), bgp.clone(), policy.clone());
        let monitor =
            listen(self.ports, control.clone(), told).context("listening to the kernel")?;
        follow(store, control, self.sync, &self.syncer, self.guarded);
        Ok(Running {
            reconcile,
            reconciler,
            bgp,
            bgp_thread,
            policy,
            policy_thread,
            flows,
            flows_thread,
            _monitor: monitor,
        })
    }
}

impl Running {
    /// Ends the writes to the kernel after the one under way, and BGP without a word to its peers.
    pub(super) async fn stop(self) {
        self.reconcile.stop();
        self.bgp.stop();
        self.flows.stop();
        self.policy.stop();
        for (thread, name) in [
            (self.reconciler, "the reconciler"),
            (self.bgp_thread, "BGP"),
            (self.flows_thread, "the owner of flows"),
            (self.policy_thread, "the owner of policy"),
        ] {
            let ended = tokio::task::spawn_blocking(|| thread.join().is_ok()).await;
            if !matches!(ended, Ok(true)) {
                tracing::error!("{name} panicked");
            }
        }
    }
}

/// Follows the store into the control loop.
fn follow(
    store: Arc<dyn Datastore>,
    control: Control,
    sync: watch::Sender<SyncState>,
    syncer: &OnceLock<SyncHandle>,
    mut guarded: crate::state_dir::Guarded,
) {
    let config = SyncConfig {
        prefixes: vec![
            keys::BLOCKS.to_owned(),
            keys::POOLS_GUARD.to_owned(),
            keys::RESOURCES.to_owned(),
        ],
        remembered: guarded.read(),
        ..SyncConfig::default()
    };
    let (mut updates, handle) = datastore::syncer::spawn(store, config);
    let mut state = handle.state();
    // Set once: `start` takes the actors.
    let _ = syncer.set(handle);
    tokio::spawn(async move {
        while let Some(update) = updates.recv().await {
            control.store(update).await;
        }
    });
    tokio::spawn(async move {
        while state.changed().await.is_ok() {
            let now = state.borrow_and_update().clone();
            if now.in_sync {
                guarded.write(now.guarded);
            }
            sync.send_replace(now);
        }
    });
}

/// Listens to the kernel: interfaces to the control loop and BGP, everything else to the reconciler.
fn listen(
    ports: Vec<u32>,
    control: Control,
    (reconcile, bgp, policy): (Handle, bgp::Handle, policy::Handle),
) -> Result<Monitor, netlink::Error> {
    let heard = move |event: Event| match event {
        Event::Links(links) => {
            bgp.links(&links);
            policy.links_changed();
            control.blocking_links(links);
            reconcile.changed();
        }
        Event::RoutesChanged => {
            bgp.routes_changed();
            reconcile.changed();
        }
        Event::NeighboursChanged => reconcile.changed(),
        Event::NatChanged => {
            policy.tables_changed();
            reconcile.changed();
        }
        Event::Overrun => {
            bgp.routes_changed();
            policy.tables_changed();
            reconcile.changed();
        }
    };
    Monitor::spawn(ports, heard)
}
