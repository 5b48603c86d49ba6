//! From a packet to the rule that decides about it.
//!
//! The number of look-ups depends on the tiers that have a say and on the masks that their rules have, and
//! not on how many rules there are. All that outlives a turn of a loop stands in [`Work`], which is the
//! caller's: a map's memory in the kernel, so that the verifier has few states to follow and the stack stays small.
//!
//! `Pass` and `Log` rules decide nothing, and count: the [`Trail`] of a packet says by which of them it came. One counter
//! is for a trail with its decision, and whoever reads counters spreads it over the rules.

use crate::tables::{
    Action, Address, Cell, CellKey, Chain, ClassKey, MAX_STAGES, NO_CLASS, PortKey, Stage, Tables,
    mask, rule,
};

/// Steps of a trail that are written down. Those behind are not counted.
pub const MAX_STEPS: usize = 32;

/// What policy looks at in the first packet of a connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// Source port; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port; of ICMP and ICMPv6 the type in the high byte and the code in the low one; else 0.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// What did not decide about a packet on its way through the tiers.
///
/// Of each tier: the `Log` rules that matched, by mask, and behind them what the tier decided, if that is to pass or
/// something was logged.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trail {
    /// Stands for all of it; 0 of an empty one.
    pub id: u64,
    /// How many steps there are.
    pub length: u32,
    /// Zero.
    pub pad: u32,
    /// The steps. Places in the program are 0 where nothing was logged.
    pub steps: [Cell; MAX_STEPS],
}

impl Trail {
    #[inline(always)]
    fn clear(&mut self) {
        self.id = 0;
        self.length = 0;
    }

    #[inline(always)]
    fn add(&mut self, step: Cell) {
        // The golden ratio, as a hash (Knuth, The Art of Computer Programming 6.4); a bijection of each step.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let word = u64::from(step.order) << 32 | u64::from(step.rule);
        let mixed = (self.id ^ word).wrapping_mul(SPREAD);
        self.id = mixed ^ mixed >> 32;
        if let Some(place) = self.steps.get_mut(self.length as usize) {
            *place = step;
            self.length += 1;
        }
    }

    /// The words of what a packet with this trail came by, beside what decided. `members` are those of a list, in order.
    pub fn words<'a, L: Iterator<Item = Cell> + 'a>(
        &'a self,
        members: impl Fn(u32) -> L + Copy + 'a,
    ) -> impl Iterator<Item = u32> + 'a {
        let length = (self.length as usize).min(MAX_STEPS);
        let steps = self.steps.get(..length).unwrap_or_default();
        steps.iter().enumerate().flat_map(move |(at, step)| {
            // What the tier of a list decided is the next step that does not log.
            let behind = steps.iter().skip(at).find(|s| !rule::is_log(s.rule));
            let before = behind.map_or(u32::MAX, |s| s.order);
            let is_list = rule::is_log(step.rule) && rule::number(step.rule) >= rule::FIRST_LIST;
            let counts = rule::is_log(step.rule) || matches!(Action::of(step.rule), Action::Pass);
            let own = (counts && !is_list).then_some(step.rule);
            let listed = is_list.then(|| members(rule::number(step.rule)));
            let listed = listed.into_iter().flatten();
            let listed = listed.take_while(move |member| member.order < before);
            own.into_iter().chain(listed.map(|member| member.rule))
        })
    }
}

/// The question, the answer, and what is between.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Work {
    /// The packet.
    pub tuple: Tuple,
    /// Identity of the source, by [`identify`].
    pub source: u32,
    /// Identity of the destination, by [`identify`].
    pub destination: u32,
    /// The answer of [`classify`]: the word of what decided, be it a rule, the end of a tier or the profile.
    pub rule: u32,
    /// The answer of [`classify`]: the word of the first `Log` rule that matched on the way, or of a list that begins with
    /// it; 0 for none. All that matched are in `trail`.
    pub logged: u32,
    /// Classes of the four dimensions in the program at hand, in the order of [`mask`].
    pub classes: [u32; 4],
    /// Groups of the program at hand that can have a match, as bits.
    pub groups: u32,
    /// Of the program at hand: order of the best rule so far.
    pub order: u32,
    /// Of the program at hand: word of the best rule so far, 0 for none.
    pub best: u32,
    /// Of the `Log` rules at hand: order of the first so far.
    pub first: u32,
    /// The answer of [`classify`]: what the packet came by.
    pub trail: Trail,
}

