//! Subnets of nodes joined by one forwarding router, and etcd behind it.
//!
//! ```text
//!   etcd 172.31.0.10 ── br0 ┐
//!   n1 172.31.1.11 ──── br1 ┤ router (a namespace that forwards)
//!   n2 172.31.1.12 ────  "  ┤
//!   n3 172.31.2.11 ──── br2 ┘     IPv6: fd31:0:0:SUBNET::/64 with the same last parts
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use super::{Etcd, Lab, Netns, Node};

/// Address families of the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

impl Families {
    /// Whether IPv4 is in it.
    pub fn v4(self) -> bool {
        self != Families::V6
    }

    /// Whether IPv6 is in it.
    pub fn v6(self) -> bool {
        self != Families::V4
    }
}

/// What a mesh looks like.
#[derive(Clone, Debug)]
pub struct MeshSpec {
    /// Number of nodes in each subnet.
    pub subnets: Vec<u8>,
    /// Families of the underlay.
    pub families: Families,
    /// MTU of the underlay, bytes.
    pub mtu: u32,
}

impl MeshSpec {
    /// One subnet of `n` nodes, both families, MTU 1500.
    pub fn flat(n: u8) -> MeshSpec {
        MeshSpec {
            subnets: vec![n],
            families: Families::Dual,
            mtu: 1500,
        }
    }

    /// Subnets of these sizes with a router between them, both families, MTU 1500.
    pub fn routed(subnets: &[u8]) -> MeshSpec {
        MeshSpec {
            subnets: subnets.to_vec(),
            ..MeshSpec::flat(0)
        }
    }

    /// The same with other underlay families.
    #[must_use]
    pub fn over(mut self, families: Families) -> MeshSpec {
        self.families = families;
        self
    }

    /// The same with another underlay MTU.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> MeshSpec {
        self.mtu = mtu;
        self
    }
}

/// A mesh: namespaces, etcd, and a node object for each host. Daemons are started by the test.
#[derive(Debug)]
pub struct Mesh {
    /// The nodes, `n1` first.
    pub nodes: Vec<Node>,
    /// The store, started.
    pub etcd: Etcd,
    /// The router between the subnets.
    pub router: Netns,
    /// A host outside the mesh, where etcd also runs.
    pub outside: Netns,
    spec: MeshSpec,
    sizes: Vec<u8>,
}

impl Mesh {
    /// Builds the topology and starts etcd.
    ///
    /// # Errors
    /// When the kernel refuses something or etcd does not answer.
    pub fn build(lab: &Lab, spec: &MeshSpec) -> Result<Mesh> {
        let router = router(lab, spec)?;
        let outside = lab.netns("outside")?;
        plug(lab, &router, &outside, spec, (0, 10))?;
        let etcd_ip = first(spec.families, 0, 10)?;
        let mut mesh = Mesh {
            nodes: Vec::new(),
            etcd: Etcd::start(lab, &outside, etcd_ip)?,
            router,
            outside,
            spec: spec.clone(),
            sizes: vec![0; spec.subnets.len()],
        };
        for (subnet, count) in (1u8..).zip(&spec.subnets) {
            for _ in 0..*count {
                mesh.add_node(lab, subnet)?;
            }
        }
        Ok(mesh)
    }

    /// Only the router and the hosts' namespaces, in the order of the nodes: for paths built by hand.
    ///
    /// # Errors
    /// When the kernel refuses something.
    pub fn bare(lab: &Lab, spec: &MeshSpec) -> Result<Vec<Netns>> {
        let router = router(lab, spec)?;
        let mut hosts = Vec::new();
        for (subnet, count) in (1u8..).zip(&spec.subnets) {
            for host in 0..*count {
                let ns = lab.netns(&format!("bare{}", hosts.len() + 1))?;
                plug(lab, &router, &ns, spec, (subnet, 11 + host))?;
                hosts.push(ns);
            }
        }
        Ok(hosts)
    }

