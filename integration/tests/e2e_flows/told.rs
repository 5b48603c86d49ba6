//! Connections as both their ends, and whoever follows, are told of them.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Process, binaries, wait};
use integration::scenario::CONVERGE;
use serde_json::{Value, json};

use crate::scene::{
    self, DENIED, Scene, connect, exchange, flows, is, listen, named, number, of, pair, policy,
};

#[test]
fn connections_are_told_by_both_ends() -> Result<()> {
    scene::run("flows-both", |s| {
        let Scene { client, web, .. } = s;
        let (n1, n2) = (s.here()?, s.mesh.node(1)?);
        s.protect()?;
        let (mut near, mut there) = pair(client, web, 80)?;
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
        let (near, _there) = pair(&s.far, web, 80)?;
        for (node, reporter) in [(n1, "Destination"), (n2, "Source")] {
            let all = flows(node, &[])?;
            let flow = of(&all, &near, reporter)?;
            named(&flow["source"], "far", "shop", s.far.ip(false)?)?;
            named(&flow["destination"], "web", "web", web.ip(false)?)?;
            ensure!(flow["reporter"] == *reporter, "{flow}");
        }
        Ok(())
    })
}

#[test]
fn what_is_denied_is_told_with_its_rule() -> Result<()> {
    scene::run("flows-denied", |s| {
        let Scene { client, web, .. } = s;
        let n1 = s.here()?;
        s.protect()?;
        let mut command = n1.ns.command(binaries::find("routerctl")?);
        command
            .args([
                "flows", "--follow", "--since", "1m", "--denied", "-o", "json",
            ])
            .env("ROUTERD_SOCKET", n1.socket());
        let mut follow = Process::start(
            "routerctl flows",
            command,
            &s.lab.subdir("follow")?.join("lines"),
        )?;
        let (live, mut there) = pair(client, web, 80)?;
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
    scene::run("flows-staged", |s| {
        let Scene { client, web, .. } = s;
        let n1 = s.here()?;
        let deny = json!({ "selector": "app == 'web'", "types": ["Ingress"],
                           "ingress": [{ "action": "Deny", "protocol": "TCP" }] });
        n1.apply(&policy("StagedNetworkPolicy", &deny))?;
        let (mut near, _there) = pair(client, web, 80)?;
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
