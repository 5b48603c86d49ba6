//! Shares equal values: a hundred thousand endpoints have few nodes, namespaces and sets of labels.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use crate::resources::workload_endpoint::EndpointPort;

/// Values that many endpoints share. What nobody shares any more is dropped by and by.
#[derive(Clone, Debug, Default)]
pub(super) struct Interner {
    names: Shared<str>,
    labels: Shared<BTreeMap<String, String>>,
    ports: Shared<[EndpointPort]>,
}

impl Interner {
    /// The shared copy of a name.
    pub(super) fn name(&mut self, name: &str) -> Arc<str> {
        self.names.get(name, || name.into())
    }

    /// The shared copy of a set of labels.
    pub(super) fn labels(
        &mut self,
        labels: BTreeMap<String, String>,
    ) -> Arc<BTreeMap<String, String>> {
        match self.labels.find(&labels) {
            Some(shared) => shared,
            None => self.labels.keep(labels.into()),
        }
    }

    /// The shared copy of a list of named ports.
    pub(super) fn ports(&mut self, ports: &[EndpointPort]) -> Arc<[EndpointPort]> {
        self.ports.get(ports, || ports.into())
    }

    /// Number of values that are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.names.values.len() + self.labels.values.len()
    }
}

#[derive(Debug)]
struct Shared<T: ?Sized + Eq + Hash> {
    values: HashSet<Arc<T>>,
    /// Size at which the unused are dropped next: twice what was in use, so the cost is spread.
    sweep_at: usize,
}

const LEAST_SWEEP: usize = 256;

impl<T: ?Sized + Eq + Hash> Default for Shared<T> {
    fn default() -> Self {
        Shared {
            values: HashSet::new(),
            sweep_at: LEAST_SWEEP,
        }
    }
}

// Derived, it would ask for `T: Clone`.
impl<T: ?Sized + Eq + Hash> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared {
            values: self.values.clone(),
            sweep_at: self.sweep_at,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T>
where
    Arc<T>: Borrow<T>,
{
    fn find(&self, value: &T) -> Option<Arc<T>> {
        self.values.get(value).cloned()
    }

    fn get(&mut self, value: &T, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        match self.find(value) {
            Some(shared) => shared,
            None => self.keep(make()),
        }
    }

    fn keep(&mut self, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.sweep_at {
            self.values.retain(|v| Arc::strong_count(v) > 1);
            self.values.shrink_to_fit();
            self.sweep_at = (2 * self.values.len()).max(LEAST_SWEEP);
        }
        self.values.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one() {
        let mut interner = Interner::default();
        let labels = || BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(Arc::ptr_eq(&interner.name("x"), &interner.name("x")));
        assert!(Arc::ptr_eq(
            &interner.labels(labels()),
            &interner.labels(labels())
        ));
        assert_eq!(interner.len(), 2);
    }

    #[test]
    fn what_is_unused_does_not_pile_up() {
        let mut interner = Interner::default();
        let kept: Vec<_> = (0..300)
            .map(|i| interner.name(&format!("kept-{i}")))
            .collect();
        for i in 0..100_000 {
            interner.name(&format!("gone-{i}"));
            assert!(interner.len() <= 2 * kept.len() + LEAST_SWEEP);
        }
        for (i, name) in kept.iter().enumerate() {
            assert!(Arc::ptr_eq(name, &interner.name(&format!("kept-{i}"))));
        }
    }
}
