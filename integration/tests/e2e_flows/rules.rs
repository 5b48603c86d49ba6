//! Rules in force, with what they counted.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::lab::{Node, Workload};
use serde_json::Value;

use crate::scene::{self, Scene, connect, exchange, flows, number, of, pair};

fn rule<'a>(shown: &'a Value, direction: &str, policy: &str, rule: u64) -> Result<&'a Value> {
    let rules = shown["rules"].as_array().context("no rules")?;
    let is_it =
        |r: &&Value| r["direction"] == *direction && r["policy"] == *policy && r["rule"] == rule;
    rules.iter().find(is_it).with_context(|| shown.to_string())
}

/// A tier that leaves everything to the next.
const FIRST_TIER: &str = r#"
apiVersion: projectcalico.org/v3
kind: Tier
metadata: { name: first }
spec: { order: 100, defaultAction: Pass }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: first.leave }
spec:
  tier: first
  selector: all()
  types: [Ingress]
  ingress:
  - { action: Pass, protocol: TCP, destination: { ports: [80] } }
  - { action: Pass, protocol: UDP }
"#;

fn endpoint_of(node: &Node, workload: &Workload) -> Result<String> {
    let list = node.json(&["get", "workloadendpoints"])?;
    let items = list["items"].as_array().context("no endpoints")?;
    let found = items.iter().find(|e| e["spec"]["pod"] == *workload.name);
    let name = found.and_then(|e| e.pointer("/metadata/name")?.as_str());
    name.map(str::to_owned).context("no such endpoint")
}

#[test]
fn rules_in_force_are_shown_with_what_they_counted() -> Result<()> {
    scene::run("flows-rules", |s| {
        let Scene { client, web, .. } = s;
        let n1 = s.here()?;
        n1.apply(FIRST_TIER)?;
        s.protect()?;
        let (mut near, mut there) = pair(client, web, 80)?;
        exchange(&mut near, &mut there, 50_000)?;
        let endpoint = endpoint_of(n1, web)?;
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
        // By two rules that log, and one of the tier before that passes on. The second logs attempts at other ports too.
        let logged = &rule(&shown, "Ingress", "default/web", 1)?["counted"];
        ensure!(
            number(logged, "packets") > number(counted, "packets")
                && number(logged, "connections") == number(counted, "connections"),
            "{logged} and {counted}"
        );
        for (policy, index) in [("default/web", 0), ("first.leave", 0)] {
            let by = &rule(&shown, "Ingress", policy, index)?["counted"];
            ensure!(by == counted, "{policy} {index}: {by} and {counted}");
        }
        let other = &rule(&shown, "Ingress", "first.leave", 1)?["counted"];
        ensure!(number(other, "packets") == 0, "{other}");
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
            .find(|r| r["by"] == "EndOfTier" && r["tier"] == "default")
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
