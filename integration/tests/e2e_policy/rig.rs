//! A mesh with labelled workloads, and who reaches whom.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::lab::cni::{Call, Workload};
use integration::lab::probe::dial::{self, Doors, Outcome};
use integration::lab::{Cni, Lab, Mesh, MeshSpec, Netns, Node, wait};
pub(crate) use integration::scenario::enforces_policy as enforces;
use integration::scenario::{self, CONVERGE};
use serde_json::{Value, json};

/// A round trip here takes well under a millisecond: who has not answered by now is not reached.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);
pub(crate) const WEB: u16 = 8080;
pub(crate) const DB: u16 = 5432;

/// A mesh of which every daemon runs, with the pools.
pub(crate) fn mesh(lab: &Lab, spec: &MeshSpec, vxlan: &str) -> Result<Mesh> {
    let mut mesh = Mesh::build(lab, spec)?;
    scenario::start(&mut mesh, vxlan)?;
    for node in &mesh.nodes {
        enforces(node)?;
    }
    Ok(mesh)
}

/// State and message of the subsystem.
pub(crate) fn policy_status(node: &Node) -> Result<(String, String)> {
    scenario::subsystem(node, "policy")
}

/// A workload that answers at its doors.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) workload: Workload,
    pub(crate) doors: Doors,
}

impl Pod {
    pub(crate) fn at(&self, v6: bool, port: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.workload.ip(v6)?, port))
    }

    pub(crate) fn ns(&self) -> &Netns {
        &self.workload.ns
    }
}

/// How a workload is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) labels: &'a [(&'a str, &'a str)],
    pub(crate) more: Value,
}

/// A workload of the namespace `default`.
pub(crate) fn pod(lab: &Lab, node: &Node, name: &str, labels: &[(&str, &str)]) -> Result<Pod> {
    let ask = Ask {
        namespace: "default",
        name,
        labels,
        more: Value::Null,
    };
    pod_with(lab, node, &ask)
}

pub(crate) fn pod_with(lab: &Lab, node: &Node, ask: &Ask<'_>) -> Result<Pod> {
    let ns = lab.workload_netns(ask.name)?;
    let doors = Doors::open(&ns, &[WEB, DB])?;
    let workload = attach(lab, node, &ns, ask)?;
    Ok(Pod { workload, doors })
}

/// ADD, as `ask` has it.
pub(crate) fn attach(lab: &Lab, node: &Node, ns: &Netns, ask: &Ask<'_>) -> Result<Workload> {
    let labels: serde_json::Map<String, Value> =
        (ask.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v)))).collect();
    let mut args = json!({ "labels": labels });
    if let (Some(args), Some(more)) = (args.as_object_mut(), ask.more.as_object()) {
        args.extend(more.clone());
    }
    let mut workload = Workload {
        name: ask.name.to_owned(),
        id: format!("{}-{}", lab.tag(), ask.name),
        ns: ns.clone(),
        ips: Vec::new(),
        result: Value::Null,
    };
    let call = Call {
        args: format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={}",
            ask.namespace, ask.name
        ),
        extra: json!({ "args": { "cni": args } }),
        ..workload.call()
    };
    let answer = Cni::of(node)?.call("ADD", &call)?;
    workload.result = answer.must_succeed("ADD", ask.name)?;
    workload.ips = integration::lab::cni::addresses(&workload.result)?;
    Ok(workload)
}

/// Who knocks where, and whether there is an answer.
pub(crate) type Case<'a> = (&'a Pod, &'a Pod, u16, bool);

/// Waits until all of this holds at once, in both families and by TCP and UDP.
pub(crate) fn expect(cases: &[Case<'_>]) -> Result<()> {
    wait("policy to be as applied", CONVERGE, || check(cases))
}

/// Whether all of this holds now.
pub(crate) fn check(cases: &[Case<'_>]) -> Result<()> {
    for (from, to, port, open) in cases {
        for v6 in [false, true] {
            let at = to.at(v6, *port)?;
            let wanted = match open {
                true => Outcome::Answered,
                false => Outcome::Silent,
            };
            let tcp = dial::tcp(from.ns(), at, PATIENCE)?;
            let udp = dial::udp(from.ns(), at, PATIENCE)?;
            ensure!(
                (tcp, udp) == (wanted, wanted),
                "{} to {} at {at}: TCP {tcp:?}, UDP {udp:?}, wanted {wanted:?}",
                from.workload.name,
                to.workload.name
            );
        }
    }
    Ok(())
}

/// A manifest of Calico's API.
pub(crate) fn calico(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {spec}\n---\n"
    )
}

/// Nobody reaches anybody, save by other policies.
pub(crate) fn default_deny() -> String {
    calico(
        "GlobalNetworkPolicy",
        "deny",
        "{ order: 1000, types: [Ingress, Egress], ingress: [{ action: Deny }], egress: [{ action: Deny }] }",
    )
}

/// Removes a resource that is there.
pub(crate) fn delete(node: &Node, kind: &str, name: &str) -> Result<()> {
    let args = ["delete", kind, name];
    node.ctl(&args)?.must_succeed(&args).map(drop)
}
