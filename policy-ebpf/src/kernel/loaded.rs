//! What the maps say about a packet, read from them as the programs do. Nothing is written: no connection, no counter.

use std::cell::RefCell;

use policy_common::classify::{Tuple, Work, classify, identify};
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey};
use policy_common::packet::is_mapped;
use policy_common::tables::{
    Address, Cell, CellKey, ClassKey, Classes, NO_CLASS, NO_IDENTITY, PortKey, Tables, rule,
};

use super::error::KernelError;
use super::links::{self, Hook};
use super::maps::Maps;
use super::programs::Programs;
use super::sys::{Prefix4, Prefix6};

/// What becomes of the first packet of a connection at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// A rule, or what stands in for one, decides: its word, see [`rule`].
    Decided(u32),
    /// The programs are not at the interface: everything passes.
    Detached,
    /// Nothing is known of the interface: everything is dropped.
    Unknown,
    /// Its policy is not there: everything is dropped.
    NotProgrammed,
    /// The workload may not send from this address.
    Spoofed,
}

/// The tables of the maps. The first error is kept, since reading cannot fail where programs read.
struct Reader<'m> {
    maps: &'m Maps,
    error: RefCell<Option<KernelError>>,
}

impl Reader<'_> {
    fn value<T>(&self, read: Result<Option<T>, KernelError>) -> Option<T> {
        read.unwrap_or_else(|e| {
            self.error.borrow_mut().get_or_insert(e);
            None
        })
    }
}

impl Tables for Reader<'_> {
    fn identity(&self, address: &Address) -> u32 {
        let found = match is_mapped(address) {
            true => {
                let [.., a, b, c, d] = *address;
                let key = Prefix4 {
                    prefix_len: 32,
                    address: [a, b, c, d],
                };
                self.maps.identity4.get(&key)
            }
            false => self.maps.identity6.get(&Prefix6 {
                prefix_len: 128,
                address: *address,
            }),
        };
        self.value(found).unwrap_or(NO_IDENTITY)
    }

    fn classes(&self, key: &ClassKey) -> Classes {
        self.value(self.maps.class.get(key)).unwrap_or_default()
    }

    fn port(&self, key: &PortKey) -> u32 {
        self.value(self.maps.port.get(key)).unwrap_or(NO_CLASS)
    }

    fn cell(&self, key: &CellKey) -> Option<Cell> {
        self.value(self.maps.cell.get(key))
    }
}

impl Maps {
    /// What becomes of a packet at an interface that has the programs; `outbound`: the endpoint sends it.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    pub fn judge(
        &self,
        ifindex: u32,
        outbound: bool,
        tuple: &Tuple,
    ) -> Result<Loaded, KernelError> {
        let Some(endpoint) = self.endpoints.get(&ifindex)? else {
            return Ok(Loaded::Unknown);
        };
        if let Some(early) = self.before_rules(&endpoint, ifindex, outbound, tuple)? {
            return Ok(early);
        }
        let number = match outbound {
            true => endpoint.egress,
            false => endpoint.ingress,
        };
        let Some(chain) = self.chain.get(&number)? else {
            return Ok(Loaded::NotProgrammed);
        };
        let reader = Reader {
            maps: self,
            error: RefCell::new(None),
        };
        let mut work = Work {
            tuple: *tuple,
            ..Work::default()
        };
        identify(&reader, &mut work);
        classify(&reader, &chain, &mut work);
        match reader.error.into_inner() {
            Some(error) => Err(error),
            None => Ok(Loaded::Decided(work.rule)),
        }
    }

    /// What is decided without asking rules.
    fn before_rules(
        &self,
        endpoint: &Endpoint,
        ifindex: u32,
        outbound: bool,
        tuple: &Tuple,
    ) -> Result<Option<Loaded>, KernelError> {
        if endpoint.is_host() {
            let key = FailsafeKey {
                outbound: u8::from(outbound),
                protocol: tuple.protocol,
                port: tuple.destination_port,
            };
            let is_open = self.failsafe.get(&key)?.is_some();
            return Ok(is_open.then_some(Loaded::Decided(rule::FAILSAFE)));
        }
        let own = OwnKey {
            prefix_len: OwnKey::BITS,
            ifindex: ifindex.to_be_bytes(),
            address: tuple.source,
        };
        let spoofed = outbound && self.own.get(&own)?.is_none();
        Ok(spoofed.then_some(Loaded::Spoofed))
    }
}

impl Programs {
    /// As [`Maps::judge`], of an interface to which [`Programs::attach`] has put the programs.
    ///
    /// # Errors
    /// The kernel refuses to be read.
    pub fn judge(
        &self,
        ifindex: u32,
        outbound: bool,
        tuple: &Tuple,
    ) -> Result<Loaded, KernelError> {
        let hook = match outbound {
            true => Hook::FromWire,
            false => Hook::ToWire,
        };
        let is_there = (self.links()).is_none_or(|links| links::is_there(&links, ifindex, hook));
        match is_there {
            true => self.maps.judge(ifindex, outbound, tuple),
            false => Ok(Loaded::Detached),
        }
    }
}
