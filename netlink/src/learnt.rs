//! The routes that were learnt by BGP: one owner, one protocol number, one metric.
//!
//! ```text
//!  changes ─► LearntRoutes ── next hops resolved ─► batches, one answer each ─► kernel
//!                  │  ▲                                                           │
//!                  │  └── check(): what the kernel dropped or moved is put back ◄─┘
//!                  └── adopt() at the start, sweep() once all was learnt anew
//! ```
//!
//! Invariants:
//! * nothing is added over a route that stands, and nothing deleted that lacks
//!   [`marks::BGP_ROUTE_PROTOCOL`]; the metric is worse than that of any ordinary route;
//! * a next hop is never resolved by a learnt route;
//! * what is not known to be in the kernel is tried again by [`LearntRoutes::check`].

mod resolve;
mod wire;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::Cidr;
use model::kernel::{LinkName, RouteKey, RouteTarget};
use model::marks;

use crate::describe::TABLE_MAIN;
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal, observe};
use resolve::Resolver;

/// Requests sent in one message: the kernel takes no longer a request for more of them.
const BATCH: usize = 512;

/// One way to a prefix, as it was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    /// The next hop; it may be of the other family (RFC 8950), and need not be on a link of ours.
    pub gateway: IpAddr,
    /// The interface that it is behind: with a link-local one.
    pub interface: Option<LinkName>,
}

/// What the kernel should have for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// The prefix.
    pub prefix: Cidr,
    /// Equal ways; none when the route has to go.
    pub ways: Vec<Way>,
}

/// What [`LearntRoutes::check`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Routes that were not there, or led elsewhere, and are right again.
    pub repaired: usize,
    /// Routes of our protocol that nobody wants, and that went.
    pub removed: usize,
    /// Routes that cannot be written, and why the first cannot.
    pub failed: Option<(usize, Error)>,
}

/// What is known of a route.
#[derive(Clone, Debug)]
enum Standing {
    /// From before the start: nobody has said anything about it since.
    Stale,
    /// In the kernel with these ways.
    Written(Arc<[Way]>),
    /// Wanted with these ways; the kernel may have it, or another, or none.
    Unsure(Arc<[Way]>),
}

/// The routes. Use it from a thread in the network namespace that it was opened in.
pub struct LearntRoutes {
    socket: Socket,
    routes: HashMap<Cidr, Standing>,
    /// Most prefixes go the same few ways: each set is kept once.
    ways: HashSet<Arc<[Way]>>,
    resolver: Resolver,
}

/// One request, and what it is for.
struct Sent {
    at: usize,
    prefix: Cidr,
    ways: Option<Arc<[Way]>>,
}

impl LearntRoutes {
    /// Opens the kernel; it is neither read nor changed yet.
    ///
    /// # Errors
    /// When there is no rtnetlink, or not the privilege.
    pub fn open() -> Result<LearntRoutes, Error> {
        let socket = Socket::open(netlink_sys::protocols::NETLINK_ROUTE);
        Ok(LearntRoutes {
            socket: socket.map_err(|e| e.during("open", "rtnetlink"))?,
            routes: HashMap::new(),
            ways: HashSet::new(),
            resolver: Resolver::default(),
        })
    }

    /// The netlink port: see [`Netlink::ports`](crate::Netlink::ports).
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Number of prefixes that are wanted or from before.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Whether the kernel has a prefix as it was learnt.
    pub fn is_installed(&self, prefix: &Cidr) -> bool {
        matches!(self.routes.get(prefix), Some(Standing::Written(_)))
    }

