//! What an operator sees of connections: flows, rules with their counters, metrics, what a change would cut.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::lab::{
    self, Cni, Lab, Mesh, MeshSpec, Netns, Node, Process, Workload, binaries, wait,
};
use integration::scenario::{self, CONVERGE};
use serde_json::{Value, json};

/// Long enough for a packet to be dropped twice.
const DENIED: Duration = Duration::from_millis(2500);

/// Two workloads on the first node and one on the second.
struct Scene {
    mesh: Mesh,
    client: Workload,
    web: Workload,
    far: Workload,
}

fn scene(lab: &Lab) -> Result<Scene> {
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
    Ok(Scene {
        mesh,
        client,
        web,
        far,
    })
}

fn policy(kind: &str, spec: &Value) -> String {
    let object = json!({
        "apiVersion": "projectcalico.org/v3", "kind": kind,
        "metadata": { "name": "web", "namespace": "default" },
        "spec": spec,
    });
    object.to_string()
}

/// Port 80 of the shop to the web, logged by two rules, and nothing else.
fn web_policy() -> Value {
    let rule = |action: &str| {
        json!({ "action": action, "protocol": "TCP",
                "source": { "selector": "app == 'shop'" }, "destination": { "ports": [80] } })
    };
    json!({ "selector": "app == 'web'", "types": ["Ingress"],
            "ingress": [rule("Log"), { "action": "Log", "protocol": "TCP" }, rule("Allow")] })
}

fn listen(ns: &Netns, ip: IpAddr, port: u16) -> Result<TcpListener> {
    ns.run(|| Ok(TcpListener::bind(SocketAddr::new(ip, port))?))
}

fn connect(ns: &Netns, ip: IpAddr, port: u16, limit: Duration) -> Result<TcpStream> {
    ns.run(|| {
        Ok(TcpStream::connect_timeout(
            &SocketAddr::new(ip, port),
            limit,
        )?)
    })
}

/// Applies the policy of the web and waits until it is in force: what is in no rule is dropped then, not refused.
fn protect(node: &Node, from: &Workload, to: &Workload) -> Result<()> {
    node.apply(&policy("NetworkPolicy", &web_policy()))?;
    let ip = to.ip(false)?;
    wait("the policy to be in force", CONVERGE, || {
        let error = connect(&from.ns, ip, 82, Duration::from_millis(300)).err();
        let kind = error.and_then(|e| Some(e.downcast_ref::<std::io::Error>()?.kind()));
        ensure!(kind == Some(std::io::ErrorKind::TimedOut), "{kind:?}");
        Ok(())
    })
}

