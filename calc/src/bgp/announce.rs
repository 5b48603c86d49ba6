//! What this node announces, and which learnt routes inside the pools it takes.

use std::collections::{BTreeMap, BTreeSet};

use model::Cidr;
use model::bgp::{Announcement, Community, PoolGuard};
use model::resources::BgpConfigurationSpec;

use super::settings::Settings;
use crate::Inputs;
use crate::blocks::Mesh;
use crate::pools::Pools;
use crate::problems::Problems;

/// Own blocks whole, though most of their addresses be free; single addresses only of blocks of others.
pub(super) fn decide(
    inputs: &Inputs<'_>,
    pools: &Pools<'_>,
    settings: &Settings<'_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<Cidr, Announcement> {
    let tags = Tags::new(settings, problems);
    let mut announced = BTreeMap::new();
    for (cidr, block) in &inputs.snapshot.blocks {
        let exported = match pools.of(cidr) {
            Some(pool) => !pool.spec.disable_bgp_export,
            None => block.in_use,
        };
        if !exported {
            continue;
        }
        if block.node.as_deref() == Some(inputs.node) {
            announced.insert(*cidr, tags.of(cidr));
        }
        let borrowed = block
            .borrowed
            .iter()
            .filter(|(_, node)| **node == *inputs.node);
        announced.extend(borrowed.map(|(ip, _)| (Cidr::host(*ip), tags.of(&Cidr::host(*ip)))));
    }
    let blocks = settings
        .default()
        .into_iter()
        .flat_map(BgpConfigurationSpec::service_blocks);
    announced.extend(blocks.map(|cidr| (cidr, tags.of(&cidr))));
    announced
}

/// Communities by prefix.
struct Tags(Vec<(Cidr, Vec<Community>)>);

impl Tags {
    fn new(settings: &Settings<'_>, problems: &mut Problems<'_>) -> Tags {
        let (own, default) = (settings.own(), settings.default());
        let own_ones = own.filter(|c| !c.prefix_advertisements.is_empty());
        let Some(said) = own_ones.or(default) else {
            return Tags(Vec::new());
        };
        let named = |name: &str| {
            let known = [own, default].into_iter().flatten();
            let mut known = known.flat_map(|c| &c.communities);
            known.find(|c| c.name == name).map(|c| c.value.clone())
        };
        let mut unknown = BTreeSet::new();
        let mut read = |text: &String| {
            let value = named(text).unwrap_or_else(|| text.clone());
            let community = value.parse().ok();
            if community.is_none() {
                unknown.insert(text.clone());
            }
            community
        };
        let advertisements = said.prefix_advertisements.iter();
        let tags = advertisements
            .map(|a| (a.cidr, a.communities.iter().filter_map(&mut read).collect()))
            .collect();
        for name in unknown {
            let message = format!(
                "spec.prefixAdvertisements: {name} is the name of no community, and left out: add it to spec.communities"
            );
            problems.add("BGPConfiguration".to_owned(), message);
        }
        Tags(tags)
    }

    fn of(&self, cidr: &Cidr) -> Announcement {
        let inside = self.0.iter().filter(|(range, _)| range.covers(cidr));
        let all: BTreeSet<Community> = inside.flat_map(|(_, tags)| tags.iter().copied()).collect();
        let mut announcement = Announcement::default();
        for community in all {
            match community {
                Community::Standard(c) => announcement.communities.push(c),
                Community::Large(c) => announcement.large_communities.push(c),
            }
        }
        announcement
    }
}

pub(super) fn guard(inputs: &Inputs<'_>, pools: &Pools<'_>, mesh: &Mesh<'_>) -> PoolGuard {
    let orphans = inputs.snapshot.blocks.iter();
    let orphans = orphans.filter(|(cidr, block)| block.in_use && pools.of(cidr).is_none());
    let pools = pools.iter().map(|p| p.spec.cidr);
    PoolGuard {
        pools: pools.chain(orphans.map(|(cidr, _)| *cidr)).collect(),
        importable: mesh.pathless.iter().copied().collect(),
        passable: mesh.led.iter().copied().collect(),
    }
}
