//! How each other node is reached: what `routerctl tunnels` shows.

use model::tunnel::PublicKey;

use crate::Inputs;
use crate::blocks::{self, Learns};
use crate::mtu;
use crate::peers::Peers;
use crate::pools::Pools;
use crate::problems::Problems;
use crate::tunnels::Tunnels;
use crate::wireguard::{Standing, Wireguard};

/// How packets to a node go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In clear, by the network.
    Direct,
    /// In clear, in VXLAN.
    Vxlan,
    /// By the encrypted tunnel, to the peer with this key.
    WireGuard(PublicKey),
    /// Not at all: it may not be reached in clear and there is no tunnel.
    Barred,
}

/// The way to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWay {
    /// Name of the node.
    pub node: String,
    /// How it is reached.
    pub way: Way,
    /// Largest packet that goes there whole, bytes; 0 when none does.
    pub mtu: u32,
}

/// The ways to all other nodes. Computed anew at each call, as the desired state is.
pub fn ways(inputs: &Inputs<'_>) -> Vec<NodeWay> {
    let mut problems = Problems::default();
    let pools = Pools::new(inputs.snapshot);
    let peers = Peers::new(inputs, &mut problems);
    let mtu = mtu::decide(inputs, &pools, &peers, &mut problems);
    let tunnels = Tunnels::decide(inputs, &pools, &peers, &mtu, &mut problems);
    let wireguard = Wireguard::decide(inputs, &pools, &peers, &mtu, &mut problems);
    let mesh = blocks::decide(
        inputs,
        &pools,
        &peers,
        &tunnels,
        &wireguard,
        Learns::Nothing,
        &mut problems,
    );
    let ways = peers.iter().zip(mesh.used).enumerate();
    ways.map(|(index, (peer, used))| {
        let vxlan = used.over.and_then(|over| tunnels.over(over));
        let (way, mtu) = match (wireguard.standing(index), vxlan) {
            (Standing::Encrypted { key, over, .. }, _) => {
                (Way::WireGuard(key), wireguard.mtu(over))
            }
            (Standing::Barred, _) => (Way::Barred, 0),
            (Standing::Plain, Some(device)) => (Way::Vxlan, device.mtu),
            (Standing::Plain, None) => {
                let links = model::Family::ALL.into_iter();
                let links = links.filter_map(|f| {
                    peer.underlay(f)?;
                    inputs.underlay.of(f)
                });
                let mtu = links.map(|l| l.mtu).next();
                (Way::Direct, mtu.unwrap_or(0))
            }
        };
        let node = peer.name.to_owned();
        NodeWay { node, way, mtu }
    })
    .collect()
}