impl Work {
    /// Whether the answer lets the packet through.
    #[inline(always)]
    pub fn allowed(&self) -> bool {
        matches!(Action::of(self.rule), Action::Allow)
    }
}

/// Looks up both addresses of the packet; once for all chains.
#[inline(always)]
pub fn identify<T: Tables>(tables: &T, work: &mut Work) {
    work.source = tables.identity(&work.tuple.source);
    work.destination = tables.identity(&work.tuple.destination);
}

/// Asks the tiers of a chain in order about a packet whose identities are known.
#[inline(always)]
pub fn classify<T: Tables>(tables: &T, chain: &Chain, work: &mut Work) {
    work.logged = 0;
    work.trail.clear();
    for index in 0..MAX_STAGES {
        if index >= chain.length as usize {
            break;
        }
        let Some(stage) = chain.stages.get(index) else {
            break;
        };
        ask(tables, stage, work);
        if !matches!(Action::of(work.rule), Action::Pass) {
            return;
        }
    }
    work.rule = chain.profile;
}

/// Asks one tier: `work.rule` is what it says, `work.logged` the first `Log` rule, if there was none before, and
/// `work.trail` goes on.
#[inline(always)]
pub fn ask<T: Tables>(tables: &T, stage: &Stage, work: &mut Work) {
    judge(tables, stage.program, stage.masks, work);
    let decided = work.order;
    work.rule = match work.best {
        0 => stage.default,
        word => word,
    };
    work.first = u32::MAX;
    if stage.log_masks != 0 {
        log(tables, stage.log, stage.log_masks, work);
    }
    let is_logged = work.first != u32::MAX;
    if is_logged && work.logged == 0 {
        work.logged = work.best;
    }
    if is_logged || matches!(Action::of(work.rule), Action::Pass) {
        // Of a list only those count that stand before what decided.
        let order = if is_logged { decided } else { 0 };
        let rule = work.rule;
        work.trail.add(Cell { order, rule });
    }
}

/// The `Log` rules that match and stand before `work.order`: onto the trail; `work.best` is the first of them, and
/// `work.first` its place.
#[cfg_attr(target_arch = "bpf", inline(never))]
#[cfg_attr(not(target_arch = "bpf"), inline(always))]
fn log<T: Tables>(tables: &T, program: u32, masks: u16, work: &mut Work) {
    know(tables, program, masks, work);
    for group in 0..mask::COUNT {
        if work.groups & (1 << group) != 0 {
            look_up_log(tables, program, group, work);
        }
    }
}

/// The first rule of a program that matches: `work.best` is its word and `work.order` its place; without one
/// they are 0 and the highest.
///
/// In the kernel this and its parts are functions of their own. What they find out is in memory when they
/// end, so the verifier walks each turn of the loops around them once, instead of once for each outcome.
/// Kernels such as 6.1 allow 512 bytes of stack to all functions in a call, and round each one's up to 32: this one calls
/// functions that call none.
#[cfg_attr(target_arch = "bpf", inline(never))]
#[cfg_attr(not(target_arch = "bpf"), inline(always))]
pub fn judge<T: Tables>(tables: &T, program: u32, masks: u16, work: &mut Work) {
    work.order = u32::MAX;
    work.best = 0;
    if masks == 0 {
        return;
    }
    know(tables, program, masks, work);
    for group in 0..mask::COUNT {
        if work.groups & (1 << group) != 0 {
            look_up(tables, program, group, work);
        }
    }
}

