//! nftables messages, of `linux/netfilter/nf_tables.h`.

use std::collections::BTreeSet;

use model::Family;
use model::kernel::LinkName;

use super::table::{self, Bound, Chain, Keys, Step};
use super::{TABLES, width};
use crate::attr::{Attrs, be32_of, be64_of, nest, put, put_be32, put_text, text_of};
use crate::encode::flags;
use crate::nat::Range;
use crate::socket::Batch;

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const NFPROTO_INET: u8 = 1;
/// `sizeof(struct nfgenmsg)`.
const HEADER: usize = 4;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

pub(super) const NEW_TABLE: u16 = SUBSYSTEM << 8;
pub(super) const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
pub(super) const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
pub(super) const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
pub(super) const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
pub(super) const GET_SET: u16 = SUBSYSTEM << 8 | 10;
const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const GET_ELEMENT: u16 = SUBSYSTEM << 8 | 13;

/// In every kind of message the table is attribute 1; but for tables, the name is 2 or 3.
const ATTR_TABLE: u16 = 1;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;

mod chain {
    pub(super) const NAME: u16 = 3;
    pub(super) const HOOK: u16 = 4;
    pub(super) const POLICY: u16 = 5;
    pub(super) const TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
}

mod rule {
    pub(super) const CHAIN: u16 = 2;
    pub(super) const EXPRESSIONS: u16 = 4;
    pub(super) const NAME: u16 = 1;
    pub(super) const DATA: u16 = 2;
}

mod set {
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const KEY_TYPE: u16 = 4;
    pub(super) const KEY_LEN: u16 = 5;
    pub(super) const ID: u16 = 10;
    pub(super) const USER_DATA: u16 = 13;
    /// For nft(8), which shows names backwards otherwise: type, length, and a number in host order.
    pub(super) const IN_HOST_ORDER: [u8; 6] = {
        let [a, b, c, d] = 1u32.to_ne_bytes();
        [0, 4, a, b, c, d]
    };
    pub(super) const FLAG_INTERVAL: u32 = 4;
    /// nft(8)'s numbers of its data types.
    pub(super) const TYPE_IPV4: u32 = 7;
    pub(super) const TYPE_IPV6: u32 = 8;
    pub(super) const TYPE_IFNAME: u32 = 41;
    pub(super) const ELEMENTS: u16 = 3;
    pub(super) const ELEMENT_KEY: u16 = 1;
    pub(super) const ELEMENT_FLAGS: u16 = 3;
    pub(super) const ELEMENT_END: u32 = 1;
}

/// `NFT_REG_1`.
const REGISTER: u32 = 1;
/// `NFT_META_NFPROTO`.
const META_PROTOCOL: u32 = 15;
/// `NFT_PAYLOAD_NETWORK_HEADER`.
const NETWORK_HEADER: u32 = 1;
/// `NFT_META_IIFNAME`.
const META_IN: u32 = 6;
/// `NFT_META_OIFNAME`.
const META_OUT: u32 = 7;
const CMP_EQUAL: u32 = 0;
const CMP_NOT_EQUAL: u32 = 1;
/// `NFT_REG_VERDICT`.
const REGISTER_VERDICT: u32 = 0;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// `NF_DROP` and `NF_ACCEPT`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const LOOKUP_INVERTED: u32 = 1;

/// Elements in one message: its list must stay below 64 KiB.
const ELEMENTS: usize = 1000;

fn message(batch: &mut Batch, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    batch.push_raw(kind, flags, |out| {
        out.extend([NFPROTO_INET, 0, 0, 0]);
        fill(out);
    });
}

fn bracket(batch: &mut Batch, kind: u16) {
    batch.push_raw(kind, flags::ACK, |out| {
        let [a, b] = SUBSYSTEM.to_be_bytes();
        out.extend([0, 0, a, b]);
    });
}

/// Begins a transaction.
pub(super) fn begin(batch: &mut Batch) {
    bracket(batch, BATCH_BEGIN);
}

/// Commits it.
pub(super) fn end(batch: &mut Batch) {
    bracket(batch, BATCH_END);
}

/// Makes or deletes the table.
pub(super) fn table(batch: &mut Batch, table: &str, kind: u16) {
    let create = if kind == NEW_TABLE { flags::CREATE } else { 0 };
    message(batch, kind, flags::ACK | create, |out| {
        put_text(out, ATTR_TABLE, table);
        if kind == NEW_TABLE {
            put_be32(out, 2, 0);
        }
    });
}