    /// Takes over what an earlier run left; how many routes. Nothing is changed: [`LearntRoutes::sweep`] removes
    /// those that nobody named until then.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn adopt(&mut self) -> Result<usize, Error> {
        for (key, _) in self.dump()? {
            self.routes.entry(key.dst).or_insert(Standing::Stale);
        }
        Ok(self.routes.len())
    }

    /// Adds, replaces and deletes; one result each. A change may say what is so already.
    pub fn apply(&mut self, changes: &[Learnt]) -> Vec<Result<(), Error>> {
        self.resolver.retry();
        let mut results = vec![Ok(()); changes.len()];
        for (start, chunk) in (0..).step_by(BATCH).zip(changes.chunks(BATCH)) {
            let (mut batch, mut sent) = (Batch::default(), Vec::new());
            for (at, change) in (start..).zip(chunk) {
                let ways = self.interned(&change.ways);
                if let Err(e) = self.request(at, change.prefix, ways, &mut batch, &mut sent)
                    && let Some(result) = results.get_mut(at)
                {
                    *result = Err(e);
                }
            }
            self.flush(&mut batch, sent, &mut results);
        }
        results
    }

    /// Removes what is from before the start and was not named since; how many routes.
    ///
    /// # Errors
    /// The first that could not be removed.
    pub fn sweep(&mut self) -> Result<usize, Error> {
        let stale = self.routes.iter();
        let stale = stale.filter(|(_, s)| matches!(s, Standing::Stale));
        self.remove(stale.map(|(prefix, _)| *prefix).collect())
    }

    /// Removes all of them; how many.
    ///
    /// # Errors
    /// The first that could not be removed, or when the kernel cannot be read.
    pub fn clear(&mut self) -> Result<usize, Error> {
        self.adopt()?;
        self.remove(self.routes.keys().copied().collect())
    }

    /// Links or routes of others changed: what is known of next hops may be wrong.
    pub fn forget_next_hops(&mut self) {
        self.resolver.forget();
    }

    /// Looks at the kernel and puts right what others did: links that went down took their routes along, a next hop
    /// is elsewhere now.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn check(&mut self) -> Result<Checked, Error> {
        self.resolver.forget();
        self.ways.retain(|set| Arc::strong_count(set) > 1);
        let mut found: HashMap<Cidr, RouteTarget> = HashMap::new();
        let mut checked = Checked::default();
        let mut unwanted = Vec::new();
        for (key, target) in self.dump()? {
            match self.routes.contains_key(&key.dst) {
                true => {
                    found.insert(key.dst, target);
                }
                false => unwanted.push(key.dst),
            }
        }
        checked.removed = self.remove(unwanted).unwrap_or(0);
        let mut wrong = Vec::new();
        for (prefix, standing) in &self.routes {
            let (Standing::Written(ways) | Standing::Unsure(ways)) = standing else {
                continue;
            };
            let sure = matches!(standing, Standing::Written(_));
            let wanted = self.resolver.resolve(&mut self.socket, ways);
            let as_wanted = wanted.is_ok_and(|hops| match found.get(prefix) {
                Some(target) => resolve::target(&hops) == *target,
                None => false,
            });
            if !as_wanted || !sure {
                wrong.push((*prefix, Arc::clone(ways), found.contains_key(prefix)));
            }
        }
        for (prefix, ways, there) in &wrong {
            // Whether it is added or replaced.
            let standing = match there {
                true => Standing::Written(Arc::clone(ways)),
                false => Standing::Unsure(Arc::clone(ways)),
            };
            self.routes.insert(*prefix, standing);
        }
        let changes: Vec<Learnt> = (wrong.into_iter())
            .map(|(prefix, ways, _)| Learnt {
                prefix,
                ways: ways.to_vec(),
            })
            .collect();
        let results = self.rewrite(&changes);
        checked.repaired = results.iter().filter(|r| r.is_ok()).count();
        let mut failed = results.into_iter().filter_map(Result::err);
        checked.failed = failed.next().map(|first| (failed.count() + 1, first));
        Ok(checked)
    }

    /// Writes also what is known to be written.
    fn rewrite(&mut self, changes: &[Learnt]) -> Vec<Result<(), Error>> {
        for change in changes {
            if let Some(standing @ Standing::Written(_)) = self.routes.get_mut(&change.prefix) {
                // As one from before: it stands, in some form.
                *standing = Standing::Stale;
            }
        }
        self.apply(changes)
    }

    fn remove(&mut self, prefixes: Vec<Cidr>) -> Result<usize, Error> {
        let count = prefixes.len();
        let gone: Vec<Learnt> = (prefixes.into_iter())
            .map(|prefix| Learnt {
                prefix,
                ways: Vec::new(),
            })
            .collect();
        for change in &gone {
            // So that it is asked for.
            self.routes.entry(change.prefix).or_insert(Standing::Stale);
        }
        self.apply(&gone)
            .into_iter()
            .collect::<Result<Vec<()>, _>>()?;
        Ok(count)
    }

    fn interned(&mut self, ways: &[Way]) -> Option<Arc<[Way]>> {
        if ways.is_empty() {
            return None;
        }
        if let Some(set) = self.ways.get(ways) {
            return Some(Arc::clone(set));
        }
        let set: Arc<[Way]> = ways.into();
        self.ways.insert(Arc::clone(&set));
        Some(set)
    }

    /// Adds the request for one change to a batch, unless all is as wanted.
    fn request(
        &mut self,
        at: usize,
        prefix: Cidr,
        ways: Option<Arc<[Way]>>,
        batch: &mut Batch,
        sent: &mut Vec<Sent>,
    ) -> Result<(), Error> {
        let standing = self.routes.get(&prefix);
        match &ways {
            None if standing.is_none() => return Ok(()),
            None => wire::delete(batch, &prefix),
            Some(ways) => {
                if let Some(Standing::Written(stands)) = standing
                    && stands == ways
                {
                    return Ok(());
                }
                let stands = matches!(standing, Some(Standing::Written(_) | Standing::Stale));
                let hops = match self.resolver.resolve(&mut self.socket, ways) {
                    Ok(hops) => hops,
                    Err(refusal) => {
                        // A next hop that is gone leads nowhere: neither may what led there before.
                        if stands {
                            wire::delete(batch, &prefix);
                            let ways = None;
                            sent.push(Sent { at, prefix, ways });
                        }
                        let unsure = Standing::Unsure(Arc::clone(ways));
                        self.routes.insert(prefix, unsure);
                        return Err(failed("write", &prefix, ways, refusal));
                    }
                };
                wire::write(batch, &prefix, &hops, stands);
            }
        }
        sent.push(Sent { at, prefix, ways });
        Ok(())
    }

    fn flush(&mut self, batch: &mut Batch, sent: Vec<Sent>, results: &mut [Result<(), Error>]) {
        let answers = self.socket.send_quietly(batch);
        for (Sent { at, prefix, ways }, answer) in sent.into_iter().zip(answers) {
            let Some(result) = results.get_mut(at) else {
                continue;
            };
            match (ways, answer) {
                (Some(ways), Ok(())) => {
                    self.routes.insert(prefix, Standing::Written(ways));
                }
                (Some(ways), Err(refusal)) => {
                    // What was known of its next hops may be wrong by now.
                    self.resolver.forget();
                    *result = Err(failed("write", &prefix, &ways, refusal));
                    self.routes.insert(prefix, Standing::Unsure(ways));
                }
                // It led to a next hop that is gone; that is the failure to tell.
                (None, _) if result.is_err() => {}
                (None, Ok(())) => {
                    self.routes.remove(&prefix);
                }
                (None, Err(e)) if e.errno == libc::ESRCH => {
                    self.routes.remove(&prefix);
                }
                (None, Err(refusal)) => *result = Err(failed("delete", &prefix, &[], refusal)),
            }
        }
    }

    /// The routes of our protocol in the kernel.
    fn dump(&mut self) -> Result<Vec<(RouteKey, RouteTarget)>, Error> {
        let names = self.resolver.names(&mut self.socket)?;
        let learnt = observe::learnt(&mut self.socket, names)?;
        Ok(learnt
            .into_iter()
            .filter(|(key, _)| key.table == TABLE_MAIN && key.metric == marks::BGP_METRIC)
            .collect())
    }
}

fn failed(operation: &'static str, prefix: &Cidr, ways: &[Way], refusal: Refusal) -> Error {
    let mut object = format!("learnt route {prefix}");
    for way in ways {
        object.push_str(&format!(" via {}", way.gateway));
        if let Some(interface) = way.interface {
            object.push_str(&format!(" dev {interface}"));
        }
    }
    refusal.during(operation, object)
}
