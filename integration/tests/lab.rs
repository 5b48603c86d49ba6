//! The lab tested without our daemon: plain routes and the reference plugins `bridge` and `host-local`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::{
    self, Cni, Containerd, Families, Lab, Mesh, MeshSpec, Netns, Process, Workload,
    binaries::REFERENCE_PLUGINS,
    probe::{self, Size, Stream, tcp},
    sweep, wait_until,
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(5);

/// The reference network of host `n`: addresses 10.244.n.0/24 and fd44:n::/64 behind a bridge.
fn reference(lab: &Lab, n: u8) -> Result<Value> {
    Ok(json!({
        "cniVersion": "1.0.0",
        "name": "reference",
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "ipam": {
            "type": "host-local",
            "dataDir": lab.subdir(&format!("host-local-{n}"))?,
            "ranges": [
                [{ "subnet": format!("10.244.{n}.0/24") }],
                [{ "subnet": format!("fd44:0:0:{n}::/64") }],
            ],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        },
    }))
}

/// Two hosts in one subnet whose workload networks know each other by plain routes.
fn plain_mesh(lab: &Lab) -> Result<(Mesh, Vec<Cni>)> {
    let mesh = Mesh::build(lab, &MeshSpec::flat(2))?;
    let mut plugins = Vec::new();
    for (i, node) in mesh.nodes.iter().enumerate() {
        node.ns.sysctl("net/ipv4/ip_forward", "1")?;
        node.ns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let other = 2 - i;
        node.ns.ip(&format!(
            "route add 10.244.{other}.0/24 via 172.31.1.1{other}"
        ))?;
        node.ns.ip(&format!(
            "route add fd44:0:0:{other}::/64 via fd31:0:0:1::1{other}"
        ))?;
        plugins.push(Cni::reference(
            &node.ns,
            reference(lab, u8::try_from(i + 1)?)?,
        )?);
    }
    Ok((mesh, plugins))
}

fn six_workloads(lab: &Lab, plugins: &[Cni]) -> Result<Vec<Workload>> {
    let mut all = Vec::new();
    for (n, cni) in (1..).zip(plugins) {
        for w in 0..3 {
            all.push(cni.add(lab, &format!("w{n}{w}"))?);
        }
    }
    Ok(all)
}

#[test]
fn all_pairs_reach_each_other_and_a_broken_route_is_named() -> Result<()> {
    lab::run("all pairs", |lab| {
        let (mesh, plugins) = plain_mesh(lab)?;
        let workloads = six_workloads(lab, &plugins)?;
        let all: Vec<&Workload> = workloads.iter().collect();
        ensure!(probe::all_pairs(&all, Size::Small, SOON)? == 60);
        ensure!(probe::all_pairs(&all, Size::FullMtu, SOON)? == 60);

        mesh.node(0)?.ns.ip("route del 10.244.2.0/24")?;
        let error = match probe::all_pairs(&all, Size::Small, Duration::from_millis(500)) {
            Ok(n) => anyhow::bail!("{n} pairs connected without a route"),
            Err(e) => e.to_string(),
        };
        ensure!(error.contains("18 of 30 pairs"), "{error}");
        ensure!(
            error.contains("w10 10.244.1.2 -> w20 10.244.2.2: nothing arrived"),
            "{error}"
        );
        Ok(())
    })
}

#[test]
fn packets_that_do_not_fit_are_not_fragmented() -> Result<()> {
    lab::run("mtu", |lab| {
        let (mesh, plugins) = plain_mesh(lab)?;
        let workloads = six_workloads(lab, &plugins)?;
        let all: Vec<&Workload> = workloads.iter().collect();
        mesh.router.ip("link set p1-12 mtu 1400")?;
        mesh.node(1)?.ns.ip("link set eth0 mtu 1400")?;
        probe::all_pairs(&all, Size::Small, SOON)?;
        let full = probe::all_pairs(&all, Size::FullMtu, Duration::from_millis(500));
        ensure!(full.is_err(), "1500 bytes went through an MTU of 1400");
        Ok(())
    })
}

