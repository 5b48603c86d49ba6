//! Next hops, each kept once, with what the driver knows about reaching them.

use hashbrown::HashMap;

use crate::attributes::NextHop;

/// Number of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HopId(u32);

/// How a next hop is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// At this distance: the smaller is preferred (RFC 4271 §9.1.2.2 e).
    Metric(u32),
    /// Not at all: its routes cannot be used.
    Unreachable,
}

#[derive(Debug)]
struct Slot {
    hop: NextHop,
    reach: Reach,
    refs: u32,
}

/// The next hops of all attribute sets. One that nobody said anything about counts as reachable at distance
/// 0: most are neighbours on a link.
#[derive(Debug, Default)]
pub(crate) struct Hops {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashMap<NextHop, u32>,
    /// What the driver said, also about hops that no route has yet.
    said: HashMap<NextHop, Reach>,
}

impl Hops {
    pub(crate) fn hop(&self, id: HopId) -> NextHop {
        self.slots[id.0 as usize].hop
    }

    pub(crate) fn reach(&self, id: HopId) -> Reach {
        self.slots[id.0 as usize].reach
    }

    /// The number of `hop`, with one more reference.
    pub(crate) fn take(&mut self, hop: &NextHop) -> HopId {
        if let Some(id) = self.index.get(hop) {
            self.slots[*id as usize].refs += 1;
            return HopId(*id);
        }
        let reach = self.said.get(hop).copied().unwrap_or(Reach::Metric(0));
        let slot = Slot {
            hop: *hop,
            reach,
            refs: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                super::small(self.slots.len() - 1)
            }
        };
        self.index.insert(*hop, id);
        HopId(id)
    }

    pub(crate) fn release(&mut self, id: HopId) {
        let slot = &mut self.slots[id.0 as usize];
        slot.refs = slot.refs.saturating_sub(1);
        if slot.refs == 0 {
            self.index.remove(&slot.hop);
            self.free.push(id.0);
        }
    }

    /// Whether something changed for routes that there are.
    pub(crate) fn say(&mut self, hop: &NextHop, reach: Reach) -> bool {
        if reach == Reach::Metric(0) {
            self.said.remove(hop);
        } else {
            self.said.insert(*hop, reach);
        }
        let Some(id) = self.index.get(hop) else {
            return false;
        };
        let slot = &mut self.slots[*id as usize];
        std::mem::replace(&mut slot.reach, reach) != reach
    }

    /// Next hops in use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NextHop, Reach)> {
        let known = |id: &u32| &self.slots[*id as usize];
        self.index.values().map(known).map(|s| (s.hop, s.reach))
    }
}
