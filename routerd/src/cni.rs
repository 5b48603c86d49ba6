//! The CNI verbs on the daemon's side.
//!
//! ```text
//! ADD ─► claim the link ─► IPAM: address + handle + WorkloadEndpoint in one transaction
//!                      ─► kernel: veth, policy, addresses, routes  ─► echo into the snapshot ─► answer
//! ```
//!
//! An answer means: the address is durable and the kernel objects stand. Work on one attachment is
//! done in the order in which it was asked for; different attachments run side by side.

mod add;
mod attachment;
mod check;
mod del;
mod gc;
mod queue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use datastore::Datastore;
use model::api::cni::{AddResult, Request};
use model::keys;
use tokio::sync::Semaphore;

use crate::control::Control;
use crate::ipam::Ipam;
use crate::metrics::Metrics;
use crate::reconcile;
use crate::views::Views;
use attachment::Target;
pub use attachment::endpoint_of_handle;
use queue::Queue;

/// Attachments that enter the kernel at once: its routing lock admits one, so a few keep it busy.
const KERNEL_WORKERS: usize = 3;

/// Longest that an ADD waits for pools that are on their way.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// Not before something else is mended or has come up.
    #[error("{0}")]
    NotReady(String),
    /// The request names something that is not there or not as it should be.
    #[error("{0}")]
    Refused(String),
    /// CHECK of what was never added, or was deleted since.
    #[error("{0}: not in the store: delete the workload and start it again")]
    Unknown(String),
    /// No address.
    #[error(transparent)]
    Ipam(#[from] crate::ipam::IpamError),
    /// The kernel refused.
    #[error("{container}: {source}")]
    Kernel {
        /// Container and interface.
        container: String,
        /// What it said.
        source: netlink::Error,
    },
    /// The policies of the workload are not in force.
    #[error("{container}: {why}")]
    Unprotected {
        /// Container and interface.
        container: String,
        /// Why not.
        why: String,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] datastore::Error),
    /// CHECK found differences.
    #[error("{container}: {}", differences.join("; "))]
    Differs {
        /// Container and interface.
        container: String,
        /// Each difference.
        differences: Vec<String>,
    },
    /// The daemon is stopping.
    #[error("routerd is stopping: try again when it runs")]
    Stopping,
}

impl CniError {
    /// Whether the runtime may try the same again.
    pub fn is_retryable(&self) -> bool {
        match self {
            CniError::NotReady(_) | CniError::Stopping | CniError::Unprotected { .. } => true,
            CniError::Refused(_) | CniError::Unknown(_) | CniError::Differs { .. } => false,
            CniError::Ipam(e) => e.is_retryable(),
            // The network namespace is gone: it does not come back under its path.
            CniError::Kernel { source, .. } if source.errno() == Some(libc::ENOENT) => false,
            CniError::Kernel { source, .. } => source.is_retryable(),
            CniError::Store(e) => e.is_retryable(),
        }
    }
}

/// What the verbs work with.
pub(crate) struct Context {
    pub(crate) node: String,
    pub(crate) store: Arc<dyn Datastore>,
    pub(crate) ipam: Ipam,
    pub(crate) control: Control,
    pub(crate) reconcile: reconcile::Handle,
    pub(crate) policy: crate::policy::Handle,
    pub(crate) views: Views,
    pub(crate) kernel: Semaphore,
}

/// The verbs.
#[derive(Clone)]
pub struct Cni {
    context: Arc<Context>,
    queue: Queue,
    metrics: Metrics,
}

impl Cni {
    /// Starts the queue of attachments.
    pub fn start(
        node: String,
        store: Arc<dyn Datastore>,
        ipam: Ipam,
        control: Control,
        (reconcile, policy): (reconcile::Handle, crate::policy::Handle),
        views: Views,
        metrics: Metrics,
    ) -> Cni {
        let kernel = Semaphore::new(KERNEL_WORKERS);
        let context = Context {
            node,
            store,
            ipam,
            control,
            reconcile,
            policy,
            views,
            kernel,
        };
        Cni {
            context: Arc::new(context),
            queue: Queue::start(),
            metrics,
        }
    }

