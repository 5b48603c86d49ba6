//! What the records of addresses say of ends that no workload has.

use std::net::IpAddr;

use ipam::blocks::{Reserved, Rest};
use ipam::show;
use model::api::AddressShow;
use model::block::Block;
use model::{Cidr, keys};

use crate::services::Services;
use crate::time::now_millis;

/// Reads one block for each address.
pub(super) async fn read(
    s: &Services,
    wanted: &[(IpAddr, Option<Cidr>)],
) -> Result<Vec<AddressShow>, datastore::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let settings = s.control.query(|snapshot, _| {
        let reservations = snapshot.reservations.values();
        let reserved = reservations.flat_map(|r| r.spec.reserved_cidrs.clone());
        (reserved.collect(), snapshot.ipam.cooldown_seconds)
    });
    let (reserved, cooldown): (Vec<Cidr>, u32) = settings.await.unwrap_or_default();
    let reserved = Reserved::new(reserved);
    let rest = Rest {
        now: now_millis(),
        cooldown: u64::from(cooldown) * 1000,
    };
    let mut records = Vec::new();
    for (ip, cidr) in wanted {
        let stored = match cidr {
            Some(cidr) => s.store.get(&keys::block(cidr)).await?,
            None => None,
        };
        // One that does not decode is reported elsewhere.
        let block = stored.and_then(|kv| Block::decode(&kv.value).ok());
        records.push(show::address(*ip, block.as_ref(), &reserved, rest));
    }
    Ok(records)
}
