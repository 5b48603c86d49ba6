//! Address pools: by themselves, against each other, and across a change.

use std::sync::LazyLock;

use super::{Check, ValidationError};
use crate::object::{ObjectId, Resource};
use crate::resources::IpPoolSpec;
use crate::selector::Selector;
use crate::{Cidr, Family, Kind};

/// Shortest block prefix: a node would take up to 4,096 addresses at once.
const fn shortest_block(family: Family) -> u8 {
    match family {
        Family::V4 => 20,
        Family::V6 => 116,
    }
}

/// Ranges that no workload can have an address from.
static UNUSABLE: LazyLock<Vec<(Cidr, &str)>> = LazyLock::new(|| {
    let ranges = [
        ("0.0.0.0/8", "\"this network\""),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    ];
    let read = ranges
        .into_iter()
        .filter_map(|(range, what)| Some((range.parse().ok()?, what)));
    read.collect()
});

/// What an unusable range that shares an address with `cidr` is for.
pub(super) fn unusable(cidr: &Cidr) -> Option<(Cidr, &'static str)> {
    UNUSABLE
        .iter()
        .find(|(range, _)| range.overlaps(cidr))
        .copied()
}

pub(super) fn spec(check: &mut Check, spec: &IpPoolSpec) {
    let family = spec.cidr.family();
    if let Some((range, what)) = unusable(&spec.cidr) {
        let problem = format!("shares addresses with {range}, which is {what}");
        check.fault(
            "spec.cidr",
            spec.cidr,
            problem,
            "write a unicast prefix, such as 10.0.0.0/16",
        );
    }
    let (shortest, longest, len) = (shortest_block(family), family.bits(), spec.block_len());
    if !(shortest..=longest).contains(&len) {
        let problem = format!("is no block size of {family}");
        check.fault(
            "spec.blockSize",
            len,
            problem,
            format!("write {shortest} to {longest}"),
        );
    } else if len < spec.cidr.prefix_len() {
        let problem = format!("a block of /{len} does not fit into {}", spec.cidr);
        let mend = format!("write {} to {longest}", spec.cidr.prefix_len());
        check.fault("spec.blockSize", len, problem, mend);
    }
    selector(check, "spec.nodeSelector", spec.node_selector.as_deref());
    selector(
        check,
        "spec.namespaceSelector",
        spec.namespace_selector.as_deref(),
    );
    let mend = "write Workload, Tunnel or both; disabled: true hands out nothing";
    check.that(
        !spec.allowed_uses.is_empty(),
        "spec.allowedUses",
        "[]",
        "allows no use",
        mend,
    );
    check.unique("spec.allowedUses", &spec.allowed_uses);
}

pub(super) fn selector(check: &mut Check, field: &str, text: Option<&str>) {
    if let Some(Err(e)) = text.map(str::parse::<Selector>) {
        let quoted = format!("{:?}", text.unwrap_or_default());
        check.fault(field, quoted, format!("is no selector: {e}"), "");
    }
}

/// The first of `existing` that shares addresses with `new`, as an error that names both.
///
/// A pool of the same name is what `new` replaces, so it is no conflict.
pub fn pool_conflict<'a>(
    new: &Resource<IpPoolSpec>,
    existing: impl IntoIterator<Item = &'a Resource<IpPoolSpec>>,
) -> Option<ValidationError> {
    let other = existing
        .into_iter()
        .find(|p| p.name() != new.name() && p.spec.cidr.overlaps(&new.spec.cidr))?;
    let problem = format!("overlaps {} of {}", other.spec.cidr, pool_id(other));
    let mend = "write a prefix of its own, or delete the other pool first";
    Some(at(new, "spec.cidr", new.spec.cidr, problem, mend))
}

/// Whether `old` may become `new` while nodes hold blocks of it (`has_blocks`).
///
/// # Errors
/// The fields that may not change then: a block has its place and size for its life.
pub fn pool_change_allowed(
    old: &Resource<IpPoolSpec>,
    new: &Resource<IpPoolSpec>,
    has_blocks: bool,
) -> Result<(), Vec<ValidationError>> {
    let mut errors = Vec::new();
    let mend = "make a new pool, set disabled: true here, and move the workloads over";
    if has_blocks && old.spec.cidr != new.spec.cidr {
        let problem = format!(
            "cannot change from {} while nodes hold blocks of the pool",
            old.spec.cidr
        );
        errors.push(at(new, "spec.cidr", new.spec.cidr, problem, mend));
    }
    let (was, is) = (old.spec.block_len(), new.spec.block_len());
    if has_blocks && was != is {
        let problem = format!("cannot change from {was} while nodes hold blocks of the pool");
        errors.push(at(new, "spec.blockSize", is, problem, mend));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

fn at(
    pool: &Resource<IpPoolSpec>,
    field: &str,
    value: impl std::fmt::Display,
    problem: String,
    mend: &str,
) -> ValidationError {
    ValidationError::at(pool_id(pool), field, value.to_string(), problem, mend)
}

fn pool_id(pool: &Resource<IpPoolSpec>) -> ObjectId {
    ObjectId {
        kind: Kind::IPPool,
        namespace: None,
        name: pool.name().to_owned(),
    }
}
