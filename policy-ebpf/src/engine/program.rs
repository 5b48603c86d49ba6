//! Programs: the rows of some policies of one tier, in the classes that identities and ports fall into.
//!
//! A class is the set of a program's atoms that hold for an identity. It comes with the first identity
//! that has it and goes with the last; so do the cells in which it stands. Those follow from the rows
//! and from the classes of the other dimensions, so they are not kept: they are found again when they have to go.

mod room;
mod side;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use policy_common::tables::{Cell, CellKey, ClassKey, Classes, NO_CLASS, PortKey, mask};

use super::intern::Interner;
use super::lists::{Found, Lists};
use super::ports::{self, PortClasses, PortSet};
use super::world::{Atom, Signature, Used};
use crate::op::{Op, Update};
pub(super) use room::{Cells, Room, Rows, TooMany};
use side::Side;

pub(super) type Atoms = Interner<Atom, Used>;

/// A row, with its place in the program.
#[derive(Clone, Debug)]
pub(super) struct ProgramRow {
    pub(super) order: u32,
    pub(super) word: u32,
    /// Atoms of source and destination.
    pub(super) ends: [Option<u32>; 2],
    /// Sets of source and destination port.
    pub(super) ports: [Option<Arc<PortSet>>; 2],
}

/// A row whose sets of ports have numbers.
#[derive(Debug)]
struct Row {
    order: u32,
    word: u32,
    ends: [Option<u32>; 2],
    ports: [Option<u32>; 2],
}

/// A compiled program.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// Its rules only log: a cell is for all that match.
    log: bool,
    rows: Vec<Row>,
    sides: [Side; 2],
    ports: [PortClasses; 2],
    /// Those that are something to it.
    pub(super) identities: HashMap<u32, Classes>,
    /// How many cells it has.
    pub(super) cells: usize,
}

impl Program {
    /// The masks that its rows have, as bits.
    pub(super) fn masks(&self) -> u16 {
        let rows = self.rows.iter();
        rows.fold(0, |masks, row| masks | 1 << mask_of(&row.ends, &row.ports))
    }

    /// At the end of a batch.
    pub(super) fn rest(&mut self) {
        for side in &mut self.sides {
            side.classes.rest();
        }
    }

    /// Compiles rows and writes the tables of the program. Nothing leads to them yet.
    pub(super) fn compile(
        number: u32,
        (rows, log): (Vec<ProgramRow>, bool),
        identities: &Interner<Signature, super::world::Identity>,
        atoms: &Atoms,
        room: &Room,
        (update, lists): (&mut Update, &mut Lists),
    ) -> Result<Program, TooMany> {
        let mut program = Program::read(rows, atoms);
        program.log = log;
        for classes in &program.ports {
            for (key, class) in &classes.rows {
                let program = number.to_be_bytes();
                let key = PortKey { program, ..*key };
                update.puts.push(Op::Port(key, Some(*class)));
            }
        }
        let mut cells = Cells {
            left: room.cells,
            ..Cells::unbounded(update, lists)
        };
        let loose = program.loose_cells(number, &mut cells)?;
        program.put_cells(loose, &mut cells);
        program.fits(&room.rows)?;
        for identity in program.candidates(identities, atoms) {
            if let Some(signature) = identities.get(identity) {
                program.add(number, identity, signature, atoms, &mut cells)?;
                program.fits(&room.rows)?;
            }
        }
        cells.flush();
        Ok(program)
    }

    fn read(rows: Vec<ProgramRow>, atoms: &Atoms) -> Program {
        let mut program = Program::default();
        let mut sets: [HashMap<Arc<PortSet>, u32>; 2] = Default::default();
        for (index, row) in (0..).zip(rows) {
            for (side, end) in program.sides.iter_mut().zip(row.ends) {
                if let Some(atom) = end {
                    side.rows.entry(atom).or_default().push(index);
                }
            }
            let mut ports = [None; 2];
            for ((sets, set), number) in sets.iter_mut().zip(row.ports).zip(&mut ports) {
                let next = u32::try_from(sets.len()).unwrap_or(u32::MAX);
                *number = set.map(|set| *sets.entry(set).or_insert(next));
            }
            program.rows.push(Row {
                order: row.order,
                word: row.word,
                ends: row.ends,
                ports,
            });
        }
        for side in &mut program.sides {
            let wide = side.rows.keys().filter_map(|a| {
                let atom = atoms.get(*a)?;
                atom.is_wide().then_some((*a, atom.family))
            });
            side.wide = wide.collect();
        }
        for ((classes, sets), side) in (program.ports.iter_mut().zip(&sets)).zip(0..) {
            let mut by_number: Vec<_> = sets.iter().map(|(set, n)| (*n, &**set)).collect();
            by_number.sort_unstable_by_key(|(n, _)| *n);
            let sets: Vec<_> = by_number.into_iter().map(|(_, set)| set).collect();
            *classes = ports::classes(side, &sets);
        }
        program
    }

