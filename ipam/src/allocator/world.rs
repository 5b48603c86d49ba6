//! What the allocator knows of the store: every block in brief, its own and those it works with in
//! full, who on this node holds what, and the identities it has met. Never trusted for a write: every
//! transaction compares revisions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use model::block::{Block, Identity};
use model::kv::{KeyValue, Revision};
use model::{Cidr, Family, keys};

use crate::blocks::{self, Reserved};

/// A block as last seen.
pub(crate) struct Known {
    pub rev: Revision,
    /// Node it is affine to.
    pub node: Option<Box<str>>,
    /// Addresses that can be had at once.
    pub free: u32,
    /// When the address that rests longest was freed.
    pub oldest: Option<u64>,
    /// When it became empty; `None` while an address is used.
    pub empty_since: Option<u64>,
    /// Nodes that use its addresses, its own apart.
    pub borrowers: Box<[Box<str>]>,
    /// Its content, kept where this node has a part in it or has just read it.
    pub full: Option<Box<Block>>,
    /// Why its stored value cannot be read.
    pub unreadable: Option<Box<str>>,
}

/// Blocks that have an address to give, so that nobody looks through those that have none.
#[derive(Default)]
pub(crate) struct Room {
    /// With an address that can be had at once.
    pub roomy: BTreeSet<Cidr>,
    /// With resting addresses only, by when the first was freed.
    pub resting: BTreeSet<(u64, Cidr)>,
}

/// An identity as last read.
pub(crate) enum IdentityState {
    Absent,
    Is(Identity, Revision),
    Unreadable(String),
}