#[test]
fn a_stream_counts_what_is_lost() -> Result<()> {
    lab::run("stream", |lab| {
        let (mesh, plugins) = plain_mesh(lab)?;
        let workloads = six_workloads(lab, &plugins)?;
        let (Some(a), Some(b)) = (workloads.first(), workloads.last()) else {
            anyhow::bail!("no workloads");
        };
        for v6 in [false, true] {
            let stream = Stream::start(a, b, v6, 1000)?;
            wait_until("500 echoes", SOON, || Ok(stream.returned() >= 500))?;
            let report = stream.stop()?;
            ensure!(report.lost() == 0 && report.sent >= 500, "{report}");
        }

        let stream = Stream::start(a, b, false, 1000)?;
        wait_until("200 echoes", SOON, || Ok(stream.returned() >= 200))?;
        let node = mesh.node(1)?;
        node.ns.ip("route add blackhole 10.244.1.0/25")?;
        let before = stream.returned();
        std::thread::sleep(Duration::from_millis(200));
        node.ns.ip("route del blackhole 10.244.1.0/25")?;
        wait_until("more echoes", SOON, || Ok(stream.returned() > before + 100))?;
        let report = stream.stop()?;
        ensure!(report.lost_there == 0, "{report}");
        ensure!((100..1000).contains(&report.lost_back), "{report}");
        ensure!(report.longest_gap >= Duration::from_millis(150), "{report}");
        Ok(())
    })
}

#[test]
fn throughput_and_round_trip_are_measured() -> Result<()> {
    lab::run("tcp", |lab| {
        let (mesh, _) = plain_mesh(lab)?;
        let (a, b) = (mesh.node(0)?, mesh.node(1)?);
        let (ip_a, ip_b) = (
            *a.ips.first().context("no address")?,
            *b.ips.first().context("no address")?,
        );
        let bits = tcp::throughput(&a.ns, &b.ns, ip_b, Duration::from_secs(1))?;
        ensure!(bits > 1e7, "{bits} bits a second");
        let times = tcp::round_trips((&a.ns, ip_a), (&b.ns, ip_b), 100)?;
        ensure!(times.len() == 100 && times.iter().all(|t| !t.is_zero()));
        Ok(())
    })
}

