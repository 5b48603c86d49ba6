//! What a kernel would have of a speaker's routes. The tests against other daemons have it too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bgp::speaker::{RouteChange, RouteFailure, RouteSink, Via};
use model::Cidr;

/// See the module. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) routes: Arc<Mutex<BTreeMap<Cidr, Vec<Via>>>>,
    /// What is from before the start may go.
    pub(crate) settled: Arc<AtomicBool>,
}

impl RouteSink for Table {
    fn apply(&mut self, batch: &[RouteChange]) -> Vec<RouteFailure> {
        let mut routes = self.routes.lock().unwrap();
        for change in batch {
            if change.via.is_empty() {
                routes.remove(&change.prefix);
            } else {
                routes.insert(change.prefix, change.via.clone());
            }
        }
        Vec::new()
    }

    fn settled(&mut self) {
        self.settled.store(true, Ordering::Relaxed);
    }
}