/// A block as an event or a read shows it.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// It stands.
    Is(&'a Block),
    /// It stands but does not decode; its addresses are nobody's to give.
    Unreadable(&'a str),
    /// It is gone.
    Gone,
}

#[derive(Default)]
pub(crate) struct World {
    pub node: String,
    pub blocks: BTreeMap<Cidr, Known>,
    pub identities: HashMap<String, IdentityState>,
    /// What the handles of this node hold. Complete once the fence is held: none but its holder adds to it.
    held: HashMap<String, Vec<(Cidr, u32)>>,
    /// Blocks of this node.
    pub own: BTreeSet<Cidr>,
    /// Where this node's addresses come from: its own blocks.
    pub mine: Room,
    /// Where it may borrow: others' and ownerless blocks.
    pub lenders: Room,
    /// Ownerless blocks.
    pub orphans: BTreeSet<Cidr>,
    pub reserved: Reserved,
    /// Newest revision of the pools' guard that a transaction showed.
    pub guard: Option<Revision>,
    /// Blocks that a read showed gone, before the watch did.
    gone: BTreeMap<Cidr, Revision>,
    /// How many blocks there are of each width.
    widths: BTreeMap<(Family, u8), usize>,
    /// Counts removals: what was full may have room again.
    pub removals: u64,
}

impl World {
    pub(crate) fn new(node: &str) -> World {
        World {
            node: node.to_owned(),
            ..World::default()
        }
    }

    /// A watched change; changes of one block come in order.
    pub(crate) fn event(&mut self, cidr: Cidr, seen: Seen<'_>, rev: Revision) {
        if matches!(seen, Seen::Gone) {
            self.gone.remove(&cidr);
        }
        if self.learn(cidr, seen, rev) {
            // The content came for free, but thousands of foreign blocks would not stay small.
            let node = self.node.as_str();
            if let Some(known) = self.blocks.get_mut(&cidr) {
                let mine = |b: &Block| {
                    b.node.as_deref() == Some(node)
                        || b.used.values().any(|a| a.node.as_deref() == Some(node))
                };
                known.full = known.full.take().filter(|b| mine(b));
            }
        }
    }

    /// What a block was at a revision; false when something newer is known.
    pub(crate) fn learn(&mut self, cidr: Cidr, seen: Seen<'_>, rev: Revision) -> bool {
        let newest = self.blocks.get(&cidr).map(|k| k.rev);
        if newest.max(self.gone.get(&cidr).copied()) > Some(rev) {
            return false;
        }
        let fault = match seen {
            Seen::Is(block) => blocks::fault(block, &cidr),
            Seen::Unreadable(why) => Some(why.to_owned()),
            Seen::Gone => None,
        };
        let known = match (seen, fault) {
            (Seen::Gone, _) => None,
            (_, Some(why)) => Some(Known {
                rev,
                node: None,
                free: 0,
                oldest: None,
                empty_since: None,
                borrowers: Box::default(),
                full: None,
                unreadable: Some(why.into()),
            }),
            (Seen::Is(block), None) => Some(self.known(block, rev)),
            (Seen::Unreadable(_), None) => return false,
        };
        self.replace(cidr, known, rev);
        true
    }

    fn known(&self, block: &Block, rev: Revision) -> Known {
        let (free, oldest) = blocks::room(block, &self.reserved);
        let users: BTreeSet<&str> = block
            .used
            .values()
            .filter_map(|a| a.node.as_deref())
            .filter(|n| block.node.as_deref() != Some(n))
            .collect();
        Known {
            rev,
            node: block.node.as_deref().map(Box::from),
            free,
            oldest,
            empty_since: (block.used.is_empty()).then(|| block.empty_since.unwrap_or(0)),
            borrowers: users.into_iter().map(Box::from).collect(),
            full: Some(Box::new(block.clone())),
            unreadable: None,
        }
    }

    /// Keeps the indexes true to `blocks`.
    fn replace(&mut self, cidr: Cidr, new: Option<Known>, rev: Revision) {
        let width = (cidr.family(), cidr.prefix_len());
        let old = self.blocks.remove(&cidr);
        let existed = old.is_some();
        let before = old.as_ref().and_then(|k| k.full.as_deref());
        self.hold(&cidr, before, new.as_ref().and_then(|k| k.full.as_deref()));
        if let Some(old) = old {
            self.own.remove(&cidr);
            self.orphans.remove(&cidr);
            for room in [&mut self.mine, &mut self.lenders] {
                room.roomy.remove(&cidr);
                room.resting.remove(&(old.oldest.unwrap_or(0), cidr));
            }
            if let Some(count) = self.widths.get_mut(&width) {
                *count -= 1;
                if *count == 0 {
                    self.widths.remove(&width);
                }
            }
        }
        let Some(new) = new else {
            if existed {
                self.gone.insert(cidr, rev);
                self.removals += 1;
            }
            return;
        };
        self.gone.remove(&cidr);
        *self.widths.entry(width).or_default() += 1;
        if new.unreadable.is_none() {
            let room = if new.node.as_deref() == Some(&self.node) {
                self.own.insert(cidr);
                &mut self.mine
            } else {
                &mut self.lenders
            };
            if new.free > 0 {
                room.roomy.insert(cidr);
            } else if let Some(oldest) = new.oldest {
                room.resting.insert((oldest, cidr));
            }
            if new.node.is_none() {
                self.orphans.insert(cidr);
            }
        }
        self.blocks.insert(cidr, new);
    }

    /// New reservations: what is known in full is counted anew, the rest when next seen.
    pub(crate) fn reserve(&mut self, reserved: Reserved) {
        if reserved == self.reserved {
            return;
        }
        self.reserved = reserved;
        let full: Vec<(Box<Block>, Revision)> = self
            .blocks
            .values()
            .filter_map(|k| Some((k.full.clone()?, k.rev)))
            .collect();
        for (block, rev) in full {
            self.learn(block.cidr, Seen::Is(&block), rev);
        }
    }

    /// What a read of the store at `at` showed of a key.
    pub(crate) fn learn_key(&mut self, key: &str, kv: Option<&KeyValue>, at: Revision) {
        if let Some(cidr) = keys::parse_block(key) {
            match kv {
                None => self.learn(cidr, Seen::Gone, at),
                Some(kv) => match Block::decode(&kv.value) {
                    Ok(block) => self.learn(cidr, Seen::Is(&block), kv.mod_revision),
                    Err(e) => self.learn(cidr, Seen::Unreadable(&e.to_string()), kv.mod_revision),
                },
            };
        } else if let Some(id) = key.strip_prefix(keys::IDENTITIES) {
            let state = match kv {
                None => IdentityState::Absent,
                Some(kv) => match Identity::decode(&kv.value) {
                    Ok(identity) => IdentityState::Is(identity, kv.mod_revision),
                    Err(e) => IdentityState::Unreadable(e.to_string()),
                },
            };
            self.identities.insert(id.to_owned(), state);
        } else if key == keys::POOLS_GUARD {
            self.guard = kv.map(|kv| kv.mod_revision);
        }
    }

    /// Keeps `held` true to a block's content.
    fn hold(&mut self, cidr: &Cidr, old: Option<&Block>, new: Option<&Block>) {
        let node = self.node.as_str();
        let same = |place: &u32| match (old, new) {
            (Some(old), Some(new)) => old.used.get(place) == new.used.get(place),
            _ => false,
        };
        let changed = |block: Option<&Block>| -> Vec<(u32, String)> {
            let used = block.into_iter().flat_map(|b| &b.used);
            let mine = used.filter(|(place, a)| a.node.as_deref() == Some(node) && !same(place));
            let live = mine.filter_map(|(place, a)| Some((*place, a.live()?.to_owned())));
            live.collect()
        };
        let (gone, come) = (changed(old), changed(new));
        for (place, handle) in gone {
            if let Some(places) = self.held.get_mut(&handle) {
                places.retain(|at| *at != (*cidr, place));
                if places.is_empty() {
                    self.held.remove(&handle);
                }
            }
        }
        for (place, handle) in come {
            self.held.entry(handle).or_default().push((*cidr, place));
        }
    }

    /// Where the addresses of a handle of this node are.
    pub(crate) fn held(&self, handle: &str) -> &[(Cidr, u32)] {
        self.held.get(handle).map_or(&[], Vec::as_slice)
    }

    /// Forgets an identity that a finished request met: others change it unseen.
    pub(crate) fn forget(&mut self, identity: &str) {
        self.identities.remove(identity);
    }

    /// The block that an address lies in.
    pub(crate) fn find(&self, ip: IpAddr) -> Option<Cidr> {
        let family = Family::of(ip);
        let widths = self.widths.keys().filter(|(f, _)| *f == family);
        let mut cidrs = widths.filter_map(|(_, len)| Cidr::containing(ip, *len));
        cidrs.find(|c| self.blocks.contains_key(c))
    }

    /// A block that shares an address with `cidr`.
    pub(crate) fn overlap(&self, cidr: &Cidr) -> Option<Cidr> {
        let inside = self.blocks.range(cidr..).next();
        match inside {
            Some((found, _)) if cidr.covers(found) => Some(*found),
            _ => self.find(cidr.network()),
        }
    }

    /// The blocks of a set that lie in a pool.
    pub(crate) fn within<'a>(
        set: &'a BTreeSet<Cidr>,
        pool: &'a Cidr,
    ) -> impl Iterator<Item = Cidr> + 'a {
        let all = set.range(pool..).copied();
        all.take_while(|c| pool.covers(c))
    }
}