/// A connection with both its ends.
fn pair(from: &Workload, to: &Workload, port: u16) -> Result<(TcpStream, TcpStream)> {
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

fn exchange(near: &mut TcpStream, far: &mut TcpStream, bytes: usize) -> Result<()> {
    let (sent, mut got) = (vec![7; bytes], vec![0; bytes]);
    near.write_all(&sent)?;
    far.read_exact(&mut got)?;
    Ok(())
}

fn flows(node: &Node, args: &[&str]) -> Result<Vec<Value>> {
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

fn is(value: &Value, pointer: &str, wanted: &Value) -> bool {
    value.pointer(pointer) == Some(wanted)
}

/// The only flow of a connection that an end reports.
fn of(all: &[Value], stream: &TcpStream, reporter: &str) -> Result<Value> {
    let port = json!(stream.local_addr()?.port());
    let mut found = all
        .iter()
        .filter(|f| is(f, "/sourcePort", &port) && f["reporter"] == *reporter);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        _ => bail!("not one flow from port {port} by the {reporter} among {all:#?}"),
    }
}

fn named(end: &Value, name: &str, app: &str, ip: IpAddr) -> Result<()> {
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

fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or_default()
}

#[test]
fn connections_are_told_by_both_ends() -> Result<()> {
    lab::run("flows-both", |lab| {
        let Scene {
            mesh,
            client,
            web,
            far,
        } = scene(lab)?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        protect(n1, &client, &web)?;
        let (mut near, mut there) = pair(&client, &web, 80)?;
        exchange(&mut near, &mut there, 5000)?;
        let all = flows(n1, &[])?;
        for reporter in ["Source", "Destination"] {
            let flow = of(&all, &near, reporter)?;
            named(&flow["source"], "client", "shop", client.ip(false)?)?;
            named(&flow["destination"], "web", "web", web.ip(false)?)?;
            ensure!(
                flow["verdict"] == "Allow" && flow["protocol"] == "TCP" && flow["port"] == 80,
                "{flow}"
            );
            ensure!(flow["end"].is_null() && flow["node"] == *n1.name, "{flow}");
            ensure!(
                number(&flow, "bytes") > 5000 && number(&flow, "packets") >= 5,
                "{flow}"
            );
        }
        // Nothing is written about what the client sends; the web lets it in by its third rule.
        let source = of(&all, &near, "Source")?;
        ensure!(
            source["by"] == "Profile" && source["policy"].is_null(),
            "{source}"
        );
        let there_by = of(&all, &near, "Destination")?;
        let by = json!([
            there_by["tier"],
            there_by["policy"],
            there_by["rule"],
            there_by["kind"]
        ]);
        ensure!(
            by == json!(["default", "default/web", 2, "NetworkPolicy"]),
            "{there_by}"
        );
        let logged: Vec<&Value> = there_by["logged"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|l| &l["rule"])
            .collect();
        ensure!(logged == [&json!(0), &json!(1)], "{there_by}");
        let log = std::fs::read_to_string(n1.dir().join("routerd.log"))?;
        let line = log.lines().find(|l| l.contains("logged by NetworkPolicy default/web ingress[0], NetworkPolicy default/web ingress[1]"));
        let line = line.with_context(|| log.clone())?;
        ensure!(
            line.contains("port 80 (default/web)")
                && line.contains("(default/client)")
                && line.contains("port 80"),
            "{line}"
        );
        // It ends.
        drop((
            near.shutdown(std::net::Shutdown::Both),
            there.shutdown(std::net::Shutdown::Both),
        ));
        wait("the flow to end", CONVERGE, || {
            let flow = of(&flows(n1, &[])?, &near, "Destination")?;
            ensure!(
                flow["end"].is_string() && number(&flow, "bytes") > 5000,
                "{flow}"
            );
            Ok(())
        })?;
        // From another node: each tells of its own end, and knows who the other is.
        let (near, _there) = pair(&far, &web, 80)?;
        for (node, reporter) in [(n1, "Destination"), (n2, "Source")] {
            let all = flows(node, &[])?;
            let flow = of(&all, &near, reporter)?;
            named(&flow["source"], "far", "shop", far.ip(false)?)?;
            named(&flow["destination"], "web", "web", web.ip(false)?)?;
            ensure!(flow["reporter"] == *reporter, "{flow}");
        }
        Ok(())
    })
}

#[test]
fn what_is_denied_is_told_with_its_rule() -> Result<()> {
    lab::run("flows-denied", |lab| {
        let Scene {
            mesh, client, web, ..
        } = scene(lab)?;
        let n1 = mesh.node(0)?;
        protect(n1, &client, &web)?;
        let mut command = n1.ns.command(binaries::find("routerctl")?);
        command
            .args([
                "flows", "--follow", "--since", "1m", "--denied", "-o", "json",
            ])
            .env("ROUTERD_SOCKET", n1.socket());
        let mut follow = Process::start(
            "routerctl flows",
            command,
            &lab.subdir("follow")?.join("lines"),
        )?;
        let (live, mut there) = pair(&client, &web, 80)?;
        let _listener = listen(&web.ns, web.ip(false)?, 81)?;
        ensure!(connect(&client.ns, web.ip(false)?, 81, DENIED).is_err());
        let denied = |all: Vec<Value>| {
            let mut found = all
                .into_iter()
                .filter(|f| f["port"] == 81 && f["verdict"] == "Deny");
            found.next().context("nothing was denied")
        };
        let flow = denied(flows(n1, &["--denied", "--since", "1m"])?)?;
        named(&flow["source"], "client", "shop", client.ip(false)?)?;
        named(&flow["destination"], "web", "web", web.ip(false)?)?;
        ensure!(
            flow["by"] == "EndOfTier" && flow["tier"] == "default" && flow["reason"] == "Policy",
            "{flow}"
        );
        ensure!(
            flow["reporter"] == "Destination" && number(&flow, "packets") >= 2,
            "{flow}"
        );
        // Whoever sends lets it go.
        let all = flows(n1, &[])?;
        ensure!(
            all.iter()
                .any(|f| f["port"] == 81 && f["verdict"] == "Allow" && f["reporter"] == "Source"),
            "{all:#?}"
        );
        let log = follow.log().to_owned();
        lab::wait_for(&mut follow, "who follows to be told", CONVERGE, || {
            let text = std::fs::read_to_string(&log)?;
            let lines: Vec<Value> = text
                .lines()
                .map(serde_json::from_str)
                .collect::<Result<_, _>>()?;
            denied(lines).map(drop)
        })?;
        // A deny ends what lives.
        let deny = json!({ "selector": "app == 'web'", "types": ["Ingress"],
                           "ingress": [{ "action": "Deny", "protocol": "TCP" }] });
        n1.apply(&policy("NetworkPolicy", &deny))?;
        let mut near = &live;
        wait("the connection to be cut", CONVERGE, || {
            near.write_all(b"x")?;
            let all = flows(n1, &[])?;
            let port = json!(live.local_addr()?.port());
            let of_it = |verdict: &str| {
                all.iter().find(|f| {
                    is(f, "/sourcePort", &port)
                        && f["verdict"] == *verdict
                        && f["reporter"] == "Destination"
                })
            };
            let ended = of_it("Allow").is_some_and(|f| f["end"].is_string());
            let denied =
                of_it("Deny").is_some_and(|f| f["policy"] == "default/web" && f["rule"] == 0);
            ensure!(ended && denied, "{all:#?}");
            Ok(())
        })?;
        there.set_nonblocking(true)?;
        let mut rest = [0; 8];
        let _ = there.read(&mut rest);
        Ok(())
    })
}

#[test]
fn staged_policies_are_told_and_not_enforced() -> Result<()> {
    lab::run("flows-staged", |lab| {
        let Scene {
            mesh, client, web, ..
        } = scene(lab)?;
        let n1 = mesh.node(0)?;
        let deny = json!({ "selector": "app == 'web'", "types": ["Ingress"],
                           "ingress": [{ "action": "Deny", "protocol": "TCP" }] });
        n1.apply(&policy("StagedNetworkPolicy", &deny))?;
        let (mut near, _there) = pair(&client, &web, 80)?;
        let mut flow = Value::Null;
        wait("the staged policy to be asked", CONVERGE, || {
            near.write_all(b"x")?;
            flow = of(&flows(n1, &["--staged"])?, &near, "Destination")?;
            Ok(())
        })?;
        ensure!(
            flow["verdict"] == "Allow" && flow["by"] == "Profile",
            "{flow}"
        );
        let staged = &flow["staged"];
        let by = json!([
            staged["verdict"],
            staged["kind"],
            staged["policy"],
            staged["rule"]
        ]);
        ensure!(
            by == json!(["Deny", "StagedNetworkPolicy", "default/web", 0]),
            "{flow}"
        );
        let table = n1
            .ctl(&["flows", "--staged"])?
            .must_succeed(&["flows"])?
            .stdout;
        ensure!(
            table.contains("default/web:80") && table.contains("default/web rule 0"),
            "{table}"
        );
        Ok(())
    })
}

fn rule<'a>(shown: &'a Value, direction: &str, policy: &str, rule: u64) -> Result<&'a Value> {
    let rules = shown["rules"].as_array().context("no rules")?;
    let is_it =
        |r: &&Value| r["direction"] == *direction && r["policy"] == *policy && r["rule"] == rule;
    rules.iter().find(is_it).with_context(|| shown.to_string())
}

