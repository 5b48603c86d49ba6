//! From a packet to the rule that decides about it.
//!
//! The number of look-ups depends on the tiers that have a say and on the masks that their rules have, and
//! not on how many rules there are.

use crate::tables::{
    Action, Address, CellKey, Chain, ClassKey, MAX_STAGES, NO_CLASS, PortKey, Stage, Tables, mask,
};

/// What policy looks at in the first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port; of ICMP and ICMPv6 the type in the high byte and the code in the low one; else 0.
    pub destination_port: u16,
}

/// A packet as all programs see it: its addresses looked up, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Known {
    /// Identity of the source.
    pub source: u32,
    /// Identity of the destination.
    pub destination: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// As in [`Tuple`].
    pub source_port: u16,
    /// As in [`Tuple`].
    pub destination_port: u16,
}

/// What a chain says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// Whether it is let through.
    pub allowed: bool,
    /// The word of what decided: a rule, the end of a tier, or the profile.
    pub rule: u32,
    /// The word of the first `Log` rule that matched on the way, 0 for none. Others may have matched after
    /// it: who needs them asks [`judge_stage`] with the same packet.
    pub logged: u32,
}

/// What one tier says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StageVerdict {
    /// The word of what decided.
    pub rule: u32,
    /// The word of the first `Log` rule before it, 0 for none.
    pub logged: u32,
}

/// Looks up the addresses of a packet.
#[inline(always)]
pub fn know<T: Tables>(tables: &T, tuple: &Tuple) -> Known {
    Known {
        source: tables.identity(&tuple.source),
        destination: tables.identity(&tuple.destination),
        protocol: tuple.protocol,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
    }
}

/// Asks the tiers of a chain in order.
#[inline(always)]
pub fn judge<T: Tables>(tables: &T, chain: &Chain, packet: &Known) -> Verdict {
    let mut logged = 0;
    for (index, stage) in chain.stages.iter().enumerate() {
        if index >= MAX_STAGES || index >= chain.length as usize {
            break;
        }
        let said = judge_stage(tables, stage, packet);
        if logged == 0 {
            logged = said.logged;
        }
        match Action::of(said.rule) {
            Action::Pass => {}
            action => return Verdict::of(action, said.rule, logged),
        }
    }
    Verdict::of(Action::of(chain.profile), chain.profile, logged)
}

impl Verdict {
    #[inline(always)]
    fn of(action: Action, rule: u32, logged: u32) -> Verdict {
        Verdict {
            allowed: matches!(action, Action::Allow),
            rule,
            logged,
        }
    }
}

/// Asks one tier.
#[inline(always)]
pub fn judge_stage<T: Tables>(tables: &T, stage: &Stage, packet: &Known) -> StageVerdict {
    let decided = first(tables, stage.program, stage.masks, packet);
    let (order, rule) = match decided {
        Some((order, rule)) => (order, rule),
        None => (u32::MAX, stage.default),
    };
    let logged = match first(tables, stage.log, stage.log_masks, packet) {
        Some((log_order, word)) if log_order < order => word,
        _ => 0,
    };
    StageVerdict { rule, logged }
}

/// The first rule of a program that matches: its order and its word.
#[inline(always)]
fn first<T: Tables>(tables: &T, program: u32, masks: u16, packet: &Known) -> Option<(u32, u32)> {
    if masks == 0 {
        return None;
    }
    let classes = |identity| tables.classes(&ClassKey { program, identity });
    let uses = |dimension: u16| masks & of_dimension(dimension) != 0;
    let source = match uses(mask::SOURCE) {
        true => classes(packet.source).source,
        false => NO_CLASS,
    };
    let destination = match uses(mask::DESTINATION) {
        true => classes(packet.destination).destination,
        false => NO_CLASS,
    };
    let port = |dimension, side, port: u16| match uses(dimension) {
        true => tables.port(&PortKey {
            prefix_len: PortKey::BITS,
            program: program.to_be_bytes(),
            side,
            protocol: packet.protocol,
            port: port.to_be_bytes(),
        }),
        false => NO_CLASS,
    };
    let source_port = port(mask::SOURCE_PORT, PortKey::SOURCE, packet.source_port);
    let destination_port = port(
        mask::DESTINATION_PORT,
        PortKey::DESTINATION,
        packet.destination_port,
    );
    // Dimensions of which rules know nothing here: no group that looks at one of them has a match.
    let mut blank = 0;
    for (dimension, class) in [
        (mask::SOURCE, source),
        (mask::DESTINATION, destination),
        (mask::SOURCE_PORT, source_port),
        (mask::DESTINATION_PORT, destination_port),
    ] {
        if class == NO_CLASS {
            blank |= dimension;
        }
    }
    let mut best: Option<(u32, u32)> = None;
    for group in 0..mask::COUNT {
        if masks & 1 << group == 0 || group & blank != 0 {
            continue;
        }
        let only = |dimension: u16, class| match group & dimension {
            0 => NO_CLASS,
            _ => class,
        };
        let cell = tables.cell(&CellKey {
            program,
            mask: u32::from(group),
            source: only(mask::SOURCE, source),
            destination: only(mask::DESTINATION, destination),
            source_port: only(mask::SOURCE_PORT, source_port),
            destination_port: only(mask::DESTINATION_PORT, destination_port),
        });
        if let Some(cell) = cell
            && best.is_none_or(|(order, _)| cell.order < order)
        {
            best = Some((cell.order, cell.rule));
        }
    }
    best
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
    use crate::tables::{Cell, Classes, rule};

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

    fn ask(tables: &Fake<'_>, chain: &Chain) -> Verdict {
        judge(tables, chain, &know(tables, &PACKET))
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
        assert_eq!(ask(&tables, &chain).rule, rule::word(21, Action::Allow));
        tables.port = NO_CLASS;
        assert_eq!(ask(&tables, &chain).rule, rule::word(20, Action::Deny));
        tables.classes = Classes::default();
        let verdict = ask(&tables, &chain);
        assert_eq!((verdict.rule, verdict.allowed), (rule::PROFILE_ALLOW, true));
        tables.cells = &[];
        let verdict = ask(&tables, &chain);
        assert_eq!(
            (verdict.rule, verdict.allowed),
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
            let verdict = ask(&tables, &chain);
            assert_eq!((verdict.allowed, verdict.logged), (false, logged));
            // Where no rule decides, every Log rule stands before the end of the tier.
            tables.classes.source = 0;
            let verdict = ask(&tables, &chain);
            let word = rule::word(30, Action::Allow);
            assert_eq!((verdict.allowed, verdict.logged), (true, word));
        }
    }

    #[test]
    fn no_policy_is_the_profile_and_a_broken_word_denies() {
        let tables = Fake::default();
        for (profile, allowed) in [(rule::PROFILE_ALLOW, true), (rule::PROFILE_DENY, false)] {
            let verdict = ask(&tables, &chain(&[], profile));
            assert_eq!((verdict.allowed, verdict.rule), (allowed, profile));
        }
        assert!(!ask(&tables, &chain(&[], 3)).allowed);
    }
}
