//! What a resource must be, beyond having the right fields.
//!
//! [`validate`] looks at one object. What must hold between objects is in pure functions that the
//! writer calls: [`pool_conflict`] and [`pool_change_allowed`] inside its transaction, [`peer_conflict`]
//! ahead of it.

mod bgp;
mod error;
pub(crate) mod names;
mod policy;
mod pool;
mod refers;
mod specs;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

pub use error::ValidationError;
pub(crate) use error::nearest;
pub use names::is_name;
pub use policy::tier_missing;
pub use pool::{pool_change_allowed, pool_conflict};
pub use refers::peer_conflict;

use crate::object::{Object, ObjectId};
use crate::{Kind, manifest};

/// Largest stored object, bytes: etcd's default limit for a request is 1.5 MiB, and a write is more
/// than its value.
pub const MAX_STORED_BYTES: usize = 1 << 20;

/// Checks every value of an object.
///
/// # Errors
/// Every fault, in the order of the fields.
pub fn validate(object: &Object) -> Result<(), Vec<ValidationError>> {
    let mut check = check_values(object);
    check.size(object);
    check.done()
}

/// As [`validate`] for what is stored already, whose size the store has accepted.
pub(crate) fn validate_stored(object: &Object) -> Result<(), Vec<ValidationError>> {
    check_values(object).done()
}

fn check_values(object: &Object) -> Check {
    let mut check = Check::of(object.id());
    names::metadata(&mut check, object);
    match object {
        Object::Node(r) => specs::node(&mut check, &r.spec),
        Object::IPPool(r) => pool::spec(&mut check, &r.spec),
        Object::IPReservation(r) => specs::reservation(&mut check, &r.spec),
        Object::IPAMConfiguration(r) => specs::ipam(&mut check, &r.spec),
        Object::MeshConfiguration(r) => specs::mesh(&mut check, &r.spec),
        Object::WorkloadEndpoint(r) => specs::endpoint(&mut check, &r.spec),
        Object::BGPConfiguration(r) => bgp::configuration(&mut check, &r.spec),
        Object::BGPPeer(r) => bgp::peer(&mut check, &r.spec),
        Object::BGPFilter(r) => bgp::filter(&mut check, &r.spec),
        Object::Secret(r) => bgp::secret(&mut check, &r.spec),
        Object::Tier(r) => policy::tier(&mut check, &r.spec),
        Object::GlobalNetworkPolicy(r)
        | Object::NetworkPolicy(r)
        | Object::StagedGlobalNetworkPolicy(r)
        | Object::StagedNetworkPolicy(r) => policy::policy(&mut check, &r.spec),
        // Prefixes may stand twice or cover each other: together they are one set.
        Object::GlobalNetworkSet(_) | Object::NetworkSet(_) => {}
        Object::HostEndpoint(r) => policy::host_endpoint(&mut check, &r.spec),
        Object::Namespace(r) => {
            check.unique("spec.finalizers", &r.spec.finalizers);
        }
    }
    check
}

/// Gathers the faults of one object.
struct Check {
    object: ObjectId,
    errors: Vec<ValidationError>,
}

impl Check {
    fn of(object: ObjectId) -> Check {
        Check {
            object,
            errors: Vec::new(),
        }
    }

    fn kind(&self) -> Kind {
        self.object.kind
    }

    fn fault(
        &mut self,
        field: impl Into<String>,
        value: impl fmt::Display,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let value = value.to_string();
        self.errors.push(ValidationError::at(
            &self.object,
            field,
            value,
            problem,
            mend,
        ));
    }

    /// A fault unless `good`.
    fn that(
        &mut self,
        good: bool,
        field: impl Into<String>,
        value: impl fmt::Display,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) {
        if !good {
            self.fault(field, value, problem, mend);
        }
    }

    /// No two equal items in a list.
    fn unique<T: Eq + Hash + fmt::Debug>(&mut self, field: &str, items: &[T]) {
        let mut seen = HashSet::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            if !seen.insert(item) {
                let place = format!("{field}[{i}]");
                self.fault(
                    place,
                    format!("{item:?}"),
                    "stands here twice",
                    "remove one",
                );
            }
        }
    }

    /// A name or id that is shown and stored as it is.
    fn text(&mut self, field: &str, value: &str) {
        if value.len() > 253 || value.chars().any(char::is_control) {
            let problem = "is too long or has control characters";
            let mend = "write at most 253 printable bytes";
            self.fault(field, format!("{value:?}"), problem, mend);
        }
    }

    fn size(&mut self, object: &Object) {
        let size = manifest::encode_stored(object).len();
        let problem =
            format!("is {size} bytes long, more than the {MAX_STORED_BYTES} that are stored");
        self.that(
            size <= MAX_STORED_BYTES,
            "",
            "",
            problem,
            "split it or shorten its annotations",
        );
    }

    fn done(self) -> Result<(), Vec<ValidationError>> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(self.errors)
        }
    }
}
