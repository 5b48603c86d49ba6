//! What rules mean.

use anyhow::Result;
use integration::lab::probe::dial::{self, Outcome};
use integration::lab::{self, Lab, Mesh, MeshSpec, wait};
use integration::scenario::CONVERGE;
use serde_json::{Value, json};

use crate::rig::{
    Ask, DB, PATIENCE, Pod, WEB, calico, default_deny, delete, expect, mesh, pod, pod_with,
};

/// Two nodes: `web` and `db` on the first, `client` and `other` on the second.
fn four(lab: &Lab) -> Result<(Mesh, [Pod; 4])> {
    let mesh = mesh(lab, &MeshSpec::flat(2), "Never")?;
    let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
    let pods = [
        pod(lab, n1, "web", &[("app", "web")])?,
        pod(lab, n1, "db", &[("app", "db")])?,
        pod(lab, n2, "client", &[("app", "client")])?,
        pod(lab, n2, "other", &[("app", "other")])?,
    ];
    Ok((mesh, pods))
}

#[test]
fn a_default_deny_closes_and_labels_open() -> Result<()> {
    lab::run("policy-labels", |lab| {
        let (mesh, [web, db, client, other]) = four(lab)?;
        let n1 = mesh.node(0)?;
        expect(&[(&client, &web, WEB, true), (&web, &db, DB, true)])?;
        n1.apply(&default_deny())?;
        expect(&[
            (&client, &web, WEB, false),
            (&web, &db, DB, false),
            (&other, &client, WEB, false),
        ])?;
        let allow = |name: &str, from: &str, to: &str, port: u16| {
            let protocols = ["TCP", "UDP"].map(|protocol| {
                let end = format!("destination: {{ selector: app == '{to}', ports: [{port}] }}");
                let begin = format!("source: {{ selector: app == '{from}' }}");
                (
                    format!("{{ action: Allow, protocol: {protocol}, {end} }}"),
                    format!(
                        "{{ action: Allow, protocol: {protocol}, {begin}, destination: {{ ports: [{port}] }} }}"
                    ),
                )
            });
            let egress: Vec<&str> = protocols.iter().map(|p| p.0.as_str()).collect();
            let ingress: Vec<&str> = protocols.iter().map(|p| p.1.as_str()).collect();
            let out = format!(
                "{{ order: 10, selector: app == '{from}', types: [Egress], egress: [{}] }}",
                egress.join(", ")
            );
            let into = format!(
                "{{ order: 10, selector: app == '{to}', types: [Ingress], ingress: [{}] }}",
                ingress.join(", ")
            );
            calico("GlobalNetworkPolicy", &format!("{name}-out"), &out)
                + &calico("GlobalNetworkPolicy", &format!("{name}-in"), &into)
        };
        n1.apply(&(allow("web", "client", "web", WEB) + &allow("db", "web", "db", DB)))?;
        expect(&[
            (&client, &web, WEB, true),
            (&web, &db, DB, true),
            (&client, &web, DB, false),
            (&client, &db, DB, false),
            (&other, &web, WEB, false),
            (&web, &client, WEB, false),
        ])?;
        delete(n1, "globalnetworkpolicy", "deny")?;
        // Who a policy selects stays closed to what it does not allow: such is the end of a tier.
        expect(&[
            (&other, &client, WEB, true),
            (&other, &web, WEB, false),
            (&client, &web, WEB, true),
        ])
    })
}

#[test]
fn a_tier_passes_denies_and_ends() -> Result<()> {
    lab::run("policy-tiers", |lab| {
        let (mesh, [web, _, client, other]) = four(lab)?;
        let n1 = mesh.node(0)?;
        let manifest = calico("Tier", "security", "{ order: 1 }")
            + &calico(
                "GlobalNetworkPolicy",
                "security.web",
                "{ tier: security, order: 1, selector: app == 'web', types: [Ingress], ingress: [\
                 { action: Deny, source: { selector: app == 'other' } }, { action: Pass } ] }",
            );
        n1.apply(&manifest)?;
        // Passed on to no other tier: the profile allows.
        expect(&[(&client, &web, WEB, true), (&other, &web, WEB, false)])?;
        n1.apply(&calico(
            "GlobalNetworkPolicy",
            "web",
            "{ selector: app == 'web', types: [Ingress], ingress: [\
             { action: Allow, protocol: TCP, destination: { ports: [8080] } }, \
             { action: Allow, protocol: UDP, destination: { ports: [8080] } } ] }",
        ))?;
        expect(&[
            (&client, &web, WEB, true),
            (&client, &web, DB, false),
            (&other, &web, WEB, false),
        ])?;
        let refused = n1.ctl(&["delete", "tier", "security"])?;
        anyhow::ensure!(
            refused.code == Some(1)
                && (refused.stderr).contains("GlobalNetworkPolicy/security.web belongs to it"),
            "{refused:?}"
        );
        delete(n1, "globalnetworkpolicy", "security.web")?;
        delete(n1, "tier", "security")?;
        expect(&[(&other, &web, WEB, true), (&other, &web, DB, false)])
    })
}

