//! All programs: found by what they are compiled from, and told of identities that come and go.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::intern::Interner;
use super::lists::Lists;
use super::program::{Atoms, Cells, Program, ProgramRow, Room, Rows, TooMany};
use super::world::{Signature, World};
use crate::op::Update;

/// What a program is compiled from: parts in order, and whether it is of those rules that only log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProgramKey {
    pub(super) parts: Vec<u32>,
    pub(super) log: bool,
}

/// All programs.
#[derive(Debug)]
pub(super) struct Programs {
    /// What one may have of cells, and all together of rows.
    limits: Room,
    programs: Interner<ProgramKey, Program>,
    /// What cells of those stand for that only log.
    pub(super) lists: Lists,
    /// Those that every identity can be something to.
    wide: BTreeSet<u32>,
    /// The programs that an identity is something to.
    of: HashMap<u32, Vec<u32>>,
    /// Rows that they have in the tables.
    rows: Rows,
    /// Rows that leave the tables at the end of this batch: until then they take room.
    leaving: Rows,
    /// Those with more combinations than one may have, for identities that came later.
    grown: BTreeSet<u32>,
}

impl Programs {
    /// Without any. One may have so many cells, and all together so many rows of each table.
    pub(super) fn new(cells: usize, rows: usize) -> Programs {
        Programs {
            limits: Room {
                cells,
                rows: Rows {
                    classes: rows,
                    ports: rows,
                    cells: rows,
                },
            },
            programs: Interner::default(),
            lists: Lists::default(),
            wide: BTreeSet::new(),
            of: HashMap::new(),
            rows: Rows::default(),
            leaving: Rows::default(),
            grown: BTreeSet::new(),
        }
    }

    /// A program that is there already, held once more.
    pub(super) fn hold(&mut self, key: &ProgramKey) -> Option<u32> {
        let number = self.programs.find(key)?;
        self.programs.hold_again(number);
        Some(number)
    }

    /// The masks that the rows of a program have, as bits.
    pub(super) fn masks(&self, number: u32) -> u16 {
        self.programs[number].masks()
    }

    /// Compiles a program that is not there, if there is room.
    pub(super) fn build(
        &mut self,
        key: ProgramKey,
        rows: Vec<ProgramRow>,
        world: &mut World,
        update: &mut Update,
    ) -> Result<u32, TooMany> {
        let log = key.log;
        let (number, _) = self.programs.hold(key);
        let before = update.puts.len();
        let (identities, atoms) = (&world.identities, &world.atoms);
        let room = Room {
            rows: self.limits.rows - self.rows - self.leaving,
            ..self.limits
        };
        let to = (&mut *update, &mut self.lists);
        let compiled = Program::compile(number, (rows, log), identities, atoms, &room, to);
        let program = match compiled {
            Ok(program) => program,
            Err(e) => {
                update.puts.truncate(before);
                self.programs.release(number);
                return Err(e);
            }
        };
        for atom in program.atoms() {
            world.atoms[atom].programs.insert(number);
        }
        for identity in program.identities.keys() {
            self.of.entry(*identity).or_default().push(number);
        }
        if program.has_wide() {
            self.wide.insert(number);
        }
        self.rows += program.size();
        self.programs[number] = program;
        Ok(number)
    }

    /// One user less; the parts of a program that has no more users come back.
    pub(super) fn release(
        &mut self,
        number: u32,
        atoms: &mut Atoms,
        update: &mut Update,
    ) -> Option<Arc<ProgramKey>> {
        let (key, mut program) = self.programs.release(number)?;
        for atom in program.atoms() {
            if let Some(used) = atoms.get_mut(atom) {
                used.programs.remove(&number);
            }
        }
        for identity in program.identities.keys() {
            if let Some(programs) = self.of.get_mut(identity) {
                programs.retain(|p| *p != number);
                if programs.is_empty() {
                    self.of.remove(identity);
                }
            }
        }
        self.wide.remove(&number);
        self.grown.remove(&number);
        self.rows = self.rows - program.size();
        self.leaving += program.size();
        program.clear(number, update, &mut self.lists);
        Some(key)
    }

    /// A new identity: its rows in all programs.
    pub(super) fn add_identity(
        &mut self,
        identity: u32,
        signature: &Signature,
        atoms: &Atoms,
        update: &mut Update,
    ) {
        let mut programs = self.wide.clone();
        for mark in &signature.marks {
            programs.extend(&atoms[*mark].programs);
        }
        let mut of = Vec::new();
        for number in programs {
            let program = &mut self.programs[number];
            let before = program.size();
            // Without these rows a packet would be taken for one that no rule is about, so there is no limit here.
            let mut cells = Cells::unbounded(update, &mut self.lists);
            let added = program.add(number, identity, signature, atoms, &mut cells);
            cells.flush();
            let after = program.size();
            self.rows += after - before;
            if after.cells > self.limits.cells {
                self.grown.insert(number);
            }
            if added.is_ok() && program.identities.contains_key(&identity) {
                of.push(number);
            }
        }
        if !of.is_empty() {
            self.of.insert(identity, of);
        }
    }

    /// An identity that nobody has any more.
    pub(super) fn remove_identity(&mut self, identity: u32, update: &mut Update) {
        for number in self.of.remove(&identity).into_iter().flatten() {
            let program = &mut self.programs[number];
            let before = program.size();
            program.remove(number, identity, update, &mut self.lists);
            let gone = before - program.size();
            self.rows = self.rows - gone;
            self.leaving += gone;
        }
    }

    /// How many programs there are, and how many cells and rows of identities they have.
    pub(super) fn size(&self) -> [usize; 3] {
        let programs = self.programs.iter().map(|(.., p)| p);
        programs.fold([0; 3], |[n, cells, classes], p| {
            [n + 1, cells + p.cells, classes + p.identities.len()]
        })
    }

    /// Programs beyond a limit that were put in force below it: number, rows and limit.
    pub(super) fn outgrown(&self) -> Vec<(u32, usize, usize)> {
        let cells = self.limits.cells;
        let grown = self.grown.iter().filter_map(|number| {
            let size = self.programs.value(*number)?.size();
            (size.cells > cells).then_some((*number, size.cells, cells))
        });
        let mut all: Vec<_> = grown.collect();
        if !self.rows.fit(&self.limits.rows) {
            let (rows, limit) = (self.rows.most(), self.limits.rows.most());
            let programs = self.programs.iter();
            let largest = programs.max_by_key(|(.., program)| program.size().most());
            all.extend(largest.map(|(number, ..)| (number, rows, limit)));
        }
        all
    }

    /// The parts of a program, and the order of its row that takes the most.
    pub(super) fn greediest(&self, number: u32) -> Option<(&ProgramKey, u32)> {
        let program = self.programs.value(number)?;
        Some((self.programs.get(number)?, program.greediest()))
    }

    /// How many rows there are in the fullest table.
    pub(super) fn rows(&self) -> usize {
        self.rows.most()
    }

    /// At the end of a batch.
    pub(super) fn rest(&mut self) {
        self.leaving = Rows::default();
        self.lists.rest();
        self.programs.rest();
        for program in self.programs.values_mut() {
            program.rest();
        }
    }
}
