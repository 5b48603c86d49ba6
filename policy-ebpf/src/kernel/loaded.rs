//! What the maps say about a packet, read from them as the programs do. Nothing is written: no connection, no counter.

use std::cell::RefCell;
use std::net::IpAddr;

use policy_common::classify::{Tuple, Work, classify, identify};
use policy_common::endpoint::{Endpoint, FailsafeKey, OwnKey};
use policy_common::packet::is_mapped;
use policy_common::tables::{
    Action, Address, Cell, CellKey, ClassKey, Classes, NO_CLASS, NO_IDENTITY, PortKey, Tables, rule,
};

use super::error::KernelError;
use super::hooks::Hook;
use super::maps::Maps;
use super::programs::Programs;
use super::sys::{Prefix4, Prefix6};
use crate::mirror::address;

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

/// What stands behind a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// A rule or the end of a tier, by its number: [`Engine::describe`](crate::Engine::describe) knows it.
    Number(u32),
    /// The profile of the endpoint.
    Profile,
    /// A port of the host that no policy closes.
    Failsafe,
    /// Nothing that rules say.
    Nothing,
}

impl Loaded {
    /// Whether the packet passes.
    pub fn allows(self) -> bool {
        match self {
            Loaded::Decided(word) => Action::of(word) == Action::Allow,
            Loaded::Detached => true,
            Loaded::Unknown | Loaded::NotProgrammed | Loaded::Spoofed => false,
        }
    }

    /// By what.
    pub fn behind(self) -> Behind {
        match self {
            Loaded::Decided(rule::FAILSAFE) => Behind::Failsafe,
            Loaded::Decided(rule::PROFILE_ALLOW | rule::PROFILE_DENY) => Behind::Profile,
            Loaded::Decided(word) => Behind::Number(rule::number(word)),
            _ => Behind::Nothing,
        }
    }
}

/// The first packet of a connection, as policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; 0 where the protocol has none.
    pub source_port: u16,
    /// Destination port; 0 where the protocol has none.
    pub destination_port: u16,
    /// Type and code of ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
}

impl First {
    fn tuple(&self) -> Tuple {
        let of_icmp = self.icmp.map(|(t, c)| u16::from_be_bytes([t, c]));
        Tuple {
            source: address(self.source),
            destination: address(self.destination),
            source_port: self.source_port,
            destination_port: of_icmp.unwrap_or(self.destination_port),
            protocol: self.protocol,
            pad: [0; 3],
        }
    }
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
        packet: &First,
    ) -> Result<Loaded, KernelError> {
        let tuple = packet.tuple();
        let Some(endpoint) = self.endpoints.get(&ifindex)? else {
            return Ok(Loaded::Unknown);
        };
        if let Some(early) = self.before_rules(&endpoint, ifindex, outbound, &tuple)? {
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
            tuple,
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
        packet: &First,
    ) -> Result<Loaded, KernelError> {
        let hook = match outbound {
            true => Hook::FromWire,
            false => Hook::ToWire,
        };
        match self.is_at(ifindex, hook)? {
            true => self.maps.judge(ifindex, outbound, packet),
            false => Ok(Loaded::Detached),
        }
    }
}
