//! The encrypted tunnel in userspace: held by a process that the daemon starts, adopts, and starts again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::lab::mesh::Families;
use integration::lab::probe::{Report, Stream, tcp};
use integration::lab::{self, Lab, Mesh, MeshSpec, Netns, Node, Process, Workload, wait};
use integration::scenario::{self, CONVERGE};
use nix::fcntl::{FcntlArg, FdFlag};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Packets a second of a stream.
const RATE: u32 = 1000;

/// Longest that a tunnel which is there again may take to carry packets: less than its peers take to
/// notice by themselves that their sessions are void.
const SOON: Duration = Duration::from_secs(8);

/// A mesh that encrypts, whose workloads reach each other.
fn encrypted(lab: &Lab, spec: &MeshSpec) -> Result<(Mesh, Vec<Workload>)> {
    let mut mesh = Mesh::build(lab, spec)?;
    scenario::start_encrypted(&mut mesh)?;
    let workloads = scenario::populate(lab, &mesh, 1)?;
    scenario::everyone_reaches_everyone(&workloads)?;
    Ok((mesh, workloads))
}

/// A stream in each family from the first node's workload to the last one's.
fn streams(workloads: &[Workload]) -> Result<Vec<Stream>> {
    let (first, last) = (workloads.first(), workloads.last());
    let (from, to) = first.zip(last).context("no workloads")?;
    [false, true]
        .map(|v6| Stream::start(from, to, v6, RATE))
        .into_iter()
        .collect()
}

fn stop(streams: Vec<Stream>) -> Result<Vec<Report>> {
    let reports: Vec<Report> = streams
        .into_iter()
        .map(Stream::stop)
        .collect::<Result<_>>()?;
    reports.iter().for_each(|report| println!("{report}"));
    Ok(reports)
}

/// Waits until packets come back again.
fn flows(streams: &[Stream]) -> Result<()> {
    for stream in streams {
        let before = stream.returned();
        lab::wait_until("packets to come back", SOON, || {
            Ok(stream.returned() > before + u64::from(RATE) / 10)
        })?;
    }
    Ok(())
}

/// Waits until somebody else than `before` serves the tunnel.
fn successor(node: &Node, before: Pid) -> Result<Pid> {
    // One that hangs is given some time.
    wait("the tunnel to be served again", CONVERGE * 3, || {
        let now = node.holder()?;
        ensure!(now != before, "still {before}");
        node.wg_show("peers")?;
        Ok(now)
    })
}

/// Waits for the end of a process that is no child of this one; whoever inherits it collects it.
fn ended(process: Pid) -> Result<()> {
    let program = format!("/proc/{process}/exe");
    lab::wait_until("the tunnel's process to end", CONVERGE, || {
        Ok(std::fs::read_link(&program).is_err())
    })
}

/// Counts packets of workloads that pass the router between the nodes as they are.
fn watch_for_clear_text(router: &Netns) -> Result<()> {
    let count = |family: &str, pool: &str| {
        let rule = format!("{family} saddr {pool} {family} daddr {pool} counter");
        router.output("nft", &format!("add rule inet watch seen {rule}"))
    };
    router.output("nft", "add table inet watch")?;
    let hook = "{ type filter hook prerouting priority -300 ; }";
    router.output("nft", &format!("add chain inet watch seen {hook}"))?;
    count("ip", scenario::POOL_V4)?;
    count("ip6", scenario::POOL_V6).map(drop)
}

fn clear_text(router: &Netns) -> Result<u64> {
    let shown = router.output("nft", "list chain inet watch seen")?;
    let words: Vec<&str> = shown.split_whitespace().collect();
    let counts = words.windows(2).filter(|w| w.first() == Some(&"packets"));
    counts
        .map(|w| Ok(w.last().context("no count")?.parse::<u64>()?))
        .sum()
}

