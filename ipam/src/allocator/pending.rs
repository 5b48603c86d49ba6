//! A request while it waits.

use std::collections::BTreeSet;

use crate::request::{Assign, Cleanup, Release, Released, RequestId};
use model::Cidr;
use std::net::IpAddr;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Assign(Assign),
    Release(Release),
    ReleaseAddress(IpAddr),
    ReleaseBlock(Cidr),
    Reclaim(Reclaim),
}

/// A node on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Reclaim {
    pub node: String,
    pub cleanup: Cleanup,
    pub rounds: u32,
    pub released: Released,
}

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A caller, who gets a reply.
    Caller(RequestId),
    /// A reclaim, by its sequence number.
    Reclaim(u64),
    /// Housekeeping.
    Upkeep,
}

#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Order of arrival, kept through retries.
    pub seq: u64,
    pub origin: Origin,
    pub work: Work,
    /// Only while this node does not exist.
    pub only_if_gone: Option<String>,
    pub since: u64,
    pub deadline: u64,
    /// Attempts that met a record changed by others.
    pub attempts: u32,
    /// Goes into a transaction of its own: the store refused one that it was part of.
    pub alone: bool,
    /// Keys read since it came: an answer "no" is given on fresh knowledge only.
    pub read: BTreeSet<String>,
    /// What it waits for, for the error.
    pub waiting_for: &'static str,
}

impl Pending {
    /// The handles it has to do with: requests on one handle are served in order.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &str> {
        let (one, two) = match &self.work {
            Work::Assign(a) => (Some(a.handle.as_str()), a.identity.as_deref()),
            Work::Release(r) => (Some(r.handle.as_str()), None),
            _ => (None, None),
        };
        one.into_iter().chain(two)
    }

    /// How it is called in errors.
    pub(crate) fn subject(&self) -> String {
        match &self.work {
            Work::Assign(a) => a.handle.clone(),
            Work::Release(r) => r.handle.clone(),
            Work::ReleaseAddress(ip) => format!("release of {ip}"),
            Work::ReleaseBlock(cidr) => format!("release of block {cidr}"),
            Work::Reclaim(r) => format!("reclaim of Node/{}", r.node),
        }
    }
}
