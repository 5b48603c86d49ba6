//! Pools, reservations and settings as workloads through the plugin meet them.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Cni, Lab, Mesh, MeshSpec, Node, Workload, probe, wait};
use integration::scenario::{self, CONVERGE};
use model::Cidr;
use serde_json::{Value, json};

fn pool(name: &str, cidr: &str, more: &str) -> String {
    format!(
        "apiVersion: routerd/v1\nkind: IPPool\nmetadata: {{ name: {name} }}\nspec: {{ cidr: \"{cidr}\", {more} }}\n"
    )
}

fn settings(spec: &str) -> String {
    format!(
        "apiVersion: routerd/v1\nkind: IPAMConfiguration\nmetadata: {{ name: default }}\nspec: {{ {spec} }}\n"
    )
}

fn within(workload: &Workload, cidr: &str) -> Result<()> {
    let cidr: Cidr = cidr.parse()?;
    ensure!(
        workload.ips.iter().all(|ip| cidr.contains(*ip)) && !workload.ips.is_empty(),
        "{} got {:?}, not of {cidr}",
        workload.name,
        workload.ips
    );
    Ok(())
}

/// An ADD that fails, and says why in these words.
fn refused(cni: &Cni, lab: &Lab, name: &str, extra: &Value, words: &[&str]) -> Result<()> {
    let Err(e) = cni.add_with(lab, name, extra) else {
        anyhow::bail!("{name} got an address");
    };
    let said = format!("{e:#}");
    for word in words {
        ensure!(said.contains(word), "{word:?} is not said: {said}");
    }
    Ok(())
}

/// Adds as a pod of a namespace.
fn add_in(cni: &Cni, lab: &Lab, namespace: &str, name: &str) -> Result<Result<Workload>> {
    let ns = lab.workload_netns(name)?;
    let mut workload = Workload {
        name: name.to_owned(),
        id: format!("{}-{name}", lab.tag()),
        ns,
        ips: Vec::new(),
        result: Value::Null,
    };
    let mut call = workload.call();
    call.args = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
    let answer = cni.call("ADD", &call)?;
    Ok(answer.must_succeed("ADD", name).and_then(|result| {
        let ips = scenario::list(&result, "ips")?;
        workload.ips = ips
            .iter()
            .filter_map(|ip| ip.get("address")?.as_str()?.split_once('/'))
            .map(|(ip, _)| Ok(ip.parse()?))
            .collect::<Result<_>>()?;
        workload.result = result;
        Ok(workload)
    }))
}

fn blocks_of(node: &Node, name: &str) -> Result<usize> {
    let show = node.json(&["ipam", "show", "--blocks"])?;
    let blocks = scenario::list(&show, "blocks")?.iter();
    Ok(blocks
        .filter(|b| b.get("node") == Some(&json!(name)))
        .count())
}