fn endpoint_of(node: &Node, workload: &Workload) -> Result<String> {
    let list = node.json(&["get", "workloadendpoints"])?;
    let items = list["items"].as_array().context("no endpoints")?;
    let found = items.iter().find(|e| e["spec"]["pod"] == *workload.name);
    let name = found.and_then(|e| e.pointer("/metadata/name")?.as_str());
    name.map(str::to_owned).context("no such endpoint")
}

#[test]
fn rules_in_force_are_shown_with_what_they_counted() -> Result<()> {
    lab::run("flows-rules", |lab| {
        let Scene {
            mesh, client, web, ..
        } = scene(lab)?;
        let n1 = mesh.node(0)?;
        protect(n1, &client, &web)?;
        let (mut near, mut there) = pair(&client, &web, 80)?;
        exchange(&mut near, &mut there, 50_000)?;
        let endpoint = endpoint_of(n1, &web)?;
        let shown = n1.json(&["policy", "show", &endpoint])?;
        ensure!(
            shown["interface"] == *web.host_interface()? && shown["problem"].is_null(),
            "{shown}"
        );
        let allow = rule(&shown, "Ingress", "default/web", 2)?;
        ensure!(
            allow["action"] == "Allow" && allow["tier"] == "default",
            "{allow}"
        );
        ensure!(
            allow["match"] == "TCP from app == 'shop' to port 80",
            "{allow}"
        );
        // All packets both ways, to the last.
        let flow = of(&flows(n1, &[])?, &near, "Destination")?;
        let shown = n1.json(&["policy", "show", "web", "-n", "default"])?;
        let counted = &rule(&shown, "Ingress", "default/web", 2)?["counted"];
        ensure!(number(counted, "connections") == 1, "{counted} and {flow}");
        for what in ["packets", "bytes"] {
            ensure!(
                number(counted, what) == number(&flow, what),
                "{counted} and {flow}"
            );
        }
        ensure!(
            number(
                &rule(&shown, "Ingress", "default/web", 0)?["counted"],
                "packets"
            ) == 1
        );
        // What ends goes on counting, and what is denied counts at the end of the tier.
        exchange(&mut near, &mut there, 1000)?;
        drop((near, there));
        ensure!(connect(&client.ns, web.ip(false)?, 81, Duration::from_millis(500)).is_err());
        let shown = n1.json(&["policy", "show", "web"])?;
        let counted = &rule(&shown, "Ingress", "default/web", 2)?["counted"];
        ensure!(
            number(counted, "bytes") > number(&flow, "bytes") + 1000,
            "{counted} and {flow}"
        );
        let rules = shown["rules"].as_array().context("no rules")?;
        let end = rules
            .iter()
            .find(|r| r["by"] == "EndOfTier")
            .context("no end of the tier")?;
        let denied = number(&end["counted"], "packets");
        ensure!(end["action"] == "Deny" && denied >= 2, "{end}");
        let egress = rules
            .iter()
            .find(|r| r["direction"] == "Egress")
            .context("no egress")?;
        ensure!(
            egress["by"] == "Profile" && egress["action"] == "Allow",
            "{egress}"
        );
        let args = ["policy", "show", "web"];
        let table = n1.ctl(&args)?.must_succeed(&args)?.stdout;
        ensure!(
            table.contains("TCP from app == 'shop' to port 80")
                && table.contains("default/web rule 2"),
            "{table}"
        );
        let args = ["policy", "show", "nobody"];
        let out = n1.ctl(&args)?;
        ensure!(
            out.code == Some(1) && out.stderr.contains("no endpoint default/nobody"),
            "{out:?}"
        );
        // The same in metrics, and nothing to complain about.
        let metrics = n1.ns.output("curl", "-s http://127.0.0.1:9091/metrics")?;
        for line in [
            &format!("routerd_policy_drops_total{{reason=\"Policy\"}} {denied}"),
            &format!("routerd_policy_verdicts_total{{verdict=\"Deny\"}} {denied}"),
            "routerd_policy_map_room{map=\"CONNECTIONS\"} 131072",
        ] {
            ensure!(metrics.lines().any(|l| l == line), "no {line} in {metrics}");
        }
        let doctor = n1.json(&["doctor"])?;
        let checks = doctor["checks"].as_array().context("no checks")?;
        let ours: Vec<&Value> = checks.iter().filter(|c| c["name"] == "policy").collect();
        let [only] = ours.as_slice() else {
            bail!("{doctor}")
        };
        ensure!(only["state"] == "Ok", "{only}");
        ensure!(
            only["message"]
                .as_str()
                .is_some_and(|m| m.contains("programs at 2 interfaces")),
            "{only}"
        );
        Ok(())
    })
}

