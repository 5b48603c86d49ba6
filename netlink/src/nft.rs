//! Our nftables tables: each written in one transaction and read back whole. One masquerades; the others are in
//! [`guard`] and [`cutoff`].
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

pub(crate) mod cutoff;
mod guard;
mod table;
mod wire;

use model::Family;
use model::kernel::Nat;
use table::{CHAIN, Chain, Keys, SETS, Step};
pub(crate) use wire::is_our_table;

use crate::encode::flags;
use crate::nat::{Range, prefixes};
use crate::socket::{Batch, Socket};
use crate::{Error, Refusal};

const TABLE: &str = model::marks::NFT_TABLE;
/// All tables of ours.
const TABLES: [&str; 3] = [TABLE, model::marks::NFT_GUARD, model::marks::NFT_CUTOFF];

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
        self.replace(TABLE, |batch| {
            for set in &SETS {
                wire::set(batch, TABLE, set.name, Keys::Addresses(set.family));
                let ranges = (set.ranges)(nat, set.family);
                wire::elements(batch, TABLE, set.name, set.family, &ranges);
            }
            wire::chain(batch, TABLE, &table::chain());
            for rule in table::rules() {
                wire::rule(batch, TABLE, CHAIN, &rule);
            }
        })
    }

    /// Deletes the table; done when there is none.
    pub(crate) fn delete(&mut self) -> Result<(), Refusal> {
        self.remove(TABLE)
    }

    /// Puts a table in place of one of this name.
    fn replace(&mut self, table: &str, fill: impl FnOnce(&mut Batch)) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        wire::begin(&mut batch);
        // Deleting needs it to be there: made first, if need be.
        wire::table(&mut batch, table, wire::NEW_TABLE);
        wire::table(&mut batch, table, wire::DELETE_TABLE);
        wire::table(&mut batch, table, wire::NEW_TABLE);
        fill(&mut batch);
        wire::end(&mut batch);
        self.transact(&mut batch)
    }

    fn remove(&mut self, table: &str) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        wire::begin(&mut batch);
        wire::table(&mut batch, table, wire::NEW_TABLE);
        wire::table(&mut batch, table, wire::DELETE_TABLE);
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
        if !self.exists(TABLE)? {
            return Ok(None);
        }
        let foreign = Ok(Some(Nat::default()));
        if self.chains(TABLE)? != [table::chain()]
            || table::uncounted(self.rules(TABLE, CHAIN)?) != table::rules()
            || self.sets(TABLE)? != sorted(SETS.iter().map(|s| s.name))
        {
            return foreign;
        }
        let mut nat = Nat::default();
        for set in &SETS {
            let Some(ranges) = self.read_elements(TABLE, set.name, set.family)? else {
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

    fn exists(&mut self, table: &str) -> Result<bool, Refusal> {
        let mut request = Batch::default();
        wire::get(&mut request, table, wire::GET_TABLE, 0, None);
        match self.socket.get(&mut request, |_, _| Some(())) {
            Err(Refusal {
                errno: libc::ENOENT,
                ..
            }) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    fn chains(&mut self, table: &str) -> Result<Vec<Chain>, Refusal> {
        let mut request = Batch::default();
        wire::get(&mut request, table, wire::GET_CHAIN, flags::DUMP, None);
        (self.socket).dump(&mut request, |_, payload| wire::read_chain(payload, table))
    }

    fn rules(&mut self, table: &str, chain: &str) -> Result<Vec<Vec<Step>>, Refusal> {
        let mut request = Batch::default();
        wire::get(
            &mut request,
            table,
            wire::GET_RULE,
            flags::DUMP,
            Some(chain),
        );
        (self.socket).dump(&mut request, |_, payload| wire::read_rule(payload, table))
    }

    /// Names of the sets, sorted.
    fn sets(&mut self, table: &str) -> Result<Vec<String>, Refusal> {
        let mut request = Batch::default();
        wire::get(&mut request, table, wire::GET_SET, flags::DUMP, None);
        let mut sets =
            (self.socket).dump(&mut request, |_, payload| wire::read_set(payload, table))?;
        sets.sort();
        Ok(sets)
    }

    fn read_elements(
        &mut self,
        table: &str,
        set: &str,
        family: Family,
    ) -> Result<Option<Vec<Range>>, Refusal> {
        let mut request = Batch::default();
        wire::get_elements(&mut request, table, set);
        let bounds = self.socket.dump(&mut request, |_, payload| {
            Some(wire::read_elements(payload, table, family))
        })?;
        Ok(table::ranges(
            bounds.into_iter().flatten().collect(),
            family,
        ))
    }

    fn read_names(&mut self, table: &str, set: &str) -> Result<Vec<String>, Refusal> {
        let mut request = Batch::default();
        wire::get_elements(&mut request, table, set);
        let names = (self.socket).dump(&mut request, |_, payload| {
            Some(wire::read_names(payload, table))
        })?;
        Ok(names.into_iter().flatten().collect())
    }
}

fn sorted(names: impl Iterator<Item = &'static str>) -> Vec<String> {
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// The width of an address of a family in bytes.
fn width(family: Family) -> u32 {
    u32::from(family.bits() / 8)
}