/// Fragments that a host made of what it sent over IPv4.
fn fragments(host: &Netns) -> Result<u64> {
    let text = host.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("Ip: "));
    let (names, numbers) = lines.next().zip(lines.next()).context("no counters")?;
    let mut pairs = names.split(' ').zip(numbers.split(' '));
    let found = pairs.find(|(name, _)| *name == "FragCreates");
    Ok(found.context("no FragCreates")?.1.parse()?)
}

#[test]
fn a_mesh_encrypts_without_help() -> Result<()> {
    lab::run("no help", |lab| {
        // As installed: by the kernel's module where it is, by our own process elsewhere.
        let mut mesh = Mesh::build(lab, &MeshSpec::routed(&[1, 2]))?;
        scenario::start(&mut mesh, "CrossSubnet")?;
        scenario::require_encryption(&mesh)?;
        let workloads = scenario::populate(lab, &mesh, 1)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        for node in &mesh.nodes {
            let shown = node.wg_show("latest-handshakes")?;
            ensure!(shown.lines().count() == 2, "{}: {shown}", node.name);
            ensure!(!shown.contains("\t0\n"), "{}: {shown}", node.name);
        }
        Ok(())
    })
}

#[test]
fn packets_of_full_size_fit_where_the_mtu_is_odd() -> Result<()> {
    lab::run("odd MTU", |lab| {
        // The tunnel has 1327, of which no multiple of 16 is near.
        let spec = MeshSpec::flat(2).over(Families::V4).mtu(1387);
        let (mesh, _workloads) = encrypted(lab, &spec)?;
        for node in &mesh.nodes {
            let made = fragments(&node.ns)?;
            ensure!(made == 0, "{}: {made} fragments", node.name);
        }
        Ok(())
    })
}

#[test]
fn restarts_and_upgrades_of_the_daemon_lose_no_packet() -> Result<()> {
    lab::run("restarts", |lab| {
        let (mut mesh, workloads) = encrypted(lab, &MeshSpec::routed(&[1, 1]))?;
        let streams = streams(&workloads)?;
        flows(&streams)?;
        for place in [0, 1] {
            let before = (
                mesh.node(place)?.holder()?,
                mesh.node(place)?.wg_show("dump")?,
            );
            mesh.node_mut(place)?.kill()?;
            mesh.node_mut(place)?.start_ready()?;
            // The next is of other files.
            mesh.node_mut(place)?.install()?;
            mesh.node_mut(place)?.stop()?;
            mesh.node_mut(place)?.start_ready()?;
            let node = mesh.node(place)?;
            ensure!(node.holder()? == before.0, "the tunnel has another process");
            let log = std::fs::read_to_string(node.dir().join("routerd.log"))?;
            ensure!(
                log.contains("another routerd-tunnel than is installed"),
                "{log}"
            );
            let line = |dump: &str| dump.lines().next().map(str::to_owned);
            let now = node.wg_show("dump")?;
            ensure!(line(&now) == line(&before.1), "{now}");
        }
        flows(&streams)?;
        for report in stop(streams)? {
            ensure!(report.lost() == 0, "packets were lost: {report}");
        }
        Ok(())
    })
}

