//! Two nodes, three workloads, and what is done and read there.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::lab::{self, Cni, Lab, Mesh, MeshSpec, Netns, Node, Workload, wait};
use integration::scenario::{self, CONVERGE};
use serde_json::{Value, json};

/// Long enough for a packet to be dropped twice.
pub(crate) const DENIED: Duration = Duration::from_millis(2500);

/// Two workloads on the first node and one on the second.
pub(crate) struct Scene<'l> {
    pub(crate) lab: &'l Lab,
    pub(crate) mesh: Mesh,
    pub(crate) client: Workload,
    pub(crate) web: Workload,
    pub(crate) far: Workload,
}

/// Runs a test in a scene of its own.
pub(crate) fn run(name: &str, test: impl FnOnce(&Scene<'_>) -> Result<()>) -> Result<()> {
    lab::run(name, |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        scenario::start(&mut mesh, "Never")?;
        let add = |node: usize, name: &str, app: &str| {
            let extra = json!({ "args": { "cni": { "labels": { "app": app } } } });
            Cni::of(mesh.node(node)?)?.add_with(lab, name, &extra)
        };
        let (client, web, far) = (
            add(0, "client", "shop")?,
            add(0, "web", "web")?,
            add(1, "far", "shop")?,
        );
        test(&Scene {
            lab,
            mesh,
            client,
            web,
            far,
        })
    })
}

impl Scene<'_> {
    /// The node of client and web.
    pub(crate) fn here(&self) -> Result<&Node> {
        self.mesh.node(0)
    }

    /// Applies the policy of the web and waits until it is in force: what is in no rule is dropped then, not refused.
    pub(crate) fn protect(&self) -> Result<()> {
        self.here()?
            .apply(&policy("NetworkPolicy", &web_policy()))?;
        let ip = self.web.ip(false)?;
        wait("the policy to be in force", CONVERGE, || {
            let error = connect(&self.client.ns, ip, 82, Duration::from_millis(300)).err();
            let kind = error.and_then(|e| Some(e.downcast_ref::<std::io::Error>()?.kind()));
            ensure!(kind == Some(std::io::ErrorKind::TimedOut), "{kind:?}");
            Ok(())
        })
    }
}

pub(crate) fn policy(kind: &str, spec: &Value) -> String {
    let object = json!({
        "apiVersion": "projectcalico.org/v3", "kind": kind,
        "metadata": { "name": "web", "namespace": "default" },
        "spec": spec,
    });
    object.to_string()
}

/// Port 80 of the shop to the web, logged by two rules, and nothing else.
pub(crate) fn web_policy() -> Value {
    let rule = |action: &str| {
        json!({ "action": action, "protocol": "TCP",
                "source": { "selector": "app == 'shop'" }, "destination": { "ports": [80] } })
    };
    json!({ "selector": "app == 'web'", "types": ["Ingress"],
            "ingress": [rule("Log"), { "action": "Log", "protocol": "TCP" }, rule("Allow")] })
}

pub(crate) fn listen(ns: &Netns, ip: IpAddr, port: u16) -> Result<TcpListener> {
    ns.run(|| Ok(TcpListener::bind(SocketAddr::new(ip, port))?))
}

pub(crate) fn connect(ns: &Netns, ip: IpAddr, port: u16, limit: Duration) -> Result<TcpStream> {
    ns.run(|| {
        Ok(TcpStream::connect_timeout(
            &SocketAddr::new(ip, port),
            limit,
        )?)
    })
}

/// A connection with both its ends.
pub(crate) fn pair(from: &Workload, to: &Workload, port: u16) -> Result<(TcpStream, TcpStream)> {
    let ip = to.ip(false)?;
    let listener = listen(&to.ns, ip, port)?;
    let mut connected = None;
    let what = format!("{} to reach {}", from.name, to.name);
    wait(&what, CONVERGE, || {
        connected = Some(connect(&from.ns, ip, port, Duration::from_secs(1))?);
        Ok(())
    })?;
    let near = connected.context("no connection")?;
    // An attempt before may have got through as well.
    loop {
        let (far, peer) = listener.accept()?;
        if peer == near.local_addr()? {
            return Ok((near, far));
        }
    }
}

pub(crate) fn exchange(near: &mut TcpStream, far: &mut TcpStream, bytes: usize) -> Result<()> {
    let (sent, mut got) = (vec![7; bytes], vec![0; bytes]);
    near.write_all(&sent)?;
    far.read_exact(&mut got)?;
    Ok(())
}

pub(crate) fn flows(node: &Node, args: &[&str]) -> Result<Vec<Value>> {
    let all: Vec<&str> = ["flows", "-o", "json"]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    let out = node.ctl(&all)?.must_succeed(&all)?;
    let lines = out.stdout.lines();
    lines
        .map(|l| serde_json::from_str(l).with_context(|| l.to_owned()))
        .collect()
}

pub(crate) fn is(value: &Value, pointer: &str, wanted: &Value) -> bool {
    value.pointer(pointer) == Some(wanted)
}

/// The only flow of a connection that an end reports.
pub(crate) fn of(all: &[Value], stream: &TcpStream, reporter: &str) -> Result<Value> {
    let port = json!(stream.local_addr()?.port());
    let mut found = all
        .iter()
        .filter(|f| is(f, "/sourcePort", &port) && f["reporter"] == *reporter);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        _ => bail!("not one flow from port {port} by the {reporter} among {all:#?}"),
    }
}

pub(crate) fn named(end: &Value, name: &str, app: &str, ip: IpAddr) -> Result<()> {
    ensure!(
        end["namespace"] == "default"
            && end["name"] == *name
            && end["labels"]["app"] == *app
            && end["ip"] == *ip.to_string()
            && end["kind"] == "WorkloadEndpoint",
        "{end}"
    );
    Ok(())
}

pub(crate) fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or_default()
}
