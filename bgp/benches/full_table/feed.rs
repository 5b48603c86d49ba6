//! A full table as one peer would send it, the same on every run.

use std::collections::HashSet;

use bgp::attributes::{Attributes, NextHop};
use bgp::wire::render;
use bgp::{PrefixKey, V4, wire};
use bytes::Bytes;

/// Prefixes of the table.
pub(super) const PREFIXES: usize = 1_000_000;
/// UPDATEs that announce it.
pub(super) const UPDATES: usize = 142_377;
/// The AS that every path begins with.
pub(super) const AS: u32 = 65001;

/// What one UPDATE announces.
pub(super) struct Part {
    /// For all of its prefixes.
    pub(super) attributes: Attributes,
    /// The prefixes.
    pub(super) prefixes: Vec<V4>,
}

/// The same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from(high % u64::from(end)).unwrap_or_default()
    }
}

/// Prefix lengths about as in the Internet's table: most are /24.
fn prefixes(random: &mut Random) -> Vec<V4> {
    let mut seen = HashSet::with_capacity(PREFIXES);
    let mut list = Vec::with_capacity(PREFIXES);
    while list.len() < PREFIXES {
        let len = match random.below(100) {
            0..60 => 24,
            60..70 => 22,
            70..80 => 23,
            80..86 => 20,
            86..91 => 21,
            91..95 => 19,
            95..98 => 16,
            _ => 18,
        };
        let bits = (1 << 24) + random.below((223 << 24) - (1 << 24));
        // Nobody announces the loopback network, and BIRD takes it from nobody.
        if bits >> 24 != 127 {
            list.extend(V4::from_bits(len, &bits.to_be_bytes()).filter(|key| seen.insert(*key)));
        }
    }
    list
}

/// Attributes of one UPDATE. One in six repeats an earlier set.
fn attributes(random: &mut Random, earlier: &mut Vec<Attributes>) -> Attributes {
    if !earlier.is_empty() && random.below(6) == 0 {
        let at = random.below(u32::try_from(earlier.len()).unwrap_or(1));
        return earlier[at as usize].clone();
    }
    let hops = 2 + random.below(5);
    let mut as_path = vec![AS];
    as_path.extend((0..hops).map(|_| 1 + random.below(60_000)));
    let communities = (0..random.below(5))
        .map(|_| random.below(u32::MAX))
        .collect();
    let made = Attributes {
        as_path,
        communities,
        med: (random.below(4) == 0).then(|| random.below(100)),
        ..Attributes::default()
    };
    earlier.push(made.clone());
    made
}

/// The table.
pub(super) fn table() -> Vec<Part> {
    let mut random = Random(42);
    let mut list = prefixes(&mut random);
    // What one AS announces is often one region.
    for chunk in list.chunks_mut(5000) {
        chunk.sort_unstable();
    }
    let mut earlier = Vec::new();
    let part = |n: usize| {
        let range = n * PREFIXES / UPDATES..(n + 1) * PREFIXES / UPDATES;
        Part {
            attributes: attributes(&mut random, &mut earlier),
            prefixes: list[range].to_vec(),
        }
    };
    (0..UPDATES).map(part).collect()
}

/// The UPDATE of one part.
///
/// # Errors
/// Why it cannot be written: never so, as the table is made.
pub(super) fn announce(part: &Part, hop: &NextHop, send: impl FnMut(Bytes)) -> Result<(), String> {
    let block = part.attributes.block().map_err(|e| e.to_string())?;
    let keys = part.prefixes.iter().map(|key| (0, *key));
    let context = wire::Context::default();
    let written = render::announce(&context, &block, hop, keys, send);
    written.map_err(|e| format!("{e:?}"))
}
