//! The daemon's life: who starts whom, and how it ends.
//!
//! Stopping changes nothing in the kernel: routes, interfaces and policy stand until the next start
//! adopts them.

mod store;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use datastore::{ClaimError, Datastore, Owner, Ownership, OwnershipState};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::ipam::IpamInput;
use crate::metrics::Metrics;
use crate::state_dir::StateDir;
use crate::views::Identity;

/// Threads for everything that is not the packet path.
const CONTROL_THREADS: usize = 2;
/// How long the claim on the node's name outlives a daemon that died.
const CLAIM_TTL: Duration = Duration::from_secs(15);
/// Pause before the store is asked again whether this daemon is the node.
const CLAIM_RETRY: Duration = Duration::from_millis(500);
/// Longest that requests under way may take when the daemon stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT, or until another daemon turns out to be this node.
pub fn run(config: Config) -> anyhow::Result<()> {
    crate::log::init(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(serve(config));
    // Kernel calls under way end by themselves; nothing else is worth waiting for.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let state = StateDir::open(&config.state_dir)?;
    let instance = state.instance_id()?;
    let node: Arc<str> = config.node.as_str().into();
    let mut stopped = Box::pin(stop_signal()?);
    let socket = crate::admin::bind(&config.socket())
        .with_context(|| format!("run_dir: binding {}", config.socket().display()))?;
    let listen = config.metrics.listen;
    let metrics_socket = TcpListener::bind(listen)
        .await
        .with_context(|| format!("metrics.listen = {listen}: binding"))?;
    tracing::info!(%node, version = env!("CARGO_PKG_VERSION"), "starting");

    let store = store::open(&config, &state).await?;
    let (identity, identity_view) = watch::channel(Identity::None);
    let metrics = Metrics::default();
    let (services, actors) = wiring::wire(config, &state, store, identity_view, metrics.clone())?;
    let stop = services.stop.clone();
    let admin = tokio::spawn(crate::admin::serve(socket, services.clone(), stop.clone()));
    tokio::spawn(crate::metrics::serve(
        metrics_socket,
        metrics,
        services.clone(),
    ));

    // Neither the store nor the kernel is touched before this daemon is known to be the node.
    let ownership = tokio::select! {
        claimed = claim(&services.store, &node, &instance, &identity) => claimed?,
        () = &mut stopped => return Ok(()),
    };
    let addresses = services.ipam.clone();
    let mut claim = ownership.claim();
    let claimed = claim.borrow_and_update().revision;
    addresses.input(IpamInput::Claimed(claimed)).await;
    tokio::spawn(async move {
        while claim.changed().await.is_ok() {
            let claimed = claim.borrow_and_update().revision;
            addresses.input(IpamInput::Claimed(claimed)).await;
        }
    });
    let running = actors.start()?;
    crate::notify::notify("READY=1");

    let result = tokio::select! {
        () = &mut stopped => Ok(()),
        lost = lost(&ownership, &identity) => Err(lost.into()),
    };
    crate::notify::notify("STOPPING=1");
    tracing::info!("stopping; the kernel stays as it is");
    stop.cancel();
    if tokio::time::timeout(DRAIN, admin).await.is_err() {
        tracing::warn!("requests under way did not end in time");
    }
    running.stop().await;
    // Another daemon may be this node at once.
    if result.is_ok()
        && let Err(e) = ownership.release().await
    {
        tracing::warn!(error = %e, "the claim on the node's name runs out by itself");
    }
    result
}

/// Resolves at the first SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Asks until the store answers; refused when another daemon is this node.
async fn claim(
    store: &Arc<dyn Datastore>,
    node: &str,
    instance: &str,
    identity: &watch::Sender<Identity>,
) -> Result<Ownership, ClaimError> {
    let hostname = nix::unistd::gethostname()
        .ok()
        .and_then(|h| h.into_string().ok());
    let owner = Owner::new(instance, hostname.unwrap_or_default());
    let mut told = false;
    loop {
        match datastore::claim(Arc::clone(store), node, owner.clone(), CLAIM_TTL).await {
            Ok(ownership) => {
                identity.send_replace(Some(OwnershipState::Held));
                return Ok(ownership);
            }
            Err(e) if !e.is_retryable() => return Err(e),
            Err(e) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(error = %e, "waiting for the datastore; the kernel stays as it is");
                }
                tokio::time::sleep(CLAIM_RETRY).await;
            }
        }
    }
}

/// Follows the claim for status; resolves when another daemon is this node.
async fn lost(ownership: &Ownership, identity: &watch::Sender<Identity>) -> ClaimError {
    let mut state = ownership.state();
    loop {
        let now = state.borrow_and_update().clone();
        identity.send_replace(Some(now.clone()));
        if let OwnershipState::Lost(e) = now {
            return e;
        }
        if state.changed().await.is_err() {
            // The task that renews never ends before it has said so.
            std::future::pending::<()>().await;
        }
    }
}