/// Finds the classes of the packet, and the groups that can have a match: the rules know something of each
/// dimension that they look at.
#[inline(always)]
fn know<T: Tables>(tables: &T, program: u32, masks: u16, work: &mut Work) {
    work.groups = u32::from(masks);
    work.classes = [NO_CLASS; 4];
    if masks & of_dimension(mask::SOURCE) != 0 {
        let identity = work.source;
        let class = tables.classes(&ClassKey { program, identity }).source;
        learn::<0>(work, class);
    }
    if masks & of_dimension(mask::DESTINATION) != 0 {
        let identity = work.destination;
        let class = (tables.classes(&ClassKey { program, identity })).destination;
        learn::<1>(work, class);
    }
    if masks & of_dimension(mask::SOURCE_PORT) != 0 {
        let class = tables.port(&PortKey {
            prefix_len: PortKey::BITS,
            program: program.to_be_bytes(),
            side: PortKey::SOURCE,
            protocol: work.tuple.protocol,
            port: work.tuple.source_port.to_be_bytes(),
        });
        learn::<2>(work, class);
    }
    if masks & of_dimension(mask::DESTINATION_PORT) != 0 {
        let class = tables.port(&PortKey {
            prefix_len: PortKey::BITS,
            program: program.to_be_bytes(),
            side: PortKey::DESTINATION,
            protocol: work.tuple.protocol,
            port: work.tuple.destination_port.to_be_bytes(),
        });
        learn::<3>(work, class);
    }
}

/// Writes down the class of one dimension.
#[cfg_attr(target_arch = "bpf", inline(never))]
#[cfg_attr(not(target_arch = "bpf"), inline(always))]
fn learn<const DIMENSION: usize>(work: &mut Work, class: u32) {
    work.classes[DIMENSION] = class;
    if class == NO_CLASS {
        work.groups &= !u32::from(of_dimension(1 << DIMENSION));
    }
}

/// Asks one group of a program.
#[cfg_attr(target_arch = "bpf", inline(never))]
#[cfg_attr(not(target_arch = "bpf"), inline(always))]
fn look_up<T: Tables>(tables: &T, program: u32, group: u16, work: &mut Work) {
    let key = cell_key(program, group, &work.classes);
    if let Some(cell) = tables.cell(&key)
        && cell.order < work.order
    {
        work.order = cell.order;
        work.best = cell.rule;
    }
}

/// Asks one group of a program of `Log` rules.
#[cfg_attr(target_arch = "bpf", inline(never))]
#[cfg_attr(not(target_arch = "bpf"), inline(always))]
fn look_up_log<T: Tables>(tables: &T, program: u32, group: u16, work: &mut Work) {
    let key = cell_key(program, group, &work.classes);
    if let Some(cell) = tables.cell(&key)
        && cell.order < work.order
    {
        work.trail.add(cell);
        if cell.order < work.first {
            work.first = cell.order;
            work.best = cell.rule;
        }
    }
}

#[inline(always)]
fn cell_key(program: u32, group: u16, classes: &[u32; 4]) -> CellKey {
    CellKey {
        program,
        mask: u32::from(group),
        source: only(group, mask::SOURCE, classes[0]),
        destination: only(group, mask::DESTINATION, classes[1]),
        source_port: only(group, mask::SOURCE_PORT, classes[2]),
        destination_port: only(group, mask::DESTINATION_PORT, classes[3]),
    }
}

/// A class where the group looks at its dimension.
#[inline(always)]
fn only(group: u16, dimension: u16, class: u32) -> u32 {
    if group & dimension == 0 {
        NO_CLASS
    } else {
        class
    }
}