    /// Adds a host to subnet `subnet`, counted from 1. Its daemon is not started.
    ///
    /// # Errors
    /// When the subnet does not exist or the kernel refuses.
    pub fn add_node(&mut self, lab: &Lab, subnet: u8) -> Result<&mut Node> {
        let size = self
            .sizes
            .get_mut(usize::from(subnet.saturating_sub(1)))
            .with_context(|| format!("there is no subnet {subnet}"))?;
        *size += 1;
        let host = 10 + *size;
        let name = format!("n{}", self.nodes.len() + 1);
        let ns = lab.netns(&name)?;
        plug(lab, &self.router, &ns, &self.spec, (subnet, host))?;
        let ips = addresses(self.spec.families, subnet, host)
            .into_iter()
            .map(|(ip, _)| ip)
            .collect();
        let node = Node::new(lab, &name, &ns, ips, Some(&self.etcd.url()))?;
        self.nodes.push(node);
        self.nodes.last_mut().context("a node was pushed")
    }

    /// Starts every daemon, then waits until each is ready.
    ///
    /// # Errors
    /// When one ends or is not ready in time.
    pub fn start(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.start()?;
        }
        for node in &mut self.nodes {
            node.wait_ready()?;
        }
        Ok(())
    }

    /// A node by its place, 0 first.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn node(&self, i: usize) -> Result<&Node> {
        self.nodes
            .get(i)
            .with_context(|| format!("the mesh has no node {i}"))
    }

    /// As [`Mesh::node`], to change.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn node_mut(&mut self, i: usize) -> Result<&mut Node> {
        self.nodes
            .get_mut(i)
            .with_context(|| format!("the mesh has no node {i}"))
    }
}

/// A namespace that forwards, with a bridge for each subnet.
fn router(lab: &Lab, spec: &MeshSpec) -> Result<Netns> {
    let router = lab.netns("router")?;
    router.sysctl("net/ipv4/ip_forward", "1")?;
    router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    for subnet in 0..=u8::try_from(spec.subnets.len())? {
        let bridge = bridge(subnet);
        router.ip(&format!(
            // With an address of its own: else it takes the lowest of its ports', and a node that joins
            // would leave all others with a wrong neighbour entry for the router.
            "link add {bridge} address 02:72:74:00:00:{subnet:02x} mtu {} type bridge mcast_snooping 0\nlink set {bridge} up",
            spec.mtu
        ))?;
        for (ip, len) in addresses(spec.families, subnet, 1) {
            router.ip(&add_address(ip, len, &bridge))?;
        }
    }
    Ok(router)
}

/// Connects a host's `eth0` to a subnet, with addresses and default routes.
fn plug(lab: &Lab, router: &Netns, ns: &Netns, spec: &MeshSpec, at: (u8, u8)) -> Result<()> {
    let (subnet, host) = at;
    let port = format!("p{subnet}-{host}");
    lab.veth((ns, "eth0"), (router, &port), spec.mtu)?;
    router.ip(&format!("link set {port} master {}", bridge(subnet)))?;
    for (ip, len) in addresses(spec.families, subnet, host) {
        ns.ip(&add_address(ip, len, "eth0"))?;
    }
    for (gateway, _) in addresses(spec.families, subnet, 1) {
        ns.ip(&format!("route add default via {gateway} dev eth0"))?;
    }
    Ok(())
}

/// Without detection of duplicates: even where it is switched off, an address is tentative, and
/// nothing can listen on it, until a kernel worker has looked at it.
fn add_address(ip: IpAddr, len: u8, dev: &str) -> String {
    let flag = if ip.is_ipv6() { " nodad" } else { "" };
    format!("addr add {ip}/{len} dev {dev}{flag}")
}

fn bridge(subnet: u8) -> String {
    format!("br{subnet}")
}

/// Address and prefix length of a host, for each family in use.
fn addresses(families: Families, subnet: u8, host: u8) -> Vec<(IpAddr, u8)> {
    let mut all = Vec::new();
    if families.v4() {
        all.push((Ipv4Addr::new(172, 31, subnet, host).into(), 24));
    }
    if families.v6() {
        // Written so that the decimal numbers of both families look alike.
        let digits = u16::from(host / 10) * 16 + u16::from(host % 10);
        all.push((
            Ipv6Addr::new(0xfd31, 0, 0, subnet.into(), 0, 0, 0, digits).into(),
            64,
        ));
    }
    all
}

fn first(families: Families, subnet: u8, host: u8) -> Result<IpAddr> {
    let all = addresses(families, subnet, host);
    all.first().map(|(ip, _)| *ip).context("no address family")
}