#[test]
fn a_diff_tells_what_it_would_cut() -> Result<()> {
    lab::run("flows-diff", |lab| {
        let Scene {
            mesh,
            client,
            web,
            far,
        } = scene(lab)?;
        let n1 = mesh.node(0)?;
        let (_near, _there) = pair(&client, &web, 80)?;
        let (_far, _there) = pair(&far, &web, 8080)?;
        let path = lab.subdir("diff")?.join("policy.json");
        let name = path.to_str().context("a path")?;
        let diff = |spec: &Value| -> Result<String> {
            std::fs::write(&path, policy("NetworkPolicy", spec))?;
            let out = n1.ctl(&["diff", "-f", name])?;
            ensure!(out.code == Some(1), "{out:?}");
            Ok(out.stdout)
        };
        // Port 8080 is in no rule. Attempts before there was a way back may live as well.
        let text = diff(&web_policy())?;
        ensure!(!text.contains("would cut 0 of"), "{text}");
        ensure!(
            text.contains("would cut TCP default/far -> default/web:8080: end of tier default")
                && !text.contains("web:80:"),
            "{text}"
        );
        let all = json!({ "selector": "app == 'web'", "types": ["Ingress"], "ingress": [{ "action": "Allow" }] });
        ensure!(diff(&all)?.contains("would cut 0 of"));
        // What was denied would pass.
        protect(n1, &client, &web)?;
        let _listener = listen(&web.ns, web.ip(false)?, 81)?;
        ensure!(connect(&client.ns, web.ip(false)?, 81, Duration::from_millis(500)).is_err());
        let text = diff(&all)?;
        ensure!(
            text.contains("would allow TCP default/client -> default/web:81"),
            "{text}"
        );
        ensure!(text.contains("would cut 0 of"), "{text}");
        Ok(())
    })
}