/// Makes a set.
pub(super) fn set(batch: &mut Batch, table: &str, name: &str, of: Keys) {
    message(batch, NEW_SET, flags::ACK | flags::CREATE, |out| {
        put_text(out, ATTR_TABLE, table);
        put_text(out, set::NAME, name);
        let (flags, kind, len) = match of {
            Keys::Addresses(f @ Family::V4) => (set::FLAG_INTERVAL, set::TYPE_IPV4, width(f)),
            Keys::Addresses(f @ Family::V6) => (set::FLAG_INTERVAL, set::TYPE_IPV6, width(f)),
            Keys::Names => (0, set::TYPE_IFNAME, table::NAME_LEN),
        };
        put_be32(out, set::FLAGS, flags);
        put_be32(out, set::KEY_TYPE, kind);
        put_be32(out, set::KEY_LEN, len);
        if of == Keys::Names {
            put(out, set::USER_DATA, &set::IN_HOST_ORDER);
        }
        // Required, though rules name the set by its name.
        put_be32(out, set::ID, 1);
    });
}

/// Fills a set, in as many messages as it takes.
pub(super) fn elements(
    batch: &mut Batch,
    table: &str,
    name: &str,
    family: Family,
    ranges: &[Range],
) {
    for some in table::bounds(ranges, family).chunks(ELEMENTS) {
        message(batch, NEW_ELEMENT, flags::ACK | flags::CREATE, |out| {
            put_text(out, ATTR_TABLE, table);
            put_text(out, set::NAME, name);
            nest(out, set::ELEMENTS, |out| {
                for bound in some {
                    element(out, *bound, family);
                }
            });
        });
    }
}

fn element(out: &mut Vec<u8>, bound: Bound, family: Family) {
    let (Bound::Start(at) | Bound::End(at)) = bound;
    let bytes = at.to_be_bytes();
    let skipped = bytes.len() - usize::from(family.bits() / 8);
    nest(out, LIST_ELEMENT, |out| {
        if matches!(bound, Bound::End(_)) {
            put_be32(out, set::ELEMENT_FLAGS, set::ELEMENT_END);
        }
        nest(out, set::ELEMENT_KEY, |out| {
            put(out, DATA_VALUE, bytes.get(skipped..).unwrap_or_default());
        });
    });
}

/// Fills a set of names.
pub(super) fn names(batch: &mut Batch, table: &str, name: &str, of: &BTreeSet<LinkName>) {
    let all: Vec<_> = of.iter().collect();
    for some in all.chunks(ELEMENTS) {
        message(batch, NEW_ELEMENT, flags::ACK | flags::CREATE, |out| {
            put_text(out, ATTR_TABLE, table);
            put_text(out, set::NAME, name);
            nest(out, set::ELEMENTS, |out| {
                for link in some {
                    nest(out, LIST_ELEMENT, |out| {
                        nest(out, set::ELEMENT_KEY, |out| {
                            put(out, DATA_VALUE, &table::padded(link.as_str()));
                        });
                    });
                }
            });
        });
    }
}

/// Makes a chain.
pub(super) fn chain(batch: &mut Batch, table: &str, wanted: &Chain) {
    message(batch, NEW_CHAIN, flags::ACK | flags::CREATE, |out| {
        put_text(out, ATTR_TABLE, table);
        put_text(out, chain::NAME, &wanted.name);
        nest(out, chain::HOOK, |out| {
            put_be32(out, chain::HOOK_NUMBER, wanted.hook);
            put_be32(out, chain::HOOK_PRIORITY, wanted.priority.cast_unsigned());
        });
        put_be32(out, chain::POLICY, wanted.policy);
        put_text(out, chain::TYPE, &wanted.kind);
    });
}

/// Appends a rule to a chain.
pub(super) fn rule(batch: &mut Batch, table: &str, chain: &str, steps: &[Step]) {
    message(
        batch,
        NEW_RULE,
        flags::ACK | flags::CREATE | flags::APPEND,
        |out| {
            put_text(out, ATTR_TABLE, table);
            put_text(out, rule::CHAIN, chain);
            nest(out, rule::EXPRESSIONS, |out| {
                for step in steps {
                    nest(out, LIST_ELEMENT, |out| write_step(out, step));
                }
            });
        },
    );
}

