//! What programs take of the tables, and what they may take.

use std::collections::HashMap;

use policy_common::tables::{Cell, CellKey};

use crate::engine::lists::Lists;
use crate::op::{Op, Update};

/// The program would have more cells than it may have, or more rows than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// Order of the row that takes the most of them.
    pub(crate) order: u32,
    /// Whether it is for want of room beside all the others.
    pub(crate) no_room: bool,
}

/// What a program may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Combinations.
    pub(crate) cells: usize,
    /// Rows of each table.
    pub(crate) rows: Rows,
}

/// Rows of CLASS, PORT and CELL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) classes: usize,
    pub(crate) ports: usize,
    pub(crate) cells: usize,
}

/// Writes of which there may be too many.
pub(crate) struct Cells<'a> {
    pub(super) update: &'a mut Update,
    pub(super) lists: &'a mut Lists,
    /// Cells of rules that only log.
    pub(super) logs: Vec<(CellKey, Vec<Cell>)>,
    /// Rows of identities, which lead to cells and go after them.
    pub(super) classes: Vec<Op>,
    /// Look-ups of combinations that are left; every cell is one at least.
    pub(super) left: usize,
    /// Combinations by row, to name the one at fault.
    pub(super) spent: HashMap<u32, usize>,
}

impl Rows {
    pub(crate) fn fit(&self, room: &Rows) -> bool {
        self.classes <= room.classes && self.ports <= room.ports && self.cells <= room.cells
    }

    /// The largest of the three.
    pub(crate) fn most(&self) -> usize {
        self.classes.max(self.ports).max(self.cells)
    }

    fn with(self, other: Rows, sum: impl Fn(usize, usize) -> usize) -> Rows {
        Rows {
            classes: sum(self.classes, other.classes),
            ports: sum(self.ports, other.ports),
            cells: sum(self.cells, other.cells),
        }
    }
}

impl std::ops::AddAssign for Rows {
    fn add_assign(&mut self, other: Rows) {
        *self = self.with(other, usize::saturating_add);
    }
}

impl std::ops::Sub for Rows {
    type Output = Rows;

    /// What is left; nothing where there is less.
    fn sub(self, other: Rows) -> Rows {
        self.with(other, usize::saturating_sub)
    }
}

impl Cells<'_> {
    /// For what has to be done however much it is.
    pub(crate) fn unbounded<'a>(update: &'a mut Update, lists: &'a mut Lists) -> Cells<'a> {
        Cells {
            update,
            lists,
            logs: Vec::new(),
            classes: Vec::new(),
            left: usize::MAX,
            spent: HashMap::new(),
        }
    }

    /// Ends with the cells that are lists, and the rows of identities.
    pub(crate) fn flush(&mut self) {
        for (key, rules) in self.logs.drain(..) {
            let cell = self.lists.cell(rules, self.update);
            (self.update.puts).extend(cell.map(|cell| Op::Cell(key, Some(cell))));
        }
        self.update.puts.append(&mut self.classes);
    }

    pub(super) fn spend(&mut self, order: u32, count: usize) -> Result<(), TooMany> {
        if self.left == usize::MAX {
            return Ok(());
        }
        *self.spent.entry(order).or_default() += count;
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => {
                let most = self.spent.iter().max_by_key(|(order, n)| (**n, **order));
                let order = most.map_or(order, |(order, _)| *order);
                let no_room = false;
                return Err(TooMany { order, no_room });
            }
        }
        Ok(())
    }
}
