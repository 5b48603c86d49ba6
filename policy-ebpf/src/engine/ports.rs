//! Protocols and ports: sets that rules name, the classes they fall into, and the rows for those.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use policy_common::tables::{NO_CLASS, PortKey};

/// Disjoint ranges of ports in order, both ends included; of ICMP type and code, as in a port's key.
pub(super) type Ranges = Vec<(u16, u16)>;

/// Every port.
pub(super) const ALL: (u16, u16) = (0, u16::MAX);

/// What a rule says of protocol and port at one end of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct PortSet {
    /// Whether protocols that are not listed are in it, with all ports.
    pub(super) others: bool,
    /// Ports of the protocols that are listed.
    pub(super) protocols: BTreeMap<u8, Ranges>,
}

/// Puts ranges in order and joins those that touch.
pub(super) fn normal(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut joined: Ranges = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                before.1 = before.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// What is in some ranges and not in others, which need no order.
pub(super) fn without(ranges: &Ranges, others: &Ranges) -> Ranges {
    let mut left = ranges.clone();
    for (first, last) in others {
        left = left
            .into_iter()
            .flat_map(|(from, to)| {
                let below = first.checked_sub(1).map(|end| (from, end.min(to)));
                let above = last.checked_add(1).map(|start| (start.max(from), to));
                // One that lies beside it comes back whole, and from one side only.
                let below = below.filter(|(a, b)| a <= b);
                let above = above.filter(|(a, b)| a <= b);
                below.into_iter().chain(above)
            })
            .collect();
    }
    left
}

/// The classes of one end in one program: ports that the same sets hold.
#[derive(Debug, Default)]
pub(super) struct PortClasses {
    /// The classes that each set holds.
    pub(super) of: Vec<Vec<u32>>,
    /// The rows, their program left out.
    pub(super) rows: Vec<(PortKey, u32)>,
}

/// Numbers classes by the sets that hold them.
#[derive(Default)]
struct Numbering {
    numbers: HashMap<Vec<u32>, u32>,
    of: Vec<Vec<u32>>,
}

impl Numbering {
    fn class(&mut self, sets: &BTreeSet<u32>) -> u32 {
        if sets.is_empty() {
            return NO_CLASS;
        }
        let key: Vec<u32> = sets.iter().copied().collect();
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = u32::try_from(self.numbers.len() + 1).unwrap_or(u32::MAX);
        for set in &key {
            self.of[*set as usize].push(number);
        }
        self.numbers.insert(key, number);
        number
    }
}

/// Finds the classes of some sets.
pub(super) fn classes(side: u8, sets: &[&PortSet]) -> PortClasses {
    let mut numbering = Numbering {
        of: vec![Vec::new(); sets.len()],
        ..Numbering::default()
    };
    let indexed = || (0u32..).zip(sets);
    let key = |bits, protocol, port: u16| PortKey {
        prefix_len: bits,
        program: [0; 4],
        side,
        protocol,
        port: port.to_be_bytes(),
    };
    let mut rows = Vec::new();
    let others = indexed().filter(|(_, s)| s.others).map(|(i, _)| i);
    let others = numbering.class(&others.collect());
    if others != NO_CLASS {
        rows.push((key(40, 0, 0), others));
    }
    // What each protocol has of its own.
    let mut named: BTreeMap<u8, Vec<(u32, &Ranges)>> = BTreeMap::new();
    for (i, set) in indexed() {
        for (protocol, ranges) in &set.protocols {
            named.entry(*protocol).or_default().push((i, ranges));
        }
    }
    for (protocol, named) in named {
        let listed: BTreeSet<u32> = named.iter().map(|(i, _)| *i).collect();
        let unlisted = indexed().filter(|(i, s)| s.others && !listed.contains(i));
        let always: BTreeSet<u32> = unlisted.map(|(i, _)| i).collect();
        let spans = spans(&named, always, &mut numbering);
        let width = |(first, last, _): &&(u16, u16, u32)| (last - first, u16::MAX - first);
        let base = spans.iter().max_by_key(width).map_or(NO_CLASS, |s| s.2);
        if base != others {
            rows.push((key(48, protocol, 0), base));
        }
        for (first, last, class) in spans {
            if class != base {
                let blocks = blocks(first, last);
                rows.extend(blocks.map(|(port, bits)| (key(48 + bits, protocol, port), class)));
            }
        }
    }
    PortClasses {
        of: numbering.of,
        rows,
    }
}

/// Cuts the ports of a protocol into spans of one class each.
fn spans(
    named: &[(u32, &Ranges)],
    mut active: BTreeSet<u32>,
    numbering: &mut Numbering,
) -> Vec<(u16, u16, u32)> {
    // Where sets begin and, one past the last port, end.
    let mut events: BTreeMap<u32, Vec<(u32, bool)>> = BTreeMap::from([(0, Vec::new())]);
    for (set, ranges) in named {
        for (first, last) in *ranges {
            let (begin, end) = (u32::from(*first), u32::from(*last) + 1);
            events.entry(begin).or_default().push((*set, true));
            events.entry(end).or_default().push((*set, false));
        }
    }
    let mut spans: Vec<(u16, u16, u32)> = Vec::new();
    let mut events = events.into_iter().peekable();
    while let Some((at, changes)) = events.next() {
        let Ok(first) = u16::try_from(at) else { break };
        for (set, begins) in changes {
            match begins {
                true => active.insert(set),
                false => active.remove(&set),
            };
        }
        let end = events.peek().map_or(u32::from(u16::MAX) + 1, |(at, _)| *at);
        let last = u16::try_from(end - 1).unwrap_or(u16::MAX);
        let class = numbering.class(&active);
        match spans.last_mut() {
            Some(before) if before.2 == class => before.1 = last,
            _ => spans.push((first, last, class)),
        }
    }
    spans
}

/// The fewest aligned blocks that make up a range: first port and bits that count.
fn blocks(first: u16, last: u16) -> impl Iterator<Item = (u16, u32)> {
    let mut next = u32::from(first);
    let end = u32::from(last) + 1;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let aligned = next.trailing_zeros().min(16);
        let fits = (end - next).ilog2();
        let size = aligned.min(fits);
        let port = u16::try_from(next).ok()?;
        next += 1 << size;
        Some((port, 16 - size))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl PortSet {
        fn holds(&self, protocol: u8, port: u16) -> bool {
            match self.protocols.get(&protocol) {
                Some(ranges) => ranges.iter().any(|(a, b)| (*a..=*b).contains(&port)),
                None => self.others,
            }
        }
    }

    /// What the kernel's table says.
    fn look_up(rows: &[(PortKey, u32)], protocol: u8, port: u16) -> u32 {
        let matches = |(key, _): &&(PortKey, u32)| match key.prefix_len {
            40 => true,
            bits => {
                let ignored = 64 - bits;
                key.protocol == protocol
                    && (u32::from(u16::from_be_bytes(key.port)) >> ignored)
                        == (u32::from(port) >> ignored)
            }
        };
        let best = rows
            .iter()
            .filter(matches)
            .max_by_key(|(k, _)| k.prefix_len);
        best.map_or(NO_CLASS, |(_, class)| *class)
    }

    fn ranges() -> impl Strategy<Value = Ranges> {
        let end = || prop_oneof![0u16..20, 65_530u16..=u16::MAX, Just(8_000), any::<u16>()];
        let range = (end(), end()).prop_map(|(a, b)| (a.min(b), a.max(b)));
        prop::collection::vec(range, 0..4).prop_map(normal)
    }

    fn set() -> impl Strategy<Value = PortSet> {
        let protocols = prop::collection::btree_map(5u8..8, ranges(), 0..3);
        (any::<bool>(), protocols).prop_map(|(others, protocols)| PortSet { others, protocols })
    }

    proptest! {
        #[test]
        fn rows_and_classes_say_what_the_sets_say(sets in prop::collection::vec(set(), 0..6), more in any::<u16>()) {
            let sets: Vec<_> = sets.iter().collect();
            let PortClasses { of, rows } = classes(1, &sets);
            let ends = sets.iter().flat_map(|s| s.protocols.values().flatten());
            let near = ends.flat_map(|(a, b)| [*a, *b, a.wrapping_sub(1), b.wrapping_add(1)]);
            for port in near.chain([0, more, u16::MAX]) {
                for protocol in 4..9 {
                    let class = look_up(&rows, protocol, port);
                    for (set, classes) in sets.iter().zip(&of) {
                        prop_assert_eq!(classes.contains(&class), set.holds(protocol, port), "{}:{}", protocol, port);
                    }
                }
            }
            let mut keys: Vec<_> = rows.iter().map(|(k, _)| *k).collect();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), rows.len());
        }

        #[test]
        fn ranges_subtract(some in ranges(), others in ranges(), port in prop_oneof![0u16..20, any::<u16>()]) {
            let is_in = |ranges: &Ranges| ranges.iter().any(|(a, b)| (*a..=*b).contains(&port));
            let left = without(&some, &others);
            prop_assert_eq!(is_in(&left), is_in(&some) && !is_in(&others));
            prop_assert_eq!(normal(left.clone()), left);
        }
    }

    #[test]
    fn one_range_takes_few_rows() {
        let set = PortSet {
            others: false,
            protocols: [(6, vec![(1, u16::MAX)]), (17, vec![ALL])].into(),
        };
        // TCP as a whole and port 0 of it, UDP as a whole.
        assert_eq!(classes(0, &[&set]).rows.len(), 3);
        assert_eq!(blocks(1, u16::MAX).count(), 16);
        assert_eq!(blocks(8_000, 8_999).count(), 6);
    }
}
