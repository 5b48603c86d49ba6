//! What the tests share: resources, switches, and what is asked of nodes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::{Lab, Mesh, MeshSpec, Netns, Node, wait};
use integration::scenario;
use serde_json::Value;

pub(crate) use integration::lab::switches::{Bird, Frr, shows};

/// Long enough for a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(45);
/// The AS of nodes when nobody says another.
pub(crate) const OUR_AS: u32 = 64512;
/// The AS of the switch.
pub(crate) const TOR_AS: u32 = 65001;
/// The switch of the first subnet.
pub(crate) const TOR: &str = "172.31.1.1";
/// What the switch announces: a network behind it.
pub(crate) const FAR: &str = "198.51.100.0/24";

/// A `BGPPeer`; `spec` in YAML's flow style.
pub(crate) fn peer(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: routerd/v1\nkind: BGPPeer\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n---\n"
    )
}

/// No sessions among the nodes.
pub(crate) fn no_mesh() -> String {
    "apiVersion: routerd/v1\nkind: BGPConfiguration\nmetadata: { name: default }\n\
     spec: { nodeToNodeMeshEnabled: false }\n---\n"
        .to_owned()
}

/// One rack: nodes in one subnet, and a switch that is their router. Pools are native and nothing masquerades.
pub(crate) fn rack(lab: &Lab, nodes: u8) -> Result<Mesh> {
    let mut mesh = Mesh::build(lab, &MeshSpec::flat(nodes))?;
    scenario::start(&mut mesh, "Never")?;
    Ok(mesh)
}

/// BIRD as the switch, with `more` in the channel to each node and `options` in the protocol. What it learns, it forwards,
/// and tells nobody.
pub(crate) fn bird_tor(lab: &Lab, tor: &Netns, more: &str, options: &str) -> Result<Bird> {
    bird_that_tells(lab, tor, "where source = RTS_STATIC", more, options)
}

/// As [`bird_tor`], but each node hears of the others too.
pub(crate) fn talkative_tor(lab: &Lab, tor: &Netns) -> Result<Bird> {
    bird_that_tells(lab, tor, "all", "", "")
}

fn bird_that_tells(lab: &Lab, tor: &Netns, tells: &str, more: &str, options: &str) -> Result<Bird> {
    let config = format!(
        "protocol kernel k4 {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol kernel k6 {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol static far4 {{ ipv4; route {FAR} blackhole; {more} }}\n\
         protocol static far6 {{ ipv6; route 2001:db8:100::/48 blackhole; }}\n\
         protocol bgp rack {{ local {TOR} as {TOR_AS}; neighbor range 172.31.1.0/24 as {OUR_AS}; {options}\n\
           graceful restart on; hold time 9; ipv4 {{ import all; export {tells}; }}; }}\n\
         protocol bgp rack6 {{ local fd31:0:0:1::1 as {TOR_AS}; neighbor range fd31:0:0:1::/64 as {OUR_AS};\n\
           dynamic name \"six\"; graceful restart on; hold time 9;\n\
           ipv6 {{ import all; export {tells}; }}; }}\n"
    );
    Bird::start(lab, tor, "tor", &config)
}

/// Waits until a node says that its session with `peer` is up, an address, node or name; the session.
pub(crate) fn established(node: &Node, peer: &str) -> Result<Value> {
    wait(
        &format!("{} to be up with {peer}", node.name),
        LIMIT,
        || {
            let shown = node.json(&["bgp", "peers"])?;
            let peers = scenario::list(&shown, "peers")?;
            let found = peers
                .iter()
                .find(|p| [&p["peer"], &p["node"], &p["name"]].contains(&&Value::from(peer)));
            let found = found.with_context(|| format!("no such peer: {shown}"))?;
            ensure!(found["state"] == "Established", "{shown}");
            Ok(found.clone())
        },
    )
}

/// Waits until a node's kernel has a learnt route by these gateways, and no others.
pub(crate) fn learns(node: &Node, prefix: &str, gateways: &[&str]) -> Result<()> {
    wait(&format!("{prefix} at {}", node.name), LIMIT, || {
        let learnt = learnt(node, prefix)?;
        ensure!(
            learnt == gateways,
            "by {learnt:?}: {}",
            node.json(&["bgp", "routes"])?
        );
        Ok(())
    })
}

/// The gateways of a learnt route in a node's kernel, sorted.
pub(crate) fn learnt(node: &Node, prefix: &str) -> Result<Vec<String>> {
    let family = if prefix.contains(':') { "-6 " } else { "" };
    let routes = node
        .ns
        .ip_json(&format!("{family}route show {prefix} proto 83"))?;
    let routes = routes.as_array().cloned().unwrap_or_default();
    let hops = routes.iter().flat_map(|r| match r.get("nexthops") {
        Some(Value::Array(hops)) => hops.clone(),
        _ => vec![r.clone()],
    });
    // Of a hop of another family it is elsewhere (RFC 8950).
    let gateway = |hop: Value| {
        let ip = hop.get("gateway").or_else(|| hop.get("via")?.get("host"))?;
        ip.as_str().map(str::to_owned)
    };
    let mut gateways: Vec<String> = hops.filter_map(gateway).collect();
    gateways.sort();
    Ok(gateways)
}

/// What a node says of a peer, by name.
pub(crate) fn session(node: &Node, name: &str) -> Result<Value> {
    let shown = node.json(&["bgp", "peers"])?;
    let peers = scenario::list(&shown, "peers")?;
    let found = peers.iter().find(|p| p["name"] == name);
    found
        .cloned()
        .with_context(|| format!("no {name}: {shown}"))
}

/// Waits until status says this of BGP, and is not content.
pub(crate) fn complains(node: &Node, of: &[&str]) -> Result<()> {
    wait(&format!("{} to say {of:?}", node.name), LIMIT, || {
        let (state, message) = subsystem(node)?;
        let all = of.iter().all(|word| message.contains(word));
        ensure!(state == "Degraded" && all, "{state}: {message}");
        Ok(())
    })
}

/// Waits until a node has a block; its first one.
pub(crate) fn block(node: &Node, of: &str) -> Result<String> {
    wait(&format!("{of} to have a block"), LIMIT, || {
        let blocks = blocks(node, of)?;
        blocks.first().cloned().context("no block yet")
    })
}

/// The state and message of the subsystem `bgp`.
pub(crate) fn subsystem(node: &Node) -> Result<(String, String)> {
    scenario::subsystem(node, "bgp")
}

/// Blocks of a node, IPv4 only.
pub(crate) fn blocks(node: &Node, of: &str) -> Result<Vec<String>> {
    let shown = node.json(&["ipam", "show", "--blocks"])?;
    let blocks = scenario::list(&shown, "blocks")?.iter();
    let own = blocks.filter(|b| b["node"] == of);
    let own = own.filter_map(|b| b["cidr"].as_str().map(str::to_owned));
    Ok(own.filter(|cidr| !cidr.contains(':')).collect())
}