#[test]
fn subnets_are_joined_by_the_router_in_every_family() -> Result<()> {
    for families in [Families::V4, Families::V6, Families::Dual] {
        lab::run("router", |lab| {
            let mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 2]).over(families).mtu(9000))?;
            let (first, last) = (mesh.node(0)?, mesh.node(2)?);
            ensure!(first.ips.len() == if families == Families::Dual { 2 } else { 1 });
            for ip in &last.ips {
                let path = first
                    .ns
                    .output("ping", &format!("-c1 -W2 -M do -s 8000 {ip}"))?;
                // One hop on the way: the router took one off the 64.
                ensure!(path.contains("ttl=63"), "{path}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn etcd_keeps_its_keys_over_a_restart_and_loses_them_when_wiped() -> Result<()> {
    lab::run("etcd", |lab| {
        let ns = lab.netns("store")?;
        let mut etcd = lab::Etcd::start(lab, &ns, "127.0.0.1".parse()?)?;
        etcd.put("a/1", "one")?;
        let many: Vec<_> = (0..300)
            .map(|i| (format!("b/{i:03}"), i.to_string()))
            .collect();
        etcd.put_all(&many)?;
        ensure!(etcd.list("b/")? == many);
        ensure!(etcd.list("a/")?.len() == 1);
        etcd.compact()?;
        etcd.stop()?;
        ensure!(etcd.get("a/1").is_err(), "a stopped etcd answered");
        etcd.up()?;
        ensure!(etcd.get("a/1")?.as_deref() == Some("one"));
        etcd.freeze()?;
        etcd.thaw()?;
        ensure!(etcd.get("a/1")?.as_deref() == Some("one"));
        etcd.delete("a/1")?;
        ensure!(etcd.get("a/1")?.is_none());
        etcd.kill()?;
        etcd.wipe()?;
        etcd.up()?;
        ensure!(etcd.list("b/")?.is_empty(), "keys came back after a wipe");
        Ok(())
    })
}

#[test]
fn containers_of_a_real_runtime_reach_raw_workloads() -> Result<()> {
    lab::run("containerd", |lab| {
        let (mesh, plugins) = plain_mesh(lab)?;
        let raw = plugins.last().context("no plugin")?.add(lab, "raw")?;
        let containerd = Containerd::start(lab)?;
        let mut plugin = reference(lab, 1)?;
        let fields = plugin.as_object_mut().context("an object")?;
        let (version, name) = (fields.remove("cniVersion"), fields.remove("name"));
        let conflist = json!({ "cniVersion": version, "name": name, "plugins": [plugin] });
        let dirs = [Path::new(REFERENCE_PLUGINS)];
        let host = &mesh.node(0)?.ns;
        let one = containerd.run(host, "one", &dirs, &conflist)?;
        let two = containerd.run(host, "two", &dirs, &conflist)?;
        let all = [&one.workload, &two.workload, &raw];
        ensure!(probe::all_pairs(&all, Size::FullMtu, SOON)? == 12);

        let leases = lab.dir().join("host-local-1/reference");
        let held = || std::fs::read_dir(&leases).map(Iterator::count);
        let before = held()?;
        containerd.stop(one)?;
        ensure!(
            held()? == before - 2,
            "DEL did not give both addresses back"
        );
        containerd.stop(two)
    })
}

#[test]
fn waiting_for_a_process_that_ended_is_not_waited_out() -> Result<()> {
    lab::run("ended", |lab| {
        let mut command = lab.netns("host")?.command("sh");
        command.args(["-c", "echo its last words; exit 3"]);
        let mut process = Process::start("sh", command, &lab.dir().join("sh.log"))?;
        let start = std::time::Instant::now();
        let never = || -> Result<()> { anyhow::bail!("never") };
        let waited = lab::wait_for(&mut process, "nothing", Duration::from_secs(60), never);
        let error = format!("{:#}", waited.err().context("it waited well")?);
        ensure!(start.elapsed() < Duration::from_secs(10));
        ensure!(
            error.contains("exit status: 3") && error.contains("its last words"),
            "{error}"
        );
        Ok(())
    })
}

/// What a lab of this tag still has on the machine.
fn leftovers(tag: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for dir in [Path::new("/run/netns"), &std::env::temp_dir()] {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(tag) {
                found.push(name);
            }
        }
    }
    for entry in std::fs::read_dir("/proc")? {
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(tag) {
            found.push(line);
        }
    }
    Ok(found)
}

/// Something of everything that a lab can hold.
fn furnish(lab: &Lab) -> Result<(Mesh, Vec<Cni>, Containerd)> {
    let (mesh, plugins) = plain_mesh(lab)?;
    six_workloads(lab, &plugins)?;
    let containerd = Containerd::start(lab)?;
    Ok((mesh, plugins, containerd))
}

#[test]
fn nothing_is_left_after_a_panic() -> Result<()> {
    let lab = Lab::new()?;
    let tag = lab.tag().to_owned();
    let everything = furnish(&lab)?;
    ensure!(
        leftovers(&tag)?.len() > 10,
        "the search for leftovers finds nothing"
    );
    let panicked = std::thread::spawn(move || {
        let _moved = (everything, lab);
        panic!("on purpose");
    });
    ensure!(panicked.join().is_err());
    let left = leftovers(&tag)?;
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

#[test]
fn nothing_is_left_when_the_runtime_still_has_containers() -> Result<()> {
    let lab = Lab::new()?;
    let tag = lab.tag().to_owned();
    {
        let containerd = Containerd::start(&lab)?;
        let host = lab.netns("host")?;
        let mut plugin = reference(&lab, 1)?;
        plugin.as_object_mut().context("an object")?.remove("name");
        let list = json!({ "cniVersion": "1.0.0", "name": "reference", "plugins": [plugin] });
        let container = containerd.run(&host, "stays", &[Path::new(REFERENCE_PLUGINS)], &list)?;
        // Their end is not run: as if the test had been killed.
        std::mem::forget((container, containerd));
    }
    drop(lab);
    let left = leftovers(&tag)?;
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

#[test]
fn what_a_killed_run_left_is_swept() -> Result<()> {
    // A shell of its own makes a namespace and a process under the tag of a process that is dead.
    let dead = "rtlab-1-1-0";
    let ns_name = format!("{dead}-0-left");
    let out = std::process::Command::new("ip")
        .args(["netns", "add", &ns_name])
        .output()?;
    ensure!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let dir = std::env::temp_dir().join(dead);
    std::fs::create_dir_all(&dir)?;
    let ns = Netns::open(&ns_name, &Path::new("/run/netns").join(&ns_name))?;
    let mut command = ns.command("sleep");
    command.arg("1000");
    let mut process = Process::start("sleep", command, &dir.join("sleep.log"))?;
    sweep::dead()?;
    ensure!(process.ended()?.is_some(), "the process still runs");
    let left = leftovers(dead)?;
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}
