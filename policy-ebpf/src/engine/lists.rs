//! Lists: the `Log` rules of a cell. All of them count, not only the first.

use std::collections::BTreeMap;

use policy_common::tables::{Cell, CellKey, rule};

use super::intern::Interner;
use crate::op::{Op, Update};

/// Lists of several rules, by number. Each cell that has one holds it once.
#[derive(Debug, Default)]
pub(super) struct Lists(Interner<Vec<Cell>>);

/// Cells that were found, and what stands in them.
#[derive(Debug)]
pub(super) enum Found {
    /// The first rule that matches decides.
    First(BTreeMap<CellKey, Cell>),
    /// All of them log, in no order, some of them by several rows.
    All(BTreeMap<CellKey, Vec<Cell>>),
}

impl Lists {
    /// The cell for rules, with a list that is held where there are several.
    pub(super) fn cell(&mut self, rules: Vec<Cell>, update: &mut Update) -> Option<Cell> {
        let rules = in_order(rules);
        let first = *rules.first()?;
        if rules.len() == 1 {
            return Some(first);
        }
        let list = rules.as_slice().into();
        let (number, new) = self.0.hold(rules);
        let number = rule::FIRST_LIST + number;
        if new {
            update.puts.push(Op::List(number, Some(list)));
        }
        Some(Cell {
            order: first.order,
            rule: rule::log(number),
        })
    }

    /// The first rule of a list.
    pub(super) fn first(&self, number: u32) -> Option<u32> {
        let list = self.0.get(number.checked_sub(rule::FIRST_LIST)?)?;
        list.first().map(|cell| rule::number(cell.rule))
    }

    /// One cell less with such rules.
    fn release(&mut self, rules: Vec<Cell>, update: &mut Update) {
        let rules = in_order(rules);
        let number = if rules.len() > 1 {
            self.0.find(&rules)
        } else {
            None
        };
        if let Some(number) = number
            && self.0.release(number).is_some()
        {
            let number = rule::FIRST_LIST + number;
            update.deletes.push(Op::Forget(number));
            update.deletes.push(Op::List(number, None));
        }
    }

    /// At the end of a batch.
    pub(super) fn rest(&mut self) {
        self.0.rest();
    }
}

fn in_order(mut rules: Vec<Cell>) -> Vec<Cell> {
    rules.sort_unstable();
    rules.dedup();
    rules
}

impl Found {
    /// None yet.
    pub(super) fn new(log: bool) -> Found {
        match log {
            false => Found::First(BTreeMap::new()),
            true => Found::All(BTreeMap::new()),
        }
    }

    /// One more rule that matches there.
    pub(super) fn add(&mut self, key: CellKey, cell: Cell) {
        match self {
            Found::First(found) => {
                let first = found.entry(key).or_insert(cell);
                if cell.order < first.order {
                    *first = cell;
                }
            }
            Found::All(found) => found.entry(key).or_default().push(cell),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Found::First(found) => found.len(),
            Found::All(found) => found.len(),
        }
    }

    /// Takes them out of the tables.
    pub(super) fn delete(self, update: &mut Update, lists: &mut Lists) {
        let gone = |key| Op::Cell(key, None);
        match self {
            Found::First(found) => update.deletes.extend(found.into_keys().map(gone)),
            Found::All(found) => {
                for (key, rules) in found {
                    update.deletes.push(gone(key));
                    lists.release(rules, update);
                }
            }
        }
    }
}

impl Default for Found {
    fn default() -> Found {
        Found::new(false)
    }
}