    /// Attaches a workload.
    pub async fn add(&self, request: Request) -> Result<AddResult, CniError> {
        self.run("add", request, |c, r, t| async move {
            add::add(&c, &r, &t).await
        })
        .await
    }

    /// Detaches a workload; done again it does nothing.
    pub async fn del(&self, request: Request) -> Result<(), CniError> {
        self.run(
            "del",
            request,
            |c, _, t| async move { del::del(&c, &t).await },
        )
        .await
    }

    /// Compares a standing attachment with the store and the kernel.
    pub async fn check(&self, request: Request) -> Result<(), CniError> {
        self.run("check", request, |c, r, t| async move {
            check::check(&c, &r, &t).await
        })
        .await
    }

    async fn run<T, F>(
        &self,
        verb: &'static str,
        request: Request,
        work: impl FnOnce(Arc<Context>, Request, Target) -> F,
    ) -> Result<T, CniError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CniError>> + Send + 'static,
    {
        let started = Instant::now();
        let target = Target::of(&self.context.node, &request)?;
        let context = Arc::clone(&self.context);
        let key = target.key.clone();
        let result = self.queue.run(key, work(context, request, target)).await;
        self.metrics.cni(verb, result.is_ok(), started.elapsed());
        result
    }

    /// Whether ADD would be served.
    pub async fn status(&self, _request: Request) -> Result<(), CniError> {
        self.context.ready()?;
        match self.context.views.facts.borrow().usable_pools.is_empty() {
            true => Err(CniError::NotReady(
                "no IPPool for workloads: apply one".to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// Frees what the runtime no longer lists.
    pub async fn gc(&self, request: Request) -> Result<(), CniError> {
        gc::gc(self, &request).await
    }
}

impl Context {
    /// Runs a blocking kernel call on a thread for such.
    async fn in_kernel<T: Send + 'static>(
        &self,
        target: &Target,
        call: impl FnOnce() -> Result<T, netlink::Error> + Send + 'static,
    ) -> Result<T, CniError> {
        let _permit = self
            .kernel
            .acquire()
            .await
            .map_err(|_| CniError::Stopping)?;
        tokio::task::spawn_blocking(call)
            .await
            .map_err(|_| CniError::Stopping)?
            .map_err(|source| CniError::Kernel {
                container: target.label(),
                source,
            })
    }

    /// Waits for the pools that the store has now; whether they are newer than those known before.
    async fn catch_up(&self) -> Result<bool, CniError> {
        let mut facts = self.views.facts.clone();
        let known = facts.borrow_and_update().pools_guard;
        let guard = self
            .store
            .get(keys::POOLS_GUARD)
            .await?
            .map(|kv| kv.mod_revision);
        if guard <= known {
            return Ok(false);
        }
        let caught_up = facts.wait_for(|facts| facts.pools_guard >= guard);
        Ok(tokio::time::timeout(CATCH_UP, caught_up).await.is_ok())
    }

    /// Waits until nothing of the pools known now can leave in clear where all has to be encrypted: a
    /// workload sends as soon as it can.
    async fn guarded(&self) -> Result<(), CniError> {
        let from = self.views.desired.borrow().guarded_from;
        let mut kernel = self.views.reconcile.clone();
        let guarded = kernel.wait_for(|status| status.guarded >= from);
        match tokio::time::timeout(CATCH_UP, guarded).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(CniError::Stopping),
            Err(_) => Err(CniError::NotReady(format!(
                "node {}: a new pool could leave in clear, as the kernel does not drop that yet: see `routerctl status`",
                self.node
            ))),
        }
    }

    /// ADD needs a complete snapshot that the kernel was reconciled with.
    fn ready(&self) -> Result<(), CniError> {
        if self.views.is_ready() {
            return Ok(());
        }
        let status = self.views.status();
        let waiting = status
            .subsystems
            .iter()
            .filter(|s| s.state != model::api::Health::Ok)
            .map(|s| format!("{}: {}", s.name, s.message))
            .collect::<Vec<_>>()
            .join("; ");
        Err(CniError::NotReady(format!(
            "node {} is not ready ({waiting})",
            self.node
        )))
    }
}
