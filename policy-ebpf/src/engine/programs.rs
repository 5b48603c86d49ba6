//! All programs: found by what they are compiled from, and told of identities that come and go.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::intern::Interner;
use super::program::{Atoms, Cells, Program, ProgramRow, TooMany};
use super::world::{Signature, World};
use crate::op::Update;

/// What a program is compiled from: parts in order, and whether it is of those rules that only log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProgramKey {
    pub(super) parts: Vec<u32>,
    pub(super) log: bool,
}

/// All programs.
#[derive(Debug, Default)]
pub(super) struct Programs {
    programs: Interner<ProgramKey, Program>,
    /// Those that every identity can be something to.
    wide: BTreeSet<u32>,
    /// The programs that an identity is something to.
    of: HashMap<u32, Vec<u32>>,
}

impl Programs {
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

    /// Compiles a program that is not there. It has at most `limit` cells.
    pub(super) fn build(
        &mut self,
        key: ProgramKey,
        rows: Vec<ProgramRow>,
        world: &mut World,
        limit: usize,
        update: &mut Update,
    ) -> Result<u32, TooMany> {
        let (number, _) = self.programs.hold(key);
        let before = update.puts.len();
        let (identities, atoms) = (&world.identities, &world.atoms);
        let compiled = Program::compile(number, rows, identities, atoms, limit, update);
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
        program.clear(number, update);
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
            // Without these rows a packet would be taken for one that no rule is about, so there is no limit here.
            let mut cells = Cells::unbounded(update);
            let added = program.add(number, identity, signature, atoms, &mut cells);
            cells.flush();
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
            self.programs[number].remove(number, identity, update);
        }
    }

    /// How many programs there are, and how many cells and rows of identities they have.
    pub(super) fn size(&self) -> [usize; 3] {
        let programs = self.programs.iter().map(|(.., p)| p);
        programs.fold([0; 3], |[n, cells, classes], p| {
            [n + 1, cells + p.cells, classes + p.identities.len()]
        })
    }

    /// At the end of a batch.
    pub(super) fn rest(&mut self) {
        self.programs.rest();
        for program in self.programs.values_mut() {
            program.rest();
        }
    }
}