#[test]
fn a_holder_that_is_killed_comes_back_and_nothing_leaves_in_clear() -> Result<()> {
    lab::run("holder killed", |lab| {
        let (mut mesh, workloads) = encrypted(lab, &MeshSpec::routed(&[1, 1]))?;
        watch_for_clear_text(&mesh.router)?;
        let streams = streams(&workloads)?;
        flows(&streams)?;

        // The one that only answers first: the other end believes in its session for a quarter of a minute.
        let last = mesh.node(1)?.holder()?;
        kill(last, Signal::SIGKILL)?;
        successor(mesh.node(1)?, last)?;
        flows(&streams)?;
        let first = mesh.node(0)?.holder()?;
        kill(first, Signal::SIGKILL)?;
        let second = successor(mesh.node(0)?, first)?;
        flows(&streams)?;
        mesh.node(0)?.ns.ip("link delete rtd.wg")?;
        let third = successor(mesh.node(0)?, second)?;
        flows(&streams)?;

        // With nobody to start another, packets have nowhere to go.
        mesh.node_mut(0)?.kill()?;
        kill(third, Signal::SIGKILL)?;
        lab::wait_until("the interface to go", CONVERGE, || {
            Ok(!scenario::our_links(mesh.node(0)?)?
                .iter()
                .any(|l| l == "rtd.wg"))
        })?;
        let sent = || streams.iter().map(|s| s.counter()().0).sum::<u64>();
        let before = sent();
        lab::wait_until("packets to be sent", CONVERGE, || Ok(sent() > before + 500))?;
        mesh.node_mut(0)?.start_ready()?;
        successor(mesh.node(0)?, third)?;
        flows(&streams)?;
        ensure!(clear_text(&mesh.router)? == 0, "packets left in clear");

        // What counts them would have seen them.
        mesh.node(0)?
            .apply(&scenario::mesh_configuration("encryption: Off"))?;
        lab::wait_until("packets in clear", CONVERGE, || {
            Ok(clear_text(&mesh.router)? > 100)
        })?;
        stop(streams).map(drop)
    })
}

/// Nobody is said to have changed anything.
fn has_no_drift(node: &Node) -> Result<()> {
    let status = node.status()?;
    ensure!(scenario::list(&status, "drift")?.is_empty(), "{status}");
    Ok(())
}

#[test]
fn another_port_is_taken_and_cleanup_ends_all() -> Result<()> {
    lab::run("port and end", |lab| {
        let (mut mesh, workloads) = encrypted(lab, &MeshSpec::flat(2))?;
        mesh.node(0)?.apply(&scenario::mesh_configuration(
            "encryption: Required, wireguardPort: 51999",
        ))?;
        for node in &mesh.nodes {
            wait("the tunnel to have the other port", CONVERGE, || {
                let port = node.wg_show("listen-port")?;
                ensure!(port.trim() == "51999", "{port}");
                Ok(())
            })?;
        }
        scenario::everyone_reaches_everyone(&workloads)?;
        for node in &mesh.nodes {
            has_no_drift(node)?;
        }

        let holder = mesh.node(0)?.holder()?;
        mesh.node_mut(0)?.stop()?;
        let node = mesh.node(0)?;
        ensure!(
            node.holder()? == holder,
            "stopping the daemon ended the tunnel"
        );
        let done = node.routerd(&["cleanup"])?;
        ensure!(done.code == Some(0), "{}", done.stderr);
        ended(holder)?;
        ensure!(node.wg_show("peers").is_err());
        let links = scenario::our_links(node)?;
        ensure!(links.is_empty(), "{links:?}");
        // Nobody wants it on the other: it goes with encryption.
        let other = mesh.node(1)?;
        let holder = other.holder()?;
        other.apply(&scenario::mesh_configuration("encryption: Off"))?;
        ended(holder)
    })
}

/// What a process has open.
fn open_files(process: Pid) -> Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd"))?;
    entries
        .map(|entry| Ok(std::fs::read_link(entry?.path())?))
        .collect()
}

/// It outlives whoever started the daemon, and would keep their locks.
#[test]
fn the_holder_keeps_nothing_open_that_it_inherited() -> Result<()> {
    lab::run("inherited", |lab| {
        let lock = lab.dir().join("lock");
        let file = std::fs::File::create(&lock)?;
        // Rust's own files are closed in a child.
        nix::fcntl::fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let (mut mesh, _) = encrypted(lab, &MeshSpec::flat(2))?;
        let holder = mesh.node(0)?.holder()?;
        let daemon = mesh.node_mut(0)?.daemon().context("no daemon")?.pid();
        let daemon = Pid::from_raw(i32::try_from(daemon)?);
        ensure!(open_files(daemon)?.contains(&lock), "it was not inherited");
        ensure!(!open_files(holder)?.contains(&lock), "it was kept");
        Ok(())
    })
}

