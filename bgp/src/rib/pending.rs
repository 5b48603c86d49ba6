//! A set of prefixes that somebody has to hear about. However often a prefix changes, it is in it once.

/// One bit for each prefix of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    fn place(net: u32) -> (usize, u64) {
        ((net / 64) as usize, 1 << (net % 64))
    }

    /// Whether it was not set before.
    pub(crate) fn set(&mut self, net: u32) -> bool {
        let (at, bit) = Bits::place(net);
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        let word = &mut self.0[at];
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    /// Whether it was set before.
    pub(crate) fn clear(&mut self, net: u32) -> bool {
        let (at, bit) = Bits::place(net);
        let Some(word) = self.0.get_mut(at) else {
            return false;
        };
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }

    pub(crate) fn get(&self, net: u32) -> bool {
        let (at, bit) = Bits::place(net);
        self.0.get(at).is_some_and(|word| word & bit != 0)
    }
}

/// See the module. A walk over the whole table costs no memory: what it has not reached is in the set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    list: Vec<u32>,
    set: Bits,
    /// Prefixes from here up to `end` are in the set.
    from: u32,
    end: u32,
}

impl Pending {
    /// The set of all prefixes below `end`.
    pub(crate) fn all(end: u32) -> Pending {
        Pending {
            end,
            ..Pending::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.from >= self.end
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len() + (self.end.saturating_sub(self.from)) as usize
    }

    pub(crate) fn contains(&self, net: u32) -> bool {
        (self.from..self.end).contains(&net) || self.set.get(net)
    }

    pub(crate) fn insert(&mut self, net: u32) {
        if !(self.from..self.end).contains(&net) && self.set.set(net) {
            self.list.push(net);
        }
    }

    /// Takes up to `max`, the walk first.
    pub(crate) fn take(&mut self, max: usize, out: &mut Vec<u32>) {
        out.clear();
        while out.len() < max && self.from < self.end {
            out.push(self.from);
            self.from += 1;
        }
        let left = max - out.len();
        // From the end is cheapest, and order does not matter: what is sent is sorted.
        let keep = self.list.len().saturating_sub(left);
        for net in self.list.drain(keep..) {
            self.set.clear(net);
            out.push(net);
        }
        if self.is_empty() {
            // A large burst should not be paid for ever.
            self.list = Vec::new();
            self.set = Bits::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(end in 0u32..40, steps in prop::collection::vec((0u32..60, 0usize..9), 0..60)) {
            let mut pending = Pending::all(end);
            let mut model: BTreeSet<u32> = (0..end).collect();
            let mut out = Vec::new();
            for (net, take) in steps {
                pending.insert(net);
                model.insert(net);
                pending.take(take, &mut out);
                for net in &out {
                    prop_assert!(model.remove(net), "{net} came twice");
                }
                prop_assert_eq!(pending.len(), model.len());
                prop_assert_eq!(pending.is_empty(), model.is_empty());
                for net in 0..60 {
                    prop_assert_eq!(pending.contains(net), model.contains(&net));
                }
            }
        }
    }
}
