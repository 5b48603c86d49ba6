//! A mesh over an etcd that asks for certificates and passwords.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, anyhow, ensure};
use datastore::testing::{EtcdCluster, EtcdOptions};
use integration::lab::{self, Mesh, MeshSpec};
use integration::scenario;
use serde_json::json;

const PASSWORD: &str = "pass-word-of-routerd";

fn etcd_with_users(mesh: &Mesh, ip: IpAddr) -> Result<EtcdCluster> {
    let wrap = ["ip", "netns", "exec", mesh.outside.name()].map(str::to_owned);
    let mut etcd = EtcdCluster::start(EtcdOptions {
        addresses: vec![ip],
        wrap: wrap.to_vec(),
        tls: true,
        args: Vec::new(),
    })
    .map_err(|e| anyhow!(e))?;
    for line in [
        "user add root:root-password",
        "user grant-role root root",
        "role add node",
        "role grant-permission --prefix=true node readwrite /mesh/",
        &format!("user add routerd:{PASSWORD}"),
        "user grant-role routerd node",
        "auth enable",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        etcd.etcdctl(0, &args).map_err(|e| anyhow!(e))?;
    }
    etcd.log_in_as("root:root-password");
    Ok(etcd)
}

#[test]
fn a_mesh_over_tls_with_a_password_and_a_dead_endpoint() -> Result<()> {
    lab::run("tls", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        // The mesh's own etcd is not the one that is used.
        mesh.etcd.stop()?;
        let ip: IpAddr = "172.31.0.20".parse()?;
        mesh.outside.ip(&format!("addr add {ip}/24 dev eth0"))?;
        let mut etcd = etcd_with_users(&mesh, ip)?;
        let files = etcd.config("/mesh");
        let file = |path: &Option<std::path::PathBuf>| path.clone().context("no certificate");
        let (ca, cert, key) = (file(&files.ca)?, file(&files.cert)?, file(&files.key)?);
        let password = lab.dir().join("password");
        std::fs::write(&password, format!("{PASSWORD}\n"))?;
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600))?;
        let wrong = lab.dir().join("wrong");
        std::fs::write(&wrong, "wrong\n")?;
        for node in &mesh.nodes {
            let config = std::fs::read_to_string(node.config())?;
            let at = config.find("endpoints").context("no endpoints")?;
            let end = config
                .get(at..)
                .and_then(|c| c.find('\n'))
                .context("no line end")?;
            // The first refuses connections, the second is nobody's.
            let store = format!(
                "endpoints = [\"https://172.31.0.10:2379\", \"https://172.31.0.99:2379\", \"https://{ip}:2379\"]\n\
                 prefix = \"/mesh\"\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n\
                 username = \"routerd\"\npassword_file = {password:?}"
            );
            let line = config.get(at..at + end).context("cut")?;
            node.write_config(&config.replace(line, &store))?;
        }

        // With a wrong password nothing starts, and the refusal names what to look at but no secret.
        let node = mesh.node_mut(0)?;
        let good = std::fs::read_to_string(node.config())?;
        node.write_config(&good.replace(&format!("{password:?}"), &format!("{wrong:?}")))?;
        node.start()?;
        let said = lab::wait(
            "the wrong password to be refused",
            scenario::CONVERGE,
            || {
                let daemon = node.daemon().context("not started")?;
                let ended = daemon.ended()?.is_some_and(|status| !status.success());
                ensure!(ended, "it runs on: {}", daemon.last_lines(5));
                Ok(daemon.last_lines(20))
            },
        )?;
        ensure!(
            said.contains("username") || said.contains("password"),
            "{said}"
        );
        node.kill().or_else(|_| Ok::<(), anyhow::Error>(()))?;
        node.write_config(&good)?;

        scenario::start(&mut mesh, "Never")?;
        let mut workloads = scenario::populate(lab, &mesh, 2)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        let node = mesh.node(0)?;
        let doctor = node.json(&["doctor"])?;
        let datastore = scenario::list(&doctor, "checks")?
            .iter()
            .find(|c| c.get("name") == Some(&json!("datastore")));
        ensure!(
            datastore.and_then(|c| c.get("state")) == Some(&json!("Ok")),
            "{doctor}"
        );

        // The store restarts: tokens are of a former life, and all goes on.
        etcd.kill(0).map_err(|e| anyhow!(e))?;
        etcd.restart(0).map_err(|e| anyhow!(e))?;
        for node in &mut mesh.nodes {
            node.wait_ready()?;
        }
        let node = mesh.node(0)?;
        workloads.push(lab::wait("ADD to work again", scenario::CONVERGE, || {
            integration::lab::Cni::of(node)?.add(lab, "after")
        })?);
        scenario::everyone_reaches_everyone(&workloads)?;
        scenario::ipam_is_clean(node)?;

        // No secret is said anywhere.
        for node in &mesh.nodes {
            let log = std::fs::read_to_string(node.dir().join("routerd.log"))?;
            ensure!(
                !log.contains(PASSWORD),
                "the password is in the log of {}",
                node.name
            );
            let status = node.status()?.to_string();
            ensure!(!status.contains(PASSWORD), "the password is in status");
        }
        Ok(())
    })
}
