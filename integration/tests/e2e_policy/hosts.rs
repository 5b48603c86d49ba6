//! Policy of the hosts themselves.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use integration::lab::probe::dial::{self, Doors, Outcome};
use integration::lab::{self, MeshSpec, Netns, Node, wait};
use integration::scenario::{CONVERGE, mesh_configuration, pools};

use crate::rig::{PATIENCE, WEB, calico, delete, enforces, expect, mesh, pod};

const SSH: u16 = 22;

/// Waits until knocking at a host's ports gives this.
fn host_is(from: &Netns, at: &[&str], wanted: &[(u16, Outcome)]) -> Result<()> {
    wait("the host's policy to be as applied", CONVERGE, || {
        for (ip, (port, wanted)) in at.iter().flat_map(|ip| wanted.iter().map(move |w| (ip, w))) {
            let to = SocketAddr::new(ip.parse()?, *port);
            let got = dial::tcp(from, to, PATIENCE)?;
            ensure!(got == *wanted, "{to}: {got:?}, wanted {wanted:?}");
        }
        Ok(())
    })
}

/// Addresses of the second node.
const AT: [&str; 2] = ["172.31.1.12", "fd31:0:0:1::12"];
/// A failsafe port.
const OPEN: (u16, Outcome) = (SSH, Outcome::Answered);

/// The second node as an endpoint.
fn host_endpoint(name: &str, interface: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{ name: {name}, labels: {{ role: host }} }}\n\
         spec: {{ node: n2, interfaceName: {interface} }}\n"
    )
}

/// Closes all but failsafe ports of the second node, which were open.
fn closes(n2: &Node, outside: &Netns, host: &str) -> Result<()> {
    host_is(outside, &AT, &[OPEN, (WEB, Outcome::Answered)])?;
    n2.apply(host)?;
    host_is(outside, &AT, &[OPEN, (WEB, Outcome::Silent)])
}

#[test]
fn a_host_endpoint_closes_all_but_failsafe_ports_and_what_is_allowed() -> Result<()> {
    lab::run("policy-host", |lab| {
        let mut mesh = mesh(lab, &MeshSpec::flat(2), "Never")?;
        let near = pod(lab, mesh.node(0)?, "near", &[])?;
        let far = pod(lab, mesh.node(1)?, "far", &[])?;
        let n2 = mesh.node(1)?;
        let _doors = Doors::open(&n2.ns, &[WEB, SSH])?;
        let outside = mesh.outside.clone();
        let (at, open) = (AT, OPEN);
        closes(n2, &outside, &host_endpoint("n2-eth0", "eth0"))?;
        // What is forwarded is for the workloads' policies, and the host goes on as a node.
        expect(&[(&near, &far, WEB, true), (&far, &near, WEB, true)])?;
        let allow = "{ selector: role == 'host', types: [Ingress], ingress: [\
                     { action: Allow, protocol: TCP, source: { nets: [172.31.0.0/24] }, destination: { ports: [8080] } } ] }";
        n2.apply(&calico("GlobalNetworkPolicy", "host", allow))?;
        let [v4, v6] = at;
        host_is(&outside, &[v4], &[open, (WEB, Outcome::Answered)])?;
        host_is(&outside, &[v6], &[open, (WEB, Outcome::Silent)])?;
        // Locked out by a policy and by a restart, the operator still gets in, and the daemon to its store.
        let shut = "{ order: 1, selector: role == 'host', types: [Ingress, Egress], \
                    ingress: [{ action: Deny }], egress: [{ action: Deny }] }";
        n2.apply(&calico("GlobalNetworkPolicy", "shut", shut))?;
        host_is(&outside, &at, &[open, (WEB, Outcome::Silent)])?;
        let n2 = mesh.node_mut(1)?;
        n2.stop()?;
        n2.start_ready()?;
        enforces(n2)?;
        host_is(&outside, &at, &[open, (WEB, Outcome::Silent)])?;
        n2.apply(&mesh_configuration("failsafeInboundHostPorts: []"))?;
        host_is(&outside, &at, &[(SSH, Outcome::Silent)])?;
        delete(n2, "hostendpoint", "n2-eth0")?;
        host_is(&outside, &at, &[open, (WEB, Outcome::Answered)])
    })
}

