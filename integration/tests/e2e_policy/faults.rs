//! Where policy cannot be enforced, and what cannot be read.

use anyhow::{Result, ensure};
use integration::lab::{self, Mesh, MeshSpec, wait};
use integration::scenario::{self, CONVERGE};

use crate::rig::{Ask, WEB, attach, calico, enforces, expect, mesh, pod, policy_status};

#[test]
fn a_node_that_cannot_enforce_says_so_and_admits_nobody_that_is_selected() -> Result<()> {
    lab::run("policy-unable", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        mesh.node(1)?.lacks_bpf()?;
        scenario::start(&mut mesh, "Never")?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        enforces(n1)?;
        wait("n2 to say that it cannot", CONVERGE, || {
            let (state, message) = policy_status(n2)?;
            ensure!(
                state == "Degraded" && message.contains("/state/bpf"),
                "{state}: {message}"
            );
            Ok(())
        })?;
        let deny = |app: &str| {
            calico(
                "GlobalNetworkPolicy",
                "shut",
                &format!("{{ selector: app == '{app}', ingress: [{{ action: Deny }}] }}"),
            )
        };
        let refused = n2.ctl_stdin(&["apply", "-f", "-"], &deny("web"))?;
        ensure!(
            refused.code == Some(1)
                && (refused.stderr).contains("this node cannot enforce it")
                && refused.stderr.contains("/state/bpf"),
            "{refused:?}"
        );
        // Nothing selects it: it may run.
        let free = pod(lab, n2, "free", &[("app", "free")])?;
        let near = pod(lab, n1, "near", &[])?;
        expect(&[(&near, &free, WEB, true)])?;
        n1.apply(&deny("web"))?;
        wait("a selected workload to be refused at n2", CONVERGE, || {
            let ns = lab.workload_netns("web")?;
            let ask = Ask {
                namespace: "default",
                name: "web",
                labels: &[("app", "web")],
                ..Ask::default()
            };
            match attach(lab, n2, &ns, &ask) {
                Ok(_) => anyhow::bail!("it was admitted"),
                Err(e) => {
                    ensure!(e.to_string().contains("nothing enforces"), "{e}");
                    Ok(())
                }
            }
        })?;
        n1.apply(&deny("free"))?;
        expect(&[(&near, &free, WEB, false)])
    })
}

#[test]
fn a_policy_that_cannot_be_read_changes_nothing_and_is_named() -> Result<()> {
    lab::run("policy-unreadable", |lab| {
        let mesh = mesh(lab, &MeshSpec::flat(1), "Never")?;
        let n1 = mesh.node(0)?;
        let web = pod(lab, n1, "web", &[("app", "web")])?;
        let near = pod(lab, n1, "near", &[])?;
        let deny = "{ selector: app == 'web', ingress: [{ action: Deny }] }";
        n1.apply(&calico("GlobalNetworkPolicy", "deny", deny))?;
        expect(&[(&near, &web, WEB, false), (&web, &near, WEB, true)])?;
        let key = "/routerd/v1/resources/globalnetworkpolicies/strange";
        mesh.etcd.put(key, "{\"kind\":\"GlobalNetworkPolicy\"")?;
        wait("the daemon to be in doubt", CONVERGE, || {
            let (state, message) = policy_status(n1)?;
            ensure!(
                state == "Degraded" && message.contains("cannot be read"),
                "{state}: {message}"
            );
            let status = n1.status()?;
            ensure!(status["rejected"][0]["name"] == "strange", "{status}");
            Ok(())
        })?;
        expect(&[(&near, &web, WEB, false), (&web, &near, WEB, true)])?;
        mesh.etcd.delete(key)?;
        enforces(n1)?;
        let late = pod(lab, n1, "late", &[])?;
        expect(&[(&late, &near, WEB, true), (&late, &web, WEB, false)])
    })
}
