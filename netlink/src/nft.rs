//! Our nftables table: written in one transaction, read back whole.
//!
//! ```text
//! table inet routerd {
//!     set sources4 { type ipv4_addr; flags interval; ... }      exempt4, sources6, exempt6 alike
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip saddr @sources4 ip daddr != @exempt4 counter masquerade
//!         ip6 saddr @sources6 ip6 daddr != @exempt6 counter masquerade
//!     }
//! }
//! ```

mod table;
mod wire;

use model::Family;
use model::kernel::Nat;
use table::{CHAIN, SETS};
pub(crate) use wire::is_our_table;

use crate::encode::flags;
use crate::nat::prefixes;
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal};

const TABLE: &str = model::marks::NFT_TABLE;

/// nftables in the network namespace of the thread that opened it.
pub(crate) struct Nftables {
    socket: Socket,
}

impl Nftables {
    /// Opens nftables.
    pub(crate) fn open() -> Result<Nftables, Refusal> {
        let socket = Socket::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        Ok(Nftables { socket })
    }

    /// The netlink port, carried by notifications of our own changes.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Puts the table in place of what is there: all of it, or nothing when this fails.
    pub(crate) fn set(&mut self, nat: &Nat) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        wire::begin(&mut batch);
        // Deleting needs it to be there: made first, if need be.
        wire::table(&mut batch, wire::NEW_TABLE);
        wire::table(&mut batch, wire::DELETE_TABLE);
        wire::table(&mut batch, wire::NEW_TABLE);
        for set in &SETS {
            wire::set(&mut batch, set);
            wire::elements(&mut batch, set, &(set.ranges)(nat, set.family));
        }
        wire::chain(&mut batch);
        for rule in table::rules() {
            wire::rule(&mut batch, &rule);
        }
        wire::end(&mut batch);
        self.transact(&mut batch)
    }

    /// Deletes the table; done when there is none.
    pub(crate) fn delete(&mut self) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        wire::begin(&mut batch);
        wire::table(&mut batch, wire::NEW_TABLE);
        wire::table(&mut batch, wire::DELETE_TABLE);
        wire::end(&mut batch);
        self.transact(&mut batch)
    }

    /// One failure undoes the transaction, and the first tells why.
    fn transact(&mut self, batch: &mut Batch) -> Result<(), Refusal> {
        let answers = self.socket.send(batch);
        // Those behind a failure may have no answer of their own.
        answers.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    /// What the table does; `None` when there is none.
    ///
    /// A table that is not as we write it is reported as an empty [`Nat`], which equals no
    /// canonical one.
    pub(crate) fn observe(&mut self) -> Result<Option<Nat>, Error> {
        let what = format!("table inet {TABLE}");
        self.read().map_err(|e| e.during("dump", what))
    }

    fn read(&mut self) -> Result<Option<Nat>, Refusal> {
        let mut request = Batch::default();
        wire::get(&mut request, wire::GET_TABLE, 0, None);
        match self.socket.get(&mut request, |_, _| Some(())) {
            Err(Refusal {
                errno: libc::ENOENT,
                ..
            }) => return Ok(None),
            answer => answer?,
        };
        let foreign = Ok(Some(Nat::default()));
        let mut chains = Batch::default();
        wire::get(&mut chains, wire::GET_CHAIN, flags::DUMP, None);
        let chains = self
            .socket
            .dump(&mut chains, |_, payload| wire::read_chain(payload))?;
        if chains != [table::chain()] {
            return foreign;
        }
        let mut rules = Batch::default();
        wire::get(&mut rules, wire::GET_RULE, flags::DUMP, Some(CHAIN));
        let rules = self
            .socket
            .dump(&mut rules, |_, payload| wire::read_rule(payload))?;
        if rules != table::rules() {
            return foreign;
        }
        let mut sets = Batch::default();
        wire::get(&mut sets, wire::GET_SET, flags::DUMP, None);
        let mut sets = self
            .socket
            .dump(&mut sets, |_, payload| wire::read_set(payload))?;
        sets.sort();
        let mut wanted: Vec<String> = SETS.iter().map(|s| s.name.to_owned()).collect();
        wanted.sort();
        if sets != wanted {
            return foreign;
        }
        let mut nat = Nat::default();
        for set in &SETS {
            let Some(ranges) = self.read_elements(set)? else {
                return foreign;
            };
            let into = if set.is_source {
                &mut nat.sources
            } else {
                &mut nat.exempt
            };
            into.extend(prefixes(&ranges, set.family));
        }
        Ok(Some(nat))
    }

    fn read_elements(&mut self, set: &table::Set) -> Result<Option<Vec<(u128, u128)>>, Refusal> {
        let mut request = Batch::default();
        wire::get_elements(&mut request, set.name);
        let bounds = self.socket.dump(&mut request, |_, payload| {
            Some(wire::read_elements(payload, set.family))
        })?;
        Ok(table::ranges(
            bounds.into_iter().flatten().collect(),
            set.family,
        ))
    }
}

/// The width of an address of a family in bytes.
fn width(family: Family) -> u32 {
    u32::from(family.bits() / 8)
}
