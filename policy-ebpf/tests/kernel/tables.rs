//! From tables and frames in memory into the kernel.

use model::Cidr;
use policy_common::endpoint::OwnKey;
use policy_common::packet::mapped;
use policy_ebpf::kernel::{Plain, Prefix4, Prefix6, Programs, Table, Test};
use policy_ebpf::memory::Memory;
use std::net::IpAddr;

use crate::world::Sent;

/// A frame for the programs, so many times, when the clock is ahead by so many seconds.
pub fn test(sent: &Sent, ahead: u32, repeat: u32) -> Test<'_> {
    Test {
        hook: sent.hook,
        frame: &sent.bytes,
        ifindex: sent.ifindex,
        came_from: sent.came_from,
        for_host: sent.for_host,
        ahead,
        repeat,
    }
}

/// Everything that is in memory into the maps.
pub fn write(programs: &Programs, memory: &Memory) {
    let maps = &programs.maps;
    maps.global.put(&0, &memory.settings).expect("settings");
    clear_and_put(
        &maps.endpoints,
        memory.endpoints.iter().map(|(k, v)| (*k, *v)),
    );
    clear_and_put(&maps.failsafe, memory.failsafe.iter().map(|k| (*k, 1)));
    let own = memory.own.iter().map(|&(ifindex, address, bits)| {
        let (address, bits) = match address {
            IpAddr::V4(v4) => (mapped(v4.octets()), bits + 96),
            IpAddr::V6(v6) => (v6.octets(), bits),
        };
        let key = OwnKey {
            prefix_len: 32 + bits,
            ifindex: ifindex.to_be_bytes(),
            address,
        };
        (key, 1)
    });
    clear_and_put(&maps.own, own);
    let tables = &memory.tables;
    let of = |v4: bool| {
        let all = tables.identities.iter();
        all.filter(move |(p, _)| p.network().is_ipv4() == v4)
    };
    clear_and_put(&maps.identity4, of(true).map(|(p, i)| (prefix4(p), *i)));
    clear_and_put(&maps.identity6, of(false).map(|(p, i)| (prefix6(p), *i)));
    clear_and_put(&maps.class, tables.classes.iter().map(|(k, v)| (*k, *v)));
    clear_and_put(&maps.port, tables.ports.iter().map(|(k, v)| (*k, *v)));
    clear_and_put(&maps.cell, tables.cells.iter().map(|(k, v)| (*k, *v)));
    clear_and_put(&maps.chain, tables.chains.iter().map(|(k, v)| (*k, *v)));
}

/// Makes a table have these rows and no others.
pub fn clear_and_put<K: Plain + Copy, V: Plain>(
    table: &Table<K, V>,
    rows: impl Iterator<Item = (K, V)>,
) {
    for key in table.keys().expect("keys") {
        table.remove(&key).expect("a removal");
    }
    let (keys, values): (Vec<K>, Vec<V>) = rows.unzip();
    table.put_all(&keys, &values).expect("room");
}

fn prefix4(prefix: &Cidr) -> Prefix4 {
    let IpAddr::V4(v4) = prefix.network() else {
        panic!("{prefix:?} is not of IPv4");
    };
    Prefix4 {
        prefix_len: u32::from(prefix.prefix_len()),
        address: v4.octets(),
    }
}

fn prefix6(prefix: &Cidr) -> Prefix6 {
    let IpAddr::V6(v6) = prefix.network() else {
        panic!("{prefix:?} is not of IPv6");
    };
    Prefix6 {
        prefix_len: u32::from(prefix.prefix_len()),
        address: v6.octets(),
    }
}
