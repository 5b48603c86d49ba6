//! The thread around the core.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use model::kernel::{ClearText, Observed, Op};
use model::state::NodeState;
use netlink::{Error, FakeKernel, Kernel};

use super::rig::*;
use crate::reconcile::{Handle, Host, Now, Reconciler, Status, Timing};

/// A fake kernel that the test can reach while the thread has it.
#[derive(Clone)]
struct Shared(Arc<Mutex<FakeKernel>>);

impl Kernel for Shared {
    fn observe(&mut self) -> Result<Observed, Error> {
        self.0.lock().unwrap().observe()
    }

    fn clear_text(&mut self) -> Result<Option<ClearText>, Error> {
        self.0.lock().unwrap().clear_text()
    }

    fn apply(&mut self, ops: &[Op]) -> Vec<Result<(), Error>> {
        self.0.lock().unwrap().apply(ops)
    }
}

/// Switches in the order they were kept, with the values found.
type Kept = Arc<Mutex<Vec<(String, Option<String>)>>>;

struct TestHost {
    start: Instant,
    switches: Kept,
}

impl Host for TestHost {
    fn now(&mut self) -> Now {
        Now {
            since_start: self.start.elapsed(),
            wall: SystemTime::UNIX_EPOCH,
        }
    }

    fn keep_switch(&mut self, path: &str, found: Option<&str>) {
        let kept = (path.to_owned(), found.map(str::to_owned));
        self.switches.lock().unwrap().push(kept);
    }
}

fn state(revision: i64, shape: &Shape) -> Arc<NodeState> {
    Arc::new(NodeState {
        generation: revision.unsigned_abs(),
        revision,
        kernel: shape.kernel(),
        ..NodeState::default()
    })
}

async fn until(handle: &Handle, what: impl FnMut(&Status) -> bool) -> Status {
    let mut status = handle.status();
    let found = tokio::time::timeout(Duration::from_secs(30), status.wait_for(what)).await;
    found.unwrap().unwrap().clone()
}

#[tokio::test]
async fn a_state_is_applied_repaired_compared_and_left_standing() {
    let kernel = Shared(Arc::new(Mutex::new(host())));
    kernel.0.lock().unwrap().state.sysctls =
        [("net/ipv4/ip_forward".to_owned(), "0".to_owned())].into();
    let switches = Kept::default();
    let host = TestHost {
        start: Instant::now(),
        switches: Arc::clone(&switches),
    };
    let (reconciler, handle) = Reconciler::new(kernel.clone(), host, Timing::default(), 1);
    let thread = std::thread::spawn(move || reconciler.run());

    let answered = handle.protect(workload(3), None).await;
    assert!(answered.is_ok());
    handle.desired(state(5, &Shape::default()), false);
    handle.desired(state(6, &full()), true);
    let status = until(&handle, |s| s.in_sync).await;
    assert_eq!(status.revision, 6);
    assert!(kernel.0.lock().unwrap().links.contains_key(&workload(3)));
    let kept = switches.lock().unwrap().clone();
    let forwarding = ("net/ipv4/ip_forward".to_owned(), Some("0".to_owned()));
    assert!(kept.contains(&forwarding), "{kept:?}");

    kernel.0.lock().unwrap().state.nat = None;
    let diff = handle.diff().await.unwrap().unwrap();
    // Another run may have repaired it in between: the echo of the first one.
    assert!(diff.ops.len() <= 1);
    handle.changed();
    until(&handle, |s| !s.drift.is_empty()).await;
    assert!(kernel.0.lock().unwrap().state.nat.is_some());

    assert!(handle.forget(workload(3)).await.is_ok());
    handle.stop();
    thread.join().unwrap();
    assert!(
        kernel.0.lock().unwrap().state.nat.is_some(),
        "stopping changes nothing"
    );
    // Nobody answers any more; nobody hangs either.
    assert!(handle.protect(workload(0), None).await.is_err());
    handle.desired(state(7, &full()), true);
}

#[test]
fn the_thread_ends_with_its_last_handle() {
    let switches = Kept::default();
    let start = Instant::now();
    let host_ = TestHost { start, switches };
    let (reconciler, handle) = Reconciler::new(host(), host_, Timing::default(), 1);
    let thread = std::thread::spawn(move || reconciler.run());
    drop(handle);
    thread.join().unwrap();
}