#[test]
fn pools_and_settings_decide_who_gets_which_address() -> Result<()> {
    lab::run("pools", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        mesh.start()?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        let (one, two) = (Cni::of(n1)?, Cni::of(n2)?);
        let mut standing = Vec::new();

        // Without a pool: a clear refusal.
        refused(&one, lab, "none", &Value::Null, &["pool"])?;

        // nodeSelector, with a label that an operator gives.
        n1.apply(&pool(
            "racks",
            "10.1.0.0/24",
            "nodeSelector: \"rack == 'b'\", blockSize: 28",
        ))?;
        refused(&one, lab, "unselected", &Value::Null, &["racks"])?;
        n1.apply("apiVersion: routerd/v1\nkind: Node\nmetadata: { name: n2, labels: { rack: b } }\nspec: {}\n")?;
        let in_rack = wait("n2 to be selected", CONVERGE, || two.add(lab, "in-rack"))?;
        within(&in_rack, "10.1.0.0/24")?;
        standing.push(in_rack);
        refused(&one, lab, "still-unselected", &Value::Null, &["racks"])?;

        // namespaceSelector, with the labels of a Namespace.
        n1.apply(&pool(
            "shop",
            "10.2.0.0/24",
            "namespaceSelector: \"team == 'shop'\", blockSize: 28",
        ))?;
        let refused_there = add_in(&one, lab, "store", "too-early")?;
        ensure!(
            refused_there.is_err(),
            "a namespace without labels was served"
        );
        n1.apply("apiVersion: routerd/v1\nkind: Namespace\nmetadata: { name: store, labels: { team: shop } }\n")?;
        let shopper = wait("the namespace to be selected", CONVERGE, || {
            add_in(&one, lab, "store", "shopper")?
        })?;
        within(&shopper, "10.2.0.0/24")?;
        standing.push(shopper);
        ensure!(add_in(&one, lab, "other", "outsider")?.is_err());

        // A Manual pool serves who names it, by name or by range, and nobody else.
        n1.apply(&pool(
            "byname",
            "10.3.0.0/24",
            "assignmentMode: Manual, blockSize: 28",
        ))?;
        let by = |pools: Value| json!({ "ipv4Pools": pools });
        let named = wait("the pool to be known", CONVERGE, || {
            one.add_with(lab, "named", &by(json!(["byname"])))
        })?;
        within(&named, "10.3.0.0/24")?;
        let ranged = one.add_with(lab, "ranged", &by(json!(["10.3.0.0/24"])))?;
        within(&ranged, "10.3.0.0/24")?;
        standing.extend([named, ranged]);
        refused(&one, lab, "unnamed", &Value::Null, &["byname"])?;
        refused(
            &one,
            lab,
            "nowhere",
            &by(json!(["no-such-pool"])),
            &["no-such-pool"],
        )?;

        // A pool of two addresses but for what is reserved; then they rest, oldest first.
        n1.apply(
            "apiVersion: routerd/v1\nkind: IPReservation\nmetadata: { name: r }\nspec: { reservedCIDRs: [10.4.0.0/31] }\n",
        )?;
        n1.apply(&settings("cooldownSeconds: 2"))?;
        n1.apply(&pool(
            "tiny",
            "10.4.0.0/30",
            "assignmentMode: Manual, blockSize: 30",
        ))?;
        let tiny = by(json!(["tiny"]));
        let a = wait("the tiny pool", CONVERGE, || {
            one.add_with(lab, "tiny-a", &tiny)
        })?;
        let b = one.add_with(lab, "tiny-b", &tiny)?;
        let mut got = [a.ip(false)?, b.ip(false)?];
        got.sort();
        ensure!(
            got == ["10.4.0.2".parse::<IpAddr>()?, "10.4.0.3".parse()?],
            "{got:?} with 10.4.0.0/31 reserved"
        );
        refused(&one, lab, "tiny-c", &tiny, &["tiny"])?;
        // Who asks for a reserved address by number gets it, as in Calico.
        let reserved = json!({ "ipv4Pools": ["tiny"], "args": { "cni": { "ips": ["10.4.0.1"] } } });
        let reserved = one.add_with(lab, "reserved", &reserved)?;
        within(&reserved, "10.4.0.1/32")?;
        one.del(&reserved)?;
        ensure!(scenario::address_state(n1, "10.4.0.1".parse()?)? != "Free");
        one.del(&b)?;
        one.del(&a)?;
        ensure!(scenario::address_state(n1, b.ip(false)?)? == "Cooldown");
        refused(&one, lab, "tiny-d", &tiny, &["tiny"])?;
        let first = wait("the first address to have rested", CONVERGE, || {
            one.add_with(lab, "tiny-e", &tiny)
        })?;
        ensure!(first.ip(false)? == b.ip(false)?, "the oldest goes first");
        one.del(&first)?;

        // In use, a pool is emptied by disabling it: what stands goes on, nothing new comes.
        n1.apply(&pool(
            "byname",
            "10.3.0.0/24",
            "assignmentMode: Manual, blockSize: 28, disabled: true",
        ))?;
        refused(
            &one,
            lab,
            "disabled",
            &by(json!(["byname"])),
            &["byname", "disabled"],
        )?;
        probe::all_pairs(
            &standing.iter().collect::<Vec<_>>(),
            probe::Size::Small,
            CONVERGE,
        )?;
        // Deleted under its workloads: they go on, and status names what is left.
        let args = ["delete", "ippool", "byname"];
        n1.ctl(&args)?.must_succeed(&args)?;
        refused(&one, lab, "deleted", &by(json!(["byname"])), &["byname"])?;
        probe::all_pairs(
            &standing.iter().collect::<Vec<_>>(),
            probe::Size::Small,
            CONVERGE,
        )?;
        wait("the orphaned block to be reported", CONVERGE, || {
            let status = n1.status()?;
            ensure!(
                status
                    .get("problems")
                    .is_some_and(|p| p.to_string().contains("10.3.0.")),
                "{status}"
            );
            Ok(())
        })?;
        let check = n1.ctl(&["ipam", "check"])?;
        ensure!(
            check.code == Some(1) && check.stdout.contains("BlockOutsidePools"),
            "{check:?}"
        );
        // Another pool over the block that is in use must keep to its blocks; with them all is well.
        n1.apply(&pool("byname", "10.3.0.0/24", "blockSize: 28"))?;
        scenario::ipam_is_clean(n1)
    })
}