#[test]
fn a_host_endpoint_for_all_interfaces_is_at_every_one_but_those_of_workloads() -> Result<()> {
    lab::run("policy-host-all", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(2), "Always")?;
        mesh.node(0)?.apply(&pools("Always", true))?;
        let near = pod(lab, mesh.node(0)?, "near", &[])?;
        let far = pod(lab, mesh.node(1)?, "far", &[])?;
        let beside = pod(lab, mesh.node(1)?, "beside", &[])?;
        let n2 = mesh.node(1)?;
        let _doors = Doors::open(&n2.ns, &[WEB, SSH])?;
        let outside = mesh.outside.clone();
        let (at, open) = (AT, OPEN);
        closes(n2, &outside, &host_endpoint("n2-all", "'*'"))?;
        // What goes through the host is unaffected: between nodes, on the node, and masqueraded to the outside.
        let through = [
            (&near, &far, WEB, true),
            (&far, &near, WEB, true),
            (&beside, &far, WEB, true),
        ];
        expect(&through)?;
        let _world = Doors::open(&outside, &[WEB])?;
        for ip in ["172.31.0.10", "fd31::10"] {
            let to = SocketAddr::new(ip.parse()?, WEB);
            wait("the outside to answer", CONVERGE, || {
                let got = dial::tcp(far.ns(), to, PATIENCE)?;
                ensure!(got == Outcome::Answered, "{to}: {got:?}");
                Ok(())
            })?;
        }
        // The overlay is a way to the host like any other, and a workload of the node is none of its interfaces.
        let tunnel = tunnel_address(n2)?;
        host_is(near.ns(), &[&tunnel], &[open, (WEB, Outcome::Silent)])?;
        host_is(beside.ns(), &at, &[open, (WEB, Outcome::Answered)])?;
        // One that appears later is covered as well.
        let other = lab.netns("other")?;
        n2.ns.ip("link add late0 type veth peer name late1")?;
        n2.ns
            .output("ip", &format!("link set late1 netns {}", other.name()))?;
        n2.ns
            .ip("addr add 192.0.2.1/24 dev late0\nlink set late0 up")?;
        other.ip("addr add 192.0.2.2/24 dev late1\nlink set late1 up")?;
        host_is(&other, &["192.0.2.1"], &[open, (WEB, Outcome::Silent)])?;
        let allow = "{ selector: role == 'host', types: [Ingress], ingress: [\
                     { action: Allow, protocol: TCP, source: { nets: [192.0.2.0/24] }, destination: { ports: [8080] } } ] }";
        n2.apply(&calico("GlobalNetworkPolicy", "host", allow))?;
        host_is(&other, &["192.0.2.1"], &[open, (WEB, Outcome::Answered)])?;
        host_is(&outside, &at, &[open, (WEB, Outcome::Silent)])?;
        // One that names an interface goes before it there.
        let named = host_endpoint("n2-late", "late0");
        n2.apply(&named.replace("role: host", "role: none"))?;
        host_is(&other, &["192.0.2.1"], &[open, (WEB, Outcome::Silent)])?;
        delete(n2, "hostendpoint", "n2-late")?;
        host_is(&other, &["192.0.2.1"], &[open, (WEB, Outcome::Answered)])?;
        n2.ns.ip("link del late0")?;
        delete(n2, "hostendpoint", "n2-all")?;
        host_is(&outside, &at, &[open, (WEB, Outcome::Answered)])?;
        expect(&through)
    })
}

/// The address that a node has in the overlay of IPv4.
fn tunnel_address(node: &Node) -> Result<String> {
    let shown = node.ns.output("ip", "-4 -o addr show dev rtd.vxlan4")?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "inet");
    let address = words.nth(1).and_then(|a| a.split('/').next());
    address.map(str::to_owned).context("no address")
}

#[test]
fn workloads_reach_their_host_unless_that_is_dropped() -> Result<()> {
    lab::run("policy-to-host", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(2), "Never")?;
        let n1 = mesh.node(0)?;
        let near = pod(lab, n1, "near", &[])?;
        let doors = [
            Doors::open(&n1.ns, &[WEB])?,
            Doors::open(&mesh.node(1)?.ns, &[WEB])?,
        ];
        let own = ["172.31.1.11", "fd31:0:0:1::11"];
        let other = ["172.31.1.12", "fd31:0:0:1::12"];
        let reached = [(WEB, Outcome::Answered)];
        host_is(near.ns(), &own, &reached)?;
        n1.apply(&mesh_configuration("defaultEndpointToHostAction: Drop"))?;
        host_is(near.ns(), &own, &[(WEB, Outcome::Silent)])?;
        host_is(near.ns(), &other, &reached)?;
        // The host itself always reaches its workloads.
        for v6 in [false, true] {
            ensure!(dial::tcp(&n1.ns, near.at(v6, WEB)?, PATIENCE)? == Outcome::Answered);
        }
        n1.apply(&mesh_configuration("defaultEndpointToHostAction: Return"))?;
        host_is(near.ns(), &own, &reached)?;
        drop(doors);
        Ok(())
    })
}