#[test]
fn a_named_port_is_what_each_endpoint_has_by_it() -> Result<()> {
    lab::run("policy-names", |lab| {
        let (mesh, [web, db, client, _]) = four(lab)?;
        let n1 = mesh.node(0)?;
        for (name, port) in [("web", WEB), ("db", DB)] {
            let endpoints = n1.json(&["get", "workloadendpoints", "-n", "default"])?;
            let found = integration::scenario::list(&endpoints, "items")?.iter();
            let mut found =
                found.filter(|e| e["spec"]["pod"] == *name || e["spec"]["workload"] == *name);
            let mut endpoint = found
                .next()
                .cloned()
                .ok_or_else(|| anyhow::anyhow!("no endpoint of {name} in {endpoints}"))?;
            endpoint["spec"]["ports"] = json!([
                { "name": "service", "protocol": "TCP", "port": port },
                { "name": "service", "protocol": "UDP", "port": port },
            ]);
            n1.apply(&endpoint.to_string())?;
        }
        n1.apply(&calico(
            "GlobalNetworkPolicy",
            "service",
            "{ selector: \"app in {'web', 'db'}\", types: [Ingress], ingress: [\
             { action: Allow, protocol: TCP, destination: { ports: [service] } }, \
             { action: Allow, protocol: UDP, destination: { ports: [service] } } ] }",
        ))?;
        expect(&[
            (&client, &web, WEB, true),
            (&client, &web, DB, false),
            (&client, &db, DB, true),
            (&client, &db, WEB, false),
        ])
    })
}

#[test]
fn a_policy_of_kubernetes_isolates_its_namespace() -> Result<()> {
    lab::run("policy-k8s", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(2), "Never")?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        let ask = |namespace, name, app| Ask {
            namespace,
            name,
            labels: app,
            more: Value::Null,
        };
        let web = pod_with(lab, n1, &ask("shop", "web", &[("app", "web")]))?;
        let mate = pod_with(lab, n2, &ask("shop", "mate", &[("app", "mate")]))?;
        let probe = pod_with(lab, n2, &ask("ops", "probe", &[("app", "probe")]))?;
        let guest = pod_with(lab, n2, &ask("guests", "guest", &[("app", "probe")]))?;
        n1.apply(
            "apiVersion: v1\nkind: Namespace\nmetadata: { name: ops, labels: { team: ops } }\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: web, namespace: shop }\n\
             spec:\n  podSelector: { matchLabels: { app: web } }\n  ingress:\n  - from:\n    \
             - podSelector: { matchLabels: { app: mate } }\n    \
             - namespaceSelector: { matchLabels: { team: ops } }\n      podSelector: { matchLabels: { app: probe } }\n    \
             ports: [{ port: 8080 }, { port: 8080, protocol: UDP }]\n",
        )?;
        expect(&[
            (&mate, &web, WEB, true),
            (&probe, &web, WEB, true),
            (&mate, &web, DB, false),
            (&guest, &web, WEB, false),
            (&web, &guest, DB, true),
        ])
    })
}

#[test]
fn networks_and_icmp_of_strangers_are_told_apart() -> Result<()> {
    lab::run("policy-nets", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(2), "Never")?;
        let n1 = mesh.node(0)?;
        let web = pod(lab, n1, "web", &[("app", "web")])?;
        // The world knows the way to the workloads of n1 through n1.
        for (via, v6) in [("172.31.1.11", false), ("fd31:0:0:1::11", true)] {
            let (to, len) = (web.workload.ip(v6)?, if v6 { 128 } else { 32 });
            (mesh.router).ip(&format!("route add {to}/{len} via {via}"))?;
        }
        let at = |v6| web.at(v6, WEB);
        let outside = &mesh.outside;
        let reached = |wanted: Outcome| {
            wait("strangers to be judged", CONVERGE, || {
                for v6 in [false, true] {
                    let got = dial::tcp(outside, at(v6)?, PATIENCE)?;
                    anyhow::ensure!(got == wanted, "{got:?} at {}, wanted {wanted:?}", at(v6)?);
                }
                Ok(())
            })
        };
        reached(Outcome::Answered)?;
        let policy = "{ selector: app == 'web', types: [Ingress], ingress: [\
             { action: Allow, protocol: TCP, source: { selector: who == 'office' } } ] }";
        n1.apply(&calico("GlobalNetworkPolicy", "office", policy))?;
        reached(Outcome::Silent)?;
        let set = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\n\
             metadata: { name: office, labels: { who: office } }\n\
             spec: { nets: [172.31.0.0/24, \"fd31::/64\"] }\n";
        n1.apply(set)?;
        reached(Outcome::Answered)?;
        // ICMP is another protocol, until a rule is for it.
        let pings = |v6: bool| -> Result<bool> {
            let to = web.workload.ip(v6)?;
            let out = outside
                .command("ping")
                .args(["-c", "1", "-W", "1", &to.to_string()])
                .output()?;
            Ok(out.status.success())
        };
        anyhow::ensure!(!pings(false)? && !pings(true)?, "a ping came through");
        n1.apply(&calico(
            "GlobalNetworkPolicy",
            "ping",
            "{ selector: app == 'web', types: [Ingress], ingress: [\
             { action: Allow, protocol: ICMP, icmp: { type: 8, code: 0 } }, \
             { action: Allow, protocol: ICMPv6, icmp: { type: 128, code: 0 } } ] }",
        ))?;
        wait("pings to come through", CONVERGE, || {
            anyhow::ensure!(pings(false)? && pings(true)?, "no answer");
            Ok(())
        })
    })
}