/// The groups that look at a dimension, as bits of [`Stage::masks`].
const fn of_dimension(dimension: u16) -> u16 {
    let mut groups = 0;
    let mut group = 0;
    while group < mask::COUNT {
        if group & dimension != 0 {
            groups |= 1 << group;
        }
        group += 1;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Classes;

    /// One program, number 7, that knows what a test says.
    #[derive(Default)]
    struct Fake<'a> {
        classes: Classes,
        port: u32,
        cells: &'a [(CellKey, Cell)],
    }

    impl Tables for Fake<'_> {
        fn identity(&self, address: &Address) -> u32 {
            u32::from(address[15])
        }
        fn classes(&self, key: &ClassKey) -> Classes {
            match key.program {
                7 => self.classes,
                _ => Classes::default(),
            }
        }
        fn port(&self, _: &PortKey) -> u32 {
            self.port
        }
        fn cell(&self, key: &CellKey) -> Option<Cell> {
            self.cells.iter().find(|(k, _)| k == key).map(|(_, c)| *c)
        }
    }

    const PACKET: Tuple = Tuple {
        source: [1; 16],
        destination: [2; 16],
        protocol: 6,
        source_port: 40_000,
        destination_port: 80,
        pad: [0; 3],
    };

    fn key(mask: u16, source: u32, destination_port: u32) -> CellKey {
        CellKey {
            program: 7,
            mask: u32::from(mask),
            source,
            destination: 0,
            source_port: 0,
            destination_port,
        }
    }

    fn cell(order: u32, number: u32, action: Action) -> Cell {
        let rule = rule::word(number, action);
        Cell { order, rule }
    }

    fn chain(stages: &[Stage], profile: u32) -> Chain {
        let mut chain = Chain {
            length: u32::try_from(stages.len()).unwrap(),
            profile,
            stages: [Stage::default(); MAX_STAGES],
        };
        chain.stages[..stages.len()].copy_from_slice(stages);
        chain
    }

    fn asked(tables: &Fake<'_>, chain: &Chain) -> Work {
        let mut work = Work {
            tuple: PACKET,
            ..Work::default()
        };
        identify(tables, &mut work);
        classify(tables, chain, &mut work);
        work
    }

    const BOTH: u16 = mask::SOURCE | mask::DESTINATION_PORT;

    #[test]
    fn the_lowest_order_of_all_masks_decides() {
        let stage = Stage {
            program: 7,
            masks: 1 << mask::SOURCE | 1 << BOTH | 1,
            default: rule::word(99, Action::Deny),
            ..Stage::default()
        };
        let cells = [
            (key(mask::SOURCE, 3, 0), cell(5, 20, Action::Deny)),
            (key(BOTH, 3, 4), cell(2, 21, Action::Allow)),
            (key(0, 0, 0), cell(9, 22, Action::Pass)),
        ];
        let mut tables = Fake {
            classes: Classes {
                source: 3,
                destination: 8,
            },
            port: 4,
            cells: &cells,
        };
        let chain = chain(&[stage], rule::PROFILE_ALLOW);
        assert_eq!(asked(&tables, &chain).rule, rule::word(21, Action::Allow));
        tables.port = NO_CLASS;
        assert_eq!(asked(&tables, &chain).rule, rule::word(20, Action::Deny));
        tables.classes = Classes::default();
        let verdict = asked(&tables, &chain);
        assert_eq!(
            (verdict.rule, verdict.allowed()),
            (rule::PROFILE_ALLOW, true)
        );
        tables.cells = &[];
        let verdict = asked(&tables, &chain);
        assert_eq!(
            (verdict.rule, verdict.allowed()),
            (rule::word(99, Action::Deny), false)
        );
    }

    #[test]
    fn a_log_rule_is_told_only_when_it_stands_before_the_decision() {
        let stage = |log| Stage {
            program: 7,
            masks: 1 << mask::SOURCE,
            log,
            log_masks: 1,
            default: rule::word(99, Action::Pass),
        };
        let log_cell = |order| {
            let key = CellKey {
                program: 8,
                ..key(0, 0, 0)
            };
            (key, cell(order, 30, Action::Allow))
        };
        for (order, logged) in [(4, rule::word(30, Action::Allow)), (6, 0)] {
            let cells = [
                (key(mask::SOURCE, 3, 0), cell(5, 20, Action::Deny)),
                log_cell(order),
            ];
            let mut tables = Fake {
                cells: &cells,
                ..Fake::default()
            };
            tables.classes.source = 3;
            let chain = chain(&[stage(8)], rule::PROFILE_ALLOW);
            let verdict = asked(&tables, &chain);
            assert_eq!((verdict.allowed(), verdict.logged), (false, logged));
            // Where no rule decides, every Log rule stands before the end of the tier.
            tables.classes.source = 0;
            let verdict = asked(&tables, &chain);
            let word = rule::word(30, Action::Allow);
            assert_eq!((verdict.allowed(), verdict.logged), (true, word));
        }
    }

    #[test]
    fn no_policy_is_the_profile_and_a_broken_word_denies() {
        let tables = Fake::default();
        for (profile, allowed) in [(rule::PROFILE_ALLOW, true), (rule::PROFILE_DENY, false)] {
            let verdict = asked(&tables, &chain(&[], profile));
            assert_eq!((verdict.allowed(), verdict.rule), (allowed, profile));
        }
        assert!(!asked(&tables, &chain(&[], 3)).allowed());
    }
}