    /// The rows that it has in the tables.
    pub(super) fn size(&self) -> Rows {
        Rows {
            classes: self.identities.len(),
            ports: self.ports.iter().map(|classes| classes.rows.len()).sum(),
            cells: self.cells,
        }
    }

    fn fits(&self, room: &Rows) -> Result<(), TooMany> {
        match self.size().fit(room) {
            true => Ok(()),
            false => Err(TooMany {
                order: self.greediest(),
                no_room: true,
            }),
        }
    }

    /// Order of the row that stands in the most combinations.
    pub(super) fn greediest(&self) -> u32 {
        let combinations = |row: &Row| {
            let ends = self.sides.iter().zip(row.ends).map(|(side, atom)| {
                let holding = atom.map(|atom| side.holding.get(&atom).map_or(0, BTreeSet::len));
                holding.unwrap_or(1)
            });
            let ports = self.ports.iter().zip(row.ports).map(|(classes, set)| {
                let of = set.map(|set| classes.of.get(set as usize).map_or(0, Vec::len));
                of.unwrap_or(1)
            });
            ends.chain(ports).fold(1, usize::saturating_mul)
        };
        let mut spent: BTreeMap<u32, usize> = BTreeMap::new();
        for row in &self.rows {
            let sum = spent.entry(row.order).or_default();
            *sum = sum.saturating_add(combinations(row));
        }
        let most = spent.into_iter().max_by_key(|(_, count)| *count);
        most.map_or(0, |(order, _)| order)
    }

    pub(super) fn has_wide(&self) -> bool {
        self.sides.iter().any(|s| !s.wide.is_empty())
    }

    pub(super) fn atoms(&self) -> impl Iterator<Item = u32> {
        self.sides.iter().flat_map(|s| s.rows.keys().copied())
    }

    /// The identities that can be something to it.
    fn candidates(
        &self,
        identities: &Interner<Signature, super::world::Identity>,
        atoms: &Atoms,
    ) -> BTreeSet<u32> {
        if self.has_wide() {
            return identities.iter().map(|(number, ..)| number).collect();
        }
        let marked = self.atoms().flat_map(|a| atoms[a].marked.iter().copied());
        marked.collect()
    }

    /// An identity comes. Its row waits until those that it leads to are written.
    pub(super) fn add(
        &mut self,
        number: u32,
        identity: u32,
        signature: &Signature,
        atoms: &Atoms,
        cells: &mut Cells<'_>,
    ) -> Result<(), TooMany> {
        let mut classes = [NO_CLASS; 2];
        for (index, class) in classes.iter_mut().enumerate() {
            let holding = self.sides[index].holding(signature, atoms);
            if holding.is_empty() {
                continue;
            }
            let new;
            (*class, new) = self.sides[index].classes.hold(holding);
            if new {
                let found = self.cells_of(number, index, *class, cells)?;
                self.put_cells(found, cells);
                self.sides[index].join(*class);
            }
        }
        let [source, destination] = classes;
        if classes != [NO_CLASS; 2] {
            let classes = Classes {
                source,
                destination,
            };
            self.identities.insert(identity, classes);
            let key = ClassKey {
                program: number,
                identity,
            };
            cells.classes.push(Op::Class(key, Some(classes)));
        }
        Ok(())
    }

    pub(super) fn remove(
        &mut self,
        number: u32,
        identity: u32,
        update: &mut Update,
        lists: &mut Lists,
    ) {
        let Some(classes) = self.identities.remove(&identity) else {
            return;
        };
        let key = ClassKey {
            program: number,
            identity,
        };
        update.deletes.push(Op::Class(key, None));
        for (index, class) in [classes.source, classes.destination]
            .into_iter()
            .enumerate()
        {
            if class != NO_CLASS && self.sides[index].classes.has_one_user(class) {
                self.sides[index].part(class);
                self.drop_cells(number, index, class, update, lists);
            }
            if class != NO_CLASS {
                self.sides[index].classes.release(class);
            }
        }
    }

