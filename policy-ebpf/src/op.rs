//! What has to be written into the tables, as plain data.

use model::Cidr;
use model::object::ObjectId;
use policy_common::tables::{Cell, CellKey, Chain, ClassKey, Classes, PortKey};

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// What an identity is to a program.
    Class(ClassKey, Option<Classes>),
    /// Class of ports.
    Port(PortKey, Option<u32>),
    /// First rule of a combination of classes.
    Cell(CellKey, Option<Cell>),
    /// What the word of a list stands for: the `Log` rules in a cell, where there are several, in order. Only who reads
    /// counters needs it.
    List(u32, Option<Box<[Cell]>>),
    /// Identity of a prefix.
    Identity(Cidr, Option<u32>),
    /// The identities of addresses are others from here on: connections are to be judged again.
    World(u32),
    /// A chain, by its number.
    Chain(u32, Option<Box<Chain>>),
    /// The chains of an endpoint of this node. Without any it is closed.
    Endpoint(ObjectId, Option<Chains>),
    /// A rule's number is free: its counters say nothing any more.
    Forget(u32),
}

/// The chains of an endpoint by their numbers, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chains {
    /// For what goes to it.
    pub ingress: u32,
    /// For what comes from it.
    pub egress: u32,
    /// Were staged policies in force; 0 when that would be the same.
    pub staged_ingress: u32,
    /// Were staged policies in force; 0 when that would be the same.
    pub staged_egress: u32,
    /// Higher with every change: connections judged under another one are to be judged again.
    pub generation: u32,
}

/// Writes that take the tables from one state of the world to the next, in three steps. A step is begun when
/// no program runs any more that began before the last write of the step before, so that a packet under
/// way finds all it was led to. What finds room only when this is done comes behind it, as another update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// To be done in order. After each of them every packet is judged by the old state or by the new one,
    /// as far as one endpoint goes.
    pub puts: Vec<Op>,
    /// To be done in order: identities become one that only rules told apart which are gone.
    pub merges: Vec<Op>,
    /// What nothing leads to any more, table by table.
    pub deletes: Vec<Op>,
    /// To be done when all of this is.
    pub next: Option<Box<Update>>,
}

impl Op {
    /// Which table it writes to.
    pub(crate) fn table(&self) -> u8 {
        match self {
            Op::Class(..) => 0,
            Op::Port(..) => 1,
            Op::Cell(..) => 2,
            Op::Chain(..) => 3,
            Op::Identity(..) => 4,
            Op::World(_) => 5,
            Op::Endpoint(..) => 6,
            // Behind it the lists, by which counters are read that it spreads.
            Op::Forget(_) => 7,
            Op::List(..) => 8,
        }
    }
}

impl Update {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops().next().is_none()
    }

    /// All writes in order.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        let updates = std::iter::successors(Some(self), |update| update.next.as_deref());
        updates.flat_map(|update| {
            let Update {
                puts,
                merges,
                deletes,
                ..
            } = update;
            puts.iter().chain(merges).chain(deletes)
        })
    }
}
