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

/// Writes that take the tables from one state of the world to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// To be done in order. After each of them every packet is judged by the old state or by the new one,
    /// as far as one endpoint goes.
    pub puts: Vec<Op>,
    /// To be done once no program runs that began before the last of `puts`: what nothing leads to any more.
    pub deletes: Vec<Op>,
}

impl Update {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }

    /// All writes in order.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.puts.iter().chain(&self.deletes)
    }
}
