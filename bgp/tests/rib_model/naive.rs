//! The naive model: all routes in one map, everything calculated anew.

use super::*;

/// A route in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) peer: u16,
    pub(super) path_id: u32,
    pub(super) attributes: Attributes,
    pub(super) hop: NextHop,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) routes: BTreeMap<(u8, u16, u32), Held>,
    pub(super) up: BTreeSet<u16>,
    pub(super) reach: BTreeMap<NextHop, Option<u32>>,
    pub(super) multipath: u16,
    pub(super) guard: PoolGuard,
}

impl Model {
    pub(super) fn metric(&self, hop: &NextHop) -> Option<u32> {
        self.reach.get(hop).copied().unwrap_or(Some(0))
    }

    pub(super) fn stance(&self, prefix: u8) -> Stance {
        let prefix = key(prefix).cidr();
        let guard = &self.guard;
        if !guard.pools.iter().any(|pool| pool.covers(&prefix)) {
            Stance::Free
        } else if guard.importable.contains(&prefix) {
            Stance::Importable
        } else if guard.passable.contains(&prefix) {
            Stance::Passable
        } else {
            Stance::Refused
        }
    }

    /// The paths that may be used or passed on.
    pub(super) fn admitted(&self, prefix: u8) -> impl Iterator<Item = &Held> {
        let refused = self.stance(prefix) == Stance::Refused;
        let range = (prefix, 0, 0)..=(prefix, u16::MAX, u32::MAX);
        let paths = self.routes.range(range).map(|(_, held)| held);
        paths
            .filter(move |held| held.peer == LOCAL.0 || !refused)
            .filter(|held| self.metric(&held.hop).is_some())
    }

    pub(super) fn pref(held: &Held) -> u32 {
        let going = held
            .attributes
            .communities
            .contains(&well_known::GRACEFUL_SHUTDOWN);
        if going && held.peer != 0 {
            return 0;
        }
        held.attributes.local_pref.unwrap_or(100)
    }

    pub(super) fn external(held: &Held) -> bool {
        kind(held.peer) == Some(PeerKind::External)
    }

    /// The paths in use, the best first: a path stays unless another one beats it at the first step in
    /// which they differ, all those beaten before being gone.
    pub(super) fn used(&self, prefix: u8) -> Vec<&Held> {
        let mut left: Vec<&Held> = self.admitted(prefix).collect();
        type Beats<'a> = Box<dyn Fn(&Held, &Held) -> bool + 'a>;
        let steps: Vec<Beats<'_>> = vec![
            Box::new(|a, b| a.peer == 0 && b.peer != 0),
            Box::new(|a, b| Model::pref(a) > Model::pref(b)),
            Box::new(|a, b| a.attributes.as_path.len() < b.attributes.as_path.len()),
            Box::new(|a, b| a.attributes.origin < b.attributes.origin),
            Box::new(|a, b| {
                let (a, b) = (&a.attributes, &b.attributes);
                a.as_path.first() == b.as_path.first() && a.med.unwrap_or(0) < b.med.unwrap_or(0)
            }),
            Box::new(|a, b| Model::external(a) && !Model::external(b)),
            Box::new(|a, b| self.metric(&a.hop) < self.metric(&b.hop)),
        ];
        for beats in steps {
            let all = left.clone();
            left.retain(|held| !all.iter().any(|other| beats(other, held)));
        }
        left.sort_by_key(|held| {
            let own = if held.peer == 0 {
                OWN_ID
            } else {
                id(held.peer)
            };
            let router = held.attributes.originator.unwrap_or(own);
            (
                router,
                held.attributes.clusters.len(),
                held.peer,
                held.path_id,
            )
        });
        left.truncate(usize::from(self.multipath));
        left
    }

    /// What `to` should hear of a path.
    pub(super) fn exported(&self, held: &Held, to: u16) -> Option<(Attributes, NextHop)> {
        let to_external = kind(to) == Some(PeerKind::External);
        let mut attributes = held.attributes.clone();
        let has = |community| attributes.communities.contains(&community);
        let inner = |k| matches!(k, Some(PeerKind::Internal | PeerKind::Client));
        if held.peer == to
            || has(well_known::NO_ADVERTISE)
            || to_external && has(well_known::NO_EXPORT)
            || kind(held.peer) == Some(PeerKind::Internal) && kind(to) == Some(PeerKind::Internal)
        {
            return None;
        }
        if to_external {
            attributes.as_path.insert(0, OWN_AS);
            attributes.local_pref = None;
            attributes.originator = None;
            attributes.clusters = vec![];
            if held.peer != 0 {
                attributes.med = None;
            }
            return Some((attributes, NextHop::V4(OWN_ID)));
        }
        attributes.local_pref = Some(Model::pref(held));
        if inner(kind(held.peer)) {
            attributes.originator.get_or_insert(id(held.peer));
            attributes.clusters.insert(0, OWN_ID.to_bits());
        }
        let hop = if held.hop == OWN_HOP {
            NextHop::V4(OWN_ID)
        } else {
            held.hop
        };
        Some((attributes, hop))
    }

    /// Everything that `to` should have heard, as sorted text.
    pub(super) fn heard(&self, to: u16) -> BTreeMap<u8, Vec<String>> {
        let mut all = BTreeMap::new();
        for prefix in 0..PREFIXES {
            let used = self.used(prefix);
            let paths: Vec<&Held> = if to == 5 && !used.is_empty() {
                self.admitted(prefix).collect()
            } else {
                used.into_iter().take(1).collect()
            };
            let mut heard: Vec<String> = paths
                .into_iter()
                .filter_map(|held| self.exported(held, to))
                .map(|heard| format!("{heard:?}"))
                .collect();
            heard.sort();
            if !heard.is_empty() {
                all.insert(prefix, heard);
            }
        }
        all
    }
}