#[test]
fn the_holder_has_given_up_all_that_it_can_do_without() -> Result<()> {
    lab::run("privileges", |lab| {
        let (mesh, workloads) = encrypted(lab, &MeshSpec::flat(2))?;
        let streams = streams(&workloads)?;
        let node = mesh.node(0)?;
        let process = format!("/proc/{}", node.holder()?);
        let stat = std::fs::read_to_string(format!("{process}/stat"))?;
        ensure!(
            stat.split(' ').nth(18) == Some("-10"),
            "no precedence: {stat}"
        );
        let tasks = std::fs::read_dir(format!("{process}/task"))?;
        let mut threads = 0;
        for task in tasks {
            let Ok(status) = std::fs::read_to_string(task?.path().join("status")) else {
                continue; // it served a client that is gone
            };
            let field = |name: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(name));
                line.map(|l| l.trim().to_owned()).unwrap_or_default()
            };
            for sort in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                ensure!(field(sort) == "0000000000000000", "{status}");
            }
            let id = "65534\t65534\t65534\t65534";
            ensure!(field("Uid:") == id && field("Gid:") == id, "{status}");
            ensure!(field("Groups:").is_empty(), "{status}");
            ensure!(
                field("NoNewPrivs:") == "1" && field("Seccomp:") == "2",
                "{status}"
            );
            threads += 1;
        }
        ensure!(threads >= 4, "{threads} threads");

        // What it must not do it cannot: here a socket for another port, and another mark.
        for order in ["listen-port 51999", "fwmark 5"] {
            let mut command = node.command(lab::binaries::system("wg")?);
            command.arg("set").arg("rtd.wg").args(order.split(' '));
            let refused = command.output()?;
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            ensure!(
                !refused.status.success() && said.contains("not implemented"),
                "{said}"
            );
        }
        // As fast as it goes, which takes other calls than a few packets do.
        let (from, to) = workloads.first().zip(workloads.last()).context("none")?;
        let bits = tcp::throughput(&from.ns, &to.ns, to.ip(true)?, Duration::from_secs(1))?;
        ensure!(bits > 1e7, "{bits} bit/s");
        flows(&streams)?;
        ensure!(node.wg_show("fwmark")?.trim() == "0x20000000");
        stop(streams).map(drop)
    })
}

#[test]
fn a_holder_that_hangs_is_replaced_and_nothing_leaves_in_clear() -> Result<()> {
    lab::run("holder hangs", |lab| {
        let (mesh, workloads) = encrypted(lab, &MeshSpec::routed(&[1, 1]))?;
        watch_for_clear_text(&mesh.router)?;
        let node = mesh.node(0)?;
        // With nothing to carry, and then with all that can wait.
        let first = node.holder()?;
        kill(first, Signal::SIGSTOP)?;
        let second = successor(node, first)?;
        ended(first)?;
        let streams = streams(&workloads)?;
        flows(&streams)?;
        kill(second, Signal::SIGSTOP)?;
        successor(node, second)?;
        ended(second)?;
        flows(&streams)?;
        has_no_drift(node)?;
        ensure!(clear_text(&mesh.router)? == 0, "packets left in clear");
        stop(streams).map(drop)
    })
}

/// What the node says of its tunnel.
fn tunnels_line(node: &Node) -> Result<String> {
    let status = node.status()?;
    let subsystems = scenario::list(&status, "subsystems")?;
    let line = subsystems.iter().find(|s| s["name"] == "tunnels");
    let line = line.with_context(|| status.to_string())?;
    scenario::text(line, "message").map(str::to_owned)
}

/// Stops one thread of a process, as long as this thread lives.
fn stop_thread(process: Pid, name: &str) -> Result<()> {
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?;
        if std::fs::read_to_string(task.path().join("comm"))?.trim() == name {
            let thread = Pid::from_raw(task.file_name().to_string_lossy().parse()?);
            ptrace::seize(thread, ptrace::Options::empty())?;
            return Ok(ptrace::interrupt(thread)?);
        }
    }
    anyhow::bail!("{process} has no thread {name}")
}

