//! `routerctl ipam show`: the use of pools and blocks, and who has an address.

use std::net::IpAddr;

use model::Cidr;
use model::api::{AddressShow, AddressState, BlockUse, PoolUse};
use model::block::Block;

use crate::blocks::{Reserved, Rest};

/// Use of each pool, given as name and range, in their order.
pub fn pools<'a>(
    pools: impl IntoIterator<Item = (&'a str, Cidr)>,
    blocks: &[Block],
) -> Vec<PoolUse> {
    let each = pools.into_iter().map(|(name, cidr)| {
        let inside = blocks.iter().filter(|b| cidr.covers(&b.cidr));
        let (count, used) = inside.fold((0, 0), |(n, used), b| (n + 1, used + b.used.len()));
        PoolUse {
            name: name.to_owned(),
            cidr,
            capacity: saturated(cidr.size()),
            used: saturated(used as u128),
            blocks: count,
        }
    });
    each.collect()
}

/// Use of each block.
pub fn blocks(blocks: &[Block], rest: Rest) -> Vec<BlockUse> {
    let each = blocks.iter().map(|block| {
        let resting = block.cooldown.values().filter(|freed| !rest.over(**freed));
        let taken = block.used.len() + resting.count();
        BlockUse {
            cidr: block.cidr,
            node: block.node.clone().unwrap_or_default(),
            used: saturated(block.used.len() as u128),
            free: saturated(block.cidr.size().saturating_sub(taken as u128)),
        }
    });
    each.collect()
}

/// The state of one address.
pub fn address(ip: IpAddr, block: Option<&Block>, reserved: &Reserved, rest: Rest) -> AddressShow {
    let place = block.and_then(|b| Some((b, u32::try_from(b.cidr.index_of(ip)?).ok()?)));
    let allocation = place.and_then(|(b, place)| b.used.get(&place));
    let freed = place.and_then(|(b, place)| b.cooldown.get(&place));
    let state = match (allocation, freed) {
        (Some(_), _) => AddressState::Used,
        (None, Some(freed)) if !rest.over(*freed) => AddressState::Cooldown,
        _ if reserved.contains(ip) => AddressState::Reserved,
        _ => AddressState::Free,
    };
    let mut show = AddressShow {
        ip,
        state,
        handle: String::new(),
        node: String::new(),
        namespace: String::new(),
        name: String::new(),
    };
    if let Some(allocation) = allocation {
        let live = allocation.holder.as_ref().unwrap_or(&allocation.handle);
        show.handle.clone_from(live);
        show.node = allocation.node.clone().unwrap_or_default();
        if let Some((namespace, name)) = allocation.workload() {
            namespace.clone_into(&mut show.namespace);
            name.clone_into(&mut show.name);
        }
    }
    show
}

fn saturated(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use model::block::Allocation;

    use super::*;

    fn rest() -> Rest {
        Rest {
            now: 40_000,
            cooldown: 30_000,
        }
    }

    fn block() -> Block {
        let mut block = Block::new("10.0.0.0/30".parse().unwrap(), Some("a".into()));
        let allocation = Allocation {
            handle: "sticky.web.x".into(),
            node: Some("b".into()),
            holder: Some("cni.mesh.1.eth0".into()),
            workload: Some("web/x-1".into()),
        };
        block.used.insert(0, allocation);
        block.cooldown = [(1, 39_000), (2, 1_000)].into();
        block
    }

    #[test]
    fn use_counts_resting_addresses_as_not_free() {
        let show = blocks(&[block()], rest());
        assert_eq!((show[0].used, show[0].free), (1, 2));
        let pool: Cidr = "10.0.0.0/24".parse().unwrap();
        let huge: Cidr = "fd00::/32".parse().unwrap();
        let show = pools([("a", pool), ("b", huge)], &[block()]);
        assert_eq!(
            (show[0].capacity, show[0].used, show[0].blocks),
            (256, 1, 1)
        );
        assert_eq!(
            (show[1].capacity, show[1].used, show[1].blocks),
            (u64::MAX, 0, 0)
        );
    }

    #[test]
    fn an_address_tells_its_workload() {
        let reserved = Reserved::new(vec!["10.0.0.3/32".parse().unwrap()]);
        let state = |ip: &str| address(ip.parse().unwrap(), Some(&block()), &reserved, rest());
        let used = state("10.0.0.0");
        assert_eq!(used.state, AddressState::Used);
        assert_eq!(
            (&*used.node, &*used.namespace, &*used.name),
            ("b", "web", "x-1")
        );
        assert_eq!(used.handle, "cni.mesh.1.eth0");
        assert_eq!(state("10.0.0.1").state, AddressState::Cooldown);
        assert_eq!(state("10.0.0.2").state, AddressState::Free);
        assert_eq!(state("10.0.0.3").state, AddressState::Reserved);
    }
}