#[test]
fn a_full_node_borrows_unless_affinity_is_strict() -> Result<()> {
    lab::run("borrow or not", |lab| {
        let mut mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
        mesh.start()?;
        let (n1, n2) = (mesh.node(0)?, mesh.node(1)?);
        let (one, two) = (Cni::of(n1)?, Cni::of(n2)?);
        n1.apply(&settings(
            "maxBlocksPerHost: 1, strictAffinity: true, cooldownSeconds: 0",
        ))?;
        n1.apply(&pool("p", "10.5.0.0/24", "blockSize: 30"))?;
        let mut all = Vec::new();
        let mut fill = |cni: &Cni, name: &str| -> Result<()> {
            for i in 0..4 {
                let name = format!("{name}-{i}");
                all.push(wait("an address", CONVERGE, || cni.add(lab, &name))?);
            }
            Ok(())
        };
        fill(&one, "own")?;
        // The limit holds, and strict affinity forbids to borrow.
        all.push(two.add(lab, "lender")?);
        refused(&one, lab, "strict", &Value::Null, &["maxBlocksPerHost"])?;
        ensure!(blocks_of(n1, "n1")? == 1, "n1 has more blocks than it may");
        n1.apply(&settings("maxBlocksPerHost: 1, cooldownSeconds: 0"))?;
        let borrower = wait("n1 to borrow", CONVERGE, || one.add(lab, "borrower"))?;
        ensure!(blocks_of(n1, "n1")? == 1);
        let shown = n1.json(&["ipam", "show", "--ip", &borrower.ip(false)?.to_string()])?;
        ensure!(scenario::text(&shown, "node")? == "n1", "{shown}");
        let lender: Cidr =
            Cidr::containing(all.last().context("w")?.ip(false)?, 30).context("a block")?;
        ensure!(lender.contains(borrower.ip(false)?), "{:?}", borrower.ips);
        all.push(borrower);
        let everyone: Vec<&Workload> = all.iter().collect();
        probe::all_pairs(&everyone, probe::Size::Small, CONVERGE)?;
        // Every other node sees the borrowed address as a route of its own.
        let route = n2.ns.output("ip", "-4 route show proto 82")?;
        let ip = all.last().context("w")?.ip(false)?.to_string();
        ensure!(route.contains(&format!("{ip} via")), "{route}");
        // More blocks may be had again.
        n1.apply(&settings("maxBlocksPerHost: 2, cooldownSeconds: 0"))?;
        wait("n1 to claim another block", CONVERGE, || {
            all.push(one.add(lab, &format!("more-{}", all.len()))?);
            ensure!(blocks_of(n1, "n1")? == 2);
            Ok(())
        })?;
        scenario::ipam_is_clean(n2)?;

        // A sticky identity keeps its address from everybody else while nobody uses it.
        let sticky = json!({ "args": { "cni": { "sticky": true } } });
        let pet = two.add_with(lab, "pet", &sticky)?;
        let home = pet.ip(false)?;
        two.del(&pet)?;
        ensure!(scenario::address_state(n2, home)? == "Used");
        let extra = json!({ "args": { "cni": { "ips": [home] } } });
        refused(&two, lab, "thief", &extra, &[&home.to_string()])?;
        let args = ["ipam", "release", "--handle", "sticky:default:pet"];
        n2.ctl(&args)?.must_succeed(&args)?;
        ensure!(scenario::address_state(n2, home)? != "Used");
        scenario::ipam_is_clean(n2)
    })
}