/// It cannot be told anything, but packets pass: that is for the operator to decide.
#[test]
fn a_holder_that_only_does_not_answer_is_left_alone_and_named() -> Result<()> {
    lab::run("holder is deaf", |lab| {
        let (mesh, workloads) = encrypted(lab, &MeshSpec::routed(&[1, 1]))?;
        watch_for_clear_text(&mesh.router)?;
        let streams = streams(&workloads)?;
        let node = mesh.node(0)?;
        let holder = node.holder()?;
        stop_thread(holder, "wg-control")?;
        // For longer than one that carries nothing is given.
        wait("the holder to be named", CONVERGE * 3, || {
            let line = tunnels_line(node)?;
            let (_, rest) = line
                .split_once("has not answered for ")
                .context(line.clone())?;
            let (seconds, rest) = rest.split_once(" s, ").context(line.clone())?;
            ensure!(seconds.parse::<u64>()? > 12, "{line}");
            let told = "but carries packets: `ip link delete rtd.wg` renews it";
            ensure!(rest.starts_with(told), "{line}");
            Ok(())
        })?;
        flows(&streams)?;
        ensure!(node.holder()? == holder, "it was replaced");
        // As it says. This one does not even see that its interface is gone.
        node.ns.ip("link delete rtd.wg")?;
        successor(node, holder)?;
        ended(holder)?;
        flows(&streams)?;
        ensure!(clear_text(&mesh.router)? == 0, "packets left in clear");
        stop(streams).map(drop)
    })
}

/// One that has the port and the mark that are wanted, but knows nothing of keys that change.
#[test]
fn another_program_that_serves_the_device_makes_way() -> Result<()> {
    lab::run("another program", |lab| {
        let (mut mesh, workloads) = encrypted(lab, &MeshSpec::flat(2))?;
        let holder = mesh.node(0)?.holder()?;
        mesh.node_mut(0)?.stop()?;
        let node = mesh.node(0)?;
        node.ns.ip("link delete rtd.wg")?;
        ended(holder)?;
        let mut command = node.command(lab::binaries::system("wireguard-go")?);
        command.args(["-f", "rtd.wg"]);
        let mut other = Process::start("wireguard-go", command, &node.dir().join("other.log"))?;
        // Only then: `wg` removes a socket at which nobody listens yet.
        wait("it to serve its socket", CONVERGE, || {
            node.holder().map(drop)
        })?;
        let mut wg = node.command(lab::binaries::system("wg")?);
        wg.args(["set", "rtd.wg", "listen-port", "51820"]);
        wg.args(["fwmark", "0x20000000"]);
        ensure!(wg.status()?.success(), "wg set");
        mesh.node_mut(0)?.start_ready()?;
        other.wait(CONVERGE)?;
        scenario::everyone_reaches_everyone(&workloads)?;
        let node = mesh.node(0)?;
        let program = std::fs::read_link(format!("/proc/{}/exe", node.holder()?))?;
        ensure!(program.ends_with("routerd-tunnel"), "{}", program.display());
        let log = std::fs::read_to_string(node.dir().join("routerd.log"))?;
        ensure!(
            log.contains("another program serves rtd.wg: it makes way"),
            "{log}"
        );
        node.json(&["tunnels", "rotate"])?;
        wait("the device to have both keys", CONVERGE, || {
            let (line, shown) = (
                tunnels_line(node)?,
                mesh.node(1)?.json(&["get", "node", "n1"])?,
            );
            let next = shown.pointer("/status/wireguardNextPublicKey");
            ensure!(
                line == "rtd.wg, 1 peers" && next.is_some(),
                "{line}: {shown}"
            );
            Ok(())
        })
    })
}
