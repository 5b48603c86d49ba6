//! What was learnt goes to the kernel: batches to a thread of its own, a few at a time.
//!
//! While those are being written, further changes stay a set in the RIB: a prefix that changes twice meanwhile is
//! written once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use model::Cidr;
use tracing::warn;

/// Changes in one batch.
pub(super) const BATCH: usize = 512;
/// Until what failed is tried again, doubled up to sixteen times this.
const AGAIN: Duration = Duration::from_millis(500);

/// One way to a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Via {
    /// The next hop.
    pub gateway: IpAddr,
    /// The interface, where the gateway is link-local or the peer is bound to it.
    pub interface: Option<String>,
}

/// What the kernel should have for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// The prefix.
    pub prefix: Cidr,
    /// Equal ways, the best first; none when the route has to go.
    pub via: Vec<Via>,
}

/// A change that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFailure {
    /// Its prefix.
    pub prefix: Cidr,
    /// Why.
    pub error: String,
}

/// Writes routes: the kernel, or what stands for it in a test.
pub trait RouteSink: Send {
    /// Adds, replaces and deletes. A change may say what is so already. What failed is given again later, unless
    /// a newer change of its prefix came.
    fn apply(&mut self, batch: &[RouteChange]) -> Vec<RouteFailure>;

    /// After the start, everything that peers had to say was given: a route of ours from before that was in no batch
    /// may go.
    fn settled(&mut self) {}
}

/// To the thread.
#[derive(Debug)]
pub(super) enum Job {
    Apply(Vec<RouteChange>),
    Settled,
}

/// What failed, by prefix.
#[derive(Default)]
struct Retry {
    waiting: BTreeMap<Cidr, RouteChange>,
    doublings: u32,
}

impl Retry {
    fn apply(&mut self, sink: &mut dyn RouteSink, batch: Vec<RouteChange>) {
        if !self.waiting.is_empty() {
            for change in &batch {
                self.waiting.remove(&change.prefix);
            }
        }
        let failures = sink.apply(&batch);
        let Some(first) = failures.first() else {
            return;
        };
        warn!(
            "{} of {} routes could not be written, {} first: {}",
            failures.len(),
            batch.len(),
            first.prefix,
            first.error
        );
        let failed: BTreeSet<Cidr> = failures.iter().map(|f| f.prefix).collect();
        let failed = batch.into_iter().filter(|c| failed.contains(&c.prefix));
        self.waiting.extend(failed.map(|c| (c.prefix, c)));
    }

    fn again(&mut self, sink: &mut dyn RouteSink) {
        let batch: Vec<_> = self.waiting.values().take(BATCH).cloned().collect();
        let before = self.waiting.len();
        self.apply(sink, batch);
        let better = self.waiting.len() < before;
        self.doublings = if better {
            0
        } else {
            (self.doublings + 1).min(4)
        };
    }
}

/// Starts the thread; `done` is called after each batch.
pub(super) fn start(
    mut sink: Box<dyn RouteSink>,
    done: impl Fn() + Send + 'static,
) -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel();
    thread::Builder::new()
        .name("bgp-routes".to_owned())
        .spawn(move || {
            let mut retry = Retry::default();
            loop {
                let job = if retry.waiting.is_empty() {
                    jobs.recv()
                        .map_err(|_| mpsc::RecvTimeoutError::Disconnected)
                } else {
                    jobs.recv_timeout(AGAIN * 2_u32.pow(retry.doublings))
                };
                match job {
                    Ok(Job::Apply(batch)) => {
                        retry.apply(&mut *sink, batch);
                        done();
                    }
                    Ok(Job::Settled) => sink.settled(),
                    Err(mpsc::RecvTimeoutError::Timeout) => retry.again(&mut *sink),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses what is in `bad`.
    struct Picky {
        bad: Vec<Cidr>,
        got: BTreeMap<Cidr, usize>,
    }

    impl RouteSink for Picky {
        fn apply(&mut self, batch: &[RouteChange]) -> Vec<RouteFailure> {
            let mut failures = Vec::new();
            for change in batch {
                if self.bad.contains(&change.prefix) {
                    failures.push(RouteFailure {
                        prefix: change.prefix,
                        error: "no".to_owned(),
                    });
                } else {
                    self.got.insert(change.prefix, change.via.len());
                }
            }
            failures
        }
    }

    #[test]
    fn what_failed_comes_again_unless_something_newer_came() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let change = |text: &str, ways: usize| RouteChange {
            prefix: cidr(text),
            via: vec![
                Via {
                    gateway: IpAddr::from([10, 0, 0, 1]),
                    interface: None
                };
                ways
            ],
        };
        let mut sink = Picky {
            bad: vec![cidr("10.1.0.0/24"), cidr("10.2.0.0/24")],
            got: BTreeMap::new(),
        };
        let mut retry = Retry::default();
        let batch = vec![
            change("10.1.0.0/24", 2),
            change("10.2.0.0/24", 2),
            change("10.3.0.0/24", 2),
        ];
        retry.apply(&mut sink, batch);
        assert_eq!(retry.waiting.len(), 2);
        sink.bad.clear();
        retry.apply(&mut sink, vec![change("10.2.0.0/24", 1)]);
        retry.again(&mut sink);
        assert!(retry.waiting.is_empty());
        let got: Vec<usize> = sink.got.values().copied().collect();
        assert_eq!(got, [2, 1, 2]);
    }
}
