//! The owner of the learnt routes in the kernel: a thread that outlives the speaker, so that what the kernel drops,
//! as when a link goes down, is put back while nobody says anything new by BGP.
//!
//! ```text
//!  speaker ── batches, one answer each ──► this thread ──► netlink::LearntRoutes ──► kernel
//!  Monitor ── something changed ─────────►     └── check, a fifth of the time at most
//! ```

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bgp::speaker::{RouteChange, RouteFailure, RouteSink};
use model::Cidr;
use netlink::LearntRoutes;
use netlink::learnt::{Checked, Learnt, Way};
use tracing::{info, warn};

/// One change in the kernel is several notifications.
const SETTLE: Duration = Duration::from_millis(100);
/// A look at the kernel is followed by a pause of this many times what it took.
const REST: u32 = 4;
/// What cannot be written is tried again this often though nothing changed.
const AGAIN: Duration = Duration::from_secs(10);

enum Job {
    Apply(Vec<RouteChange>, mpsc::SyncSender<Vec<RouteFailure>>),
    Settled,
    Changed,
    Clear(mpsc::SyncSender<()>),
    Installed(Vec<Cidr>, mpsc::SyncSender<BTreeSet<Cidr>>),
    Count(mpsc::SyncSender<usize>),
    Stop,
}

/// Reaches the thread; clones reach the same one.
#[derive(Clone, Debug)]
pub(super) struct Fib {
    jobs: mpsc::Sender<Job>,
}

impl Fib {
    /// Takes over the routes that an earlier run left, and starts the thread. Also gives how many there were.
    ///
    /// # Errors
    /// When the kernel cannot be read, or there is no thread to be had.
    pub(super) fn start(mut routes: LearntRoutes) -> anyhow::Result<(Fib, usize, JoinHandle<()>)> {
        let kept = routes.adopt()?;
        let (jobs, inbox) = mpsc::channel();
        let owner = Owner {
            routes,
            inbox,
            look_at: None,
            rest_until: Instant::now(),
            failing: None,
        };
        let thread = std::thread::Builder::new().name("bgp-fib".to_owned());
        let thread = thread.spawn(move || owner.run())?;
        Ok((Fib { jobs }, kept, thread))
    }

    /// Somebody changed the kernel.
    pub(super) fn changed(&self) {
        self.send(Job::Changed);
    }

    /// Removes every learnt route; waits for it.
    pub(super) fn clear(&self) {
        self.ask(Job::Clear);
    }

    /// Which of these the kernel has.
    pub(super) fn installed(&self, prefixes: Vec<Cidr>) -> BTreeSet<Cidr> {
        self.ask(|answer| Job::Installed(prefixes, answer))
            .unwrap_or_default()
    }

    /// Number of routes.
    pub(super) fn count(&self) -> usize {
        self.ask(Job::Count).unwrap_or_default()
    }

    /// Ends the thread; the routes stay.
    pub(super) fn stop(&self) {
        self.send(Job::Stop);
    }

    fn send(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    fn ask<T>(&self, job: impl FnOnce(mpsc::SyncSender<T>) -> Job) -> Option<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.send(job(answer));
        answered.recv().ok()
    }
}

impl RouteSink for Fib {
    fn apply(&mut self, batch: &[RouteChange]) -> Vec<RouteFailure> {
        let batch = batch.to_vec();
        // The thread ends after the speaker.
        self.ask(|answer| Job::Apply(batch, answer))
            .unwrap_or_default()
    }

    fn settled(&mut self) {
        self.send(Job::Settled);
    }
}

struct Owner {
    routes: LearntRoutes,
    inbox: mpsc::Receiver<Job>,
    /// When to look at the kernel.
    look_at: Option<Instant>,
    /// And not before.
    rest_until: Instant,
    /// What was said last about what cannot be written.
    failing: Option<String>,
}

impl Owner {
    fn run(mut self) {
        loop {
            let job = match self.look_at {
                None => (self.inbox.recv()).map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => {
                    let wait = at.saturating_duration_since(Instant::now());
                    self.inbox.recv_timeout(wait)
                }
            };
            match job {
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => self.look(),
            }
        }
    }

    /// Answers that nobody waits for any more are nothing to act on.
    fn work(&mut self, job: Job) {
        match job {
            Job::Apply(batch, answer) => {
                let _ = answer.send(self.apply(&batch));
            }
            Job::Settled => match self.routes.sweep() {
                Ok(0) => {}
                Ok(routes) => info!(
                    routes,
                    "routes of before the restart that nobody announces are gone"
                ),
                Err(e) => warn!(error = %e, "cannot remove stale BGP routes"),
            },
            Job::Changed => {
                self.routes.forget_next_hops();
                if !self.routes.is_empty() {
                    let soon = (Instant::now() + SETTLE).max(self.rest_until);
                    self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
                }
            }
            Job::Clear(answer) => {
                match self.routes.clear() {
                    Ok(0) => {}
                    Ok(routes) => info!(routes, "learnt routes removed"),
                    Err(e) => warn!(error = %e, "cannot remove learnt routes"),
                }
                let _ = answer.send(());
            }
            Job::Installed(mut prefixes, answer) => {
                prefixes.retain(|p| self.routes.is_installed(p));
                let _ = answer.send(prefixes.into_iter().collect());
            }
            Job::Count(answer) => {
                let _ = answer.send(self.routes.len());
            }
            Job::Stop => {}
        }
    }

    fn apply(&mut self, batch: &[RouteChange]) -> Vec<RouteFailure> {
        let changes: Vec<Learnt> = batch.iter().map(learnt).collect();
        let results = self.routes.apply(&changes);
        let failed = batch.iter().zip(results).filter_map(|(change, result)| {
            let error = result.err()?.to_string();
            Some(RouteFailure {
                prefix: change.prefix,
                error,
            })
        });
        failed.collect()
    }

    fn look(&mut self) {
        self.look_at = None;
        let start = Instant::now();
        let checked = self.routes.check();
        let now = Instant::now();
        self.rest_until = now + (now - start) * REST;
        let failing = match checked {
            Ok(Checked {
                repaired,
                removed,
                failed,
            }) => {
                if repaired + removed > 0 {
                    info!(repaired, removed, "learnt routes changed by others");
                }
                failed.map(|(count, first)| format!("{count} cannot be written, first {first}"))
            }
            Err(e) => Some(e.to_string()),
        };
        if let Some(words) = &failing {
            self.look_at = Some(now + AGAIN);
            if self.failing.as_ref() != Some(words) {
                warn!("learnt routes: {words}");
            }
        }
        self.failing = failing;
    }
}

fn learnt(change: &RouteChange) -> Learnt {
    let ways = change.via.iter().map(|via| Way {
        gateway: via.gateway,
        interface: via.interface.as_ref().and_then(|name| name.parse().ok()),
    });
    Learnt {
        prefix: change.prefix,
        ways: ways.collect(),
    }
}