fn write_step(out: &mut Vec<u8>, step: &Step) {
    let mut data = Vec::new();
    let numbers = |data: &mut Vec<u8>, numbers: &[u32]| {
        for (kind, number) in (1..).zip(numbers) {
            put_be32(data, kind, *number);
        }
    };
    let name = match step {
        Step::Equal(value) => {
            numbers(&mut data, &[REGISTER, CMP_EQUAL]);
            nest(&mut data, 3, |out| put(out, DATA_VALUE, value));
            "cmp"
        }
        Step::Protocol | Step::InInterface | Step::OutInterface => {
            let key = match step {
                Step::InInterface => META_IN,
                Step::OutInterface => META_OUT,
                _ => META_PROTOCOL,
            };
            numbers(&mut data, &[REGISTER, key]);
            "meta"
        }
        Step::NotEqual(value) => {
            numbers(&mut data, &[REGISTER, CMP_NOT_EQUAL]);
            nest(&mut data, 3, |out| put(out, DATA_VALUE, value));
            "cmp"
        }
        Step::Accept | Step::Drop => {
            numbers(&mut data, &[REGISTER_VERDICT]);
            let code = if *step == Step::Drop { DROP } else { ACCEPT };
            nest(&mut data, 2, |out| {
                nest(out, DATA_VERDICT, |out| put_be32(out, VERDICT_CODE, code));
            });
            "immediate"
        }
        Step::Network { offset, len } => {
            numbers(&mut data, &[REGISTER, NETWORK_HEADER, *offset, *len]);
            "payload"
        }
        Step::Lookup { set, not } => {
            put_text(&mut data, 1, set);
            put_be32(&mut data, 2, REGISTER);
            if *not {
                put_be32(&mut data, 5, LOOKUP_INVERTED);
            }
            "lookup"
        }
        Step::Counter(bytes) => {
            put(&mut data, 1, &bytes.to_be_bytes());
            "counter"
        }
        Step::Masquerade => "masq",
        Step::Foreign(name) => name,
    };
    put_text(out, rule::NAME, name);
    nest(out, rule::DATA, |out| out.extend(data));
}

/// Asks for the table, or for its chains, rules or sets.
pub(super) fn get(batch: &mut Batch, table: &str, kind: u16, flags: u16, of_chain: Option<&str>) {
    message(batch, kind, flags, |out| {
        put_text(out, ATTR_TABLE, table);
        if let Some(chain) = of_chain {
            put_text(out, rule::CHAIN, chain);
        }
    });
}

/// Asks for the elements of a set.
pub(super) fn get_elements(batch: &mut Batch, table: &str, name: &str) {
    message(batch, GET_ELEMENT, flags::DUMP, |out| {
        put_text(out, ATTR_TABLE, table);
        put_text(out, set::NAME, name);
    });
}

/// Whether a message is about a table of ours.
pub(crate) fn is_our_table(payload: &[u8]) -> bool {
    TABLES.iter().any(|table| ours(payload, table).is_some())
}

fn ours<'a>(payload: &'a [u8], table: &str) -> Option<Attrs<'a>> {
    let attrs = Attrs::after(payload, HEADER);
    let named = attrs.find(ATTR_TABLE).and_then(text_of);
    (payload.first() == Some(&NFPROTO_INET) && named == Some(table)).then_some(attrs)
}

/// Reads a chain of our table.
pub(super) fn read_chain(payload: &[u8], table: &str) -> Option<Chain> {
    let attrs = ours(payload, table)?;
    let text = |kind| {
        attrs
            .find(kind)
            .and_then(text_of)
            .unwrap_or_default()
            .to_owned()
    };
    let hook = Attrs::new(attrs.find(chain::HOOK).unwrap_or_default());
    let number = |attrs: Attrs<'_>, kind| attrs.find(kind).and_then(be32_of).unwrap_or(u32::MAX);
    Some(Chain {
        name: text(chain::NAME),
        kind: text(chain::TYPE),
        hook: number(hook, chain::HOOK_NUMBER),
        priority: number(hook, chain::HOOK_PRIORITY).cast_signed(),
        policy: number(attrs, chain::POLICY),
    })
}

/// Reads the name of a set of our table.
pub(super) fn read_set(payload: &[u8], table: &str) -> Option<String> {
    ours(payload, table)?
        .find(set::NAME)
        .and_then(text_of)
        .map(str::to_owned)
}

/// Reads a rule of our table.
pub(super) fn read_rule(payload: &[u8], table: &str) -> Option<Vec<Step>> {
    let expressions = ours(payload, table)?
        .find(rule::EXPRESSIONS)
        .unwrap_or_default();
    Some(
        Attrs::new(expressions)
            .map(|(_, e)| read_step(Attrs::new(e)))
            .collect(),
    )
}

fn read_step(expression: Attrs<'_>) -> Step {
    let name = expression
        .find(rule::NAME)
        .and_then(text_of)
        .unwrap_or_default();
    let data = Attrs::new(expression.find(rule::DATA).unwrap_or_default());
    known_step(name, data).unwrap_or_else(|| Step::Foreign(name.to_owned()))
}