    /// Takes all rows out of the tables.
    pub(super) fn clear(&mut self, number: u32, update: &mut Update, lists: &mut Lists) {
        let mut identities: Vec<u32> = self.identities.keys().copied().collect();
        identities.sort_unstable();
        for identity in identities {
            self.remove(number, identity, update, lists);
        }
        let mut cells = Cells::unbounded(update, lists);
        let loose = self.loose_cells(number, &mut cells).unwrap_or_default();
        loose.delete(update, lists);
        for (key, _) in self.ports.iter().flat_map(|c| &c.rows) {
            let program = number.to_be_bytes();
            let key = PortKey { program, ..*key };
            update.deletes.push(Op::Port(key, None));
        }
    }

    fn put_cells(&mut self, found: Found, cells: &mut Cells<'_>) {
        self.cells += found.len();
        match found {
            Found::First(found) => {
                let ops = found.into_iter();
                let ops = ops.map(|(key, cell)| Op::Cell(key, Some(cell)));
                cells.update.puts.extend(ops);
            }
            Found::All(found) => cells.logs.extend(found),
        }
    }

    fn drop_cells(
        &mut self,
        number: u32,
        side: usize,
        class: u32,
        update: &mut Update,
        lists: &mut Lists,
    ) {
        let mut cells = Cells::unbounded(update, lists);
        let found = self
            .cells_of(number, side, class, &mut cells)
            .unwrap_or_default();
        self.cells -= found.len();
        found.delete(update, lists);
    }

    /// The cells of rows that ask for no address.
    fn loose_cells(&self, number: u32, cells: &mut Cells<'_>) -> Result<Found, TooMany> {
        let mut found = Found::new(self.log);
        for row in self.rows.iter().filter(|row| row.ends == [None; 2]) {
            self.combine(number, row, [&[NO_CLASS]; 2], cells, &mut found)?;
        }
        Ok(found)
    }

    /// The cells in which a class stands, with the classes of the other side that are there.
    fn cells_of(
        &self,
        number: u32,
        side: usize,
        class: u32,
        cells: &mut Cells<'_>,
    ) -> Result<Found, TooMany> {
        let mut found = Found::new(self.log);
        let other = 1 - side;
        let atoms = self.sides[side].classes.get(class).into_iter().flatten();
        let rows = atoms.filter_map(|a| self.sides[side].rows.get(a)).flatten();
        for row in rows {
            let row = &self.rows[*row as usize];
            let others: Vec<u32> = match row.ends[other] {
                None => vec![NO_CLASS],
                Some(atom) => {
                    let holding = self.sides[other].holding.get(&atom);
                    holding.into_iter().flatten().copied().collect()
                }
            };
            let mut ends: [&[u32]; 2] = [&others; 2];
            let own = [class];
            ends[side] = &own;
            self.combine(number, row, ends, cells, &mut found)?;
        }
        Ok(found)
    }

    /// The cells of a row for some classes of source and destination.
    fn combine(
        &self,
        number: u32,
        row: &Row,
        [sources, destinations]: [&[u32]; 2],
        cells: &mut Cells<'_>,
        found: &mut Found,
    ) -> Result<(), TooMany> {
        const ANY: &[u32] = &[NO_CLASS];
        let mask = u32::from(mask_of(&row.ends, &row.ports));
        let classes = |index: usize| match row.ports[index] {
            Some(set) => &self.ports[index].of[set as usize][..],
            None => ANY,
        };
        let (source_ports, destination_ports) = (classes(0), classes(1));
        let cell = Cell {
            order: row.order,
            rule: row.word,
        };
        for source in sources {
            for destination in destinations {
                let count = source_ports.len() * destination_ports.len();
                cells.spend(row.order, count)?;
                for source_port in source_ports {
                    for destination_port in destination_ports {
                        let key = CellKey {
                            program: number,
                            mask,
                            source: *source,
                            destination: *destination,
                            source_port: *source_port,
                            destination_port: *destination_port,
                        };
                        found.add(key, cell);
                    }
                }
            }
        }
        Ok(())
    }
}

fn mask_of<P>(ends: &[Option<u32>; 2], ports: &[Option<P>; 2]) -> u16 {
    let [source, destination] = ends;
    let [source_port, destination_port] = ports;
    let bit = |there: bool, bit| if there { bit } else { 0 };
    bit(source.is_some(), mask::SOURCE)
        | bit(destination.is_some(), mask::DESTINATION)
        | bit(source_port.is_some(), mask::SOURCE_PORT)
        | bit(destination_port.is_some(), mask::DESTINATION_PORT)
}