fn known_step(name: &str, data: Attrs<'_>) -> Option<Step> {
    let number = |kind| data.find(kind).and_then(be32_of);
    let on_register = |kind| number(kind) == Some(REGISTER);
    let step = match name {
        "meta" if number(2)? == META_PROTOCOL && on_register(1) => Step::Protocol,
        "meta" if number(2)? == META_IN && on_register(1) => Step::InInterface,
        "meta" if number(2)? == META_OUT && on_register(1) => Step::OutInterface,
        "cmp" if number(2)? == CMP_NOT_EQUAL && on_register(1) => {
            Step::NotEqual(Attrs::new(data.find(3)?).find(DATA_VALUE)?.to_vec())
        }
        "immediate" if number(1)? == REGISTER_VERDICT => {
            let verdict = Attrs::new(data.find(2)?).find(DATA_VERDICT)?;
            match Attrs::new(verdict).find(VERDICT_CODE).and_then(be32_of)? {
                DROP => Step::Drop,
                ACCEPT => Step::Accept,
                _ => return None,
            }
        }
        "cmp" if number(2)? == CMP_EQUAL && on_register(1) => {
            Step::Equal(Attrs::new(data.find(3)?).find(DATA_VALUE)?.to_vec())
        }
        "payload" if number(2)? == NETWORK_HEADER && on_register(1) => Step::Network {
            offset: number(3)?,
            len: number(4)?,
        },
        "lookup" if on_register(2) => Step::Lookup {
            set: text_of(data.find(1)?)?.to_owned(),
            not: number(5).unwrap_or(0) == LOOKUP_INVERTED,
        },
        "counter" => Step::Counter(data.find(1).and_then(be64_of)?),
        // With flags or ports it is another's.
        "masq" if [1, 2, 3].iter().all(|k| number(*k).unwrap_or(0) == 0) => Step::Masquerade,
        _ => return None,
    };
    Some(step)
}

/// Reads the bounds in a message of elements.
pub(super) fn read_elements(payload: &[u8], table: &str, family: Family) -> Vec<Bound> {
    let list = ours(payload, table)
        .and_then(|a| a.find(set::ELEMENTS))
        .unwrap_or_default();
    let skipped = 16 - usize::from(family.bits() / 8);
    let bound = |element: Attrs<'_>| {
        let key = Attrs::new(element.find(set::ELEMENT_KEY)?).find(DATA_VALUE)?;
        let mut bytes = [0; 16];
        let room = bytes
            .get_mut(skipped..)
            .filter(|room| room.len() == key.len())?;
        room.copy_from_slice(key);
        let at = u128::from_be_bytes(bytes);
        let end = element
            .find(set::ELEMENT_FLAGS)
            .and_then(be32_of)
            .unwrap_or(0);
        Some(if end & set::ELEMENT_END != 0 {
            Bound::End(at)
        } else {
            Bound::Start(at)
        })
    };
    Attrs::new(list)
        .filter_map(|(_, e)| bound(Attrs::new(e)))
        .collect()
}

/// Reads the names in a message of elements.
pub(super) fn read_names(payload: &[u8], table: &str) -> Vec<String> {
    let list = ours(payload, table).and_then(|a| a.find(set::ELEMENTS));
    let name = |element: Attrs<'_>| {
        let key = Attrs::new(element.find(set::ELEMENT_KEY)?);
        key.find(DATA_VALUE).and_then(text_of).map(str::to_owned)
    };
    Attrs::new(list.unwrap_or_default())
        .filter_map(|(_, e)| name(Attrs::new(e)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_read_as_written() {
        let guard = super::super::guard::rules(true, [7, 9]);
        let cutoff = super::super::cutoff::chains().map(|(_, rule)| rule);
        for wanted in table::rules().into_iter().chain(guard).chain(cutoff) {
            let mut out = Vec::new();
            for step in &wanted {
                nest(&mut out, LIST_ELEMENT, |out| write_step(out, step));
            }
            let read: Vec<Step> = Attrs::new(&out)
                .map(|(_, e)| read_step(Attrs::new(e)))
                .collect();
            assert_eq!(read, wanted);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 4..300)) {
            let mut head = vec![NFPROTO_INET, 0, 0, 0];
            let table = TABLES[0];
            put_text(&mut head, ATTR_TABLE, table);
            head.append(&mut bytes);
            let _ = (read_chain(&head, table), read_set(&head, table), read_rule(&head, table));
            let _ = read_names(&head, table);
            for family in Family::ALL {
                let _ = read_elements(&head, table, family);
            }
        }
    }
}
